"""Minimum tandem detection cost (t-DCF) in the form of ASVspoof 2021 and ASVspoof 5."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from aasist_deploy.errors import MetricError
from aasist_deploy.metrics.rates import Compat, det_curve, official_curve

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from aasist_deploy.metrics.tandem import TandemRates


@dataclass(frozen=True, slots=True, kw_only=True)
class TandemCosts2021:
    """Priors and costs of a tandem; the defaults are those of ASVspoof 2021 and ASVspoof 5.

    Source: ASVspoof 2021 evaluation plan, appendix; ASVspoof 5 evaluation plan, track 2.
    """

    p_spoof: float = 0.05
    p_target: float = (1 - 0.05) * 0.99
    p_nontarget: float = (1 - 0.05) * 0.01
    cost_miss: float = 1.0
    cost_fa: float = 10.0
    cost_fa_spoof: float = 10.0

    def __post_init__(self) -> None:
        """Check the ranges."""
        priors = self.p_spoof, self.p_target, self.p_nontarget
        costs = self.cost_miss, self.cost_fa, self.cost_fa_spoof
        if min(*priors, *costs) < 0 or abs(sum(priors) - 1) > 1e-10:
            raise MetricError(
                f"Priors {priors} and costs {costs} must not be negative, and the priors must "
                f"add up to 1, not {sum(priors)}."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedAsvRates:
    """Rates of a speaker verification system whose scores are not at hand.

    Attributes:
        pfa: Share of nontargets that it accepts.
        pmiss: Share of targets that it rejects.
        pfa_spoof: Share of spoofs that it accepts.
    """

    pfa: float
    pmiss: float
    pfa_spoof: float

    def __post_init__(self) -> None:
        """Check the ranges."""
        rates = self.pfa, self.pmiss, self.pfa_spoof
        if not all(0 <= rate <= 1 for rate in rates):
            raise MetricError(f"The rates of the ASV system are {rates}; each must be in [0, 1].")

    @property
    def pmiss_spoof(self) -> float:
        """Share of spoofs that it rejects."""
        return 1 - self.pfa_spoof


# The organisers' speaker verification system, as the ASVspoof 5 evaluation package fixes it.
ASVSPOOF5_ASV: Final = FixedAsvRates(
    pfa=0.01881016557566423, pmiss=0.01880141010575793, pfa_spoof=0.4607082907604729
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MinTdcf2021:
    """The lowest normalised cost, where, and the weights that it is made of.

    Attributes:
        value: C0 / (C0 + min(C1, C2)) for a perfect countermeasure, 1 for none.
        threshold: Countermeasure threshold of the lowest cost.
        c0: Cost of the ASV system's own errors, which no countermeasure can take away.
        c1: Weight of the miss rate of the countermeasure.
        c2: Weight of its false alarm rate.
    """

    value: float
    threshold: float
    c0: float
    c1: float
    c2: float

    @property
    def lowest_possible(self) -> float:
        """What a perfect countermeasure gets."""
        return self.c0 / (self.c0 + min(self.c1, self.c2))


def tandem_weights_2021(
    asv: TandemRates, costs: TandemCosts2021 | None = None
) -> tuple[float, float, float]:
    """Compute C0, C1 and C2 of `min_tdcf_2021`.

    Raises:
        MetricError: The ASV system is so bad that C1 is negative, or all weights are 0.
    """
    costs = costs or TandemCosts2021()
    c0 = costs.p_target * costs.cost_miss * asv.pmiss + costs.p_nontarget * costs.cost_fa * asv.pfa
    c1 = costs.p_target * costs.cost_miss - c0
    c2 = costs.p_spoof * costs.cost_fa_spoof * asv.pfa_spoof
    if c1 < 0 or c0 + min(c1, c2) <= 0:
        raise MetricError(
            f"The t-DCF of 2021 has the weights C0 = {c0:.6g}, C1 = {c1:.6g} and C2 = {c2:.6g}; "
            "C1 must not be negative, nor C0 + min(C1, C2) be 0. "
            f"The ASV system misses {asv.pmiss:.2%} of targets, accepts {asv.pfa:.2%} of "
            f"nontargets and accepts {asv.pfa_spoof:.2%} of spoofs.",
            fix="Check that the ASV scores are of this corpus and higher for targets.",
        )
    return c0, c1, c2


def min_tdcf_2021(
    bonafide: ArrayLike,
    spoof: ArrayLike,
    asv: TandemRates = ASVSPOOF5_ASV,
    *,
    costs: TandemCosts2021 | None = None,
    compat: Compat = "corrected",
) -> MinTdcf2021:
    """Compute the minimum over thresholds of the normalised t-DCF, 2021 form.

        C0 = Ptar Cmiss Pmiss_asv + Pnon Cfa Pfa_asv
        C1 = Ptar Cmiss - C0
        C2 = Pspoof Cfa_spoof Pfa_spoof_asv
        t-DCF(t) = (C0 + C1 Pmiss(t) + C2 Pfa(t)) / (C0 + min(C1, C2))

    Args:
        bonafide: (n,) countermeasure scores of bona fide trials; higher means more bona fide.
        spoof: (m,) countermeasure scores of spoofed trials.
        asv: What the speaker verification system does: `asv_error_rates` of the scores of the
            split, or fixed rates; those of ASVspoof 5 unless given.
        costs: Priors and costs; those of ASVspoof unless given.
        compat: corrected takes the minimum over distinct thresholds, official over single trials.

    Raises:
        MetricError: A class is empty, a score is NaN or infinite, or the weights have no meaning.

    Source: Kinnunen et al., Tandem assessment of spoofing countermeasures and automatic speaker
    verification: fundamentals, IEEE/ACM TASLP 28, 2020; ASVspoof 2021 evaluation plan, appendix.
    """
    c0, c1, c2 = tandem_weights_2021(asv, costs)
    curve = official_curve if compat == "official" else det_curve
    thresholds, pfa, pmiss = curve(bonafide, spoof)
    cost = (c0 + c1 * pmiss + c2 * pfa) / (c0 + min(c1, c2))
    lowest = int(np.argmin(cost))
    return MinTdcf2021(
        value=float(cost[lowest]), threshold=float(thresholds[lowest]), c0=c0, c1=c1, c2=c2
    )
