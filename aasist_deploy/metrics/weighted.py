"""Metrics of trials that count several times or not at all: one replicate of a bootstrap.

The trials are sorted once. What a replicate needs are weights in that order and their cumulative
sums at the few thresholds that matter: between those all trials are of one class, where the curve
is straight and no cost has its minimum.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from aasist_deploy.errors import MetricError
from aasist_deploy.metrics.cllr import bits, bits_of_bins
from aasist_deploy.metrics.dcf import DetectionCosts
from aasist_deploy.metrics.pav import pool
from aasist_deploy.metrics.rates import operating_points
from aasist_deploy.metrics.tdcf_2019 import tandem_weights_2019
from aasist_deploy.metrics.tdcf_2021 import tandem_weights_2021

if TYPE_CHECKING:
    from collections.abc import Collection

    from numpy.typing import NDArray

    from aasist_deploy.metrics.tandem import TandemRates

METRICS: Final = (
    "eer_percent",
    "auc",
    "min_dcf",
    "act_dcf",
    "cllr_bits",
    "min_cllr_bits",
    "min_tdcf_2019",
    "min_tdcf_2021",
)
_TANDEM: Final = ("min_tdcf_2019", "min_tdcf_2021")
_OF_THE_HULL: Final = ("min_dcf", "min_cllr_bits", *_TANDEM)


@dataclass(frozen=True, slots=True)
class _LinearCost:
    """(c0 + c1 Pmiss + c2 Pfa) / (c0 + min(c1, c2))."""

    c0: float
    c1: float
    c2: float

    def lowest(self, pmiss: NDArray[np.float64], pfa: NDArray[np.float64]) -> float:
        lowest = float((self.c1 * pmiss + self.c2 * pfa).min())
        return (self.c0 + lowest) / (self.c0 + min(self.c1, self.c2))


class WeightedMetrics:
    """Metrics of one system as functions of the weights of its trials.

    Args:
        bonafide: (n,) scores of bona fide trials, ascending.
        spoof: (m,) scores of spoofed trials, ascending.
        asv: Rates of the speaker verification system, for the t-DCF; not resampled.
        metrics: What to compute; those of `METRICS` that can be, unless given.

    Raises:
        MetricError: A class is empty, a score is NaN or infinite, or a metric is not known or
            needs ASV rates that there are none of.
    """

    def __init__(
        self,
        bonafide: NDArray[np.float64],
        spoof: NDArray[np.float64],
        *,
        asv: TandemRates | None = None,
        metrics: Collection[str] | None = None,
    ) -> None:
        if metrics is None:
            metrics = [name for name in METRICS if asv is not None or name not in _TANDEM]
        unknown = [name for name in metrics if name not in METRICS]
        if unknown:
            raise MetricError(
                f"There are no intervals of {unknown[0]!r}; known are {', '.join(METRICS)}."
            )
        self.names = tuple(name for name in METRICS if name in metrics)
        if asv is None and any(name in _TANDEM for name in self.names):
            raise MetricError("The t-DCF needs the rates of an ASV system, and there are none.")
        _, n_misses, n_false_alarms = operating_points(bonafide, spoof)
        keep = _turns(np.diff(n_misses), -np.diff(n_false_alarms))
        self._below = n_misses[keep], (n_false_alarms[0] - n_false_alarms)[keep]
        costs = DetectionCosts()
        self._costs = {
            "min_dcf": _LinearCost(
                0, costs.cost_miss * (1 - costs.p_spoof), costs.cost_fa * costs.p_spoof
            )
        }
        if asv is not None:
            if "min_tdcf_2019" in self.names:
                self._costs["min_tdcf_2019"] = _LinearCost(0, *tandem_weights_2019(asv))
            if "min_tdcf_2021" in self.names:
                self._costs["min_tdcf_2021"] = _LinearCost(*tandem_weights_2021(asv))
        self._bits = (bits(bonafide), bits(-spoof)) if "cllr_bits" in self.names else None
        threshold = costs.bayes_threshold
        self._at_bayes = (
            int(np.searchsorted(bonafide, threshold, side="left")),
            int(np.searchsorted(spoof, threshold, side="left")),
        )

    def __call__(
        self, w_bonafide: NDArray[np.int64], w_spoof: NDArray[np.int64]
    ) -> dict[str, float]:
        """Compute all metrics of a replicate.

        Args:
            w_bonafide: (n,) how often each bona fide trial counts, in the order of the scores.
            w_spoof: (m,) the same of the spoofed trials. Neither is all zeros.
        """
        sums = _running(w_bonafide), _running(w_spoof)
        below = sums[0][self._below[0]], sums[1][self._below[1]]
        total = int(below[0][-1]), int(below[1][-1])
        found: dict[str, float] = {}
        if "eer_percent" in self.names:
            found["eer_percent"] = 100 * _eer(*below, *total)
        steps = np.diff(below[0]), np.diff(below[1])
        if "auc" in self.names:
            beaten = below[1][1:] + below[1][:-1]
            found["auc"] = float((steps[0] * beaten).sum()) / (2 * total[0] * total[1])
        if "act_dcf" in self.names:
            pmiss = sums[0][self._at_bayes[0]] / total[0]
            pfa = (total[1] - sums[1][self._at_bayes[1]]) / total[1]
            cost = self._costs["min_dcf"]
            found["act_dcf"] = float((cost.c1 * pmiss + cost.c2 * pfa) / min(cost.c1, cost.c2))
        if self._bits is not None:
            means = (w_bonafide @ self._bits[0]) / total[0], (w_spoof @ self._bits[1]) / total[1]
            found["cllr_bits"] = float(means[0] + means[1]) / 2
        if any(name in _OF_THE_HULL for name in self.names):
            # The minimum of a linear cost lies on the lower convex hull, whose sides are the bins
            # of PAV: one pooling serves all costs.
            some = (steps[0] > 0) | (steps[1] > 0)
            _, n_bonafide, n_spoof = pool(steps[0][some], steps[1][some])
            pmiss_hull = _running(n_bonafide) / total[0]
            pfa_hull = 1 - _running(n_spoof) / total[1]
            for name, linear in self._costs.items():
                found[name] = linear.lowest(pmiss_hull, pfa_hull)
            found["min_cllr_bits"] = bits_of_bins(n_bonafide, n_spoof)
        return {name: found[name] for name in self.names}


def _turns(n_bonafide: NDArray[np.int64], n_spoof: NDArray[np.int64]) -> NDArray[np.intp]:
    """Indices of the points where the curve may turn; (k,) steps have k + 1 points."""
    straight = ((n_bonafide[:-1] == 0) & (n_bonafide[1:] == 0)) | (
        (n_spoof[:-1] == 0) & (n_spoof[1:] == 0)
    )
    return np.flatnonzero(np.concatenate(([True], ~straight, [True])))


def _running(weights: NDArray[np.int64]) -> NDArray[np.int64]:
    sums = np.zeros(weights.size + 1, dtype=np.int64)
    np.cumsum(weights, out=sums[1:])
    return sums


def _eer(
    misses: NDArray[np.int64], rejected_spoofs: NDArray[np.int64], n_bonafide: int, n_spoof: int
) -> float:
    """As `eer`: where the curve of straight lines meets Pmiss = Pfa."""
    gap = misses * n_spoof - (n_spoof - rejected_spoofs) * n_bonafide
    after = int(np.searchsorted(gap, 0, side="left"))
    gap_before, gap_after = int(gap[after - 1]), int(gap[after])
    share = -gap_before / (gap_after - gap_before)
    before = int(misses[after - 1])
    return (before + share * (int(misses[after]) - before)) / n_bonafide
