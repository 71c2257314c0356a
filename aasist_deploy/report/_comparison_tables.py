"""Tables with one column for each system."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from aasist_deploy.report._scales import percent
from aasist_deploy.report._sections import MAX_ROWS, heat, mappings
from aasist_deploy.report._words import (
    count,
    interval,
    number,
    percent_or_dash,
    percent_range,
    plain,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aasist_deploy.report._systems import System

# Key of report.json, how it is called, digits (None: percent), whether lower is better.
_FIGURES: Final = (
    ("eer_percent", "EER, %", None, True),
    ("min_tdcf_2019", "min t-DCF (2019)", 4, True),
    ("min_tdcf_2021", "min t-DCF (2021)", 4, True),
    ("auc", "AUC", 5, False),
    ("min_dcf", "minDCF", 4, True),
    ("act_dcf", "actDCF", 4, True),
    ("cllr_bits", "Cllr, bits", 4, True),
    ("min_cllr_bits", "minCllr, bits", 4, True),
    ("eer_threshold", "threshold at EER", 4, None),
)


def number_rows(systems: Sequence[System]) -> list[dict[str, Any]]:
    """The main figures, with their intervals; the best of a row is marked."""
    rows = []
    for key, name, digits, lower in _FIGURES:
        values = [number(system.report, key) for system in systems]
        if all(value is None for value in values):
            continue
        known = [value for value in values if value is not None]
        best = None
        if lower is not None and len(set(known)) > 1:
            best = (min if lower else max)(known)
        cells = []
        for system, value in zip(systems, values, strict=True):
            ends = interval(system.report, key)
            cells.append({
                "text": _digits(value, digits),
                "range": "" if ends is None else percent_range(ends) if digits is None
                else f"{ends[0]:.{digits}f} to {ends[1]:.{digits}f}",
                "best": value is not None and value == best,
            })  # fmt: skip
        rows.append({"name": name, "cells": cells})
    for key, name in (("n_bonafide", "bona fide trials"), ("n_spoof", "spoofed trials")):
        cells = [
            {"text": count(s.report[key]), "range": "", "best": False} for s in systems
        ]  # fmt: skip
        rows.append({"name": name, "cells": cells})
    return rows


def _digits(value: float | None, digits: int | None) -> str:
    if value is None:
        return "-"
    return percent(value) if digits is None else f"{value:.{digits}f}"


def condition_tables(systems: Sequence[System]) -> list[dict[str, Any]]:
    """EER by attack, then by each condition, one column for each system."""
    named = {"attack": [mappings(system.report["attacks"]) for system in systems]}
    for system in systems:
        for name in mappings(system.report.get("conditions")):
            if name not in named:
                named[name] = [
                    mappings(mappings(s.report.get("conditions")).get(name)) for s in systems
                ]
    return [
        {
            "name": name,
            **_rate_table(
                {
                    value: [number(entries.get(value), "eer_percent") for entries in of_systems]
                    for value in sorted({value for entries in of_systems for value in entries})
                }
            ),
        }
        for name, of_systems in named.items()
    ]


def _rate_table(rates: Mapping[str, Sequence[float | None]]) -> dict[str, Any]:
    highest = max((rate for line in rates.values() for rate in line if rate is not None), default=0)
    rows = []
    for name, line in list(rates.items())[:MAX_ROWS]:
        known = [rate for rate in line if rate is not None]
        best = min(known) if len(known) > 1 and min(known) < max(known) else None
        rows.append({
            "name": name,
            "cells": [
                {
                    "text": percent_or_dash(rate),
                    "heat": heat(rate, highest),
                    "best": best is not None and rate == best,
                }
                for rate in line
            ],
        })  # fmt: skip
    return {"rows": rows, "n": len(rates)}


def robustness_rows(systems: Sequence[System]) -> dict[str, Any] | None:
    """Change of the EER under each condition of the sweeps, or None with fewer than two sweeps."""
    sweeps = []
    for system in systems:
        listed = (system.robustness or {}).get("conditions")
        sweeps.append({
            plain(entry.get("name")): number(entry, "eer_change")
            for entry in (listed if isinstance(listed, list) else ())
            if isinstance(entry, dict)
        })  # fmt: skip
    if sum(bool(sweep) for sweep in sweeps) < 2:
        return None
    names = list(dict.fromkeys(name for sweep in sweeps for name in sweep))
    changes = [change for sweep in sweeps for change in sweep.values() if change is not None]
    highest = max([0.0, *changes])
    rows = []
    for name in names:
        cells = []
        for sweep in sweeps:
            change = sweep.get(name)
            cells.append({
                "text": "-" if change is None else f"{change:+.2f}",
                "heat": heat(None if change is None else max(change, 0.0), highest),
                "best": False,
            })  # fmt: skip
        rows.append({"name": name, "cells": cells})
    return {"rows": rows[:MAX_ROWS], "n": len(rows)}
