"""Model files that score thousands of windows a second: ten times the mean of the samples."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import onnx
from onnx import TensorProto, helper

from aasist_deploy.contract import StreamContract, write_contract
from aasist_deploy.onnx_file import read_onnx_file
from tests.contracts import N_SAMPLES, contract_of, stream_contract_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from aasist_deploy.contract import ModelContract

AXIS: Final = helper.make_tensor("axis", TensorProto.INT64, [1], [1])
TEN: Final = helper.make_tensor("ten", TensorProto.FLOAT, [], [10.0])


def floats(name: str, *shape: str | int) -> onnx.ValueInfoProto:
    """An input or output of float32; a word stands for a size that is not fixed."""
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))


def write_model(
    path: Path,
    graph: onnx.GraphProto,
    contract: ModelContract,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """Write a graph as a model file with this contract, which gets the graph's hash."""
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(model, dict(metadata or {}))
    onnx.save(model, path)
    file = read_onnx_file(path)
    write_contract(replace(contract, graph_sha256=file.graph_sha256), file, path)
    return path


def write_tiny_model(
    path: Path,
    n_samples: int = N_SAMPLES,
    metadata: Mapping[str, str] | None = None,
    **contract: Any,
) -> Path:
    """Write the model; `metadata` is what other tools wrote into it."""
    nodes = [
        helper.make_node("ReduceMean", ["wave", "axis"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "ten"], ["score"]),
    ]
    graph = _graph(nodes, [floats("wave", "batch", n_samples)], [floats("score", "batch")])
    return write_model(path, graph, contract_of(n_samples=n_samples, **contract), metadata)


def write_tiny_stream_model(path: Path, n_samples: int = N_SAMPLES, frame: int = 200) -> Path:
    """Write its model for streams: the state is the last window of samples."""
    nodes = [
        helper.make_node("Concat", ["state", "samples"], ["heard"], axis=1),
        helper.make_node("Slice", ["heard", "from", "to", "axis"], ["next_state"]),
        helper.make_node("ReduceMean", ["next_state", "axis"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "ten"], ["score"]),
    ]
    ends = [
        helper.make_tensor("from", TensorProto.INT64, [1], [-n_samples]),
        helper.make_tensor("to", TensorProto.INT64, [1], [2**31 - 1]),
    ]
    graph = _graph(
        nodes,
        [floats("samples", "streams", "time"), floats("state", "streams", n_samples)],
        [floats("score", "streams"), floats("next_state", "streams", n_samples)],
        ends,
    )
    layout = StreamContract(
        window_samples=n_samples,
        frame_samples=frame,
        lead_samples=0,
        max_frames=64,
        n_frames=n_samples // frame,
        shared_frames=n_samples // frame - 2,
        state_size=n_samples,
    )
    return write_model(path, graph, stream_contract_of(layout))


def _graph(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    constants: Sequence[onnx.TensorProto] = (),
) -> onnx.GraphProto:
    return helper.make_graph(nodes, "tiny", inputs, outputs, [*constants, AXIS, TEN])
