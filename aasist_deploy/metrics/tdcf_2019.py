"""Minimum tandem detection cost (t-DCF) in the form of ASVspoof 2019, the "legacy" one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from aasist_deploy.errors import MetricError
from aasist_deploy.metrics.eer import eer
from aasist_deploy.metrics.rates import Compat, checked_classes, det_curve, official_curve

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from aasist_deploy.metrics.tandem import TandemRates


@dataclass(frozen=True, slots=True, kw_only=True)
class TandemCosts:
    """Priors and costs; the defaults are those of all ASVspoof challenges.

    Source: ASVspoof 2019 evaluation plan, section 5.1, table 3.
    """

    p_spoof: float = 0.05
    p_target: float = (1 - 0.05) * 0.99
    p_nontarget: float = (1 - 0.05) * 0.01
    cost_miss_asv: float = 1.0
    cost_fa_asv: float = 10.0
    cost_miss_cm: float = 1.0
    cost_fa_cm: float = 10.0

    def __post_init__(self) -> None:
        """Check the ranges."""
        priors = self.p_spoof, self.p_target, self.p_nontarget
        costs = self.cost_miss_asv, self.cost_fa_asv, self.cost_miss_cm, self.cost_fa_cm
        if min(*priors, *costs) < 0 or abs(sum(priors) - 1) > 1e-10:
            raise MetricError(
                f"Priors {priors} and costs {costs} must not be negative, and the priors must "
                f"add up to 1, not {sum(priors)}."
            )


class AsvScoresLike(Protocol):
    """Scores of a speaker verification system; higher means more the claimed speaker."""

    @property
    def target(self) -> NDArray[np.float64]:
        """Scores of trials of the claimed speaker."""

    @property
    def nontarget(self) -> NDArray[np.float64]:
        """Scores of trials of other speakers."""

    @property
    def spoof(self) -> NDArray[np.float64]:
        """Scores of spoofed trials."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AsvErrorRates:
    """What the speaker verification system does behind the countermeasure.

    Attributes:
        threshold: Its own equal error threshold, of targets against nontargets.
        pfa: Share of nontargets at or above it.
        pmiss: Share of targets below it.
        pmiss_spoof: Share of spoofs below it.
        eer: Equal error rate of targets against nontargets.
    """

    threshold: float
    pfa: float
    pmiss: float
    pmiss_spoof: float
    eer: float

    @property
    def pfa_spoof(self) -> float:
        """Share of spoofs at or above the threshold."""
        return 1 - self.pmiss_spoof


@dataclass(frozen=True, slots=True, kw_only=True)
class MinTdcf2019:
    """The lowest normalised cost, where, and the weights that it is made of.

    Attributes:
        value: 0 for a perfect countermeasure, 1 for none (all accepted, or all rejected).
        threshold: Countermeasure threshold of the lowest cost.
        c1: Weight of the miss rate of the countermeasure.
        c2: Weight of its false alarm rate.
    """

    value: float
    threshold: float
    c1: float
    c2: float


def asv_error_rates(asv: AsvScoresLike, *, compat: Compat = "corrected") -> AsvErrorRates:
    """Compute the error rates of the speaker verification system at its equal error threshold.

    Raises:
        MetricError: One of the three classes is empty, or a score is NaN or infinite.

    Source: ASVspoof 2019 evaluation package, obtain_asv_error_rates (arithmetic, not code).
    """
    target, nontarget = checked_classes(asv.target, asv.nontarget)
    target, spoof = checked_classes(asv.target, asv.spoof)
    own = eer(target, nontarget, compat=compat)
    return AsvErrorRates(
        threshold=own.threshold,
        pfa=float(np.count_nonzero(nontarget >= own.threshold) / nontarget.size),
        pmiss=float(np.count_nonzero(target < own.threshold) / target.size),
        pmiss_spoof=float(np.count_nonzero(spoof < own.threshold) / spoof.size),
        eer=own.eer,
    )


def tandem_weights_2019(asv: TandemRates, costs: TandemCosts | None = None) -> tuple[float, float]:
    """Compute C1 and C2 of `min_tdcf_2019`.

    Raises:
        MetricError: The speaker verification system is so bad (C1 <= 0) or so good (C2 <= 0)
            that the cost has no meaning.
    """
    costs = costs or TandemCosts()
    c1 = (
        costs.p_target * (costs.cost_miss_cm - costs.cost_miss_asv * asv.pmiss)
        - costs.p_nontarget * costs.cost_fa_asv * asv.pfa
    )
    c2 = costs.cost_fa_cm * costs.p_spoof * (1 - asv.pmiss_spoof)
    if c1 <= 0 or c2 <= 0:
        raise MetricError(
            f"The t-DCF has the weights C1 = {c1:.6g} and C2 = {c2:.6g}; both must be positive. "
            f"The ASV system misses {asv.pmiss:.2%} of targets, accepts {asv.pfa:.2%} of "
            f"nontargets and rejects {asv.pmiss_spoof:.2%} of spoofs.",
            fix="Check that the ASV scores are of this corpus and higher for targets.",
        )
    return c1, c2


def min_tdcf_2019(
    bonafide: ArrayLike,
    spoof: ArrayLike,
    asv: TandemRates,
    *,
    costs: TandemCosts | None = None,
    compat: Compat = "corrected",
) -> MinTdcf2019:
    """Compute the minimum over thresholds of the normalised t-DCF.

        C1 = Ptar (Cmiss_cm - Cmiss_asv Pmiss_asv) - Pnon Cfa_asv Pfa_asv
        C2 = Cfa_cm Pspoof (1 - Pmiss_spoof_asv)
        t-DCF(t) = (C1 Pmiss(t) + C2 Pfa(t)) / min(C1, C2)

    Args:
        bonafide: (n,) countermeasure scores of bona fide trials; higher means more bona fide.
        spoof: (m,) countermeasure scores of spoofed trials.
        asv: What the speaker verification system does.
        costs: Priors and costs; those of ASVspoof unless given.
        compat: corrected takes the minimum over distinct thresholds, official over single trials.

    Raises:
        MetricError: A class is empty, a score is NaN or infinite, or the speaker verification
            system is so bad (C1 <= 0) or so good (C2 <= 0) that the cost has no meaning.

    Source: Kinnunen et al., t-DCF: a detection cost function for the tandem assessment of spoofing
    countermeasures and automatic speaker verification, Odyssey 2018; ASVspoof 2019 evaluation
    plan, section 5.1.
    """
    c1, c2 = tandem_weights_2019(asv, costs)
    curve = official_curve if compat == "official" else det_curve
    thresholds, pfa, pmiss = curve(bonafide, spoof)
    cost = (c1 * pmiss + c2 * pfa) / min(c1, c2)
    lowest = int(np.argmin(cost))
    return MinTdcf2019(value=float(cost[lowest]), threshold=float(thresholds[lowest]), c1=c1, c2=c2)
