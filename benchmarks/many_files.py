"""Memory of `score` over time, for few files and for many: does it grow with their number?

    python -m benchmarks.many_files --files 10000 100000 -o REPORT.json

The files are links to a short clip and the model is one that takes no time, so what is measured is
the pipeline. Resident memory of the command is read five times a second; that of the processes that
it starts, which decode or speak to Ray, as well, and of those that they start, which are Ray's.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import numpy as np
import soundfile

from benchmarks.common import Report
from tests.tiny_models import write_tiny_model

LINKS_OF_ONE: Final = 20_000  # file systems have a limit
AT_PERCENT: Final = (10, 25, 50, 75, 90, 99)


def make_list(folder: Path, n_files: int) -> Path:
    """Write `n_files` links and a list of them."""
    names = folder / f"{n_files}.txt"
    with names.open("w", encoding="utf-8") as lines:
        for index in range(n_files):
            part = folder / str(index // 1_000)
            path = part / f"{index}.wav"
            if index % 1_000 == 0:
                part.mkdir(exist_ok=True)
            if not path.exists():
                clip = folder / f"clip-{index // LINKS_OF_ONE}.wav"
                if not clip.exists():
                    soundfile.write(clip, np.full(800, 0.1, np.float32), 16_000)
                path.hardlink_to(clip)
            lines.write(f"{path}\n")
    return names


def resident_mib(pid: int) -> float | None:
    """Resident memory of a process, or None when it has ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="utf-8").split()[1])
    except (OSError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def children_of(pid: int) -> list[int]:
    """Processes that a process started."""
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8")
    except OSError:
        return []
    return [int(word) for word in text.split()]


def measure(report: Report, model: Path, names: Path, given: list[str], n_files: int) -> None:
    """Score one list and note memory over time."""
    output = names.with_suffix(".csv")
    program = "from aasist_deploy.cli import main; main()"
    command = [sys.executable, "-c", program, "score", str(model), "--list", str(names)]
    options = ["--backend", "onnx", "--threads", "1", "-o", str(output), *given]
    start = time.perf_counter()
    process = subprocess.Popen([*command, *options], stderr=subprocess.DEVNULL)
    held: list[list[float]] = [[], [], []]  # of the command, its children, and theirs
    while process.poll() is None:
        generation = [process.pid]
        for values in held:
            values.append(sum(resident_mib(pid) or 0 for pid in generation))
            generation = [child for pid in generation for child in children_of(pid)]
        time.sleep(0.2)
    seconds = time.perf_counter() - start

    def over_time(values: list[float]) -> dict[str, float]:
        return {f"{p} %": round(values[len(values) * p // 100], 1) for p in AT_PERCENT}

    with output.open("rb") as lines:
        n_rows = sum(1 for _ in lines) - 1
    report.row(
        options=" ".join(given),
        files=n_files,
        exit_code=process.returncode,
        rows=n_rows,
        seconds=round(seconds, 1),
        largest_mib=round(max(held[0]), 1),
        mib_over_time=over_time(held[0]),
        child_processes_mib_over_time=over_time(held[1]),
        their_child_processes_mib_over_time=over_time(held[2]),
    )


def main() -> None:
    """Measure and write the report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--engine", default="local", help="local or ray")
    parser.add_argument("--batch", default="64", help="windows scored together")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--note", default="", help="what else ran on the machine")
    options = parser.parse_args()
    packages = ("aasist-deploy", "onnxruntime", "soundfile", "numpy", "ray")
    given = ["--engine", options.engine, "--batch", options.batch]
    report = Report(options.output, packages, note=options.note)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        model = write_tiny_model(folder / "tiny.onnx")
        for n_files in options.files:
            measure(report, model, make_list(folder, n_files), given, n_files)


if __name__ == "__main__":
    main()
