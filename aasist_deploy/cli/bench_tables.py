"""What `bench` prints of a run: the machine, times, cost, and how it was measured."""

from __future__ import annotations

from typing import Any, Final

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from aasist_deploy.cli.common import stdout

_METHOD: Final = (
    "Timed: engine.score on windows of noise in memory, its checks included, decoding not; every "
    "variant in a process of its own, all in interleaved rounds of changing order. ms and p95: "
    "median and 95th percentile of a call; RTF: seconds of computing for one of audio; CPU ms: of "
    "all threads for a window; load: from a started Python to an open engine; "
    "MiB: largest resident size of the process. 'of peak': rate of the model's convolutions and "
    "matrix products over that of a matrix product in the same precision, measured in the same "
    "rounds. GPUs are timed by the same calls, which return when the score is on the host; that "
    "was tested on CPUs only."
)


def print_results(results: dict[str, Any]) -> None:
    """Print the result of a run (`aasist_deploy.bench.results_of`) on stdout."""
    stdout.print(_machine_lines(results), markup=False)
    stdout.print()
    stdout.print(_times_table(results))
    stdout.print()
    stdout.print(_cost_table(results))
    if results["end_to_end"] is not None:
        stdout.print(_end_to_end_table(results["end_to_end"]))
    for note in results["notes"]:
        stdout.print(f"Note: {note}.", markup=False)
    stdout.print(_METHOD, markup=False, style="dim", soft_wrap=False)


def _machine_lines(results: dict[str, Any]) -> str:
    here = results["machine"]
    rates = ", ".join(
        f"{one['precision']} {one['operations_per_second'] / 1e9:.0f} ({one['tool']})"
        for one in results["matrix_products"]
    )
    said = ", ".join(f"{name} {number}" for name, number in results["versions"].items())
    return (
        f"{here['cpu']}, {results['threads']} threads of {here['cores']} usable cores; clock "
        f"governor {here['governor'] or 'not known'}; load before the run {here['load_average']}\n"
        f"{said}\n"
        f"matrix products, GFLOP/s: {rates}"
    )


def _new_table(*headers: str) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column(headers[0], overflow="fold")
    for header in headers[1:]:
        table.add_column(header, justify="right", no_wrap=True)
    return table


def _times_table(results: dict[str, Any]) -> Table:
    against = ["times as fast"] if any(row["ratio"] for row in results["rows"]) else []
    table = _new_table("variant", "batch", "ms", "p95", "windows/s", "RTF", *against)
    for row in results["rows"]:
        table.add_row(
            _label(row, results),
            str(row["batch"]),
            f"{row['median_ms']:.1f}",
            f"{row['p95_ms']:.1f}",
            f"{row['windows_per_second']:.1f}",
            f"{row['real_time_factor']:.4f}",
            *([_ratio(row["ratio"])] if against else []),
        )
    return table


def _cost_table(results: dict[str, Any]) -> Table:
    table = _new_table("variant", "batch", "CPU ms", "GFLOP/s", "of peak", "MiB", "load s")
    load = {one["label"]: one["load_s"] for one in results["variants"]}
    for row in results["rows"]:
        rate, fraction, memory = (
            row[name]
            for name in ("operations_per_second", "fraction_of_matrix_product", "peak_memory_bytes")
        )
        table.add_row(
            _label(row, results),
            str(row["batch"]),
            f"{row['cpu_ms_per_window']:.1f}",
            "-" if rate is None else f"{rate / 1e9:.0f}",
            "-" if fraction is None else f"{fraction:.0%}",
            "-" if memory is None else f"{memory / 2**20:.0f}",
            f"{load[row['label']]:.2f}",
        )
    return table


def _label(row: dict[str, Any], results: dict[str, Any]) -> Text:
    return Text(row["label"], style="bold" if row["label"] == results["baseline"] else "")


def _end_to_end_table(part: dict[str, Any]) -> Table:
    table = _new_table("decode to scores", "seconds", "files/s", "RTF", "CPU s", "times as fast")
    table.title = Text(
        f"{part['n_files']} files, {part['audio_s']:.0f} s of audio, batches of {part['batch']}"
    )
    table.title_justify = "left"
    for row in part["rows"]:
        rtf = row["real_time_factor"]
        table.add_row(
            Text(row["label"] + (f" ({len(row['errors'])} failed)" if row["errors"] else "")),
            f"{row['median_s']:.2f}",
            f"{row['files_per_second']:.1f}",
            "-" if rtf is None else f"{rtf:.4f}",
            f"{row['cpu_s']:.2f}",
            _ratio(row["ratio"]),
        )
    return table


def _ratio(ratio: dict[str, Any] | None) -> str:
    if ratio is None:
        return "-"
    return f"{ratio['median']:.2f} ({ratio['low']:.2f}-{ratio['high']:.2f})"
