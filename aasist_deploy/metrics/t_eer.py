"""Concurrent tandem equal error rate (t-EER) of a countermeasure and a speaker verifier."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from aasist_deploy.errors import MetricError
from aasist_deploy.metrics.rates import Compat, det_curve, official_curve
from aasist_deploy.metrics.three_classes import ThreeClasses, ThreeRates, three_rates

if TYPE_CHECKING:
    from numpy.typing import NDArray

# The official search looks along one path of equal tandem rates, that of as many spoofs as
# nontargets. In theory every such path meets the same point; on data another one gives another
# figure (1.923 % with no spoofs, 1.990 % with half, on the published example).
_OFFICIAL_SPOOF_PREVALENCE: Final = 0.5
_BISECTIONS: Final = 60  # halves a segment of the curve until a double has no digit left


def t_eer(cm: ThreeClasses, asv: ThreeClasses, *, compat: Compat = "corrected") -> float:
    """Compute the rate at which a tandem misses and accepts equally often, whoever the impostor.

    The countermeasure goes first, the speaker verification system second, independently. At the
    concurrent point of their two thresholds three rates of the tandem are one:

        Pmiss_cm + (1 - Pmiss_cm) Pmiss_asv     targets rejected
        (1 - Pmiss_cm) Pfa_asv                  nontargets accepted
        Pfa_cm Pfa_spoof_asv                    spoofs accepted

    corrected: both curves are joined by straight lines over distinct scores, and the point is
    solved for; coming from low ASV thresholds it is the first one.

    official: for each ASV threshold the countermeasure threshold of the nearest tandem rates with
    half of the impostors spoofs; among those pairs the one where nontargets and spoofs are
    accepted most nearly equally, and the rate of spoofs there.

    Args:
        cm: Countermeasure scores; targets and nontargets together are its bona fide trials.
        asv: Scores of the speaker verification system on the same trials.
        compat: Which of the two.

    Returns:
        Rate in [0, 1].

    Raises:
        MetricError: There is no such point: the countermeasure is worse than chance, or the
            speaker verification system takes spoofs more rarely than nontargets.

    Source: Kinnunen et al., t-EER: parameter-free tandem evaluation of countermeasures and
    biometric comparators, IEEE TPAMI 46, 2024; official: ASVspoof 5 evaluation package,
    compute_teer (arithmetic, not code; found here by bisection, not by a loop).
    """
    bonafide = np.concatenate((cm.target, cm.nontarget))
    if compat == "official":
        _, pfa_cm, pmiss_cm = official_curve(bonafide, cm.spoof)
        return _official(pfa_cm, pmiss_cm, three_rates(asv, compat="official"))
    _, pfa_cm, pmiss_cm = det_curve(bonafide, cm.spoof)
    return _Concurrent(pfa_cm, pmiss_cm, three_rates(asv)).solve()


def _official(pfa_cm: NDArray[np.float64], pmiss_cm: NDArray[np.float64], asv: ThreeRates) -> float:
    rho = _OFFICIAL_SPOOF_PREVALENCE
    allowed = asv.pmiss < (1 - rho) * asv.pfa + rho * asv.pfa_spoof
    pmiss, pfa, pfa_spoof = (rates[allowed] for rates in asv[1:])
    if not pmiss.size:
        raise _no_point(asv)

    def gap(at: NDArray[np.intp]) -> NDArray[np.float64]:
        """Tandem misses less tandem false alarms; grows with the countermeasure's threshold."""
        miss = pmiss_cm[at] + (1 - pmiss_cm[at]) * pmiss
        accept = (1 - rho) * (1 - pmiss_cm[at]) * pfa + rho * pfa_cm[at] * pfa_spoof
        return np.asarray(miss - accept, dtype=np.float64)

    # The gap grows at every step where spoofs are accepted at all, and elsewhere no rate is taken.
    low, high = np.zeros(pmiss.size, dtype=np.intp), np.full(pmiss.size, pmiss_cm.size - 1)
    while (low < high).any():
        middle = (low + high) // 2
        reached = gap(middle) >= 0
        high = np.where(reached, middle, high)
        low = np.where(reached, low, np.minimum(middle + 1, high))
    above, below = low, np.maximum(low - 1, 0)
    nearest = np.where(np.abs(gap(below)) <= np.abs(gap(above)), below, above)
    with np.errstate(divide="ignore", invalid="ignore"):
        apart = np.abs(pfa / pfa_spoof - pfa_cm[nearest] / (1 - pmiss_cm[nearest]))
    apart[np.isnan(apart)] = np.inf
    best = int(np.argmin(apart))
    if np.isinf(apart[best]):
        raise _no_point(asv)
    return float(pfa_spoof[best] * pfa_cm[nearest[best]])


