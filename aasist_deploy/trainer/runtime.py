"""What a run asks of its process: arithmetic that repeats, and signals that end it well."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import distributed as dist
from torch.utils import deterministic

from aasist_deploy.errors import AasistDeployError, PeerLostError, TrainingError
from aasist_deploy.models.custom import in_custom_network, of_user

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from aasist_deploy.trainer.distributed import World
    from aasist_deploy.trainer.recipe import Training

_STOPPING = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def arithmetic(training: Training) -> Iterator[None]:
    """Set PyTorch's global switches as a recipe says, and put them back afterwards."""
    if training.deterministic:  # cuBLAS reads it when its first handle is made
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # Modules with properties, which type checkers do not see.
    memory: Any = deterministic
    cudnn: Any = torch.backends.cudnn
    matmul: Any = torch.backends.cuda.matmul
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        memory.fill_uninitialized_memory,
        cudnn.benchmark,
        cudnn.conv.fp32_precision,
        cudnn.rnn.fp32_precision,
        matmul.fp32_precision,
    )
    precision = "tf32" if training.tf32 else "ieee"
    try:
        torch.use_deterministic_algorithms(training.deterministic)
        memory.fill_uninitialized_memory = False  # finds reads of such memory, and costs time
        cudnn.benchmark = not training.deterministic
        cudnn.conv.fp32_precision = precision
        cudnn.rnn.fp32_precision = precision
        matmul.fp32_precision = precision
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        memory.fill_uninitialized_memory = before[2]
        cudnn.benchmark = before[3]
        cudnn.conv.fp32_precision = before[4]
        cudnn.rnn.fp32_precision = before[5]
        matmul.fp32_precision = before[6]


@contextmanager
def told_errors(architecture: str, device: torch.device, world: World) -> Iterator[None]:
    """Say what those errors of PyTorch mean that are no fault of the program.

    Raises:
        TrainingError: An operation has no deterministic form, the device has too little memory, or
            the code of a custom network raised.
        PeerLostError: Another process of the run has ended.
    """
    try:
        yield
    except AasistDeployError:
        raise
    except Exception as error:
        said = str(error) or type(error).__name__
        if isinstance(error, torch.OutOfMemoryError):
            raise TrainingError(
                f"The memory of {device} is full: {said.splitlines()[0]}",
                fix="lower training.batch_size, and raise training.accumulate as much; or set "
                'training.precision to "bf16"; then go on in a new run',
            ) from error
        if isinstance(error, RuntimeError) and "deterministic" in said:
            raise TrainingError(
                f"An operation of {architecture} has no deterministic form on {device}: "
                f"{said.splitlines()[0]}",
                fix="set training.deterministic to false; the run will not repeat to the bit",
            ) from error
        if world.size > 1 and (isinstance(error, dist.DistError) or "gloo" in said):
            raise PeerLostError(
                f"Process {world.rank} of {world.size} has lost the connection to another: "
                f"{said.splitlines()[0]}",
                fix="see what the other process said; go on with --resume",
            ) from error
        if in_custom_network(error):
            raise TrainingError(
                f"The custom network failed: {of_user(error)}.",
                fix="mend its code; --debug shows the whole traceback; go on with --resume",
            ) from error
        raise


class StopWish:
    """Whether the process was asked to end.

    Attributes:
        signal_name: The signal, e.g. "SIGTERM", or None.
    """

    def __init__(self) -> None:
        self.signal_name: str | None = None

    @property
    def asked(self) -> bool:
        """Whether there was a signal."""
        return self.signal_name is not None

    def note(self, number: int, _frame: FrameType | None) -> None:
        """Take the first signal as a wish; the second ends the process at once.

        Raises:
            KeyboardInterrupt: it is the second.
        """
        if self.asked:
            raise KeyboardInterrupt
        self.signal_name = signal.Signals(number).name


@contextmanager
def stop_wish() -> Iterator[StopWish]:
    """Notice SIGINT and SIGTERM between steps; outside the main thread signals go their own way."""
    wish = StopWish()
    if threading.current_thread() is not threading.main_thread():
        yield wish
        return
    before = {number: signal.signal(number, wish.note) for number in _STOPPING}
    try:
        yield wish
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
