"""How values are said: digits, intervals, and text that strangers wrote."""

from __future__ import annotations

import json
import math
import unicodedata
from typing import TYPE_CHECKING, Any, Final

from aasist_deploy.report._scales import percent

if TYPE_CHECKING:
    from collections.abc import Mapping

PERCENT: Final = "\N{NO-BREAK SPACE}%"
# Unicode categories that draw nothing or change how their neighbours are drawn: control, format
# (with the bidirectional overrides), surrogate, private use, line and paragraph separator.
_INVISIBLE: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})

Row = tuple[str, str]


def number(values: Mapping[str, Any] | None, key: str) -> float | None:
    """The value of a key when it is there and a finite number."""
    value = (values or {}).get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def interval(values: Mapping[str, Any] | None, key: str) -> tuple[float, float] | None:
    """The ends of the confidence interval of a figure, when the report has them."""
    confidence = (values or {}).get("confidence")
    if not isinstance(confidence, dict):
        return None
    ends = confidence.get(key)
    if not isinstance(ends, list | tuple) or len(ends) != 2:
        return None
    low, high = (number({"end": end}, "end") for end in ends)
    # No error in the data leaves none in any resample: 0 to 0 says how the bootstrap works, and
    # nothing of the errors that more trials would show.
    return None if low is None or high is None or low == high else (low, high)


def percent_range(ends: tuple[float, float] | None) -> str:
    """A confidence interval of rates, in percent without the sign; empty when there is none."""
    return "" if ends is None else f"{percent(ends[0])} to {percent(ends[1])}"


def percent_or_dash(value: float | None) -> str:
    """A rate in percent without the sign, or a dash when it is not known."""
    return "-" if value is None else percent(value)


def count(value: object) -> str:
    """A whole number with separators, or a dash when it is none."""
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else "-"


def confidence_words(report: Mapping[str, Any]) -> str | None:
    """How the confidence intervals were made, as a sentence, or None when there are none."""
    confidence = report.get("confidence")
    if not isinstance(confidence, dict):
        return None
    if interval(report, "eer_percent") is None and "eer_percent" in confidence:
        return (
            "No bootstrap interval of the EER: its resamples are all alike, which says nothing of "
            "the errors that more trials would show."
        )
    level, folds = number(confidence, "level"), number(confidence, "n_bootstrap")
    said = "Intervals"
    if level is not None:
        said += f" at {100 * level:g}{PERCENT} confidence"
    said += ": bootstrap" + (f" of {folds:,.0f} resamples" if folds is not None else "")
    unit, seed = confidence.get("unit"), number(confidence, "seed")
    if unit:
        said += f", drawn by {unit}"
    return said + (f", seed {seed:g}." if seed is not None else ".")


def level_percent(report: Mapping[str, Any]) -> str:
    """The confidence level, e.g. "95 %", or "confidence" when it is not said."""
    level = number(report.get("confidence"), "level")
    return "confidence" if level is None else f"{100 * level:g}{PERCENT}"


def rows_of(values: Mapping[str, Any] | None) -> list[Row]:
    """A mapping as rows of a table of names and values."""
    return [(str(key), plain(value)) for key, value in (values or {}).items()]


def plain(value: object) -> str:
    """One value as text: words for nothing and for booleans, JSON for what is nested."""
    if value is None or value in ("", [], (), {}):
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:.6g}"
    return json.dumps(value, ensure_ascii=False)


def visible(value: object) -> object:
    """Show characters that would be invisible, or not fit in UTF-8, by their code.

    jinja2 calls this on every value before it is escaped.
    """
    if not isinstance(value, str) or hasattr(value, "__html__"):
        return value
    if value.isascii() and value.isprintable():
        return value
    return "".join(
        f"\\u{ord(char):04x}" if unicodedata.category(char) in _INVISIBLE and char != "\n" else char
        for char in value
    )
