"""A scorer that starts anew every so many windows, so that a run can go on from there.

What a scorer gives depends, to the rounding of float32, on where it began and on what was pushed at
once. Beginning again at fixed windows makes a run that is resumed at one of them equal to one that
was not interrupted, to the last bit, and costs a window of overlap each time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from aasist_deploy.streaming.each_window import window_score

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from aasist_deploy.streaming.windows import WindowScore, WindowScorer


class RestartingScorer:
    """A `WindowScorer` over scorers of `every` windows each.

    Args:
        new_scorer: Makes one.
        every: Windows of each.
        chunk_samples: What is pushed into them at once: the same, however this one is pushed.
        skip: Windows that are not wanted, a multiple of `every`; they are not computed.
    """

    def __init__(
        self,
        new_scorer: Callable[[], WindowScorer],
        *,
        every: int,
        chunk_samples: int,
        skip: int = 0,
    ) -> None:
        self._new_scorer, self._every, self._chunk = new_scorer, every, chunk_samples
        self._inner = new_scorer()
        self.sample_rate = self._inner.sample_rate
        self.window_samples = self._inner.window_samples
        self.hop_samples = self._inner.hop_samples
        self._first = skip // every * every  # window at which the inner scorer began
        self._fed = self._first * self.hop_samples  # sample of the stream that it takes next
        self._held = np.empty(0, np.float32)  # samples from `_held_at` on
        self._held_at = 0

    def push(self, samples: NDArray[np.float32]) -> list[WindowScore]:
        """Take (n,) float32 samples; return the windows that whole chunks completed."""
        self._held = np.concatenate([self._held, samples])
        return self._take(final=False)

    def finish(self) -> list[WindowScore]:
        """End the stream; return the windows that were left."""
        scores = self._take(final=True)
        is_short = self._fed - self._first * self.hop_samples < self.window_samples
        if self._first and is_short:  # not a short stream, but what follows its last window
            return scores
        return scores + self._placed(self._inner.finish())

    def _take(self, *, final: bool) -> list[WindowScore]:
        scores: list[WindowScore] = []
        while True:
            until = (self._first + self._every - 1) * self.hop_samples + self.window_samples
            size = min(self._chunk, until - self._fed)
            n_ready = self._held_at + len(self._held) - self._fed
            if n_ready < size and not (final and n_ready > 0):
                self._forget()
                return scores
            begin = self._fed - self._held_at
            piece = self._held[begin : begin + size]
            scores += self._placed(self._inner.push(piece))
            self._fed += len(piece)
            if self._fed == until:
                scores += self._placed(self._inner.finish())
                self._first += self._every
                self._inner = self._new_scorer()
                self._fed = self._first * self.hop_samples

    def _forget(self) -> None:
        """Let go of samples that neither this scorer nor the next one takes."""
        needed = min(self._fed, (self._first + self._every) * self.hop_samples)
        n_gone = min(needed - self._held_at, len(self._held))
        if n_gone > 0:
            self._held = self._held[n_gone:].copy()
            self._held_at += n_gone

    def _placed(self, scores: list[WindowScore]) -> list[WindowScore]:
        """Windows of the inner scorer as those of the stream."""
        if not self._first:
            return scores
        return [
            window_score(
                score.index + self._first,
                score.score,
                self.hop_samples,
                self.window_samples,
                self.sample_rate,
            )
            for score in scores
        ]
