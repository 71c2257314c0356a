"""Parts of the page that are there when the report has what they show."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

from aasist_deploy.report._cells import ATTACK
from aasist_deploy.report._scales import percent
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

MAX_ROWS: Final = 200  # of a table; report.json has them all
FEW_TRIALS: Final = 30  # of a class; below it one error moves a rate by more than 3 %
_HEAT_FLOOR: Final = 1.0  # percent of error that the strongest colour stands for at least


def mappings(value: object) -> dict[str, dict[str, Any]]:
    """The entries of an object that are objects themselves; none when it is no object."""
    if not isinstance(value, dict):
        return {}
    return {str(name): entry for name, entry in value.items() if isinstance(entry, dict)}


def heat(eer_percent: float | None, highest: float) -> int | None:
    """Strength of a cell's colour, 0 to 100: the root lets small rates differ too."""
    if eer_percent is None:
        return None
    return round(100 * math.sqrt(min(1.0, max(0.0, eer_percent) / max(highest, _HEAT_FLOOR))))


def rate_rows(values: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """A table of EERs, one row for each value of a condition.

    Args:
        values: Value -> {"eer_percent", "n_spoof"} and optionally `n_bonafide`, `confidence`.
    """
    known = [
        rate for entry in values.values() if (rate := number(entry, "eer_percent")) is not None
    ]
    ends = [interval(entry, "eer_percent") for entry in values.values()]
    highest = max([*known, *(end[1] for end in ends if end is not None)], default=0.0)
    rows = []
    for name, entry in sorted(values.items())[:MAX_ROWS]:
        rate, range_ = number(entry, "eer_percent"), interval(entry, "eer_percent")
        rows.append({
            "name": name,
            "eer": percent_or_dash(rate),
            "range": percent_range(range_),
            "bar": _share(rate, highest),
            "low": _share(range_[0], highest) if range_ else None,
            "width": round(_share(range_[1], highest) - _share(range_[0], highest), 1)
            if range_ else None,
            "n": count(entry.get("n_spoof")),
            "n_bonafide": count(entry.get("n_bonafide")),
        })  # fmt: skip
    return {
        "rows": rows,
        "n": len(values),
        "has_range": any(row["range"] for row in rows),
        "has_bonafide": any(row["n_bonafide"] != "-" for row in rows),
    }


def _share(rate: float | None, highest: float) -> float:
    return round(100 * rate / highest, 1) if rate and highest else 0


def attack_rows(report: Mapping[str, Any]) -> dict[str, Any]:
    """The table of attacks; intervals may be in `attacks` or among the conditions."""
    attacks = mappings(report["attacks"])
    also = mappings(mappings(report.get("conditions")).get(ATTACK))
    return rate_rows({
        name: {"confidence": also.get(name, {}).get("confidence"), **entry}
        for name, entry in attacks.items()
    })  # fmt: skip


def condition_tables(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One table for each condition but the attack."""
    return [
        {"name": name, **rate_rows(mappings(values))}
        for name, values in mappings(report.get("conditions")).items()
        if name != ATTACK and values
    ]


def heat_maps(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The tables of crossed conditions, as `cross_conditions` made them."""
    tables = report.get("cells")
    maps: list[dict[str, Any]] = []
    for table in tables if isinstance(tables, list) else ():
        cells = {row: mappings(line) for row, line in mappings(table.get("cells")).items()}
        columns = list(dict.fromkeys(column for line in cells.values() for column in line))
        rates = [number(cell, "eer_percent") for line in cells.values() for cell in line.values()]
        highest = max((rate for rate in rates if rate is not None), default=0.0)
        lines: list[dict[str, Any]] = [
            {"name": row, "cells": [_cell(line.get(column), highest) for column in columns]}
            for row, line in cells.items()
        ]
        maps.append({
            "rows": str(table.get("rows")),
            "columns": str(table.get("columns")),
            "header": columns,
            "lines": lines,
            "has_few": any(cell["few"] for line in lines for cell in line["cells"]),
        })  # fmt: skip
    return maps


def _cell(values: Mapping[str, Any] | None, highest: float) -> dict[str, Any]:
    rate = number(values, "eer_percent")
    sizes = [number(values, key) or 0 for key in ("n_bonafide", "n_spoof")]
    return {
        "eer": percent_or_dash(rate),
        "heat": heat(rate, highest),
        "few": rate is not None and min(sizes) < FEW_TRIALS,
    }


def robustness_table(
    robustness: Mapping[str, Any] | None, model: Mapping[str, Any] | None
) -> dict[str, Any] | None:
    """The sweep of robustness.json (docs/robustness.md) as a table, or None without one."""
    if not robustness:
        return None
    listed = robustness.get("conditions")
    entries = (
        [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
    )
    changes = [number(entry, "eer_change") for entry in entries]
    highest = max((change for change in changes if change is not None), default=0.0)
    rows, unavailable = [], []
    for entry, change in zip(entries, changes, strict=True):
        name = plain(entry.get("name"))
        if entry.get("status") == "unavailable":
            unavailable.append((name, plain(entry.get("reason"))))
            continue
        flips, n = number(entry, "flips"), number(entry, "n")
        rows.append({
            "name": name,
            "family": plain(entry.get("family")),
            "meaning": plain(entry.get("meaning")),
            "n": count(entry.get("n")),
            "eer": percent_or_dash(number(entry, "eer_percent")),
            "change": "-" if change is None else f"{change:+.2f}",
            "heat": heat(None if change is None else max(change, 0.0), highest),
            "flips": "-" if flips is None else f"{flips:,.0f}",
            "flips_share": "" if flips is None or not n else f"{100 * flips / n:.1f}",
            "drift": _drift(number(entry, "mean_abs_drift")),
            "max_drift": _drift(number(entry, "max_abs_drift")),
        })  # fmt: skip
    clean = robustness.get("clean")
    clean = clean if isinstance(clean, dict) else {}
    return {
        "rows": rows,
        "unavailable": unavailable,
        "clean_eer": percent_or_dash(number(clean, "eer_percent")),
        "clean_n": count(clean.get("n")),
        "complete": robustness.get("complete") is not False,
        "other_model": _is_other_model(robustness.get("model"), model),
        "breaches": [plain(breach) for breach in robustness.get("breaches") or ()],
        "command": plain(robustness.get("command")),
    }


def _is_other_model(swept: object, model: Mapping[str, Any] | None) -> bool:
    """Whether both say which graph they ran, and it is not the same."""
    graphs = [
        contract.get("graph_sha256") if isinstance(contract, dict) else None
        for contract in (swept, model)
    ]
    return all(graphs) and graphs[0] != graphs[1]


def _drift(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def hardest_rows(hardest: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The trials nearest to, or beyond, the wrong side of the threshold."""
    return [
        {
            "utterance": row["utterance"],
            "label": "bona fide" if row["label"] == "bonafide" else "spoof",
            "attack": row["attack"],
            "score": f"{row['score']:.4f}",
            "margin": f"{row['margin']:+.4f}",
            "wrong": row["margin"] < 0,
            "player": row.get("player"),
            "player_note": row.get("player_note"),
        }
        for row in hardest
    ]


def share_words(n_part: int, n_all: int) -> str:
    """A count and its share, e.g. "13 of 30 (43.33 %)"."""
    return f"{n_part:,} of {n_all:,} ({percent(100 * n_part / max(n_all, 1))}\N{NO-BREAK SPACE}%)"
