"""The Protocol of all engines, and the checks they share.

`BaseEngine` checks and splits; a backend writes only `_run` (waves that fit, outputs by name) and
`_close`.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final, Protocol, Self, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from aasist_deploy.calibration import Calibration, p_spoof
from aasist_deploy.contract import BONA_FIDE, ModelContract
from aasist_deploy.errors import ModelFileError, ShapeError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

Waves = NDArray[np.float32]
Scalar = TypeVar("Scalar", bound=np.generic)

# One window's largest activation is 63 MB (block 0, 32 x 23 x 21,490 float32): a larger batch gains
# nothing on a CPU and would need gigabytes.
DEFAULT_MAX_BATCH: Final = 16

# A CPU scores as many windows a second one by one as together: ONNX Runtime 6.4 at batch 1 and at 8
# on two cores (benchmarks/results/2026-11-23-cpu-2cores-quiet.json). Eight keep what surrounds an
# engine out of its way, in little memory.
CPU_BATCH: Final = 8

# By which part a node may have a higher score than one that another engine put before it, and still
# count as equal: the rounding of scores in float32, whose steps are 1.2e-7. Measured on RawGAT-ST
# with random weights, six real clips and noise: 0.
ORDER_RTOL: Final = 1e-5


class Engine(Protocol):
    """A loaded model that scores waves.

    Attributes:
        contract: What the model takes and gives.
        backend: The backend's name, e.g. "onnx".
        device: What it really runs on, e.g. "CPUExecutionProvider, 2 threads".
    """

    contract: ModelContract
    backend: str
    device: str

    def score(self, waves: Waves) -> NDArray[np.float32]:
        """(B, N) float32 waves -> (B,) float32 scores; higher means more likely bona fide."""
        ...

    def run(self, waves: Waves) -> dict[str, NDArray[np.float32]]:
        """(B, N) float32 waves -> every output of the model by name, first axis B."""
        ...

    def llr(self, waves: Waves) -> NDArray[np.float64]:
        """(B, N) float32 waves -> (B,) log-likelihood ratios in nats, of a calibrated model."""
        ...

    def p_spoof(self, waves: Waves, prior_spoof: float = 0.5) -> NDArray[np.float64]:
        """(B, N) float32 waves -> (B,) probabilities of spoof, of a calibrated model."""
        ...

    def close(self) -> None:
        """Free the model; a second call does nothing."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


@runtime_checkable
class ObservesPooling(Protocol):
    """An engine that can say which graph nodes each pooling kept."""

    def pooling_orders(self, waves: Waves) -> dict[str, NDArray[np.int64]]:
        """Pool name -> (B, k) indices of the kept nodes, best first."""
        ...


@runtime_checkable
class ScoresObserved(Protocol):
    """An engine whose scores and kept nodes come from one run."""

    def score_observed(
        self, waves: Waves
    ) -> tuple[NDArray[np.float32], dict[str, NDArray[np.int64]]]:
        """Scores as of `score`, and kept nodes as of `pooling_orders`."""
        ...


@runtime_checkable
class FollowsPooling(Protocol):
    """An engine that can keep the graph nodes that another engine kept."""

    def score_in_order(
        self, waves: Waves, orders: Mapping[str, NDArray[np.int64]]
    ) -> tuple[NDArray[np.float32], float]:
        """Score waves with the nodes of another engine, in that engine's order.

        Args:
            waves: (B, N) float32 samples, as for `score`.
            orders: Pool name -> (B, k) indices of the kept nodes, best first, of every pooling.

        Returns:
            (B,) scores, and the largest part by which a node that was put behind another one, or
            left out, has the higher score here: 0 when the order is one that the scores allow.
        """
        ...


class Closable(ABC):
    """The life cycle of a loaded model: open until `close`, or the end of a `with` block."""

    _open = True

    def close(self) -> None:
        """Free the model; a second call does nothing."""
        if self._open:
            self._open = False
            self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @abstractmethod
    def _close(self) -> None:
        """Let go of the runtime's objects."""


