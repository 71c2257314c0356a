"""Why the scores of a stream in bf16 differ from those of whole windows in bf16: kept nodes.

    python -m benchmarks.stream_bf16 -o OUT.json --audio LA_mini/.../flac \
        --stream aasist.stream.onnx --whole aasist.onnx --scratch DIR

Every window of the speech, at a hop of one frame, is scored in bf16 by a stream. `--scratch` holds
the scores of windows alone from benchmarks/stream_exact.py, in bf16 and in fp32: both ways are
compared with one another and each with fp32. Of the windows that differ most, and of some drawn at
random, the nodes that each graph pooling keeps are looked at: of the stream, of the window alone in
bf16, and in fp32 with how near its last kept node is to the first one that is not.
"""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  # typer reads these annotations at run time
from typing import TYPE_CHECKING, Annotated, Any, Final

import numpy as np
import typer

from aasist_deploy.contract import read_contract
from aasist_deploy.engines.openvino_graph import OpenvinoGraph
from aasist_deploy.engines.openvino_stream import fix_shape, keep_tail_in_bf16
from benchmarks.common import Report
from benchmarks.stream_exact import clips_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Samples = NDArray[np.float32]

POOLS: Final = ("pool_S", "pool_T", "pool_hS1", "pool_hT1", "pool_hS2", "pool_hT2")
ORDERS: Final = tuple(f"order.{pool}" for pool in POOLS)
RANKED: Final = tuple(f"{pool}/Squeeze.out" for pool in POOLS)


def main(
    output: Annotated[Path, typer.Option("-o", "--output")],
    audio: Annotated[Path, typer.Option(exists=True, help="Folder of clips.")],
    stream: Annotated[Path, typer.Option(exists=True, help="Made with export --stream.")],
    whole: Annotated[Path, typer.Option(exists=True, help="Made with export.")],
    scratch: Annotated[Path, typer.Option(exists=True, help="Of stream_exact.py.")],
    name: str = "AASIST",
    seconds: float = 120.0,
    most: Annotated[int, typer.Option(help="Windows of the largest differences.")] = 20,
    drawn: Annotated[int, typer.Option(help="Windows drawn at random beside them.")] = 20,
    threads: int = 1,
) -> None:
    """Measure, print, write one JSON report."""
    wave = np.concatenate(clips_of(audio, round(seconds * 16_000)))[: round(seconds * 16_000)]
    alone, fp32 = (
        np.load(scratch / f"{name}.{backend}.{len(wave)}.npy")
        for backend in ("openvino-bf16", "openvino")
    )
    scores, kept = stream_windows(stream, wave, threads)
    report = Report(output, ("aasist-deploy", "openvino", "numpy"), model=name, threads=threads)
    gap = np.abs(scores - alone)
    for pair, values in (
        ("stream in bf16 from windows alone in bf16", gap),
        ("stream in bf16 from windows alone in fp32", np.abs(scores - fp32)),
        ("windows alone in bf16 from windows alone in fp32", np.abs(alone - fp32)),
    ):
        report.row(
            pair=pair,
            windows=len(values),
            max=float(values.max()),
            mean=float(values.mean()),
            p99=float(np.percentile(values, 99)),
        )
    chosen = np.argsort(-gap)[:most].tolist()
    rest = np.setdiff1d(np.arange(len(gap)), chosen)
    chosen += np.random.default_rng(0).choice(rest, drawn, replace=False).tolist()
    content, frame, window = whole.read_bytes(), 2_187, 64_600
    graphs = {
        "bf16": OpenvinoGraph(content, whole, arithmetic="bf16", threads=threads, show=ORDERS),
        "fp32": OpenvinoGraph(content, whole, threads=threads, show=(*ORDERS, *RANKED)),
    }
    for place, number in enumerate(chosen):
        samples = wave[None, number * frame : number * frame + window]
        found = {key: graph.run({"wave": samples}) for key, graph in graphs.items()}
        report.row(
            window=number,
            is_drawn=place >= most,
            difference=float(gap[number]),
            stream=float(scores[number]),
            alone=float(alone[number]),
            alone_here=score_of(found["bf16"]),
            fp32=float(fp32[number]),
            other_nodes={
                pool: exchanged
                for i, pool in enumerate(POOLS)
                if any(exchanged := changes(kept[number][i], found, ORDERS[i]))
            },
            margins={
                pool: margin(found["fp32"][RANKED[i]], found["fp32"][ORDERS[i]])
                for i, pool in enumerate(POOLS)
            },
        )


def stream_windows(
    path: Path, wave: Samples, threads: int
) -> tuple[Samples, list[list[NDArray[Any]]]]:
    """Scores and kept nodes of every window, one frame a call, as `OpenvinoStep` computes them."""
    contract, file = read_contract(path, stream=True)
    layout = contract.stream
    assert layout is not None

    def change(model: Any) -> None:  # noqa: ANN401
        keep_tail_in_bf16(model, layout)
        fix_shape(model, contract, 1)

    graph = OpenvinoGraph(
        file.content, path, arithmetic="bf16", threads=threads, show=ORDERS, change=change
    )
    heard = np.concatenate([np.zeros(layout.lead_samples, np.float32), wave])
    state = np.zeros((1, layout.state_size), np.float32)
    n_before = (layout.window_samples + layout.lead_samples) // layout.frame_samples - 1
    scores, kept = [], []
    for number in range(len(heard) // layout.frame_samples):
        samples = heard[None, number * layout.frame_samples : (number + 1) * layout.frame_samples]
        found = graph.run({contract.input_name: samples, layout.state_input: state})
        state = found[layout.state_output]
        if number >= n_before:
            scores.append(score_of(found))
            kept.append([found[order] for order in ORDERS])
    return np.array(scores, np.float32), kept


def score_of(outputs: dict[str, NDArray[Any]]) -> float:
    """The logit of bona fide."""
    return float(outputs["score"][0] if "score" in outputs else outputs["logits"][0, 1])


def changes(kept: NDArray[Any], found: dict[str, dict[str, NDArray[Any]]], order: str) -> list[int]:
    """How many nodes the stream keeps that windows alone do not: in bf16, and in fp32."""
    own = set(kept.ravel().tolist())
    return [len(own - set(found[key][order].ravel().tolist())) for key in ("bf16", "fp32")]


def margin(ranked: NDArray[Any], order: NDArray[Any]) -> float:
    """From the last kept node to the first that is not, as a part of the range of the scores."""
    values = np.sort(ranked.ravel())[::-1]
    n_kept = order.size
    if n_kept >= len(values):
        return 1.0
    return float((values[n_kept - 1] - values[n_kept]) / max(values[0] - values[-1], 1e-12))


if __name__ == "__main__":
    typer.run(main)
