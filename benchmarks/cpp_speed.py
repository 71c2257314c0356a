"""The C++ library beside ONNX Runtime alone and beside Python: time, start, memory, size.

    make cpp
    python -m benchmarks.cpp_speed MODEL.onnx CLIP -o benchmarks/results/DATE-cpp-cpu.json

Three ways to score one window take turns in one run: ONNX Runtime's C API with nothing around it,
the library, and Python's engine, all with the same number of threads. Starts are whole processes,
the program of either language by turns, from exec to exit with the score of one clip.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aasist_deploy import open_engine
from benchmarks.common import Report

if TYPE_CHECKING:
    from collections.abc import Sequence

BUILD = Path(__file__).resolve().parents[1] / "build" / "cpp" / "release"
WARM_UP = 3


def quartiles(values: Sequence[float]) -> dict[str, float]:
    """Median and the quartiles around it."""
    low, middle, high = np.percentile(values, [25, 50, 75])
    return {"median_ms": round(middle, 3), "p25_ms": round(low, 3), "p75_ms": round(high, 3)}


def windows(model: Path, threads: int, repeats: int, report: Report) -> None:
    """One window at a time, three ways by turns."""
    wave = (0.1 * np.sin(0.05 * np.arange(64_600, dtype=np.float32))).astype(np.float32)
    times: dict[str, list[float]] = {"bare": [], "library": [], "python": []}
    scores: dict[str, float] = {}
    with (
        subprocess.Popen(
            [BUILD / "bench" / "aasist-overhead", model, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        ) as program,
        open_engine(model, "onnx", threads=threads) as engine,
    ):
        assert program.stdin is not None
        assert program.stdout is not None
        for turn in range(repeats + WARM_UP):
            # Another one goes first in each turn: none always follows the same neighbour.
            for name in np.roll(list(times), turn):
                if name == "python":
                    start = time.perf_counter()
                    score = float(engine.score(wave[None])[0])
                    passed = 1e3 * (time.perf_counter() - start)
                else:
                    program.stdin.write(f"{name}\n")
                    passed, score = map(float, program.stdout.readline().split())
                scores[str(name)] = score
                if turn >= WARM_UP:
                    times[str(name)].append(passed)
        program.stdin.close()
    bare = np.array(times["bare"])
    for name, values in times.items():
        ratios = np.array(values) / bare  # within a turn, so that slow spells of the machine cancel
        report.row(
            what="window",
            way=name,
            threads=threads,
            repeats=repeats,
            score=scores[name],
            **quartiles(values),
            ratio_of_medians_to_bare=round(float(np.median(values) / np.median(bare)), 4),
            median_ratio_to_bare=round(float(np.median(ratios)), 4),
        )


def starts(model: Path, clip: Path, threads: int, repeats: int, report: Report) -> None:
    """Whole processes that score one clip, by turns, with their largest memory."""
    options = ["--threads", str(threads)]
    commands = {
        "aasist-score": [str(BUILD / "aasist-score"), *options, str(model), str(clip)],
        "aasist-deploy score": [
            *(sys.executable, "-m", "aasist_deploy", "score", "--backend", "onnx"),
            *(str(model), str(clip)),
            *options,
        ],
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    memory: dict[str, list[float]] = {name: [] for name in commands}
    for turn in range(repeats + 1):
        for name, command in commands.items():
            start = time.perf_counter()
            program = subprocess.Popen(
                command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            _, status, usage = os.wait4(program.pid, 0)
            program.returncode = os.waitstatus_to_exitcode(status)
            if program.returncode != 0:
                raise SystemExit(f"{command} failed")
            if turn > 0:
                times[name].append(1e3 * (time.perf_counter() - start))
                memory[name].append(usage.ru_maxrss / 1024)
    for name, values in times.items():
        report.row(
            what="start to first score",
            way=name,
            threads=threads,
            repeats=repeats,
            **quartiles(values),
            max_rss_mib=round(float(np.median(memory[name])), 1),
        )


def sizes() -> dict[str, int]:
    """Bytes of what a program needs on disk."""
    libraries = BUILD.parent / "deps" / "native" / "lib"
    files = [BUILD / "aasist-score", BUILD / "libaasist.so"]
    files += [libraries / f"lib{name}.so" for name in ("onnxruntime", "sndfile", "soxr", "md")]
    return {file.name: file.resolve().stat().st_size for file in files}


def main() -> None:
    """Measure and write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("clip", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument("--starts", type=int, default=15)
    parser.add_argument("--note", help="what else ran on the machine")
    options: Any = parser.parse_args()
    report = Report(options.output, ["onnxruntime", "numpy", "soundfile", "soxr"])
    report.fact("sizes_bytes", sizes())
    if options.note:
        report.fact("note", options.note)
    windows(options.model, options.threads, options.repeats, report)
    starts(options.model, options.clip, options.threads, options.starts, report)


if __name__ == "__main__":
    main()
