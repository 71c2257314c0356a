"""How many times as fast as a baseline, with the spread of that number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from aasist_deploy.errors import UsageError
from aasist_deploy.textfile import json_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

BENCH_SCHEMA: Final = "aasist-deploy/bench/1"
# What must be the same for times of two runs to be compared.
_SAME_MACHINE: Final = ("cpu", "features", "cores", "cpu_quota", "system")
# Rates of matrix products of two runs that differ by more were measured under other conditions.
DRIFT_OF_MACHINE: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """Times as fast as the baseline.

    Attributes:
        median: Over 1: faster than the baseline.
        low: Lower quartile.
        high: Upper quartile.
        paired: Whether each value is of one round of one run. If not, the quartiles are those of
            the slowest quarter of the one against the fastest of the other, which is wider.
    """

    median: float
    low: float
    high: float
    paired: bool


def paired_ratio(baseline_s: Sequence[float], variant_s: Sequence[float]) -> Ratio:
    """The ratio within each round; one value of each list is of the same round."""
    ratios = np.divide(np.asarray(baseline_s), np.asarray(variant_s))
    low, median, high = np.percentile(ratios, [25, 50, 75])
    return Ratio(median=float(median), low=float(low), high=float(high), paired=True)


def unpaired_ratio(baseline_s: Sequence[float], variant_s: Sequence[float]) -> Ratio:
    """The ratio of two runs."""
    theirs, ours = (np.percentile(s, [25, 50, 75]) for s in (baseline_s, variant_s))
    return Ratio(
        median=float(theirs[1] / ours[1]),
        low=float(theirs[0] / ours[2]),
        high=float(theirs[2] / ours[0]),
        paired=False,
    )


def read_earlier(path: Path) -> dict[str, Any]:
    """What `bench --json` wrote before.

    Raises:
        UsageError: there is no such file, or it is something else.
    """
    try:
        content = json_of(path.read_bytes())
    except OSError as error:
        raise UsageError(
            f"The baseline {path} cannot be read: {error.strerror}.",
            fix="name a variant, or a file written with: aasist-deploy bench --output",
        ) from error
    except ValueError as error:
        raise UsageError(f"The baseline {path} is not JSON: {error}.") from error
    schema = content.get("schema") if isinstance(content, dict) else None
    if schema != BENCH_SCHEMA:
        raise UsageError(
            f"The baseline {path} is no result of bench: its schema is "
            f"{schema or 'not given'}, not {BENCH_SCHEMA}.",
            fix="name a file written with: aasist-deploy bench --output",
        )
    return dict(content)


def check_same_machine(earlier: dict[str, Any], now: dict[str, Any], threads: int) -> None:
    """Refuse to compare times of two machines, or of other numbers of threads.

    Raises:
        UsageError: they differ; the message has every difference.
    """
    then = earlier["machine"]
    different = [
        f"{name} {then.get(name)!r} then and {now.get(name)!r} now"
        for name in _SAME_MACHINE
        if then.get(name) != now.get(name)
    ]
    if earlier["threads"] != threads:
        different.append(f"{earlier['threads']} threads then and {threads} now")
    if different:
        raise UsageError(
            f"The baseline was measured under other conditions: {'; '.join(different)}.",
            fix="measure both here in one run: --compare MODEL@BACKEND",
        )


def drift_notes(earlier: dict[str, Any], products: dict[str, float]) -> list[str]:
    """What to know of a comparison with an earlier run: whether the machine was as fast then.

    Args:
        earlier: The earlier run.
        products: "PRECISION, TOOL" -> operations a second now.
    """
    notes = []
    for one in earlier["matrix_products"]:
        now = products.get(f"{one['precision']}, {one['tool']}")
        then = one["operations_per_second"]
        if now and abs(now / then - 1) > DRIFT_OF_MACHINE:
            notes.append(
                f"the machine was not as fast as in the baseline: matrix products in "
                f"{one['precision']} by {one['tool']} ran at {then / 1e9:.0f} GFLOP/s then and "
                f"{now / 1e9:.0f} now"
            )
    return notes
