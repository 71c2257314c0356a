"""What scoring files costs beyond the engine: windows a second of `score`, and of the engine alone.

    python -m benchmarks.pipeline_speed --model aasist.onnx --audio DIR -o REPORT.json

In each round, in turn: the engine alone on windows that lie in memory, and the whole way from the
same files to a journaled CSV file, with threads and with processes for decoding. Both have the same
batches. The figures are the ratio of the two in a round, and its median: of wall-clock time, which
other work on the machine disturbs, and of this process's CPU time, which it disturbs little (the
decoding processes' own time is not in it).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aasist_deploy.audio import fit_length, read_audio
from aasist_deploy.engines import open_engine
from aasist_deploy.inputs import NamedInputs
from aasist_deploy.pipeline import DEFAULT_BATCH, InThreads, LocalScorer
from aasist_deploy.pipeline.isolated import InProcesses
from aasist_deploy.pipeline.run import Plan, score_inputs
from benchmarks.common import Report

if TYPE_CHECKING:
    from aasist_deploy.engines import Engine
    from aasist_deploy.pipeline import Decoders


def alone_s(engine: Engine, waves: np.ndarray[Any, np.dtype[np.float32]], batch: int) -> float:
    """Seconds of the engine for all waves."""
    start = time.perf_counter()
    for index in range(0, len(waves), batch):
        engine.score(waves[index : index + batch])
    return time.perf_counter() - start


def files_s(engine: Engine, files: list[Path], decoders: Decoders, workers: int) -> float:
    """Seconds from files to a CSV file."""
    with tempfile.TemporaryDirectory() as folder, NamedInputs(files) as named:
        plan = Plan(row_format="csv", batch=DEFAULT_BATCH, inputs=named.digest)
        start = time.perf_counter()
        scorer = LocalScorer(engine, decoders, workers)
        score_inputs(scorer, named, Path(folder, "scores.csv"), plan)
        return time.perf_counter() - start


def main() -> None:
    """Measure and write the report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--audio", type=Path, required=True, help="folder of FLAC files")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--backend")
    parser.add_argument("--files", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--note", default="", help="what else ran on the machine")
    options = parser.parse_args()
    files = sorted(options.audio.rglob("*.flac"))[: options.files]
    packages = ("onnxruntime", "openvino", "soundfile", "numpy")
    report = Report(options.output, packages, n_files=len(files), note=options.note)
    n_samples = 64_600
    waves = np.stack([fit_length(read_audio(path).wave, n_samples) for path in files])
    in_threads, in_processes = InThreads(), InProcesses(2)
    ways: dict[str, tuple[Decoders, int]] = {
        "threads": (in_threads, 2),
        "processes": (in_processes, 2),
    }
    with open_engine(options.model, options.backend) as engine:
        report.fact("engine", f"{engine.backend}, {engine.device}")
        alone_s(engine, waves[:DEFAULT_BATCH], DEFAULT_BATCH)
        ratios: dict[str, list[float]] = {name: [] for name in ways}
        cpu_ratios: dict[str, list[float]] = {name: [] for name in ways}
        rates: list[float] = []
        for number in range(options.rounds):
            for name, (decoders, workers) in ways.items():
                # The engine before and after, so that a machine that slows down is seen.
                cpu = [time.process_time()]
                before = alone_s(engine, waves, DEFAULT_BATCH)
                cpu.append(time.process_time())
                took = files_s(engine, files, decoders, workers)
                cpu.append(time.process_time())
                after = alone_s(engine, waves, DEFAULT_BATCH)
                cpu.append(time.process_time())
                ratios[name].append((before + after) / 2 / took)
                alone_cpu = (cpu[1] - cpu[0] + cpu[3] - cpu[2]) / 2
                cpu_ratios[name].append(alone_cpu / (cpu[2] - cpu[1]))
                rates.append(len(files) / before)
                report.row(
                    round=number,
                    decode_in=name,
                    engine_alone_s=[round(before, 3), round(after, 3)],
                    files_to_csv_s=round(took, 3),
                    ratio=round(ratios[name][-1], 4),
                    cpu_ratio=round(cpu_ratios[name][-1], 4),
                )
    in_processes.close()
    report.fact("engine_alone_windows_per_second", round(float(np.median(rates)), 2))
    for fact, values in (("median_ratio", ratios), ("median_cpu_ratio", cpu_ratios)):
        report.fact(fact, {n: round(float(np.median(r)), 4) for n, r in values.items()})


if __name__ == "__main__":
    main()