class BaseEngine(Closable):
    """What engines share: input checks, splitting of large batches, the life cycle.

    Args:
        contract: What the model takes and gives.
        device: What it runs on, for a person.
        max_batch: Larger batches are run in pieces of this size.
    """

    backend: str

    def __init__(self, contract: ModelContract, device: str, max_batch: int | None) -> None:
        self.contract = contract
        self.device = device
        limits = [n for n in (max_batch or DEFAULT_MAX_BATCH, contract.batch[1]) if n is not None]
        self.max_batch = max(1, min(limits))
        held = contract.calibration
        self._calibration = None if held is None else Calibration.from_dict(held)

    @property
    def best_batch(self) -> int:
        """How many waves are best scored together when nobody says; a GPU takes all it can."""
        return min(self.max_batch, CPU_BATCH)

    def score(self, waves: Waves) -> NDArray[np.float32]:
        """Score a batch of waves.

        Args:
            waves: (B, N) float32 samples at the contract's rate in [-1, 1]; N is the contract's
                `n_samples`, or at least `min_samples` when that is None.

        Returns:
            (B,) float32 in the contract's `score` definition; higher means more likely bona fide.
            A fresh array: the engine keeps no reference to it.

        Raises:
            ShapeError: the waves do not fit the contract, or hold NaN or infinity.
        """
        outputs = self.run(waves)
        return outputs["score"] if "score" in outputs else outputs["logits"][:, BONA_FIDE].copy()

    def run(self, waves: Waves) -> dict[str, NDArray[np.float32]]:
        """All outputs of the model by name, for the same input as `score`."""
        return self._in_pieces(self._checked(waves), self._run)

    def llr(self, waves: Waves) -> NDArray[np.float64]:
        """Log-likelihood ratios, for the same input as `score`.

        Returns:
            (B,) float64 in nats, positive for bona fide: the contract's scale * score + offset, in
            double precision so that every backend and language derives the same from a score.

        Raises:
            ModelFileError: the model is not calibrated.
            ShapeError: as for `score`.
        """
        if self._calibration is None:
            raise ModelFileError(
                f"This {self.contract.architecture} is not calibrated: its scores order trials, "
                "but are no log-likelihood ratios, and there is no probability to derive.",
                fix="aasist-deploy calibrate DEV_SCORES --model model.onnx -o calibrated.onnx",
            )
        return self._calibration.llr(self.score(waves))

    def p_spoof(self, waves: Waves, prior_spoof: float = 0.5) -> NDArray[np.float64]:
        """Probabilities that the waves are spoofed, for the same input as `score`.

        Args:
            waves: As for `score`.
            prior_spoof: How likely spoof is before a wave is heard, in (0, 1).

        Returns:
            (B,) float64 in [0, 1].

        Raises:
            ModelFileError: the model is not calibrated.
            UsageError: the prior is not in (0, 1).
            ShapeError: as for `score`.
        """
        return p_spoof(self.llr(waves), prior_spoof)

    def _checked(self, waves: Waves) -> Waves:
        if not self._open:
            raise ShapeError("The engine is closed.", fix="open it again with open_engine")
        return check_waves(waves, self.contract)

    def _in_pieces(
        self, waves: Waves, run: Callable[[Waves], dict[str, NDArray[Scalar]]]
    ) -> dict[str, NDArray[Scalar]]:
        """Run at most `max_batch` waves at once; a fixed batch is filled up with the last wave."""
        pieces = []
        for start in range(0, len(waves), self.max_batch):
            piece = waves[start : start + self.max_batch]
            filled = piece
            if (lacking := self.contract.batch[0] - len(piece)) > 0:
                filled = np.concatenate([piece, np.repeat(piece[-1:], lacking, axis=0)])
            pieces.append({name: out[: len(piece)] for name, out in run(filled).items()})
        if len(pieces) == 1:
            return pieces[0]
        return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}

    @abstractmethod
    def _run(self, waves: Waves) -> dict[str, NDArray[np.float32]]:
        """Outputs of a checked batch of at most `max_batch` waves, as fresh arrays."""


def check_waves(waves: Waves, contract: ModelContract) -> Waves:
    """Refuse waves that do not fit the contract; returns them C-contiguous.

    Raises:
        ShapeError: wrong type, number of axes, length, an empty batch, NaN or infinity.
    """
    dtype = getattr(waves, "dtype", None)  # callers outside a type checker pass anything
    if dtype != np.float32 or type(waves) is not np.ndarray:
        given = type(waves).__name__ if dtype is None else dtype
        raise ShapeError(
            f"Waves must be a float32 array; these are {given}.",
            fix="convert with numpy.asarray(waves, dtype=numpy.float32); samples are in [-1, 1]",
        )
    wanted = contract.n_samples or f"{contract.min_samples} or more"
    if waves.ndim != 2:
        raise ShapeError(
            f"Waves must have the shape (batch, {wanted}); these have {waves.shape}.",
            fix="a single wave is waves[None, :]",
        )
    n_waves, n_samples = waves.shape
    fits = (
        n_samples >= contract.min_samples
        if contract.n_samples is None
        else n_samples == contract.n_samples
    )
    if contract.max_samples is not None and n_samples > contract.max_samples:
        wanted, fits = f"{contract.min_samples} to {contract.max_samples}", False
    if not fits:
        raise ShapeError(
            f"The model takes waves of {wanted} samples; these have {n_samples}.",
            fix="cut or tile them: aasist_deploy.audio.fit_length(wave, n_samples)",
        )
    if n_waves == 0:
        raise ShapeError("The batch is empty: it holds no wave.")
    if not np.isfinite(waves).all():
        bad = int(np.count_nonzero(~np.isfinite(waves)))
        raise ShapeError(f"Waves hold {bad} samples that are NaN or infinite.")
    return np.ascontiguousarray(waves)


def check_threads(threads: int | None) -> None:
    """Refuse a number of threads below one."""
    if threads is not None and threads < 1:
        raise UsageError(f"The number of threads is {threads}; it must be 1 or more.")


def usable_cores() -> int:
    """How many cores this process may run on (affinity, not the machine's total)."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1
