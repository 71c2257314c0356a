"""Results as tables for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from aasist_deploy.metrics import (
        Comparison,
        Compat,
        Confidence,
        MetricsSummary,
        SasvSummary,
    )

_NONE: Final = ""
_NO_INTERVAL: Final = "n/a"
_WHY_NO_INTERVAL: Final = (
    "n/a: all replicates are alike, which says nothing of the errors that more trials would show"
)
_NAMES: Final = {
    "eer_percent": "EER %",
    "auc": "AUC",
    "min_tdcf_2019": "min t-DCF 2019",
    "min_tdcf_2021": "min t-DCF 2021",
    "min_dcf": "minDCF",
    "act_dcf": "actDCF",
    "cllr_bits": "Cllr, bits",
    "min_cllr_bits": "minCllr, bits",
}


def summary_table(summary: MetricsSummary, caption: str) -> Table:
    """The pooled figures, then each attack; as many digits as the official package in its mode."""
    digits = _digits(summary.compat)
    with_intervals = summary.confidence is not None
    headers = ["EER %", "min t-DCF 2019", "bona fide", "spoof"]
    if summary.confidence is not None:
        headers.insert(1, _interval_header(summary.confidence))
    tdcf = summary.min_tdcf_2019
    rows = [
        (
            "all",
            summary.eer.eer * 100,
            summary.confidence,
            f"{tdcf.value:.{max(6, digits)}f}" if tdcf else "no ASV scores",
            summary.n_spoof,
        )
    ]
    rows += [
        (name, of.eer.eer * 100, of.confidence, _NONE, of.n_spoof)
        for name, of in summary.attacks.items()
    ]
    every = [_interval(intervals, "eer_percent", 4) for _, _, intervals, _, _ in rows]
    if _NO_INTERVAL in every:
        caption += f"; {_WHY_NO_INTERVAL}"
    table = _table("trials", headers, caption)
    for number, (name, rate, _, cost, n_spoof) in enumerate(rows):
        shown = [every[number]] if with_intervals else []
        table.add_row(
            Text(name),
            f"{rate:.{digits}f}",
            *shown,
            cost,
            str(summary.n_bonafide),
            str(n_spoof),
            end_section=number == 0,
        )
    return table


def metrics_table(summary: MetricsSummary) -> Table:
    """All metrics of the pooled trials, with what they are made of."""
    digits = max(6, _digits(summary.compat))
    found = summary.to_dict()
    old, new = summary.min_tdcf_2019, summary.min_tdcf_2021
    made_of = {
        "eer_percent": f"threshold {summary.eer.threshold:.4f}",
        "min_tdcf_2019": f"C1 {old.c1:.6f}, C2 {old.c2:.6f}" if old else "no ASV scores",
        "min_tdcf_2021": f"C0 {new.c0:.6f}, C1 {new.c1:.6f}, C2 {new.c2:.6f}; "
        f"{new.lowest_possible:.6f} for a perfect countermeasure"
        if new
        else "no ASV scores",
        "min_dcf": f"threshold {summary.min_dcf.threshold:.4f}",
        "act_dcf": f"threshold {summary.act_dcf.threshold:.4f}; {_llr(summary)}",
        "cllr_bits": _llr(summary),
    }
    headers = ["value", "of"]
    if summary.confidence is not None:
        headers.insert(1, _interval_header(summary.confidence))
    table = _table("all trials", headers, None)
    table.columns[-1].justify = "left"
    for key, name in _NAMES.items():
        value = found[key]
        shown = [_interval(summary.confidence, key, 6)] if summary.confidence is not None else []
        table.add_row(
            name, "-" if value is None else f"{value:.{digits}f}", *shown, made_of.get(key, _NONE)
        )
    return table


def conditions_table(summary: MetricsSummary) -> Table:
    """The equal error rate of each value of each condition."""
    digits = _digits(summary.compat)
    headers = ["value", "EER %", "bona fide", "spoof", "note"]
    if summary.confidence is not None:
        headers.insert(2, _interval_header(summary.confidence))
    table = _table("condition", headers, None)
    for column in (table.columns[1], table.columns[-1]):
        column.justify = "left"
    for name, values in summary.conditions.items():
        for value, of in values.items():
            shown = [_interval(of.confidence, "eer_percent", 4)] if summary.confidence else []
            table.add_row(
                Text(name),
                Text(value),
                "-" if of.eer is None else f"{of.eer * 100:.{digits}f}",
                *shown,
                str(of.n_bonafide),
                str(of.n_spoof),
                Text(of.note or _NONE),
            )
    return table


def comparison_table(comparison: Comparison, first: str, second: str) -> Table:
    """Both systems and their difference; below 0 the second one is better."""
    how = comparison.how
    table = _table(
        "metric",
        [first, second, "difference", f"{how.level:.0%} interval", "p"],
        f"{comparison.n_bonafide} bona fide and {comparison.n_spoof} spoofed trials; "
        f"{how.n} paired replicates by {how.unit}, seed {how.seed}",
    )
    for key, of in comparison.differences.items():
        table.add_row(
            _NAMES[key],
            f"{of.first:.6f}",
            f"{of.second:.6f}",
            f"{of.difference:+.6f}",
            f"{of.low:+.6f} to {of.high:+.6f}",
            f"{of.p:.4g}",
        )
    test = comparison.mcnemar
    table.add_row(
        "right alone (McNemar)",
        str(test.only_first_right),
        str(test.only_second_right),
        _NONE,
        test.method,
        f"{test.p:.4g}",
    )
    return table


def sasv_table(summary: SasvSummary, caption: str) -> Table:
    """The metrics of track 2 of ASVspoof 5."""
    digits = _digits(summary.compat)
    found = summary.to_dict()
    table = _table("metric", ["value", "note"], caption)
    table.columns[-1].justify = "left"
    for key, name in (
        ("min_a_dcf", "a-DCF"),
        ("min_tdcf_2021", "min t-DCF 2021"),
        ("t_eer_percent", "t-EER %"),
    ):
        note = found[f"{key.removesuffix('_percent')}_note"]
        value = found[key]
        shown = "-" if value is None else f"{value:.{max(6, digits)}f}"
        table.add_row(name, shown, Text(note or _NONE))
    for name, count in (
        ("target", summary.n_target),
        ("nontarget", summary.n_nontarget),
        ("spoof", summary.n_spoof),
    ):
        table.add_row(f"{name} trials", str(count), _NONE)
    return table


def _table(first: str, headers: Iterable[str], caption: str | None) -> Table:
    table = Table(caption=None if caption is None else Text(caption), caption_justify="left")
    table.add_column(first, no_wrap=True)
    for header in headers:
        table.add_column(Text(header), justify="right")
    return table


def _digits(compat: Compat) -> int:
    return 9 if compat == "official" else 4


def _llr(summary: MetricsSummary) -> str:
    return "of log-likelihood ratios" if summary.scores_are_llr else "if scores were LLRs"


def _interval_header(confidence: Confidence) -> str:
    return f"{confidence.level:.0%} interval"


def _interval(confidence: Confidence | None, key: str, digits: int) -> str:
    ends: Sequence[float] = () if confidence is None else confidence.intervals.get(key, ())
    if ends and ends[0] == ends[1]:
        return _NO_INTERVAL
    return " to ".join(f"{end:.{digits}f}" for end in ends)
