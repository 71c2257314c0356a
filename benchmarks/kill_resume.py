"""Runs that are killed at random and resumed: is every output that of a run that nothing ended?

    python -m benchmarks.kill_resume --runs 50 -o REPORT.json

Each run scores the same files, a few of them bad, with a model that takes no time. It is killed
(SIGKILL) once a random number of rows is written, at random again after each resumption, and its
output compared with the reference's, byte for byte. `--first` goes on with later seeds and keeps
the rows of the report that is there, so that a long measurement can be done in pieces.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import numpy as np
import soundfile

from aasist_deploy.journal import journal_of
from benchmarks.common import Report
from tests.tiny_models import write_tiny_model

N_FILES: Final = 1_500
# The journal is synced once a second; these runs take a few.
START: Final = """
from aasist_deploy.journal import _writing
_writing.SYNC_EVERY_S = 0.05
from aasist_deploy.cli import main
main()
"""


def make_files(folder: Path, n_files: int) -> Path:
    """A list of files, links to fifty different ones and a bad one."""
    rng = np.random.default_rng(0)
    first = []
    for index in range(50):
        path = folder / f"first-{index}.flac"
        wave = rng.uniform(-0.5, 0.5, rng.integers(200, 40_000)).astype(np.float32)
        soundfile.write(path, wave, 16_000)
        first.append(path)
    (folder / "bad.flac").write_text("no audio")
    first.append(folder / "bad.flac")
    names = folder / "all.txt"
    with names.open("w", encoding="utf-8") as lines:
        for index in range(n_files):
            path = folder / f"{index}, x.flac"
            path.hardlink_to(first[index % len(first)])
            lines.write(f"{path}\n")
    return names


def start(model: Path, names: Path, output: Path) -> subprocess.Popen[bytes]:
    """One run, or the rest of one."""
    given = ["score", str(model), "--list", str(names), "-o", str(output), "--resume"]
    return subprocess.Popen(
        [sys.executable, "-c", START, *given, "--backend", "onnx", "--threads", "1"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def rows_in(output: Path) -> int:
    """Lines of an output so far."""
    return output.read_bytes().count(b"\n") if output.exists() else 0


def killed_and_resumed(model: Path, names: Path, output: Path, seed: int) -> list[int]:
    """Run to the end with at least one kill; the number of lines at each kill."""
    chance = random.Random(seed)
    killed_at: list[int] = []
    while True:
        process = start(model, names, output)
        if killed_at and chance.random() > 0.4:
            goal = N_FILES + 2
        else:
            goal = chance.randint(min(rows_in(output), N_FILES), N_FILES)
        while process.poll() is None and rows_in(output) < goal:
            time.sleep(0.01)
        if process.poll() is None and goal <= N_FILES:
            process.kill()
            process.communicate()
            killed_at.append(rows_in(output))
            continue
        said = process.communicate()[1].decode()
        if process.returncode != 1:  # the bad files
            raise RuntimeError(f"exit code {process.returncode}: {said[-500:]}")
        if killed_at:
            return killed_at
        output.unlink()
        journal_of(output).unlink()


def main() -> None:
    """Measure and write the report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--first", type=int, default=0, help="seed of the first run")
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    before = []
    if options.first:
        before = json.loads(options.output.read_text(encoding="utf-8"))["rows"]
    packages = ("aasist-deploy", "onnxruntime", "soundfile")
    report = Report(options.output, packages, files=N_FILES)
    report.content["rows"] += before
    report.save()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        model, names = write_tiny_model(folder / "tiny.onnx"), make_files(folder, N_FILES)
        whole = folder / "whole.csv"
        start(model, names, whole).communicate()
        for seed in range(options.first, options.first + options.runs):
            output = folder / f"{seed}.csv"
            killed_at = killed_and_resumed(model, names, output, seed)
            same = output.read_bytes() == whole.read_bytes()
            report.row(seed=seed, lines_at_kills=killed_at, same_bytes=same)
            output.unlink()
            journal_of(output).unlink()
    rows = report.content["rows"]
    report.fact("runs", len(rows))
    report.fact("kills", sum(len(row["lines_at_kills"]) for row in rows))
    report.fact("runs_with_the_same_bytes", sum(row["same_bytes"] for row in rows))


if __name__ == "__main__":
    main()
