"""Model files that score thousands of windows a second: ten times the mean of the samples."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path  # noqa: TC003  # used by callers that read annotations

import onnx
from onnx import TensorProto, helper

from aasist_deploy.contract import STREAM_SCHEMA, ModelContract, StreamContract, write_contract
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
    contract = ModelContract(
        architecture="Tiny",
        config={},
        sample_rate_hz=16_000,
        n_samples=n_samples,
        min_samples=n_samples,
        outputs={"score": "ten times the mean, (batch,)"},
        checkpoint_sha256="0" * 64,
    )
    return _write(path, graph, contract)


def write_tiny_stream_model(path: Path, n_samples: int = 800, frame: int = 200) -> Path:
    """Write its model for streams: the state is the last window of samples."""
    nodes = [
        helper.make_node("Concat", ["state", "samples"], ["heard"], axis=1),
        helper.make_node("Slice", ["heard", "from", "to", "axis"], ["next_state"]),
        helper.make_node("ReduceMean", ["next_state", "axis"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "ten"], ["score"]),
    ]
    constants = [
        helper.make_tensor("from", TensorProto.INT64, [1], [-n_samples]),
        helper.make_tensor("to", TensorProto.INT64, [1], [2**31 - 1]),
        helper.make_tensor("axis", TensorProto.INT64, [1], [1]),
        helper.make_tensor("ten", TensorProto.FLOAT, [], [10.0]),
    ]
    samples = helper.make_tensor_value_info("samples", TensorProto.FLOAT, ["streams", "time"])
    state, next_state = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["streams", n_samples])
        for name in ("state", "next_state")
    )
    score = helper.make_tensor_value_info("score", TensorProto.FLOAT, ["streams"])
    graph = helper.make_graph(nodes, "tiny", [samples, state], [score, next_state], constants)
    contract = ModelContract(
        schema=STREAM_SCHEMA,
        architecture="Tiny",
        config={},
        sample_rate_hz=16_000,
        n_samples=n_samples,
        min_samples=n_samples,
        outputs={"score": "ten times the mean, (streams,)"},
        checkpoint_sha256="0" * 64,
        input_name="samples",
        stream=StreamContract(
            window_samples=n_samples,
            frame_samples=frame,
            lead_samples=0,
            max_frames=64,
            n_frames=n_samples // frame,
            shared_frames=n_samples // frame - 2,
            state_size=n_samples,
        ),
    )
    return _write(path, graph, contract)


def _write(path: Path, graph: onnx.GraphProto, contract: ModelContract) -> Path:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, path)
    file = read_onnx_file(path)
    write_contract(replace(contract, graph_sha256=file.graph_sha256), file, path)
    return path
