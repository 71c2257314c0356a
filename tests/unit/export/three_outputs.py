"""A model file with all outputs that a model may have, made without a network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx import helper

from aasist_deploy.contract import LOGIT_SCORE, output_meanings
from tests.contracts import contract_of
from tests.tiny_models import AXIS, TEN, floats, write_model

if TYPE_CHECKING:
    from pathlib import Path

N_FEATURES = 5


def write_three_outputs(
    path: Path, *, n_samples: int | None = 800, batch: int | None = None
) -> Path:
    """Write the model with its contract; None for what is not fixed."""
    nodes = [
        helper.make_node("ReduceMean", ["wave", "axis"], ["mean"], keepdims=1),
        helper.make_node("Mul", ["mean", "ten"], ["column"]),
        helper.make_node("Neg", ["column"], ["other"]),
        helper.make_node("Concat", ["other", "column"], ["logits"], axis=1),
        helper.make_node("Concat", ["mean"] * N_FEATURES, ["embedding"], axis=1),
        helper.make_node("Squeeze", ["column", "axis"], ["score"]),
    ]
    rows = "batch" if batch is None else batch
    sizes = {"score": [rows], "logits": [rows, 2], "embedding": [rows, N_FEATURES]}
    wave = floats("wave", rows, n_samples or "samples")
    outputs = [floats(name, *shape) for name, shape in sizes.items()]
    graph = helper.make_graph(nodes, "three", [wave], outputs, [AXIS, TEN])
    meanings = output_meanings(LOGIT_SCORE)
    contract = contract_of(
        architecture="Three",
        n_samples=n_samples,
        min_samples=n_samples or 300,
        outputs={name: meanings[name] for name in sizes},
        batch=(1, None) if batch is None else (batch, batch),
    )
    return write_model(path, graph, contract)
