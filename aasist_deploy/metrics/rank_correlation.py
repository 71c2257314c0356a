"""Spearman's rank correlation: whether two systems put the same trials in the same order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def spearman(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Spearman's rank correlation; equal values share their mean rank. 1.0 for two constants.

    Args:
        a: (n,) values.
        b: (n,) values of the same trials.
    """
    ranks = [_mean_ranks(x) for x in (a, b)]
    if any(np.ptp(r) == 0 for r in ranks):
        return 1.0 if all(np.ptp(r) == 0 for r in ranks) else 0.0
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def _mean_ranks(x: NDArray[np.float64]) -> NDArray[np.float64]:
    _, group, counts = np.unique(x, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    means: NDArray[np.float64] = last - (counts - 1) / 2
    return means[group]
