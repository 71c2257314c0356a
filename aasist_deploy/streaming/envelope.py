"""Pictures of any length in bounded memory: the wave's envelope and the course of the scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from aasist_deploy.streaming.rows import WindowRow

MAX_BINS: Final = 2_048  # more than a wide picture has columns; even, to be halved


class Envelope:
    """Lowest and highest sample of each of at most `MAX_BINS` equal parts of a recording.

    The parts grow, by pairs becoming one, as the recording does.

    Args:
        sample_rate: Hz.
    """

    def __init__(self, sample_rate: int) -> None:
        self._rate = sample_rate
        self._bin = 64  # samples of a part; 4 ms at 16 kHz
        self._low = np.full(MAX_BINS, np.nan, np.float32)
        self._high = np.full(MAX_BINS, np.nan, np.float32)
        self._position = 0

    def add(self, samples: NDArray[np.float32]) -> None:
        """Take the next (n,) samples."""
        end = self._position + len(samples)
        self._grow(end)
        if not len(samples):
            return
        first = self._position // self._bin
        edges = np.arange(first, -(-end // self._bin)) * self._bin - self._position
        edges[0] = 0
        bins = slice(first, first + len(edges))
        # fmin and fmax take a number rather than the NaN of a part that has had no sample.
        self._low[bins] = np.fmin(self._low[bins], np.minimum.reduceat(samples, edges))
        self._high[bins] = np.fmax(self._high[bins], np.maximum.reduceat(samples, edges))
        self._position = end

    def skip(self, seconds: float) -> None:
        """Leave a gap; it shows as nothing."""
        self._position += round(seconds * self._rate)
        self._grow(self._position)

    def arrays(self) -> tuple[NDArray[np.float64], NDArray[np.float32], NDArray[np.float32]]:
        """Start of each part in seconds, lowest and highest sample; NaN where there is none."""
        n_bins = -(-self._position // self._bin)
        starts = np.arange(n_bins, dtype=np.float64) * (self._bin / self._rate)
        return starts, self._low[:n_bins].copy(), self._high[:n_bins].copy()

    def _grow(self, end: int) -> None:
        while end > MAX_BINS * self._bin:
            for values, of_pair in ((self._low, np.fmin), (self._high, np.fmax)):
                values[: MAX_BINS // 2] = of_pair(values[::2], values[1::2])
                values[MAX_BINS // 2 :] = np.nan
            self._bin *= 2


class ScoreCourse:
    """Mean, lowest and highest score of each of at most `MAX_BINS` runs of rows.

    A run is one row until there are too many, then two, four and so on. Rows without a score have
    their place and no part in the figures.
    """

    def __init__(self) -> None:
        self._per_bin = 1
        self._n_rows = 0
        self._place = np.full((MAX_BINS, 2), np.nan)  # start and end in seconds
        self._sums = np.zeros((MAX_BINS, 2))  # sum and number of scores
        self._range = np.full((MAX_BINS, 2), np.nan)  # lowest and highest score

    def add(self, row: WindowRow) -> None:
        """Take the next row; one that has no place, the error of a whole file, is left out."""
        if row.start_s is None or row.end_s is None:
            return
        if self._n_rows == MAX_BINS * self._per_bin:
            self._halve()
        number = self._n_rows // self._per_bin
        self._n_rows += 1
        place, sums, low_high = self._place[number], self._sums[number], self._range[number]
        place[:] = np.fmin(place[0], row.start_s), np.fmax(place[1], row.end_s)
        if row.score is not None:
            sums += row.score, 1
            low_high[:] = np.fmin(low_high[0], row.score), np.fmax(low_high[1], row.score)

    def arrays(self) -> dict[str, NDArray[np.float64]]:
        """`start_s`, `end_s`, `mean`, `min` and `max` of each run; NaN where it has no score."""
        n_bins = -(-self._n_rows // self._per_bin)
        sums = self._sums[:n_bins]
        with np.errstate(invalid="ignore"):
            mean = sums[:, 0] / sums[:, 1]
        return {
            "start_s": self._place[:n_bins, 0].copy(),
            "end_s": self._place[:n_bins, 1].copy(),
            "mean": mean,
            "min": self._range[:n_bins, 0].copy(),
            "max": self._range[:n_bins, 1].copy(),
        }

    def _halve(self) -> None:
        half = MAX_BINS // 2
        for values in (self._place, self._range):
            values[:half, 0] = np.fmin(values[::2, 0], values[1::2, 0])
            values[:half, 1] = np.fmax(values[::2, 1], values[1::2, 1])
            values[half:] = np.nan
        self._sums[:half] = self._sums[::2] + self._sums[1::2]
        self._sums[half:] = 0
        self._per_bin *= 2
