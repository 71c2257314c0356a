"""What a run asks of its process: arithmetic that repeats, and signals that end it well."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch.utils import deterministic

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

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
