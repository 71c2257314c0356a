"""What a Ray cluster costs beside one process: files to a CSV file, on this machine with either.

    python -m benchmarks.ray_speed --model aasist.onnx --audio DIR -o REPORT.json

In each round, in turn, the same files with the same batches by `LocalScorer` and by `RayProcess`
with one engine. Two figures: seconds until the first rows, for a data set begins by starting its
engine, and windows a second from then on. A model that takes no time, `--model tiny`, shows what is
Ray's.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from aasist_deploy.engines import open_engine
from aasist_deploy.inputs import NamedInputs
from aasist_deploy.pipeline import LocalScorer
from aasist_deploy.pipeline.isolated import InProcesses
from aasist_deploy.pipeline.ray_process import RayProcess
from aasist_deploy.pipeline.run import Plan, score_inputs
from benchmarks.common import Report
from tests.tiny_models import write_tiny_model

if TYPE_CHECKING:
    from aasist_deploy.pipeline.batches import Scorer


def measure(scorer: Scorer, files: list[Path], batch: int) -> tuple[float, float]:
    """Seconds until the first rows, and windows a second after them."""
    times: list[float] = []
    with tempfile.TemporaryDirectory() as folder, NamedInputs(files) as named:
        plan = Plan(row_format="csv", batch=batch, inputs=named.digest)
        start = time.perf_counter()
        output = Path(folder, "scores.csv")
        score_inputs(
            scorer, named, output, plan, on_row=lambda _: times.append(time.perf_counter())
        )
    later = [moment for moment in times if moment - times[0] > 0.001]  # rows come in groups
    return times[0] - start, len(later) / (later[-1] - times[0])


def main() -> None:
    """Measure and write the report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, required=True, help="an ONNX file, or tiny")
    parser.add_argument("--audio", type=Path, required=True, help="folder of FLAC files")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--files", type=int, default=200)
    parser.add_argument("--times", type=int, default=1, help="how often each file is listed")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--note", default="", help="what else ran on the machine")
    options = parser.parse_args()
    files = sorted(options.audio.rglob("*.flac"))[: options.files] * options.times
    packages = ("aasist-deploy", "ray", "onnxruntime", "soundfile", "numpy")
    report = Report(options.output, packages, n_files=len(files), note=options.note)
    given = {"threads": options.threads}
    rates: dict[str, list[float]] = {"local": [], "ray": []}
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        model = options.model
        if str(model) == "tiny":
            model = write_tiny_model(Path(folder, "tiny.onnx"))
        engine = stack.enter_context(open_engine(model, "onnx", **given))
        decoders = InProcesses(2)
        stack.callback(decoders.close)
        on_ray = stack.enter_context(RayProcess(model, "onnx", given, n_cpus=2, scorers=1))
        ways: dict[str, Scorer] = {
            "local": LocalScorer(engine, decoders, 2),
            "ray": on_ray,
        }
        for number in range(options.rounds):
            for name, scorer in ways.items():
                first_s, rate = measure(scorer, files, options.batch)
                rates[name].append(rate)
                report.row(
                    round=number,
                    way=name,
                    batch=options.batch,
                    first_rows_s=round(first_s, 2),
                    windows_per_second=round(rate, 2),
                )
    ratios = np.array(rates["ray"]) / np.array(rates["local"])
    report.fact("median_ratio_of_ray", round(float(np.median(ratios)), 3))


if __name__ == "__main__":
    main()
