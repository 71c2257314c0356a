"""A model file that scores thousands of windows a second: ten times the mean of the samples."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path  # noqa: TC003  # used by callers that read annotations

import onnx
from onnx import TensorProto, helper

from aasist_deploy.contract import ModelContract, write_contract
from aasist_deploy.onnx_file import read_onnx_file


def write_tiny_model(path: Path, n_samples: int = 800) -> Path:
    """Write the model with its contract."""
    nodes = [
        helper.make_node("ReduceMean", ["wave", "axis"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "ten"], ["score"]),
    ]
    constants = [
        helper.make_tensor("axis", TensorProto.INT64, [1], [1]),
        helper.make_tensor("ten", TensorProto.FLOAT, [], [10.0]),
    ]
    wave = helper.make_tensor_value_info("wave", TensorProto.FLOAT, ["batch", n_samples])
    score = helper.make_tensor_value_info("score", TensorProto.FLOAT, ["batch"])
    graph = helper.make_graph(nodes, "tiny", [wave], [score], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, path)
    contract = ModelContract(
        architecture="Tiny",
        config={},
        sample_rate_hz=16_000,
        n_samples=n_samples,
        min_samples=n_samples,
        outputs={"score": "ten times the mean, (batch,)"},
        checkpoint_sha256="0" * 64,
    )
    file = read_onnx_file(path)
    write_contract(replace(contract, graph_sha256=file.graph_sha256), file, path)
    return path
