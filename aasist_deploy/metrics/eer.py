"""Equal error rate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from aasist_deploy.metrics.rates import Compat, official_curve, operating_points

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


@dataclass(frozen=True, slots=True, kw_only=True)
class EqualErrorRate:
    """Where as many bona fide trials are rejected as spoofed ones are accepted.

    Attributes:
        eer: Rate in [0, 1].
        threshold: Accept scores at or above it to get (about) this rate.
    """

    eer: float
    threshold: float


def eer(bonafide: ArrayLike, spoof: ArrayLike, *, compat: Compat = "corrected") -> EqualErrorRate:
    """Compute the equal error rate.

    corrected: the points (Pfa, Pmiss) of all distinct thresholds are joined by straight lines, and
    the rate is where this curve meets Pfa = Pmiss, exactly. Equal scores are one step of the curve,
    so all-equal scores give 0.5, and the order of trials has no part in it. The threshold is the
    score at which the curve meets the line; where it does so between two scores, halfway.

    official: the point with the smallest |Pmiss - Pfa| among those after each single trial, and
    the mean of its two rates.

    Args:
        bonafide: (n,) scores of bona fide trials; higher means more bona fide.
        spoof: (m,) scores of spoofed trials.
        compat: Which of the two.

    Raises:
        MetricError: A class is empty, or a score is NaN or infinite.

    Source: official: ASVspoof 2019 evaluation package, compute_eer (arithmetic, not code).
    corrected: the trapezoidal ROC, where a tie is a diagonal step (Fawcett, An introduction to ROC
    analysis, Pattern Recognition Letters 27, 2006).
    """
    if compat == "official":
        thresholds, pfa, pmiss = official_curve(bonafide, spoof)
        nearest = int(np.argmin(np.abs(pmiss - pfa)))
        return EqualErrorRate(
            eer=float((pmiss[nearest] + pfa[nearest]) / 2), threshold=float(thresholds[nearest])
        )
    thresholds, n_misses, n_false_alarms = operating_points(bonafide, spoof)
    n_bonafide, n_spoof = int(n_misses[-1]), int(n_false_alarms[0])
    # (Pmiss - Pfa) n m in whole numbers, so that nothing is rounded; it grows with each step.
    gap = n_misses * n_spoof - n_false_alarms * n_bonafide
    after = int(np.searchsorted(gap, 0, side="left"))
    if gap[after] == 0:
        halfway = float(thresholds[after - 1] / 2 + thresholds[after] / 2)
        above = float(thresholds[after])
        return EqualErrorRate(
            eer=int(n_misses[after]) / n_bonafide,
            threshold=halfway if thresholds[after - 1] < halfway <= above else above,
        )
    gap_before, gap_after = int(gap[after - 1]), int(gap[after])
    misses_before, misses_after = int(n_misses[after - 1]), int(n_misses[after])
    step = gap_after - gap_before
    crossing = misses_before * step - gap_before * (misses_after - misses_before)
    return EqualErrorRate(
        eer=crossing / (step * n_bonafide), threshold=float(thresholds[after - 1])
    )
