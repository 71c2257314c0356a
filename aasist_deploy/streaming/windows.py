"""What a sliding-window scorer takes and gives, whatever computes its scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from aasist_deploy.errors import ShapeError

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class WindowScore:
    """The score of one window of a stream.

    Attributes:
        index: Which window of the stream, from 0.
        start_s: Where it starts, in seconds of the stream.
        end_s: Where it ends, in seconds of the stream; of a stream shorter than one window, the
            stream's own end.
        score: As the contract defines it; higher means more likely bona fide.
    """

    index: int
    start_s: float
    end_s: float
    score: float


class WindowScorer(Protocol):
    """Scores the windows of one stream as its samples arrive.

    One object belongs to one stream and to one thread at a time; memory is bounded by the window,
    not by the stream.

    Attributes:
        sample_rate: Hz of the samples that are pushed, the contract's.
        window_samples: Samples of one window.
        hop_samples: Samples from the start of one window to the start of the next.
    """

    sample_rate: int
    window_samples: int
    hop_samples: int

    def push(self, samples: NDArray[np.float32]) -> list[WindowScore]:
        """Take (n,) float32 samples in [-1, 1], any n >= 0; return the windows they completed."""
        ...

    def finish(self) -> list[WindowScore]:
        """End the stream.

        Returns:
            What was left: for a stream shorter than one window, that window, tiled as files are;
            otherwise nothing but what was still being computed. Samples after the last whole window
            that no further hop reaches are in no window of their own.
        """
        ...


def check_samples(samples: NDArray[np.float32], *, ended: bool) -> None:
    """Refuse what no scorer can be pushed.

    Args:
        samples: What is pushed.
        ended: Whether the stream has ended.

    Raises:
        ShapeError: another type or shape than (n,) float32, or the stream has ended.
    """
    if ended:
        raise ShapeError("The stream has ended: nothing can be pushed after finish().")
    if samples.ndim != 1 or samples.dtype != np.float32:
        raise ShapeError(
            f"Samples have the shape (n,) and are float32; these have {samples.shape} and are "
            f"{samples.dtype}.",
            fix="mix down to one channel; numpy.asarray(samples, dtype=numpy.float32)",
        )
