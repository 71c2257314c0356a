"""fp16 and bf16 emulated on a CPU, on every clip of a folder in the layout of ASVspoof 2019 LA.

    python -m benchmarks.precision_cpu --root LA --checkpoint-dir DIR \
        -o benchmarks/results/DATE-precision-cpu.json

The fp32 graph, and the graphs of lower precision as `aasist_deploy.export.precision` emulates them,
score all clips of all splits; a row says how far one of the latter is from the former. Variants
that differ in the graph head alone share the run of the encoder: the graph is cut after its last
block, where the emulated graphs of one precision are the same.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import onnx
import onnx.utils
import typer

from aasist_deploy.audio import N_SAMPLES, fit_length, read_audio
from aasist_deploy.contract import ModelContract, read_contract
from aasist_deploy.export import ExportOptions, export_onnx
from aasist_deploy.export.precision import (
    FORMATS,
    bridged,
    choose_islands,
    emulated,
    lower_precision,
    required_islands,
    rule_islands,
)
from aasist_deploy.export.precision.gate import GateAudio, GateLimits, compare_measured
from aasist_deploy.export.precision.measuring import measure, open_session
from aasist_deploy.metrics import asv_error_rates
from aasist_deploy.models import load_checkpoint
from aasist_deploy.published import pull
from aasist_deploy.scores import read_asv_scores
from aasist_deploy.trials import load_dataset
from benchmarks.common import Report, Waves

CUT = "encoder.5/MaxPool.out"  # the last value of the encoder of AASIST and AASIST-L
SPLITS = ("train", "dev", "eval")
ASV_SCORES = "ASVspoof2019_LA_asv_scores/ASVspoof2019.LA.asv.eval.gi.trl.scores.txt"


def main(
    output: Annotated[Path, typer.Option("-o", "--output", help="The JSON report.")],
    root: Annotated[Path, typer.Option(exists=True, help="Folder of ASVspoof 2019 LA.")],
    checkpoint_dir: Annotated[
        Path | None, typer.Option(exists=True, help="Holds AASIST.pth and AASIST-L.pth.")
    ] = None,
    models: str = "AASIST,AASIST-L",
    topk: str = "rank",
    clips: Annotated[int | None, typer.Option(help="So many of each split only.")] = None,
    threads: int = 1,
    search: Annotated[
        bool, typer.Option(help="The islands that the search finds, in place of fixed ones.")
    ] = False,
    only: Annotated[str | None, typer.Option(help="This set of islands alone.")] = None,
) -> None:
    """Measure and write one JSON report."""
    audio = gate_audio(root, clips)
    report = Report(
        output,
        ("aasist-deploy", "torch", "onnx", "onnxruntime", "numpy"),
        threads=threads,
        topk=topk,
        n_clips=len(audio.waves),
        n_bona_fide=int(np.sum(audio.bona_fide)) if audio.bona_fide is not None else 0,
    )
    for name in models.split(","):
        weights = checkpoint_dir / f"{name}.pth" if checkpoint_dir else pull(name.lower())
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "fp32.onnx"
            options = ExportOptions(topk=topk)  # type: ignore[arg-type]  # checked by it
            export_onnx(load_checkpoint(weights), path, options)
            contract, _ = read_contract(path)
            if search:
                search_model(report, name, onnx.load(path), contract, audio, threads)
            else:
                measure_model(report, name, onnx.load(path), contract, audio, threads, only)


def gate_audio(root: Path, clips: int | None) -> GateAudio:
    """All clips of all splits, their truth, and the ASV system of the evaluation set."""
    trials = [
        trial
        for split in SPLITS
        for trial in list(load_dataset("asvspoof2019-la", root, split).trials)[:clips]
    ]
    waves = [fit_length(read_audio(t.path, max_samples=N_SAMPLES).wave, N_SAMPLES) for t in trials]
    return GateAudio(
        waves=np.stack(waves),
        bona_fide=np.array([t.label == "bonafide" for t in trials]),
        asv=asv_error_rates(read_asv_scores(root / ASV_SCORES)),
        source=f"{len(trials)} clips of ASVspoof 2019 LA, {', '.join(SPLITS)}",
    )


def measure_model(
    report: Report,
    name: str,
    model: onnx.ModelProto,
    contract: ModelContract,
    audio: GateAudio,
    threads: int,
    only: str | None,
) -> None:
    """A row for each precision and set of islands."""
    encoder, head = halves(model)
    reference = measure(head, _inner(contract), encode(encoder, audio, threads), threads=threads)
    for precision, form in FORMATS.items():
        done: dict[bytes, Waves] = {}
        for label, islands in variants(model, precision).items():
            if only not in (None, label):
                continue
            low = lower_precision(model, precision, islands)
            encoder, head = halves(emulated(low, form))
            same = encoder.graph.SerializeToString()
            if same not in done:
                done[same] = encode(encoder, audio, threads)
            encoded = done[same]
            lower = measure(head, _inner(contract), encoded, threads=threads)
            result = compare_measured(reference, lower, audio, GateLimits.of(precision))
            report.row(
                model=name,
                precision=precision,
                islands=label,
                n_fp32_nodes=len(islands),
                n_nodes=len(low.graph.node),
                n_casts=sum(node.op_type == "Cast" for node in low.graph.node),
                **result.to_dict(),
                ties=ties(head, contract, encoded, threads),
            )


def search_model(
    report: Report,
    name: str,
    model: onnx.ModelProto,
    contract: ModelContract,
    audio: GateAudio,
    threads: int,
) -> None:
    """A row for each precision: what `choose_islands` moves to fp32, what the gate then says."""
    for precision in FORMATS:
        with report.step(f"{name} {precision}"):
            choice = choose_islands(
                model, contract, precision, audio, threads=threads, on_step=typer.echo
            )
            low = lower_precision(model, precision, choice.islands)
            report.row(
                model=name,
                precision=precision,
                islands="by search",
                moved=[f"{group}: {why}" for group, why in choice.moved],
                n_fp32_nodes=len(choice.islands),
                n_nodes=len(low.graph.node),
                n_casts=sum(node.op_type == "Cast" for node in low.graph.node),
                **(choice.report.to_dict() if choice.report else {}),
            )


def variants(model: onnx.ModelProto, precision: str) -> dict[str, list[str]]:
    """Name of a set of islands -> its nodes."""
    front_end = [n.name for n in model.graph.node if n.name.startswith("front_end")]
    rule = list(rule_islands(model, precision))
    graph_head = [
        node.name for node in model.graph.node if not node.name.startswith(("front_end", "encoder"))
    ]
    return {
        "none but what the format cannot hold": list(required_islands(model, precision)),
        "by rule": rule,
        "graph head": bridged(model, [*rule, *graph_head]),
        "by rule, and the front end": bridged(model, [*rule, *front_end]),
    }


def halves(model: onnx.ModelProto) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """The graph before and after the cut."""
    inferred = onnx.shape_inference.infer_shapes(model)
    extractor = onnx.utils.Extractor(inferred)
    outputs = [value.name for value in model.graph.output]
    orders = [o for node in model.graph.node for o in node.output if o.startswith("order.")]
    orders = [o for o in orders if not o.endswith((".unrounded", ".rounded"))]
    return (
        extractor.extract_model(["wave"], [CUT]),
        extractor.extract_model([CUT], [*outputs, *orders]),
    )


def encode(encoder: onnx.ModelProto, audio: GateAudio, threads: int) -> Waves:
    """(n, C, F, T) values at the cut, clip by clip."""
    session = open_session(encoder, [CUT], threads)
    encoded: Waves = np.concatenate(
        [session.run([CUT], {"wave": wave[None]})[0] for wave in audio.waves]
    )
    return encoded


def ties(head: onnx.ModelProto, contract: ModelContract, encoded: Waves, threads: int) -> int:
    """On how many clips two nodes of one pooling have exactly equal scores."""
    names = [f"{pool}.proj/Add.out" for pool in contract.topk["values"]]
    session = open_session(head, names, threads)
    found = 0
    for one in encoded:
        scores = session.run(names, {CUT: one[None]})
        found += any(len(np.unique(s)) < s.size for s in scores)
    return found


def _inner(contract: ModelContract) -> ModelContract:
    """The contract of a head: the same, but for the name of its input."""
    return replace(contract, input_name=CUT)


if __name__ == "__main__":
    typer.run(main)
