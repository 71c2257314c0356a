"""The reference way: every window is scored alone, on any engine and at any hop.

It costs one full pass for each window, and works for every architecture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from aasist_deploy.audio import N_SAMPLES, fit_length
from aasist_deploy.errors import UsageError
from aasist_deploy.streaming.windows import WindowScore, check_samples

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from aasist_deploy.contract import ModelContract
    from aasist_deploy.engines import Engine

DEFAULT_BATCH: Final = 8


def window_length(contract: ModelContract, wanted: int | None = None) -> int:
    """Samples of a window.

    Args:
        contract: Of the model.
        wanted: A length that was asked for, or None: the model's, and of a variable-length model
            the 64,600 samples that AASIST was trained on, as far as its limits allow.

    Raises:
        UsageError: the model does not take windows of that length.
    """
    longest = contract.n_samples or contract.max_samples
    if wanted is None:
        if contract.n_samples is not None:
            return contract.n_samples
        return max(contract.min_samples, min(N_SAMPLES, longest or N_SAMPLES))
    shortest = contract.n_samples or contract.min_samples
    if wanted < shortest or (longest is not None and wanted > longest):
        takes = (
            f"{shortest} samples"
            if shortest == longest
            else (f"{shortest} to {longest} samples" if longest else f"{shortest} samples or more")
        )
        raise UsageError(
            f"A window of {wanted} samples was asked for; the model takes {takes}.",
            fix="export it with --samples variable for windows of another length",
        )
    return wanted


class EachWindowScorer:
    """Scores the windows of one stream, each by a pass of its own; a `WindowScorer`.

    Memory is that of one window, one hop and what is pushed at once. One object belongs to one
    stream and one thread; the engine may be shared as far as the engine allows it.

    Args:
        engine: Opened model.
        hop_samples: Samples from one start to the next, at least 1.
        window_samples: Of a variable-length model; by default as `window_length` chooses.
        batch: Windows that are scored together, when a push completes several.

    Raises:
        UsageError: hop, window or batch are out of range.
    """

    def __init__(
        self,
        engine: Engine,
        hop_samples: int,
        *,
        window_samples: int | None = None,
        batch: int = DEFAULT_BATCH,
    ) -> None:
        if hop_samples < 1:
            raise UsageError(f"The hop is {hop_samples} samples; it must be at least 1.")
        if batch < 1:
            raise UsageError(f"The batch is {batch}; it must be at least 1.")
        self.sample_rate = engine.contract.sample_rate_hz
        self.window_samples = window_length(engine.contract, window_samples)
        self.hop_samples = hop_samples
        self._engine, self._batch = engine, batch
        self._held = np.empty(0, np.float32)  # samples from `_position` on
        self._position = 0  # in the stream
        self._n_windows = 0  # that were scored; the next one starts at `_n_windows * hop`
        self._finished = False

    def push(self, samples: NDArray[np.float32]) -> list[WindowScore]:
        """Take (n,) float32 samples in [-1, 1], any n >= 0; return the windows they completed.

        Raises:
            ShapeError: they are not one-dimensional float32, hold NaN, or the stream has ended.
        """
        check_samples(samples, ended=self._finished)
        self._held = np.concatenate([self._held, samples])
        scores: list[WindowScore] = []
        for windows in self._complete():
            scores += self._scored(windows)
        self._forget()
        return scores

    def finish(self) -> list[WindowScore]:
        """End the stream; a second call does nothing.

        Returns:
            The one window of a stream that was shorter than a window, tiled as files are; otherwise
            nothing.
        """
        if self._finished:
            return []
        self._finished = True
        if self._n_windows or not len(self._held):
            return []
        n_samples = len(self._held)
        wave = fit_length(self._held, self.window_samples)
        (score,) = self._engine.score(wave[None]).tolist()
        return [WindowScore(0, 0.0, n_samples / self.sample_rate, score)]

    def _complete(self) -> Iterator[NDArray[np.float32]]:
        """Batches of (B, window) that are whole and not yet scored."""
        n_whole = self._position + len(self._held) - self.window_samples
        n_due = max(0, n_whole // self.hop_samples + 1) - self._n_windows
        while n_due > 0:
            size = min(self._batch, n_due)
            first = self._n_windows * self.hop_samples - self._position
            starts = range(first, first + size * self.hop_samples, self.hop_samples)
            yield np.stack([self._held[start : start + self.window_samples] for start in starts])
            n_due -= size

    def _scored(self, windows: NDArray[np.float32]) -> list[WindowScore]:
        scores = self._engine.score(windows).tolist()
        first = self._n_windows
        self._n_windows += len(scores)
        return [
            window_score(index, score, self.hop_samples, self.window_samples, self.sample_rate)
            for index, score in enumerate(scores, start=first)
        ]

    def _forget(self) -> None:
        """Let go of samples before the next window; with a long hop, that may lie ahead."""
        n_gone = min(self._n_windows * self.hop_samples - self._position, len(self._held))
        if n_gone > 0:
            self._held = self._held[n_gone:].copy()
            self._position += n_gone


def window_score(
    index: int, score: float, hop_samples: int, window_samples: int, sample_rate: int
) -> WindowScore:
    """The score of a whole window with its place, each time rounded once."""
    start = index * hop_samples
    return WindowScore(index, start / sample_rate, (start + window_samples) / sample_rate, score)
