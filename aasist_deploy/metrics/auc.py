"""Area under the receiver operating characteristic curve."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aasist_deploy.metrics.rates import operating_points

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def auc(bonafide: ArrayLike, spoof: ArrayLike) -> float:
    """Compute the chance that a bona fide trial scores higher than a spoofed one, ties by half.

    It is counted in whole numbers and rounded once.

    Args:
        bonafide: (n,) scores of bona fide trials; higher means more bona fide.
        spoof: (m,) scores of spoofed trials.

    Returns:
        In [0, 1]; 0.5 for constant scores.

    Raises:
        MetricError: A class is empty, or a score is NaN or infinite.

    Source: Hanley and McNeil, The meaning and use of the area under a receiver operating
    characteristic (ROC) curve, Radiology 143, 1982: the Mann-Whitney statistic over n m.
    """
    _, n_misses, n_false_alarms = operating_points(bonafide, spoof)
    n_bonafide, n_spoof = int(n_misses[-1]), int(n_false_alarms[0])
    n_rejected = n_spoof - n_false_alarms  # spoofed trials below each threshold
    # A step holds the trials of one score: they beat all spoofs below it and half of its own.
    doubled = (n_misses[1:] - n_misses[:-1]) * (n_rejected[1:] + n_rejected[:-1])
    return int(doubled.sum()) / (2 * n_bonafide * n_spoof)
