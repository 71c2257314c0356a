"""The page of several systems side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from aasist_deploy.report._comparison_tables import (
    condition_tables,
    number_rows,
    robustness_rows,
)
from aasist_deploy.report._curves import Curve, det_svg, roc_svg, style_of
from aasist_deploy.report._render import render
from aasist_deploy.report._scales import percent
from aasist_deploy.report._svg import SERIES
from aasist_deploy.report._verdict import title_of
from aasist_deploy.report._words import PERCENT, Row, interval, plain, visible

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aasist_deploy.report._systems import System

# Key of a paired comparison, how it is called, digits.
_DIFFERENCES: Final = (
    ("eer_percent", "EER, %", 3),
    ("min_tdcf_2019", "min t-DCF (2019)", 4),
    ("min_tdcf_2021", "min t-DCF (2021)", 4),
)


def render_comparison(
    systems: Sequence[System], comparison: Mapping[str, Any], command: str
) -> str:
    """Return the page.

    Args:
        systems: Two or more, in the order of their columns.
        comparison: What `comparison_of` found on them.
        command: The command line, shown at the end.
    """
    tables = [table for table in condition_tables(systems) if table["rows"]]
    pairs = [_pair(pair) for pair in comparison["pairs"]]
    sweep = robustness_rows(systems)
    sections = [
        ("figures", "Curves", True),
        ("numbers", "Figures", True),
        ("pairs", "Trial by trial", True),
        ("attacks", "Attacks and conditions", bool(tables)),
        ("robustness", "Robustness", sweep is not None),
        ("systems", "Systems", True),
    ]
    datasets = {
        " ".join(str(part) for part in (s.report["dataset"]["name"], s.report["dataset"]["split"])
                 if part)
        for s in systems
    }  # fmt: skip
    on = f" on {next(iter(datasets))}" if len(datasets) == 1 else ""
    return render(
        "comparison.html.j2",
        title=f"{len(systems)} systems{on}",
        verdict=_verdict(systems, same=_same_trials(systems)),
        warnings=_warnings(systems),
        contents=[(name, said) for name, said, there in sections if there],
        labels=[system.label for system in systems],
        legend=[_legend(index, system, len(systems)) for index, system in enumerate(systems)],
        figures=_figures(systems),
        numbers=number_rows(systems),
        pairs=pairs,
        tables=tables,
        sweep=sweep,
        systems=[{"label": s.label, "rows": _about(s)} for s in systems],
        command=command,
        schema=comparison["schema"],
    )


def _verdict(systems: Sequence[System], *, same: bool) -> str:
    ordered = sorted(systems, key=lambda system: float(system.report["eer_percent"]))
    said = [f"{system.label} {percent(system.report['eer_percent'])}{PERCENT}"
            for system in ordered]  # fmt: skip
    n_trials = ordered[0].report["n_bonafide"] + ordered[0].report["n_spoof"]
    trials = f"on the same {n_trials:,} trials" if same else "on trials that are not the same"
    return f"EER: {', '.join(said)}, {trials}."


def _same_trials(systems: Sequence[System]) -> bool:
    first = set(systems[0].utterances)
    return all(set(system.utterances) == first for system in systems[1:])


def _warnings(systems: Sequence[System]) -> list[Row]:
    found: list[Row] = []
    if not _same_trials(systems):
        said = (
            "Each figure is over the system's own trials: a difference may be one of trials. "
            "Only the part trial by trial is over what is common."
        )
        found.append(("The trials differ.", said))
    if len({system.report["compat"] for system in systems}) > 1:
        said = "; ".join(f"{s.label}: {s.report['compat']}" for s in systems)
        found.append(("The arithmetic differs.", said))
    found += [
        (f"{system.label}: check the polarity.", plain(system.report["polarity"]["message"]))
        for system in systems
        if system.report["polarity"]["reversed"]
    ]
    found += [
        (f"{system.label}:", f"{len(system.report['failures']):,} trials could not be scored.")
        for system in systems
        if system.report["failures"]
    ]
    return found


def _figures(systems: Sequence[System]) -> list[dict[str, str | None]]:
    curves = [
        Curve(bonafide=s.bonafide, spoof=s.spoof, eer_percent=float(s.report["eer_percent"]),
              interval=interval(s.report, "eer_percent"))
        for s in systems
    ]  # fmt: skip
    rates = "; ".join(f"{s.label} {percent(s.report['eer_percent'])} percent" for s in systems)
    det = det_svg(curves, f"DET curves; equal error rates: {visible(rates)}")
    roc = roc_svg(curves, f"ROC curves; equal error rates: {visible(rates)}")
    perfect = [s.label for s, c in zip(systems, curves, strict=True) if c.separates]
    left_out = f" Without an error, and so without a curve: {', '.join(perfect)}."
    said = "No curve to draw: every system separates these trials without an error."
    figures: list[dict[str, str | None]] = [
        {
            "svg": det,
            "said": None if det else said,
            "caption": "Detection error trade-off on normal deviate axes. Lower left is better; "
            "dots are the EERs." + (left_out if perfect and det else ""),
        }
    ]
    if roc:
        figures.append({
            "svg": roc,
            "said": None,
            "caption": "ROC, the share of spoofs that pass on a log scale. Upper left is better.",
        })  # fmt: skip
    return figures


def _legend(index: int, system: System, n_systems: int) -> dict[str, str]:
    color, dashes = style_of(index, n_systems)
    return {
        "label": system.label,
        "color": f"var(--s{SERIES.index(color) + 1})",
        "dashes": " ".join(f"{dash:g}" for dash in dashes) or "none",
    }


def _pair(pair: Mapping[str, Any]) -> dict[str, Any]:
    decisions, test = pair["decisions"], pair["test"]
    return {
        "first": pair["first"],
        "second": pair["second"],
        "n_common": f"{pair['n_common']:,}",
        "differences": [_difference(pair, *each) for each in _DIFFERENCES if each[0] in test],
        "level": f"{100 * test['level']:g}{PERCENT}",
        "said": _pair_words(pair),
        "cells": [[f"{decisions[key]:,}" for key in line] for line in (
            ("both_right", "only_second_wrong"), ("only_first_wrong", "both_wrong"))],
    }  # fmt: skip


def _pair_words(pair: Mapping[str, Any]) -> str:
    """Whether the two can be told apart, by their EER and by their decisions."""
    first, second, test = pair["first"], pair["second"], pair["test"]
    low, high = test["eer_percent"]["interval"]
    mcnemar = test["mcnemar"]
    if low <= 0 <= high:
        said = f"By EER {first} and {second} cannot be told apart on these trials"
    else:
        better, worse = (first, second) if low > 0 else (second, first)
        said = f"{better} has a lower EER than {worse} beyond chance of these trials"
    return (
        f"{said}. At their own EER thresholds {first} alone is right on "
        f"{mcnemar['only_first_right']:,} and {second} alone on {mcnemar['only_second_right']:,} "
        f"trials (McNemar, p {_p(mcnemar['p'])})."
    )


def _difference(pair: Mapping[str, Any], key: str, name: str, digits: int) -> dict[str, str]:
    values = pair["test"][key]
    low, high = values["interval"]
    return {
        "name": name,
        "first": f"{values['first']:.{digits}f}",
        "second": f"{values['second']:.{digits}f}",
        "difference": f"{values['difference']:+.{digits}f}",
        "range": f"{low:+.{digits}f} to {high:+.{digits}f}",
        "p": _p(values["p"]),
    }


def _p(value: float) -> str:
    return "below 0.0001" if value < 1e-4 else f"{value:.2g}"


def _about(system: System) -> list[Row]:
    report = system.report
    model, dataset, backend = report["model"], report["dataset"], report["backend"]
    rows = [("evaluation", title_of(report)), ("evaluated", plain(report["created"]))]
    if model is not None:
        rows += [
            (key.replace("_", " "), plain(model[key]))
            for key in ("precision", "n_samples", "checkpoint_sha256", "calibration")
            if key in model
        ]
    if backend is not None:
        rows.append(("backend", f"{plain(backend['name'])} on {plain(backend['device'])}"))
    rows += [("protocol", plain(dataset.get("protocol"))), ("compat", plain(report["compat"]))]
    return [*rows, ("command line", plain(report["command"]))]
