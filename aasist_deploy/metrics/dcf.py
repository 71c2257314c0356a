"""Detection cost: at the best threshold (minDCF) and at the threshold of Bayes (actDCF)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from aasist_deploy.errors import MetricError
from aasist_deploy.metrics.rates import Compat, checked_classes, det_curve, official_curve

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectionCosts:
    """Prior and costs of a countermeasure alone; the defaults are those of ASVspoof 5.

    Source: ASVspoof 5 evaluation plan, track 1.
    """

    p_spoof: float = 0.05
    cost_miss: float = 1.0
    cost_fa: float = 10.0

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not (0 < self.p_spoof < 1 and self.cost_miss > 0 and self.cost_fa > 0):
            raise MetricError(
                f"The prior of spoofs is {self.p_spoof} and the costs are {self.cost_miss} and "
                f"{self.cost_fa}; the prior must be between 0 and 1 and the costs above 0."
            )
        weights = self.cost_miss * (1 - self.p_spoof), self.cost_fa * self.p_spoof
        if 0.0 in weights or not (0 < weights[0] / weights[1] < math.inf):
            raise MetricError(
                f"With a prior of spoofs of {self.p_spoof} and costs of {self.cost_miss} and "
                f"{self.cost_fa}, one of the two errors outweighs the other without bound: there "
                "is no threshold.",
                fix="Give finite costs.",
            )

    @property
    def bayes_threshold(self) -> float:
        """The log-likelihood ratio at and above which accepting costs less; -ln 1.9 by default."""
        return -math.log(self.cost_miss * (1 - self.p_spoof) / (self.cost_fa * self.p_spoof))

    @property
    def without_scores(self) -> float:
        """What the cheaper of accepting all and rejecting all costs."""
        return min(self.cost_fa * self.p_spoof, self.cost_miss * (1 - self.p_spoof))


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectionCost:
    """A normalised detection cost and the threshold that it is reached at.

    Attributes:
        value: 0 without errors, 1 for the better of accepting all and rejecting all; minDCF is
            never above 1, actDCF may be.
        threshold: Accept scores at or above it.
    """

    value: float
    threshold: float


def min_dcf(
    bonafide: ArrayLike,
    spoof: ArrayLike,
    *,
    costs: DetectionCosts | None = None,
    compat: Compat = "corrected",
) -> DetectionCost:
    """Compute the minimum over thresholds of the normalised detection cost.

        DCF(t) = Cmiss (1 - Pspoof) Pmiss(t) + Cfa Pspoof Pfa(t)
        minDCF = min DCF(t) / min(Cmiss (1 - Pspoof), Cfa Pspoof)

    Args:
        bonafide: (n,) scores of bona fide trials; higher means more bona fide.
        spoof: (m,) scores of spoofed trials.
        costs: Prior and costs; those of ASVspoof 5 unless given.
        compat: corrected takes the minimum over distinct thresholds, official over single trials.

    Raises:
        MetricError: A class is empty, or a score is NaN or infinite.

    Source: ASVspoof 5 evaluation plan, track 1.
    """
    costs = costs or DetectionCosts()
    curve = official_curve if compat == "official" else det_curve
    thresholds, pfa, pmiss = curve(bonafide, spoof)
    p_bonafide = 1 - costs.p_spoof
    # 1 - (1 - Pspoof), as the official package has it, may differ from Pspoof in the last digit.
    p_spoof = 1 - p_bonafide if compat == "official" else costs.p_spoof
    cost = costs.cost_miss * pmiss * p_bonafide + costs.cost_fa * pfa * p_spoof
    lowest = int(np.argmin(cost))
    smaller = min(costs.cost_miss * p_bonafide, costs.cost_fa * p_spoof)
    return DetectionCost(value=float(cost[lowest] / smaller), threshold=float(thresholds[lowest]))


def act_dcf(
    bonafide: ArrayLike, spoof: ArrayLike, *, costs: DetectionCosts | None = None
) -> DetectionCost:
    """Compute the normalised detection cost of deciding as Bayes says.

    The threshold is -ln(Cmiss (1 - Pspoof) / (Cfa Pspoof)). It is the right one when scores are
    log-likelihood ratios; for other scores the figure says how far they are from that. There is
    nothing to correct: the official package computes the same.

    Args:
        bonafide: (n,) log-likelihood ratios of bona fide trials.
        spoof: (m,) log-likelihood ratios of spoofed trials.
        costs: Prior and costs; those of ASVspoof 5 unless given.

    Raises:
        MetricError: A class is empty, or a score is NaN or infinite.

    Source: ASVspoof 5 evaluation plan, track 1, on the Bayes decision.
    """
    costs = costs or DetectionCosts()
    bonafide, spoof = checked_classes(bonafide, spoof)
    threshold = costs.bayes_threshold
    pmiss = np.count_nonzero(bonafide < threshold) / bonafide.size
    pfa = np.count_nonzero(spoof >= threshold) / spoof.size
    cost = costs.cost_miss * (1 - costs.p_spoof) * pmiss + costs.cost_fa * costs.p_spoof * pfa
    return DetectionCost(value=float(cost / costs.without_scores), threshold=threshold)
