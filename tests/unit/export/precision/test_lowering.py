from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from aasist_deploy.errors import ModelFileError, UsageError
from aasist_deploy.export.precision import FORMATS, lower_precision, required_islands
from aasist_deploy.export.precision.formats import opset_of
from aasist_deploy.export.precision.lowering import value_types

if TYPE_CHECKING:
    from collections.abc import Callable

PRECISIONS = sorted(FORMATS)


def casts(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [node for node in model.graph.node if node.op_type == "Cast"]


def weight_types(model: onnx.ModelProto) -> dict[str, int]:
    return {i.name: i.data_type for i in model.graph.initializer}


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_node_computes_in_the_type_it_was_given(
    two_layers: onnx.ModelProto, precision: str
) -> None:
    kept = {"second/Softmax", "out/MatMul"}
    low = lower_precision(two_layers, precision, kept)
    types = value_types(low)
    for node in low.graph.node:
        if node.op_type == "Cast":
            continue
        wanted = TensorProto.FLOAT if node.name in kept else FORMATS[precision].elem_type
        assert {types[name] for name in [*node.input, *node.output]} == {wanted}, node.name


@pytest.mark.parametrize("precision", PRECISIONS)
def test_input_and_outputs_stay_float32(two_layers: onnx.ModelProto, precision: str) -> None:
    low = lower_precision(two_layers, precision, ())
    for value in [*low.graph.input, *low.graph.output]:
        assert value.type.tensor_type.elem_type == TensorProto.FLOAT
    assert [v.name for v in low.graph.output] == ["middle", "score"]


def test_a_value_is_cast_once_for_all_who_read_it(two_layers: onnx.ModelProto) -> None:
    low = lower_precision(two_layers, "fp16", {"second/Softmax", "second/Add", "out/MatMul"})
    # `middle` is low, an output, and read in both types: one Cast makes both the output and the
    # float32 that second/Add reads.
    pairs = [(node.input[0], node.output[0]) for node in casts(low)]
    assert pairs == [("wave", "wave.fp16"), ("middle.fp16", "middle"), ("b", "b.fp32")]


def test_a_weight_read_in_both_types_is_stored_in_both(two_layers: onnx.ModelProto) -> None:
    both = lower_precision(two_layers, "fp16", {"second/MatMul"})
    assert weight_types(both) == {
        "w": TensorProto.FLOAT,
        "w.fp16": TensorProto.FLOAT16,
        "last": TensorProto.FLOAT16,
    }
    one = lower_precision(two_layers, "fp16", ())
    assert weight_types(one) == {"w": TensorProto.FLOAT16, "last": TensorProto.FLOAT16}


def test_with_every_node_kept_nothing_changes(two_layers: onnx.ModelProto) -> None:
    same = lower_precision(two_layers, "fp16", [node.name for node in two_layers.graph.node])
    assert same.graph == two_layers.graph


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_result_is_sorted_and_checked(two_layers: onnx.ModelProto, precision: str) -> None:
    low = lower_precision(two_layers, precision, {"second/Softmax"})
    onnx.checker.check_model(low, full_check=True)
    known = {v.name for v in low.graph.input} | set(weight_types(low))
    for node in low.graph.node:
        assert set(node.input) <= known
        known |= set(node.output)
    assert opset_of(low) == FORMATS[precision].opset


def test_the_given_model_is_left_alone(two_layers: onnx.ModelProto) -> None:
    before = two_layers.SerializeToString()
    lower_precision(two_layers, "bf16", ())
    assert two_layers.SerializeToString() == before


@pytest.mark.parametrize(
    ("value", "words"), [(7e4, "reaches 7e\\+04"), (np.nan, "reaches nan"), (1e-6, "at most 1e-06")]
)
def test_weights_that_the_format_cannot_hold_are_refused_and_named(
    graph: Callable[..., onnx.ModelProto], value: float, words: str
) -> None:
    nodes = [helper.make_node("MatMul", ["wave", "w"], ["score"], name="out/MatMul")]
    model = graph(nodes, {"w": np.full((8, 1), value, np.float32)}, {"score": ["batch", 1]})
    with pytest.raises(ModelFileError, match=words) as caught:
        lower_precision(model, "fp16", ())
    assert caught.value.fix == "keep these nodes in fp32: out/MatMul"
    assert list(required_islands(model, "fp16")) == ["out/MatMul"]
    lower_precision(model, "fp16", required_islands(model, "fp16"))


def test_a_small_bias_is_no_reason_to_refuse(graph: Callable[..., onnx.ModelProto]) -> None:
    nodes = [helper.make_node("Add", ["wave", "b"], ["score"], name="out/Add")]
    model = graph(nodes, {"b": np.full(8, 1e-6, np.float32)}, {"score": ["batch", 8]})
    assert required_islands(model, "fp16") == {}


def test_an_operator_without_the_format_is_refused_and_named(
    graph: Callable[..., onnx.ModelProto],
) -> None:
    nodes = [
        helper.make_node("TopK", ["wave", "k"], ["score", "kept"], name="pool/TopK", axis=1),
    ]
    model = graph(nodes, {"k": np.array([3], np.int64)}, {"score": ["batch", 3]})
    assert required_islands(model, "fp16") == {}
    assert required_islands(model, "bf16") == {"pool/TopK": "TopK has no bf16"}
    with pytest.raises(ModelFileError, match="TopK of opset 22"):
        lower_precision(model, "bf16", ())
    lower_precision(model, "fp16", ())


def test_types_that_an_attribute_gives_follow(graph: Callable[..., onnx.ModelProto]) -> None:
    node = helper.make_node
    nodes = [
        node("Constant", [], ["half"], name="c", value=helper.make_tensor("t", 1, [1], [0.1])),
        node("Greater", ["wave", "half"], ["above"], name="greater"),
        node("Cast", ["above"], ["ones"], name="ones", to=TensorProto.FLOAT),
        node("Cast", ["wave"], ["whole"], name="whole", to=TensorProto.INT64),
        node("Cast", ["whole"], ["back"], name="back", to=TensorProto.FLOAT),
        node("Mul", ["ones", "back"], ["score"], name="mul"),
    ]
    model = graph(nodes, {}, {"score": ["batch", 8]})
    types = value_types(lower_precision(model, "fp16", ()))
    low = {name for name, kind in types.items() if kind == TensorProto.FLOAT16}
    assert {"half", "ones", "back"} <= low


def test_unknown_names_and_precisions_are_refused(two_layers: onnx.ModelProto) -> None:
    with pytest.raises(UsageError, match="no node of the graph: third"):
        lower_precision(two_layers, "fp16", {"third"})
    with pytest.raises(UsageError, match="no lower precision 'fp8'"):
        lower_precision(two_layers, "fp8", ())


def test_nodes_without_names_are_refused(graph: Callable[..., onnx.ModelProto]) -> None:
    model = graph([helper.make_node("Tanh", ["wave"], ["score"])], {}, {"score": ["batch", 8]})
    with pytest.raises(ModelFileError, match="no names of their own"):
        lower_precision(model, "fp16", ())


@pytest.mark.parametrize("topk", ["topk", "rank"])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_an_exported_graph_has_one_type_at_every_elementwise_operator(
    small_onnx: Callable[..., Any], precision: str, topk: str
) -> None:
    model = onnx.load(small_onnx(topk=topk))
    low = lower_precision(model, precision, required_islands(model, precision))
    types = value_types(low)
    floats = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16}
    for node in low.graph.node:
        read = {types[n] for n in node.input if n} & floats
        assert len(read) <= 1, node.name
    assert Counter(n.op_type for n in model.graph.node)["Conv"] == sum(
        types[n.output[0]] == FORMATS[precision].elem_type
        for n in low.graph.node
        if n.op_type == "Conv"
    )
