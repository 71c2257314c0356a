"""Model files that were changed, and CPUs that are made up."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from aasist_deploy.contract import read_contract
from aasist_deploy.onnx_file import parse_onnx

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


NO_BF16 = "flags\t\t: fpu avx2 avx512f avx512_vnni\nmodel name\t: Made-up CPU\n"


def with_contract(path: Path, target: Path, **fields: Any) -> Path:
    """The file with another contract, its graph as it was."""
    contract, _ = read_contract(path)
    model = onnx.load(path)
    onnx.helper.set_model_props(model, replace(contract, **fields).to_metadata())
    onnx.save(model, target)
    return target


def fixed_to_batch(path: Path, target: Path, size: int) -> Path:
    """The file with a batch of this size alone."""
    model = onnx.load(path)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = size
    graph = parse_onnx(model.SerializeToString(), target).graph_sha256
    contract, _ = read_contract(path)
    new = replace(contract, batch=(size, size), graph_sha256=graph)
    onnx.helper.set_model_props(model, new.to_metadata())
    onnx.save(model, target)
    return target


def loudness_of_any_length(path: Path, target: Path) -> Path:
    """A graph that takes any length: the score is the mean of the absolute values."""
    helper = onnx.helper
    nodes = [
        helper.make_node("Abs", ["wave"], ["a"]),
        helper.make_node("ReduceMean", ["a", "axes"], ["score"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "loudness",
        [helper.make_tensor_value_info("wave", 1, ["batch", "samples"])],
        [helper.make_tensor_value_info("score", 1, ["batch"])],
        [onnx.numpy_helper.from_array(np.array([1], np.int64), "axes")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    contract, _ = read_contract(path)
    new = replace(
        contract,
        n_samples=None,
        min_samples=800,
        outputs={"score": "loudness"},
        topk={},
        graph_sha256=parse_onnx(model.SerializeToString(), target).graph_sha256,
    )
    helper.set_model_props(model, new.to_metadata())
    onnx.save(model, target)
    return target


def quantized(path: Path, target: Path, waves: NDArray[np.float32]) -> Path:
    """The file in int8, of one calibration set of a few waves; only its form matters here."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = [{"wave": wave[None]} for wave in waves]

        def get_next(self) -> dict[str, Any] | None:
            return self.left.pop() if self.left else None

    contract, _ = read_contract(path)
    quantize_static(
        path, target, Reader(), quant_format=QuantFormat.QDQ, op_types_to_quantize=["Conv"]
    )
    graph = parse_onnx(target.read_bytes(), target).graph_sha256
    model = onnx.load(target)
    new = replace(contract, precision="int8", graph_sha256=graph, topk={})
    onnx.helper.set_model_props(model, new.to_metadata())
    onnx.save(model, target)
    return target
