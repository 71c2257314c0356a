"""A model file with all outputs that a model may have, made without a network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path  # noqa: TC003  # used by callers that read annotations

import onnx
from onnx import TensorProto, helper

from aasist_deploy.contract import LOGIT_SCORE, ModelContract, output_meanings, write_contract
from aasist_deploy.onnx_file import read_onnx_file

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
    constants = [
        helper.make_tensor("axis", TensorProto.INT64, [1], [1]),
        helper.make_tensor("ten", TensorProto.FLOAT, [], [10.0]),
    ]
    rows = "batch" if batch is None else batch
    sizes = {"score": [rows], "logits": [rows, 2], "embedding": [rows, N_FEATURES]}
    wave = helper.make_tensor_value_info("wave", TensorProto.FLOAT, [rows, n_samples or "samples"])
    outputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in sizes.items()]
    graph = helper.make_graph(nodes, "three", [wave], outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, path)
    meanings = output_meanings(LOGIT_SCORE)
    contract = ModelContract(
        architecture="Three",
        config={},
        sample_rate_hz=16_000,
        n_samples=n_samples,
        min_samples=n_samples or 300,
        outputs={name: meanings[name] for name in sizes},
        checkpoint_sha256="0" * 64,
        batch=(1, None) if batch is None else (batch, batch),
    )
    file = read_onnx_file(path)
    write_contract(replace(contract, graph_sha256=file.graph_sha256), file, path)
    return path
