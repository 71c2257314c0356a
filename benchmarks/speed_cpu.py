"""AASIST on a CPU, side by side: eager PyTorch, the plain export, and our two exports.

    python -m benchmarks.speed_cpu -o benchmarks/results/DATE-cpu.json --rounds 15

All variants are measured in one process, in rounds, each round in another order, so that whatever
else the machine does falls on all of them. Waves are in memory; nothing is decoded. No figure is a
limit that a test holds.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import onnxruntime as ort
import torch
import typer
from numpy.typing import NDArray

from aasist_deploy import Engine, open_engine
from aasist_deploy.audio import find_audio, fit_length, read_audio
from aasist_deploy.engines.base import usable_cores
from aasist_deploy.export import ExportOptions, export_onnx
from aasist_deploy.models import load_checkpoint
from aasist_deploy.published import pull
from benchmarks.common import MODELS, Report, Waves, matmul_gflops, noise_waves, summary, timed_ms
from benchmarks.published_structure import as_published, plain_onnx

if TYPE_CHECKING:
    from collections.abc import Callable

PUBLISHED, PLAIN = "eager PyTorch, published structure", "plain export, ONNX Runtime"
Logits = NDArray[np.float32]


def main(
    output: Annotated[Path, typer.Option("-o", "--output", help="The JSON report.")],
    checkpoint_dir: Annotated[
        Path | None,
        typer.Option(exists=True, help="Holds AASIST.pth and AASIST-L.pth; pulled if not given."),
    ] = None,
    audio: Annotated[Path | None, typer.Option(exists=True, help="Clips instead of noise.")] = None,
    threads: Annotated[int | None, typer.Option(help="By default all usable cores.")] = None,
    rounds: Annotated[int, typer.Option(min=1)] = 15,
    batches: str = "1,8",
    models: str = ",".join(MODELS),
) -> None:
    """Measure, print a table, write one JSON report."""
    n_threads = threads or usable_cores()
    torch.set_num_threads(n_threads)
    sizes = [int(b) for b in batches.split(",")]
    waves = noise_waves(max(sizes)) if audio is None else clips(audio, max(sizes))
    report = Report(
        output,
        ("aasist-deploy", "torch", "onnx", "onnxruntime", "onnxscript", "numpy"),
        threads=n_threads,
        rounds=rounds,
        input="noise, seed 0" if audio is None else "audio files",
        matmul_gflops=matmul_gflops(),
    )
    with tempfile.TemporaryDirectory() as folder:
        for model in models.split(","):
            path = checkpoint_dir / f"{model}.pth" if checkpoint_dir else pull(model.lower())
            runs, engines = variants(path, Path(folder), n_threads)
            for batch in sizes:
                measure(report, model, runs, waves[:batch], rounds)
            for engine in engines:
                engine.close()
    report.fact("matmul_gflops_after", matmul_gflops())
    table(report.content["rows"])


def clips(folder: Path, n_waves: int) -> Waves:
    """The first files of a folder as windows; repeated when there are fewer than asked for."""
    paths = list(find_audio([folder]))[:n_waves]
    if not paths:
        raise typer.BadParameter(f"{folder} holds no audio files")
    windows = [fit_length(read_audio(path).wave) for path in paths]
    return np.stack([windows[i % len(windows)] for i in range(n_waves)])


def variants(
    path: Path, folder: Path, threads: int
) -> tuple[dict[str, Callable[[Waves], Logits]], list[Engine]]:
    """Name -> waves to logits; and the engines to close."""
    checkpoint = load_checkpoint(path)
    published = as_published(checkpoint.model)

    def eager(network: torch.nn.Module) -> Callable[[Waves], Logits]:
        def run(waves: Waves) -> Logits:
            with torch.inference_mode():
                found: Logits = network(torch.from_numpy(waves))[1].numpy()
            return found

        return run

    plain = session(plain_onnx(published, folder / f"{path.stem}.plain.onnx"), threads)

    def run_plain(waves: Waves) -> Logits:
        found: Logits = plain.run(["logits"], {"wave": waves})[0]
        return found

    runs = {PUBLISHED: eager(published), "eager PyTorch, ours": eager(checkpoint.model)}
    runs[PLAIN] = run_plain
    engines = []
    for form in ("topk", "rank"):
        file = folder / f"{path.stem}.{form}.onnx"
        export_onnx(checkpoint, file, ExportOptions(topk=form))
        engine = open_engine(file, "onnx", threads=threads)
        engines.append(engine)
        runs[f"our export ({form}), ONNX Runtime"] = lambda w, e=engine: e.run(w)["logits"]  # type: ignore[misc]
    return runs, engines


def session(path: Path, threads: int) -> ort.InferenceSession:
    """A session with the settings of our engine, so that the graphs are compared.

    A pool of threads that spins after its call would take the cores from the next variant.
    """
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def measure(
    report: Report,
    model: str,
    runs: dict[str, Callable[[Waves], Logits]],
    waves: Waves,
    rounds: int,
) -> None:
    """Interleaved rounds of one batch size; a row for each variant."""
    names = list(runs)
    logits = {name: runs[name](waves) for name in names}
    for name in names:
        runs[name](waves)
    times: dict[str, list[float]] = {name: [] for name in names}
    for i in range(rounds):
        turn = i % len(names)
        for name in names[turn:] + names[:turn]:
            times[name].append(timed_ms(lambda name=name: runs[name](waves)))  # type: ignore[misc]
    median = {name: float(np.median(t)) for name, t in times.items()}
    for name in names:
        report.row(
            model=model,
            variant=name,
            **summary(times[name], len(waves)),
            times_faster_than_published_eager=round(median[PUBLISHED] / median[name], 2),
            times_faster_than_plain_export=round(median[PLAIN] / median[name], 2),
            max_difference=float(np.abs(logits[name] - logits[PUBLISHED]).max()),
        )


def table(rows: list[dict[str, Any]]) -> None:
    """The rows for a person."""
    head = ("model", "batch", "variant", "median ms", "p95 ms", "windows/s", "vs eager", "vs plain")
    print("\n| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for r in rows:
        ratios = (r["times_faster_than_published_eager"], r["times_faster_than_plain_export"])
        cells = (
            *(r["model"], r["batch"], r["variant"], f"{r['median_ms']:.1f}", f"{r['p95_ms']:.1f}"),
            *(r["windows_per_second"], *(f"{ratio:.2f}x" for ratio in ratios)),
        )
        print("| " + " | ".join(map(str, cells)) + " |")


if __name__ == "__main__":
    typer.run(main)
