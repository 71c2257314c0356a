"""Graphs small enough to read, with everything that a border between precisions can meet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs the extra export")

import onnx
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray


@pytest.fixture(scope="session")
def graph() -> Callable[..., onnx.ModelProto]:
    """(nodes, weights, outputs, opset) -> a model with the input `wave` (batch, 8)."""

    def make(
        nodes: list[onnx.NodeProto],
        weights: dict[str, NDArray[Any]],
        outputs: dict[str, list[Any]],
        opset: int = 18,
    ) -> onnx.ModelProto:
        made = helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info("wave", TensorProto.FLOAT, ["batch", 8])],
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in outputs.items()],
            [numpy_helper.from_array(np.asarray(w), name) for name, w in weights.items()],
        )
        return helper.make_model(
            made, opset_imports=[helper.make_opsetid("", opset)], ir_version=10
        )

    return make


@pytest.fixture(scope="session")
def two_layers(graph: Callable[..., onnx.ModelProto]) -> onnx.ModelProto:
    """Two projections that read one weight, a softmax, and an output in the middle."""
    node = helper.make_node
    rng = np.random.default_rng(0)
    return graph(
        [
            node("MatMul", ["wave", "w"], ["a"], name="first/MatMul"),
            node("Tanh", ["a"], ["middle"], name="first/Tanh"),
            node("MatMul", ["middle", "w"], ["b"], name="second/MatMul"),
            node("Softmax", ["b"], ["c"], name="second/Softmax"),
            node("Add", ["c", "middle"], ["d"], name="second/Add"),
            node("MatMul", ["d", "last"], ["score"], name="out/MatMul"),
        ],
        {
            "w": rng.normal(size=(8, 8)).astype(np.float32),
            "last": rng.normal(size=(8, 1)).astype(np.float32),
        },
        {"middle": ["batch", 8], "score": ["batch", 1]},
    )