class _Concurrent:
    """The equations of the concurrent point along the curve of the speaker verification system.

    Equal rates of misses and of nontargets fix the countermeasure's own miss rate,
    Pmiss_cm = d / (1 + d) with d = Pfa_asv - Pmiss_asv; what is left is one unknown, the place on
    the curve, for one equation: nontargets and spoofs are accepted equally.
    """

    def __init__(
        self, pfa_cm: NDArray[np.float64], pmiss_cm: NDArray[np.float64], asv: ThreeRates
    ) -> None:
        self.pfa_cm, self.pmiss_cm, self.asv = pfa_cm, pmiss_cm, asv
        curve = np.stack(asv[1:], axis=1)  # (k, 3): pmiss, pfa, pfa_spoof
        d = curve[:, 1] - curve[:, 0]  # from 1 down to -1
        last = int(np.flatnonzero(d >= 0)[-1])
        share = d[last] / (d[last] - d[last + 1])
        end = curve[last] + share * (curve[last + 1] - curve[last])  # the ASV system's own EER
        self.curve = np.concatenate((curve[: last + 1], [end]))

    def solve(self) -> float:
        rate, lowest, highest = self.at(self.curve)
        reached = np.flatnonzero(lowest <= 0)
        if not reached.size or (reached[0] == 0 and highest[0] < 0):
            raise _no_point(self.asv)
        first = int(reached[0])
        if highest[first] >= 0:
            return float(rate[first])
        before, after = self.curve[first - 1], self.curve[first]
        low, high = 0.0, 1.0
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            _, lowest, _ = self.at((before + middle * (after - before))[None])
            low, high = (low, middle) if lowest[0] <= 0 else (middle, high)
        rate, _, _ = self.at((before + high * (after - before))[None])
        return float(rate[0])

    def at(
        self, curve: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Nontargets accepted, and how much less the spoofs accepted are: from and to.

        Where the countermeasure's curve is upright one miss rate has a range of false alarm
        rates, hence the two ends.
        """
        pmiss, pfa, pfa_spoof = curve.T
        d = np.maximum(pfa - pmiss, 0)
        miss_cm = d / (1 + d)
        rate = pfa / (1 + d)
        first = np.searchsorted(self.pmiss_cm, miss_cm, side="left")
        last = np.searchsorted(self.pmiss_cm, miss_cm, side="right") - 1
        between = np.interp(miss_cm, self.pmiss_cm, self.pfa_cm)
        on_a_point = self.pmiss_cm[first] == miss_cm
        most = np.where(on_a_point, self.pfa_cm[first], between)
        least = np.where(on_a_point, self.pfa_cm[last], between)
        return rate, rate - most * pfa_spoof, rate - least * pfa_spoof


def _no_point(asv: ThreeRates) -> MetricError:
    nearest = int(np.argmin(np.abs(asv.pmiss - asv.pfa)))
    return MetricError(
        "There is no concurrent t-EER: no pair of thresholds rejects targets, accepts nontargets "
        "and accepts spoofs at one rate. Where the ASV system is at its own equal error rate, "
        f"{asv.pfa[nearest]:.2%}, it accepts {asv.pfa_spoof[nearest]:.2%} of spoofs.",
        fix="Check that higher scores mean bona fide (CM) and the claimed speaker (ASV).",
    )
