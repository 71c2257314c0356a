from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import helper

from aasist_deploy.export.precision import bridged, rule_islands

if TYPE_CHECKING:
    from collections.abc import Callable

node = helper.make_node


@pytest.mark.parametrize("topk", ["topk", "rank"])
def test_the_layer_that_ranks_is_an_island_with_its_projection_and_gathering(
    small_onnx: Callable[..., Any], topk: str
) -> None:
    model = onnx.load(small_onnx(topk=topk))
    islands = rule_islands(model, "fp16")
    pools = [n.name for n in model.graph.node if n.name.startswith("pool_")]
    floats = [name for name in pools if not name.endswith(("/And", "/Or"))]
    assert {"pool_S.proj/MatMul", "pool_S/Mul", "pool_hT2.proj/Add"} <= set(floats)
    assert set(floats) <= set(islands) | {n for n in floats if "Expand" in n or "Unsqueeze" in n}
    assert islands["pool_S.proj/MatMul"] == "ranking"


def test_softmax_means_and_the_last_layer_are_islands_and_the_encoder_is_not(
    small_onnx: Callable[..., Any],
) -> None:
    model = onnx.load(small_onnx(topk="rank"))
    islands = rule_islands(model, "fp16")
    for one in model.graph.node:
        if one.op_type in ("Softmax", "ReduceMean"):
            assert islands[one.name] == "sums"
    assert islands["out_layer/Gemm"] == "last layer"
    assert not [name for name in islands if name.startswith(("encoder", "front_end"))]


def test_bf16_keeps_what_it_has_no_operator_for(small_onnx: Callable[..., Any]) -> None:
    islands = rule_islands(onnx.load(small_onnx(topk="topk")), "bf16")
    assert islands["pool_S/TopK"] == "TopK has no bf16"


def test_without_layers_the_ranking_goes_back_to_the_projection(
    graph: Callable[..., onnx.ModelProto],
) -> None:
    model = graph(
        [
            node("MatMul", ["wave", "w"], ["h"], name="MatMul"),
            node("Tanh", ["h"], ["t"], name="Tanh"),
            node("MatMul", ["t", "w"], ["p"], name="MatMul_2"),
            node("Neg", ["p"], ["n"], name="Neg"),
            node("TopK", ["n", "k"], ["score", "kept"], name="TopK", axis=1),
        ],
        {"w": np.eye(8, dtype=np.float32), "k": np.array([3], np.int64)},
        {"score": ["batch", 3]},
    )
    islands = rule_islands(model, "fp16")
    assert {n for n, rule in islands.items() if rule == "ranking"} == {"MatMul_2", "Neg", "TopK"}
    assert "MatMul" not in islands


def test_a_recurrent_operator_is_an_island(graph: Callable[..., onnx.ModelProto]) -> None:
    rng = np.random.default_rng(0)
    model = graph(
        [
            node("Unsqueeze", ["wave", "axis"], ["x"], name="Unsqueeze"),
            node("GRU", ["x", "w", "r"], ["", "last"], name="gru/GRU", hidden_size=4),
            node("MatMul", ["last", "o"], ["score"], name="out/MatMul"),
        ],
        {
            "axis": np.array([0], np.int64),
            "w": rng.normal(size=(1, 12, 8)).astype(np.float32),
            "r": rng.normal(size=(1, 12, 4)).astype(np.float32),
            "o": rng.normal(size=(4, 1)).astype(np.float32),
        },
        {"score": [1, "batch", 1]},
    )
    assert rule_islands(model, "fp16")["gru/GRU"] == "recurrent"


def test_light_nodes_that_only_islands_feed_and_read_join_them(
    graph: Callable[..., onnx.ModelProto],
) -> None:
    model = graph(
        [
            node("MatMul", ["wave", "w"], ["a"], name="MatMul"),
            node("Tanh", ["a"], ["b"], name="Tanh"),
            node("Add", ["b", "a"], ["c"], name="Add"),
            node("MatMul", ["c", "w"], ["d"], name="MatMul_2"),
            node("Transpose", ["d"], ["e"], name="Transpose"),
            node("MatMul", ["w", "e"], ["score"], name="MatMul_3"),
        ],
        {"w": np.eye(8, dtype=np.float32)},
        {"score": [8, "batch"]},
    )
    assert bridged(model, ["MatMul", "MatMul_2"]) == [
        "MatMul",
        "Tanh",
        "Add",
        "MatMul_2",
        "Transpose",  # moves values alone: the Cast stands after it
    ]
    assert bridged(model, ["MatMul"]) == ["MatMul"]
