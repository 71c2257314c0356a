"""Sliding windows on a CPU: streams that share their frames beside each window alone.

    python -m benchmarks.stream_cpu -o benchmarks/results/DATE-stream-cpu.json --checkpoint-dir DIR

One process measures everything in rounds, each in another order: a window alone (batch 1), a
window of a stream at several hops, and calls of several streams. Audio is in memory. No figure is
a limit that a test holds.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import numpy as np
import typer

from aasist_deploy import open_engine
from aasist_deploy.engines.base import usable_cores
from aasist_deploy.export import export_onnx
from aasist_deploy.export.stream_export import export_stream
from aasist_deploy.models import load_checkpoint
from aasist_deploy.streaming import StreamScorer, open_stream_model, push_all
from aasist_deploy.streaming.shared_frames import (
    FRAMES_PER_CALL_OF_RECORDINGS,
    MAX_FRAMES_PER_CALL,
)
from benchmarks.common import MODELS, Report, matmul_gflops, noise_waves, timed_ms

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from aasist_deploy.engines.parts import StreamStep

HOPS: Final = (1, 2, 4, 8, 16, 24, 29)
STREAMS: Final = (2, 4, 8, 16)
LONG_HOPS: Final = (8, 16, 24, 29)  # where a recording has longer calls than a live stream
ALONE: Final = "each window alone"


def main(
    output: Annotated[Path, typer.Option("-o", "--output", help="The JSON report.")],
    checkpoint_dir: Annotated[Path, typer.Option(exists=True, help="AASIST.pth, AASIST-L.pth.")],
    files: Annotated[
        Path | None, typer.Option(help="Folder of NAME.onnx and NAME.stream.onnx made before.")
    ] = None,
    backends: str = "onnx,openvino,openvino-bf16",
    models: str = ",".join(MODELS),
    hops: Annotated[str, typer.Option(help="In frames.")] = ",".join(map(str, HOPS)),
    streams: Annotated[str, typer.Option(help="Streams of a call.")] = ",".join(map(str, STREAMS)),
    threads: Annotated[int | None, typer.Option(help="By default all usable cores.")] = None,
    rounds: Annotated[int, typer.Option(min=1)] = 9,
    note: Annotated[str, typer.Option(help="What else the machine did.")] = "",
) -> None:
    """Measure, print, write one JSON report."""
    n_threads = threads or usable_cores()
    report = Report(
        output,
        ("aasist-deploy", "onnxruntime", "openvino", "numpy"),
        threads=n_threads,
        rounds=rounds,
        note=note,
        matmul_gflops=matmul_gflops(),
    )
    with tempfile.TemporaryDirectory() as scratch:
        for model in models.split(","):
            whole, stream = made(checkpoint_dir / f"{model}.pth", files or Path(scratch))
            for name in backends.split(","):
                measure(
                    report,
                    model,
                    name,
                    whole,
                    stream,
                    n_threads,
                    rounds,
                    [int(one) for one in hops.split(",")],
                    [int(one) for one in streams.split(",") if one],
                )
    report.fact("matmul_gflops_after", matmul_gflops())


def made(checkpoint: Path, folder: Path) -> tuple[Path, Path]:
    """Both exports of a checkpoint; those that are there are taken."""
    whole, stream = (folder / f"{checkpoint.stem}{kind}.onnx" for kind in ("", ".stream"))
    if not whole.exists():
        export_onnx(load_checkpoint(checkpoint), whole)
    if not stream.exists():
        export_stream(load_checkpoint(checkpoint), stream)
    return whole, stream


def measure(
    report: Report,
    model: str,
    name: str,
    whole: Path,
    stream: Path,
    threads: int,
    rounds: int,
    hops: list[int],
    streams: list[int],
) -> None:
    """Interleaved rounds of one model on one backend."""
    backend, _, precision = name.partition("-")
    options: dict[str, Any] = {"threads": threads}
    if precision:
        options["precision"] = precision
    with ExitStack() as stack:
        engine = stack.enter_context(open_engine(whole, backend, **options))
        steps = stack.enter_context(open_stream_model(stream, backend, **options))
        wave = noise_waves(1)
        runs: dict[str | int | tuple[int] | tuple[str, int], Callable[[], object]] = {
            ALONE: lambda: engine.score(wave)
        }
        for hop in hops:
            runs[hop] = one_window(steps, hop)
        for hop in filter(LONG_HOPS.__contains__, hops):
            runs["recording", hop] = one_window(steps, hop, FRAMES_PER_CALL_OF_RECORDINGS)
        for n_streams in streams:
            runs[n_streams,] = one_window_each(steps, n_streams)
        for run in runs.values():
            run()
        times: dict[Any, list[float]] = {key: [] for key in runs}
        keys = list(runs)
        for i in range(rounds):
            turn = i % len(keys)
            for key in keys[turn:] + keys[:turn]:
                times[key].append(timed_ms(runs[key]))
    alone = np.array(times[ALONE])
    hop_ms = 1000.0 * steps.layout.frame_samples / steps.contract.sample_rate_hz
    alone_ms = float(np.median(times[ALONE]))
    report.row(model=model, backend=name, variant=ALONE, **spread(times[ALONE]))
    for hop in hops:
        cost = float(np.median(times[hop]))
        report.row(
            model=model,
            backend=name,
            variant="stream",
            streams=1,
            hop_frames=hop,
            **spread(times[hop]),
            **ratios(alone, times[hop]),
            real_time_factor=round(cost / (hop * hop_ms), 4),
        )
    for hop in filter(LONG_HOPS.__contains__, hops):
        report.row(
            model=model,
            backend=name,
            variant="recording",
            streams=1,
            hop_frames=hop,
            **spread(times["recording", hop]),
            **ratios(alone, times["recording", hop]),
        )
    for n_streams in streams:
        cost = float(np.median(times[n_streams,])) / n_streams
        report.row(
            model=model,
            backend=name,
            variant="stream",
            streams=n_streams,
            hop_frames=1,
            **spread(times[n_streams,]),
            per_window_ms=round(cost, 3),
            **ratios(alone * n_streams, times[n_streams,]),
            live_streams=int(hop_ms / cost),
            live_streams_of_windows_alone=int(hop_ms / alone_ms),
        )


def one_window(
    model: StreamStep, hop: int, frames_per_call: int = MAX_FRAMES_PER_CALL
) -> Callable[[], object]:
    """A stream whose every call pushes one hop and gives one window."""
    return one_window_each(model, 1, hop, frames_per_call)


def one_window_each(
    model: StreamStep, n_streams: int, hop: int = 1, frames_per_call: int = MAX_FRAMES_PER_CALL
) -> Callable[[], object]:
    """As many streams, pushed together."""
    wave = noise_waves(1)[0]
    scorers = [StreamScorer(model, hop, frames_per_call) for _ in range(n_streams)]
    push_all([(scorer, wave) for scorer in scorers])
    more = wave[: hop * model.layout.frame_samples]

    def run() -> None:
        for windows in push_all([(scorer, more) for scorer in scorers], max_batch=n_streams):
            assert len(windows) == 1

    return run


def ratios(alone: NDArray[np.float64], times: list[float]) -> dict[str, float]:
    """How many times cheaper than windows alone in the same round: median and quartiles."""
    low, median, high = np.percentile(alone / np.array(times), [25, 50, 75]).tolist()
    return {
        "times_cheaper": round(median, 2),
        "times_cheaper_low": round(low, 2),
        "times_cheaper_high": round(high, 2),
    }


def spread(times: list[float]) -> dict[str, float]:
    """Median, least and 95th percentile."""
    return {
        "median_ms": round(float(np.median(times)), 3),
        "least_ms": round(min(times), 3),
        "p95_ms": round(float(np.percentile(times, 95)), 3),
    }


if __name__ == "__main__":
    typer.run(main)
