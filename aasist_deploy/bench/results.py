"""From times to figures: one row for each variant and batch size, and the mapping that is JSON."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from aasist_deploy.bench.machine import versions
from aasist_deploy.bench.ratios import BENCH_SCHEMA, drift_notes, paired_ratio, unpaired_ratio

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aasist_deploy.bench.measuring import Measured, Run, Settings, Turns
    from aasist_deploy.bench.ratios import Ratio


def results_of(
    run: Run,
    settings: Settings,
    *,
    machine: Mapping[str, Any],
    command: str,
    baseline: str | None = None,
    earlier: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The mapping of `bench --json` (docs/schemas/bench.schema.json).

    Args:
        run: The times.
        settings: How they were measured.
        machine: What `machine()` said before the run.
        command: What the user typed.
        baseline: Label of the variant that the others are compared with.
        earlier: An earlier result that they are compared with; the same variants, or its baseline.
    """
    rates = {
        name: run.product_operations / float(np.median(times))
        for name, times in run.product_s.items()
        if times
    }
    rows = [
        _row(one, batch, turns, run, baseline, earlier)
        for one in run.variants
        for batch, turns in one.turns.items()
        if turns.wall_s
    ]
    notes = drift_notes(earlier, rates) if earlier is not None else []
    if run.interrupted:
        notes.append(f"interrupted after {run.rounds} of {settings.rounds} rounds")
    return {
        "schema": BENCH_SCHEMA,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "command": command,
        "machine": dict(machine),
        "versions": versions(),
        "threads": settings.threads,
        "rounds": run.rounds,
        "seed": settings.seed,
        "baseline": baseline,
        "matrix_products": [
            {
                "precision": name.split(", ")[0],
                "tool": name.split(", ")[1],
                "size": settings.product_size,
                "operations_per_second": rate,
                "rounds_s": run.product_s[name],
            }
            for name, rate in rates.items()
        ],
        "variants": [_variant(one) for one in run.variants],
        "rows": rows,
        "end_to_end": _end_to_end(run, settings, baseline) if settings.files else None,
        "notes": notes,
    }


def precision_of(one: Measured) -> str:
    """What a variant computes in: what its backend was asked for, else what its file says."""
    said: str = one.opened["precision"]
    # A file of lower precision stays what it is, whatever the rest is computed in.
    return said if one.variant.precision is None or said != "fp32" else one.variant.precision


def _variant(one: Measured) -> dict[str, Any]:
    error = one.error
    return {
        "label": one.variant.label,
        "model": one.variant.path.name,
        "backend": one.variant.backend,
        "device": one.opened["device"],
        "precision": precision_of(one),
        "architecture": one.opened["architecture"],
        "n_samples": one.n_samples,
        "window_s": one.n_samples / one.opened["sample_rate_hz"],
        "operations_per_window": one.operations,
        "load_s": one.opened["load_s"],
        "memory_before_load_bytes": one.opened["memory_before_bytes"],
        "imported_torch": one.imported_torch,
        "error": None if error is None else str(error),
    }


def _row(
    one: Measured,
    batch: int,
    turns: Turns,
    run: Run,
    baseline: str | None,
    earlier: dict[str, Any] | None,
) -> dict[str, Any]:
    calls = [seconds for turn in turns.wall_s for seconds in turn]
    cpu = [seconds for turn in turns.cpu_s for seconds in turn]
    rounds = _per_round(turns)
    median = float(np.median(calls))
    window_s = one.n_samples / one.opened["sample_rate_hz"]
    rate = None if one.operations is None else one.operations * batch / median
    return {
        "label": one.variant.label,
        "batch": batch,
        "median_ms": 1e3 * median,
        "p95_ms": 1e3 * float(np.percentile(calls, 95)),
        "windows_per_second": batch / median,
        "real_time_factor": median / (batch * window_s),
        "cpu_ms_per_window": 1e3 * float(np.median(cpu)) / batch,
        "operations_per_second": rate,
        "fraction_of_matrix_product": _fraction(one, batch, rounds, run),
        "peak_memory_bytes": turns.peak_bytes,
        "first_call_ms": 1e3 * turns.first_s,
        "calls": len(calls),
        "rounds_s": rounds,
        "ratio": _as_dict(_ratio(one, batch, rounds, run, baseline, earlier)),
    }


def _per_round(turns: Turns) -> list[float]:
    return [float(np.median(turn)) for turn in turns.wall_s]


def _fraction(one: Measured, batch: int, rounds: list[float], run: Run) -> float | None:
    """Rate of the model over the best rate of matrix products in its precision, round by round."""
    precision = precision_of(one)
    same = [t for name, t in run.product_s.items() if name.split(", ")[0] == precision]
    if one.operations is None or not same:
        return None
    n = len(rounds)
    fastest = min(same, key=lambda times: float(np.median(times[:n])))
    rates = one.operations * batch / np.asarray(rounds)
    return float(np.median(rates / (run.product_operations / np.asarray(fastest[:n]))))


def _ratio(
    one: Measured,
    batch: int,
    rounds: list[float],
    run: Run,
    baseline: str | None,
    earlier: dict[str, Any] | None,
) -> Ratio | None:
    if earlier is not None:
        same = [
            row
            for row in earlier["rows"]
            if row["label"] == one.variant.label and row["batch"] == batch
        ]
        return unpaired_ratio(same[0]["rounds_s"], rounds) if same else None
    for other in run.variants:
        if other.variant.label == baseline:
            theirs = _per_round(other.turns[batch])
            n = min(len(theirs), len(rounds))
            return paired_ratio(theirs[:n], rounds[:n]) if n else None
    return None


def _as_dict(ratio: Ratio | None) -> dict[str, Any] | None:
    return None if ratio is None else asdict(ratio)


def _end_to_end(run: Run, settings: Settings, baseline: str | None) -> dict[str, Any]:
    """Decode to scores: the figures of one pass over all files."""
    seconds = {
        one.variant.label: [answer["wall_s"] for answer in one.passes] for one in run.variants
    }
    rows = []
    for one in run.variants:
        if not one.passes:
            continue
        median = float(np.median(seconds[one.variant.label]))
        last = one.passes[-1]
        theirs = seconds.get(baseline or "", [])
        n = min(len(theirs), len(one.passes))
        rows.append(
            {
                "label": one.variant.label,
                "median_s": median,
                "files_per_second": len(settings.files) / median,
                "real_time_factor": median / last["audio_s"] if last["audio_s"] else None,
                "cpu_s": float(np.median([answer["cpu_s"] for answer in one.passes])),
                "n_scored": last["n_scored"],
                "errors": last["errors"],
                "rounds_s": seconds[one.variant.label],
                "ratio": _as_dict(
                    paired_ratio(theirs[:n], seconds[one.variant.label][:n]) if n else None
                ),
            }
        )
    audio_s = next((one.passes[-1]["audio_s"] for one in run.variants if one.passes), 0.0)
    return {
        "n_files": len(settings.files),
        "audio_s": audio_s,
        "batch": max(settings.batches),
        "rows": rows,
    }
