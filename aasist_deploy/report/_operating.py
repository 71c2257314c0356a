"""What chosen thresholds do on the trials of the report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from aasist_deploy.metrics import det_curve
from aasist_deploy.report._figures import CostCurve
from aasist_deploy.report._scales import percent
from aasist_deploy.report._words import number, plain

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

# Shares of spoof accepted that deployments ask for; each needs enough trials to be measured.
_WANTED_PERCENT: Final = (5.0, 1.0, 0.1)
_FORMS: Final = (("2019", "min_tdcf_2019_costs"), ("2021", "min_tdcf_2021_costs"))


def cost_curves(report: Mapping[str, Any]) -> list[CostCurve]:
    """The t-DCF forms whose weights the report gives, normalised as docs/metrics.md says."""
    curves = []
    for form, key in _FORMS:
        weights = report.get(key)
        if not isinstance(weights, dict):
            continue
        given = {str(name).lower(): value for name, value in weights.items()}
        c0, c1, c2 = (number(given, name) for name in ("c0", "c1", "c2"))
        if c1 is None or c2 is None or (form == "2021" and c0 is None):
            continue
        floor = 0.0 if form == "2019" or c0 is None else c0
        norm = floor + min(c1, c2)
        if norm > 0:
            curves.append(CostCurve(f"t-DCF {form}", floor, c1, c2, norm))
    return curves


def operating_points(
    bonafide: NDArray[np.float64], spoof: NDArray[np.float64], report: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Error rates at the thresholds that the report knows or a deployment would ask for."""
    thresholds, accepted, miss = det_curve(bonafide, spoof)
    points: list[tuple[str, float]] = [("equal error rate", float(report["eer_threshold"]))]
    for curve in cost_curves(report):
        cost = curve.c0 + curve.c1 * miss + curve.c2 * accepted
        points.append((f"lowest {curve.name}", float(thresholds[int(np.argmin(cost))])))
    for wanted in _WANTED_PERCENT:
        if len(spoof) * wanted >= 100:
            first = int(np.argmax(accepted <= wanted / 100))
            points.append((f"at most {wanted:g}\N{NO-BREAK SPACE}% of spoofs accepted",
                           float(thresholds[first])))  # fmt: skip
    named = (report["model"] or {}).get("thresholds")
    for name in named if isinstance(named, dict) else ():
        value = number(named, name)
        if value is not None:
            points.append((f"model file: {plain(name)}", value))
    n_bonafide, n_spoof = len(bonafide), len(spoof)
    rows = []
    for name, threshold in points:
        n_miss = int(np.count_nonzero(bonafide < threshold))
        n_accepted = int(np.count_nonzero(spoof >= threshold))
        rows.append({
            "name": name,
            "threshold": f"{threshold:.4f}",
            "miss": percent(100 * n_miss / n_bonafide),
            "n_miss": f"{n_miss:,}",
            "accepted": percent(100 * n_accepted / n_spoof),
            "n_accepted": f"{n_accepted:,}",
        })  # fmt: skip
    return rows
