"""The top of the page: what was found, in a sentence, in numbers, and with what to beware of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aasist_deploy.report._scales import percent
from aasist_deploy.report._sections import FEW_TRIALS
from aasist_deploy.report._words import (
    PERCENT,
    Row,
    interval,
    level_percent,
    number,
    percent_range,
    plain,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

# Key of report.json, how it is called, digits.
_COSTS = (
    ("min_tdcf_2021", "min t-DCF (2021)", 4),
    ("auc", "AUC", 5),
    ("min_dcf", "minDCF", 4),
    ("act_dcf", "actDCF", 4),
    ("cllr_bits", "Cllr, bits", 4),
    ("min_cllr_bits", "minCllr, bits", 4),
)
_NEED_CALIBRATION = ("act_dcf", "cllr_bits")


def title_of(report: Mapping[str, Any]) -> str:
    """What was evaluated on what."""
    model, dataset = report["model"], report["dataset"]
    subject = (model or {}).get("architecture") or "Score file"
    return " ".join(
        str(part) for part in (subject, "on", dataset["name"], dataset["split"]) if part
    )


def verdict_of(report: Mapping[str, Any]) -> str:
    """The sentence that a person takes along."""
    said = f"EER {percent(report['eer_percent'])}{PERCENT}"
    ends = interval(report, "eer_percent")
    if ends is not None:
        said += f" ({percent_range(ends)}{PERCENT} at {level_percent(report)} confidence)"
    if report["min_tdcf_2019"] is not None:
        said += f" and min t-DCF {report['min_tdcf_2019']:.4f}"
    n_trials = report["n_bonafide"] + report["n_spoof"]
    said += f" over {n_trials:,} trials, "
    model, backend = report["model"], report["backend"]
    if model is None:
        return said + "from a score file."
    said += f"scored by {model.get('architecture', 'the model')}"
    if model.get("precision"):
        said += f" in {model['precision']}"
    if backend is not None:
        said += f" with {backend['name']} on {backend['device']}"
    return said + "."


def interval_strip(report: Mapping[str, Any]) -> dict[str, Any] | None:
    """Where the EER and its confidence interval lie on a line from 0, or None without one."""
    ends, eer = interval(report, "eer_percent"), float(report["eer_percent"])
    if ends is None:
        return None
    low, high = ends
    wanted = max(high * 1.25, eer * 1.25, 0.01)
    end = next(
        scale * 10.0**power
        for power in range(-2, 3)
        for scale in (1, 2, 5)
        if scale * 10.0**power >= min(wanted, 100)
    )
    place = [round(100 * min(value, end) / end, 2) for value in (low, high, eer)]
    return {
        "low": place[0],
        "width": round(place[1] - place[0], 2),
        "eer": place[2],
        "end": f"{end:g}{PERCENT}",
        "label": f"EER {percent(eer)} percent, {level_percent(report)} confidence interval "
        f"{percent_range(ends)} percent, on a scale from 0 to {end:g} percent",
    }


def facts_of(report: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Name, value and confidence interval (or nothing) of the main figures."""
    tdcf, timing = report["min_tdcf_2019"], report["timing"]
    facts = [
        ("EER", f"{percent(report['eer_percent'])}{PERCENT}",
         percent_range(interval(report, "eer_percent"))),
        ("min t-DCF (2019)", "not computed" if tdcf is None else f"{tdcf:.4f}",
         _range(report, "min_tdcf_2019", 4)),
    ]  # fmt: skip
    uncalibrated = report.get("calibration_note")
    for key, name, digits in _COSTS:
        value = number(report, key)
        # What is said of scores that are no likelihood ratios stands beside its note, below.
        if value is not None and not (uncalibrated and key in _NEED_CALIBRATION):
            facts.append((name, f"{value:.{digits}f}", _range(report, key, digits)))
    facts += [
        ("Threshold at EER", f"{report['eer_threshold']:.4f}", ""),
        ("Bona fide", f"{report['n_bonafide']:,}", ""),
        ("Spoof", f"{report['n_spoof']:,}", ""),
    ]
    if timing is not None:
        facts.append(("Trials a second", f"{timing['trials_per_second']:,.1f}", ""))
    return facts


def _range(report: Mapping[str, Any], key: str, digits: int) -> str:
    ends = interval(report, key)
    return "" if ends is None else f"{ends[0]:.{digits}f} to {ends[1]:.{digits}f}"


def notes_of(report: Mapping[str, Any]) -> list[str]:
    """Why figures are missing, or what they must not be taken for."""
    keys = ("min_tdcf_2019_note", "min_tdcf_2021_note")
    return list(dict.fromkeys(plain(report[key]) for key in keys if report.get(key)))


def warnings_of(
    report: Mapping[str, Any], n_bonafide: int, n_spoof: int, robustness: Mapping[str, Any] | None
) -> list[Row]:
    """What a reader must know before believing the numbers."""
    found: list[Row] = []
    polarity, n_failures = report["polarity"], len(report["failures"])
    if polarity["reversed"]:
        negated = percent(polarity["negated_eer_percent"])
        said = polarity["message"] or f"The EER of the negated scores is {negated}{PERCENT}."
        found.append(("Check the polarity.", said))
    if n_failures:
        n_all = n_bonafide + n_spoof + n_failures
        said = "They are listed below and are not part of any number on this page."
        found.append((f"{n_failures:,} of {n_all:,} trials could not be scored.", said))
    classes = (("bona fide", "miss rate", n_bonafide), ("spoofed", "false alarm rate", n_spoof))
    few = [each for each in classes if each[2] < FEW_TRIALS]
    if few:
        counts = " and ".join(f"{n} {name}" for name, _, n in few)
        steps = " and ".join(f"the {rate} by {100 / n:.1f}{PERCENT}" for _, rate, n in few)
        said = f"One error moves {steps}: the EER has steps of about that size."
        found.append((f"Few trials: only {counts}.", said))
    if robustness:
        found += [("Robustness:", breach) for breach in robustness["breaches"]]
        if robustness["other_model"]:
            found.append(("Robustness:", "robustness.json in the folder is of another model file."))
        if not robustness["complete"]:
            found.append(("Robustness:", "the sweep was stopped before its end."))
    return found
