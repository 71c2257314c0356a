"""Decision thresholds for a wanted rate, and what the trials say of any threshold.

A trial is accepted as bona fide when its score is at or above the threshold. The threshold for
priors and costs, on the log-likelihood ratio, is `DetectionCosts.bayes_threshold` of the metrics.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from aasist_deploy.errors import UsageError
from aasist_deploy.metrics.rates import checked_classes

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

CONFIDENCE: Final = 0.95  # of upper bounds on rates
_BISECTIONS: Final = 60  # halves [0, 1] down to the spacing of doubles near 1


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatingPoint:
    """A threshold with the errors counted at it.

    Attributes:
        name: What the threshold is for.
        threshold: On the raw score.
        llr: The same threshold on the log-likelihood ratio.
        n_misses: Bona fide trials rejected, of `n_bonafide`.
        n_false_alarms: Spoofed trials accepted, of `n_spoof`.
    """

    name: str
    threshold: float
    llr: float
    n_bonafide: int
    n_misses: int
    n_spoof: int
    n_false_alarms: int

    @property
    def miss_bound(self) -> float:
        """Upper bound on the rate of misses, one-sided, at `CONFIDENCE`."""
        return rate_upper_bound(self.n_misses, self.n_bonafide)

    @property
    def false_alarm_bound(self) -> float:
        """Upper bound on the rate of false alarms, one-sided, at `CONFIDENCE`."""
        return rate_upper_bound(self.n_false_alarms, self.n_spoof)

    def to_dict(self) -> dict[str, Any]:
        """The point in plain JSON types; rates in percent say so."""
        return {
            "name": self.name,
            "threshold": self.threshold,
            "llr": self.llr,
            "n_bonafide": self.n_bonafide,
            "n_misses": self.n_misses,
            "miss_bound_percent": self.miss_bound * 100,
            "n_spoof": self.n_spoof,
            "n_false_alarms": self.n_false_alarms,
            "false_alarm_bound_percent": self.false_alarm_bound * 100,
        }


def operating_point(
    bonafide: ArrayLike, spoof: ArrayLike, threshold: float, *, llr: float, name: str
) -> OperatingPoint:
    """Count the errors of (n,) bona fide and (m,) spoofed scores at a threshold.

    Raises:
        MetricError: A class is empty, or a score is NaN or infinite.
    """
    genuine, spoofed = checked_classes(bonafide, spoof)
    return OperatingPoint(
        name=name,
        threshold=threshold,
        llr=llr,
        n_bonafide=genuine.size,
        n_misses=int(np.count_nonzero(genuine < threshold)),
        n_spoof=spoofed.size,
        n_false_alarms=int(np.count_nonzero(spoofed >= threshold)),
    )


def threshold_for_false_alarms(bonafide: ArrayLike, spoof: ArrayLike, rate: float) -> float:
    """The lowest threshold at which at most this share of the spoofed trials is accepted.

    It lies halfway to the next higher score of either class, so that rounding on another backend
    does not change the counts.

    Args:
        bonafide: (n,) scores.
        spoof: (m,) scores.
        rate: Wanted share, in [0, 1).

    Raises:
        UsageError: The rate is out of its range.
        MetricError: A class is empty, or a score is NaN or infinite.
    """
    genuine, spoofed = checked_classes(bonafide, spoof)
    refused = float(np.sort(spoofed)[::-1][_allowed(rate, spoofed.size)])
    return _above(refused, np.concatenate((genuine, spoofed)))


def threshold_for_misses(bonafide: ArrayLike, spoof: ArrayLike, rate: float) -> float:
    """The highest threshold at which at most this share of the bona fide trials is rejected.

    Arguments and errors as for `threshold_for_false_alarms`; it lies halfway to the next lower
    score of either class.
    """
    genuine, spoofed = checked_classes(bonafide, spoof)
    accepted = float(np.sort(genuine)[_allowed(rate, genuine.size)])
    scores = np.concatenate((genuine, spoofed))
    lower = scores[scores < accepted]
    return accepted if lower.size == 0 else _between(float(lower.max()), accepted)


def rate_upper_bound(n_errors: int, n_trials: int, confidence: float = CONFIDENCE) -> float:
    """Upper bound on a rate of which `n_errors` of `n_trials` were seen, one-sided and exact.

    The rate at which so few errors, or fewer, have the probability 1 - confidence; 0 of 52 gives
    0.056. It holds for independent trials like those counted. It also holds for a threshold that
    was set on the very trials by `threshold_for_false_alarms` (or `_misses`), for the rate beyond
    the (k + 1)-th highest of n scores has just this distribution, Beta(k + 1, n - k).

    Args:
        n_errors: From 0 to `n_trials`.
        n_trials: 1 or more.
        confidence: In (0, 1).

    Raises:
        UsageError: The counts or the confidence are out of their ranges.

    Source: Clopper and Pearson, The use of confidence or fiducial limits, Biometrika 26, 1934;
    Wilks, Determination of sample sizes for setting tolerance limits, Ann. Math. Stat. 12, 1941.
    """
    if not (0 <= n_errors <= n_trials and n_trials >= 1 and 0 < confidence < 1):
        raise UsageError(
            f"{n_errors} errors of {n_trials} trials at a confidence of {confidence}: "
            "there is no such bound."
        )
    if n_errors == n_trials:
        return 1.0
    log_choose = np.append(0.0, np.cumsum(np.log(np.arange(n_trials, n_trials - n_errors, -1.0))))
    log_choose -= np.append(0.0, np.cumsum(np.log(np.arange(1.0, n_errors + 1))))
    low, high = n_errors / n_trials, 1.0
    for _ in range(_BISECTIONS):
        rate = (low + high) / 2
        if _at_most(log_choose, n_trials, rate) > 1 - confidence:
            low = rate
        else:
            high = rate
    return high


def trials_to_show(rate: float, confidence: float = CONFIDENCE) -> int:
    """How many trials without any error show that a rate is at most this one.

    Raises:
        UsageError: The rate or the confidence is not in (0, 1): no number of trials shows a 0.
    """
    if not (0 < rate < 1 and 0 < confidence < 1):
        raise UsageError(f"No number of trials shows a rate of {rate} at {confidence}.")
    return math.ceil(math.log(1 - confidence) / math.log1p(-rate))


def _at_most(log_choose: NDArray[np.float64], n_trials: int, rate: float) -> float:
    """Probability of fewer than `len(log_choose)` errors at a rate in (0, 1)."""
    if rate >= 1:
        return 0.0
    errors = np.arange(len(log_choose))
    terms = log_choose + errors * math.log(rate) + (n_trials - errors) * math.log1p(-rate)
    return float(np.exp(terms).sum())


def _allowed(rate: float, n_trials: int) -> int:
    """The most errors of `n_trials` whose share is at most `rate`."""
    if not 0 <= rate < 1:
        raise UsageError(f"The wanted rate is {rate}; it must be at least 0 and below 1.")
    n_errors = min(int(rate * n_trials) + 1, n_trials - 1)
    while n_errors / n_trials > rate:  # 0.29 * 100 is 28.999...96
        n_errors -= 1
    return n_errors


def _above(limit: float, scores: NDArray[np.float64]) -> float:
    higher = scores[scores > limit]
    return math.nextafter(limit, math.inf) if not higher.size else _between(limit, higher.min())


def _between(low: float, high: float) -> float:
    """Halfway, above `low` and at most `high`."""
    halfway = low / 2 + high / 2
    return float(halfway if low < halfway <= high else high)
