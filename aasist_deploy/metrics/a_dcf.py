"""Architecture-agnostic detection cost (a-DCF) of spoofing-aware speaker verification."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from aasist_deploy.errors import MetricError
from aasist_deploy.metrics.tdcf_2021 import TandemCosts2021
from aasist_deploy.metrics.three_classes import three_classes, three_rates

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from aasist_deploy.metrics.rates import Compat


@dataclass(frozen=True, slots=True, kw_only=True)
class MinADcf:
    """The lowest normalised cost, and where.

    Attributes:
        value: 0 without errors, 1 for the better of accepting all and rejecting all.
        threshold: Accept scores at or above it.
    """

    value: float
    threshold: float


def min_a_dcf(
    target: ArrayLike,
    nontarget: ArrayLike,
    spoof: ArrayLike,
    *,
    costs: TandemCosts2021 | None = None,
    compat: Compat = "corrected",
) -> MinADcf:
    """Compute the minimum over thresholds of the normalised a-DCF of one score for each trial.

        a-DCF(t) = Cmiss Ptar Pmiss(t) + Cfa Pnon Pfa(t) + Cfa_spoof Pspoof Pfa_spoof(t)

    It is divided by the cost of accepting all or of rejecting all, the smaller one.

    Args:
        target: (n,) scores of the whole system for bona fide trials of the claimed speaker.
        nontarget: (m,) for bona fide trials of other speakers.
        spoof: (k,) for spoofed trials.
        costs: Priors and costs; those of ASVspoof 5 unless given.
        compat: corrected takes the minimum over distinct thresholds, official over single trials.

    Raises:
        MetricError: A class is empty, a score is NaN or infinite, or all costs of one kind are 0.

    Source: Shim et al., a-DCF: an architecture agnostic metric with application to
    spoofing-robust speaker verification, Odyssey 2024; ASVspoof 5 evaluation plan, track 2.
    """
    costs = costs or TandemCosts2021()
    rates = three_rates(three_classes(target, nontarget, spoof), compat=compat)
    miss = costs.cost_miss * costs.p_target
    accept, accept_spoof = costs.cost_fa * costs.p_nontarget, costs.cost_fa_spoof * costs.p_spoof
    smaller = min(accept + accept_spoof, miss)
    if smaller <= 0:
        raise MetricError(
            f"Accepting all costs {accept + accept_spoof} and rejecting all costs {miss}; "
            "the a-DCF is divided by the smaller one, which must be positive."
        )
    cost = (miss * rates.pmiss + accept * rates.pfa + accept_spoof * rates.pfa_spoof) / smaller
    lowest = int(np.argmin(cost))
    return MinADcf(value=float(cost[lowest]), threshold=float(rates.thresholds[lowest]))
