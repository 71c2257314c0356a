"""How much faster int8 layers make OpenVINO, and how far they move scores: a curve of layer sets.

    python -m benchmarks.int8_curve aasist.onnx --root LA \
        -o benchmarks/results/DATE-int8-curve.json --plot docs/images/int8-curve.svg

Each row is a set of layers in int8, with one scale for each clip or fixed ones; the rest is bf16 or
fp32. Time is CPU time of one thread, which other work on the machine disturbs least, interleaved,
the median. Scores are compared with those of the same runtime in fp32. Ranges come from training
clips, scores are of development clips.
"""

from __future__ import annotations

import time
from pathlib import Path  # noqa: TC003  # typer reads it
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import onnx
import typer

from aasist_deploy.audio import N_SAMPLES, fit_length, read_audio
from aasist_deploy.engines.openvino_graph import openvino_core
from aasist_deploy.export.int8 import Layer, calibrate, quantizable_layers, quantized
from aasist_deploy.export.int8.clip_scales import scaled_name
from aasist_deploy.metrics.rank_correlation import spearman
from aasist_deploy.trials import load_dataset
from benchmarks.common import Report, Waves

if TYPE_CHECKING:
    from collections.abc import Callable

FIRST_LAYERS = {  # name of a set -> its first layer, in the order of the graph
    "all but block 0's first": 1,
    "blocks 1 to 5": 2,
    "blocks 2 to 5": 4,
    "blocks 3 to 5": 6,
}


def main(
    model: Annotated[Path, typer.Argument(help="An exported fp32 file of AASIST or AASIST-L.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The JSON report.")],
    root: Annotated[Path, typer.Option(exists=True, help="Folder of ASVspoof 2019 LA.")],
    clips: Annotated[int, typer.Option(help="Development clips to score.")] = 24,
    calibration: Annotated[int, typer.Option(help="Training clips for ranges.")] = 24,
    rounds: int = 6,
    plot: Annotated[Path | None, typer.Option(help="An SVG or PNG of the curve.")] = None,
) -> None:
    """Measure, write one JSON report, draw the curve."""
    report = Report(
        output,
        ("aasist-deploy", "onnx", "onnxruntime", "openvino", "numpy"),
        model=model.name,
        timed="CPU time of one thread for one window, interleaved; other work ran beside it",
    )
    graph = onnx.load(model)
    layers, _ = quantizable_layers(graph, N_SAMPLES)
    waves = _waves(root, "train", calibration)
    seen = calibrate(graph, [layer.value for layer in layers], waves)
    variants = _variants(graph, layers, seen)
    run = {name: _opened(g, precision) for name, (g, precision) in variants.items()}
    probe = _waves(root, "dev", clips)
    times: dict[str, list[float]] = {name: [] for name in run}
    for call in run.values():
        call(probe[:1])  # the first call allocates
    for _ in range(rounds):
        for name, call in run.items():
            times[name].append(_cpu_ms(call, probe[:1]))
    reference = _scores(run["fp32"], probe)
    base = float(np.median(times["bf16"]))
    for name, call in run.items():
        gaps = np.abs((found := _scores(call, probe)) - reference)
        cpu_ms = float(np.median(times[name]))
        report.row(
            variant=name,
            cpu_ms=round(cpu_ms, 1),
            speed_of_bf16=round(base / cpu_ms, 3),
            clips=len(probe),
            mean_difference=round(float(gaps.mean()), 4),
            max_difference=round(float(gaps.max()), 4),
            rank_correlation=round(spearman(reference, found), 5),
        )
    if plot is not None:
        _draw(report.content["rows"], plot)


def _variants(
    graph: onnx.ModelProto, layers: list[Layer], seen: dict[str, tuple[float, float]]
) -> dict[str, tuple[onnx.ModelProto, str]]:
    """Name -> (graph, precision of what is not int8)."""
    units = {scaled_name(value): (-1.0, 1.0) for value in seen}
    largest = {value: max(-low, high) for value, (low, high) in seen.items()}
    found = {"fp32": (graph, "f32"), "bf16": (graph, "bf16")}
    for name, first in FIRST_LAYERS.items():
        chosen = layers[first:]
        clip = quantized(graph, chosen, units, symmetric=True, per_clip=largest)
        fixed = quantized(graph, chosen, seen)
        for rest in ("bf16", "f32") if first == 1 else ("bf16",):
            title = {"bf16": "bf16", "f32": "fp32"}[rest]
            found[f"clip scales, {name}, rest {title}"] = (clip, rest)
            found[f"fixed scales, {name}, rest {title}"] = (fixed, rest)
    return found


def _opened(graph: onnx.ModelProto, precision: str) -> Callable[[Waves], float]:
    core = openvino_core()
    compiled = core.compile_model(
        core.read_model(graph.SerializeToString()),
        "CPU",
        {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": 1},
    )
    request = compiled.create_infer_request()
    score = compiled.output("score")
    return lambda waves: float(request.infer({"wave": waves})[score][0])


def _cpu_ms(call: Callable[[Waves], float], waves: Waves) -> float:
    start = time.process_time()
    call(waves)
    return 1e3 * (time.process_time() - start)


def _scores(call: Callable[[Waves], float], waves: Waves) -> Any:  # noqa: ANN401  # (n,) float64
    return np.array([call(wave[None]) for wave in waves], np.float64)


def _waves(root: Path, split: str, most: int) -> Waves:
    """Clips spread over a split, half of each class."""
    trials = list(load_dataset("asvspoof2019-la", root, split).trials)
    taken = []
    for label in ("bonafide", "spoof"):
        own = [trial for trial in trials if trial.label == label]
        taken += [own[i] for i in np.unique(np.linspace(0, len(own) - 1, most // 2).astype(int))]
    return np.stack(
        [fit_length(read_audio(t.path, max_samples=N_SAMPLES).wave, N_SAMPLES) for t in taken]
    )


def _draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Speed against drift, one line for each kind of scale."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    for start, marker in (("bf16", "s"), ("clip", "o"), ("fixed", "^")):
        own = [
            r for r in rows if r["variant"].startswith(start) and "rest fp32" not in r["variant"]
        ]
        x, y = [r["mean_difference"] for r in own], [r["speed_of_bf16"] for r in own]
        label = start if start == "bf16" else f"int8, {start} scales, rest bf16"
        axes.plot(x, y, marker=marker, label=label)
        for row in own[:0] if start == "bf16" else own:
            name = row["variant"].split(", ")[1]
            axes.annotate(name, (row["mean_difference"], row["speed_of_bf16"]), fontsize=7)
    axes.set_xlabel("mean difference of a score from fp32")
    axes.set_ylabel("speed (bf16 = 1)")
    axes.grid(alpha=0.3)
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


if __name__ == "__main__":
    typer.run(main)
