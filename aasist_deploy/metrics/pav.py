"""Pool adjacent violators: the best non-decreasing calibration, and the convex hull of the ROC."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from aasist_deploy.metrics.rates import operating_points

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

# Passes over the whole array halve random data, so few are needed; an adversarial order needs as
# many as there are steps, which the stack then does in one walk.
_MAX_PASSES: Final = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class PavBins:
    """Bins of scores from low to high, whose share of bona fide trials grows strictly.

    Attributes:
        thresholds: (k,) lowest score of each bin, ascending.
        n_bonafide: (k,) bona fide trials in each.
        n_spoof: (k,) spoofed trials in each.
    """

    thresholds: NDArray[np.float64]
    n_bonafide: NDArray[np.int64]
    n_spoof: NDArray[np.int64]

    @property
    def llr(self) -> NDArray[np.float64]:
        """(k,) natural-log likelihood ratio of each bin; infinite where a class is absent."""
        with np.errstate(divide="ignore"):
            return np.asarray(
                np.log(self.n_bonafide / self.n_bonafide.sum())
                - np.log(self.n_spoof / self.n_spoof.sum()),
                dtype=np.float64,
            )


def pav(bonafide: ArrayLike, spoof: ArrayLike) -> PavBins:
    """Fit the non-decreasing step function from score to share of bona fide trials.

    Equal scores are in one bin from the start, so their order has no part in it.

    Args:
        bonafide: (n,) scores of bona fide trials; higher means more bona fide.
        spoof: (m,) scores of spoofed trials.

    Raises:
        MetricError: A class is empty, or a score is NaN or infinite.

    Source: Ayer et al., An empirical distribution function for sampling with incomplete
    information, Annals of Mathematical Statistics 26, 1955; its use on detection scores: Brummer
    and du Preez, Application-independent evaluation of speaker detection, 2006.
    """
    thresholds, n_misses, n_false_alarms = operating_points(bonafide, spoof)
    starts, n_bonafide, n_spoof = pool(np.diff(n_misses), -np.diff(n_false_alarms))
    return PavBins(thresholds=thresholds[:-1][starts], n_bonafide=n_bonafide, n_spoof=n_spoof)


def pool(
    n_bonafide: NDArray[np.int64], n_spoof: NDArray[np.int64]
) -> tuple[NDArray[np.intp], NDArray[np.int64], NDArray[np.int64]]:
    """Pool neighbours until the share of bona fide trials grows strictly.

    Args:
        n_bonafide: (k,) trials in each step from low to high; no step is empty of both classes.
        n_spoof: (k,) the same of spoofed trials.

    Returns:
        (j,) index of the first step of each bin; (j,) and (j,) trials in each bin.
    """
    starts = np.arange(len(n_bonafide))
    for _ in range(_MAX_PASSES):
        # The share b / (b + s) falls or stays where b s' >= b' s; all of such a run ends in one
        # bin, whatever the order of pooling.
        violates = n_bonafide[:-1] * n_spoof[1:] >= n_bonafide[1:] * n_spoof[:-1]
        if not violates.any():
            return starts, n_bonafide, n_spoof
        first = np.flatnonzero(np.concatenate(([True], ~violates)))
        starts = starts[first]
        n_bonafide = np.add.reduceat(n_bonafide, first)
        n_spoof = np.add.reduceat(n_spoof, first)
    return _pool_on_a_stack(starts, n_bonafide, n_spoof)


def _pool_on_a_stack(
    starts: NDArray[np.intp], n_bonafide: NDArray[np.int64], n_spoof: NDArray[np.int64]
) -> tuple[NDArray[np.intp], NDArray[np.int64], NDArray[np.int64]]:
    """The same in one walk: each step is pushed once and popped at most once."""
    stack: list[tuple[int, int, int]] = []
    for start, b, s in zip(starts.tolist(), n_bonafide.tolist(), n_spoof.tolist(), strict=True):
        bin_start, bin_b, bin_s = start, b, s
        while stack and stack[-1][1] * bin_s >= bin_b * stack[-1][2]:
            bin_start, b_before, s_before = stack.pop()
            bin_b, bin_s = bin_b + b_before, bin_s + s_before
        stack.append((bin_start, bin_b, bin_s))
    columns = np.array(stack, dtype=np.int64)
    return columns[:, 0].astype(np.intp), columns[:, 1], columns[:, 2]
