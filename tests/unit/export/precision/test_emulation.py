from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import helper

from aasist_deploy.export.precision import FORMATS, emulated, lower_precision
from aasist_deploy.export.precision.emulation import LARGEST, low_values
from aasist_deploy.export.precision.lowering import value_types
from aasist_deploy.export.precision.measuring import open_session

if TYPE_CHECKING:
    from collections.abc import Callable

PRECISIONS = sorted(FORMATS)
DTYPES: dict[str, Any] = {"fp16": np.float16, "bf16": ml_dtypes.bfloat16}


def run(model: onnx.ModelProto, name: str, wave: Any) -> Any:
    return open_session(model, [name], 1).run([name], {"wave": wave})[0]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_each_value_is_rounded_as_numpy_rounds_it(
    two_layers: onnx.ModelProto, precision: str
) -> None:
    dtype = DTYPES[precision]
    low = lower_precision(two_layers, precision, ["second/Softmax", "second/Add", "out/MatMul"])
    wave = np.random.default_rng(1).normal(size=(3, 8)).astype(np.float32)
    weight = onnx.numpy_helper.to_array(two_layers.graph.initializer[0])

    def rounded(x: Any) -> Any:
        return x.astype(dtype).astype(np.float32)

    product = rounded(rounded(wave) @ rounded(weight))
    middle = rounded(np.tanh(product))
    found = run(emulated(low, FORMATS[precision]), "middle", wave)
    # One step of the format where float32 sums in another order and falls on the other side.
    step = np.abs(middle) * 2.0 ** (-10 if precision == "fp16" else -7)
    assert np.all(np.abs(found - middle) <= step)
    assert np.mean(found == middle) > 0.9
    assert not np.array_equal(found, np.tanh(wave @ weight))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_runtime_does_not_optimize_the_rounding_away(
    graph: Callable[..., onnx.ModelProto], precision: str
) -> None:
    nodes = [
        helper.make_node("Add", ["wave", "wave"], ["twice"], name="Add"),
        helper.make_node("Sub", ["twice", "wave"], ["score"], name="Sub"),
    ]
    low = lower_precision(graph(nodes, {}, {"score": ["batch", 8]}), precision, [])
    wave = np.full((1, 8), 1.0003, np.float32)  # between two values of both formats
    assert np.all(run(emulated(low, FORMATS[precision]), "score", wave) == 1.0)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_only_the_roundings_are_low(two_layers: onnx.ModelProto, precision: str) -> None:
    graph = emulated(lower_precision(two_layers, precision, []), FORMATS[precision])
    low = FORMATS[precision].elem_type
    kinds = {name: kind for name, kind in value_types(graph).items() if kind == low}
    assert kinds
    assert all(name.endswith(".rounded") for name in kinds)


def test_with_every_node_in_fp32_the_emulation_is_the_model(two_layers: Any) -> None:
    wave = np.random.default_rng(1).normal(size=(3, 8)).astype(np.float32)
    same = lower_precision(two_layers, "fp16", [n.name for n in two_layers.graph.node])
    found = run(emulated(same, FORMATS["fp16"]), "score", wave)
    assert np.array_equal(found, run(two_layers, "score", wave))


def test_the_probe_shows_an_overflow_that_a_tanh_hides(
    graph: Callable[..., onnx.ModelProto],
) -> None:
    nodes = [
        helper.make_node("MatMul", ["wave", "w"], ["large"], name="a/MatMul"),
        helper.make_node("Tanh", ["large"], ["score"], name="b/Tanh"),
    ]
    model = graph(nodes, {"w": np.full((8, 1), 6e4, np.float32)}, {"score": ["batch", 1]})
    low = lower_precision(model, "fp16", [])
    probing = emulated(low, FORMATS["fp16"], probe=True)
    wave = np.ones((1, 8), np.float32)
    assert run(probing, "score", wave) == 1.0
    largest = dict(zip(low_values(low, FORMATS["fp16"]), run(probing, LARGEST, wave), strict=True))
    assert largest["large"] == np.inf
    assert largest["wave.fp16"] == 1.0


def test_the_emulation_is_near_the_fp16_graph_that_the_runtime_widens(
    small_onnx: Callable[..., Any], noise: Callable[..., Any]
) -> None:
    model = onnx.load(small_onnx(topk="rank"))
    low = lower_precision(model, "fp16", [n.name for n in model.graph.node if "pool" in n.name])
    waves = noise(4)
    exact, ours, theirs = (
        run(m, "score", waves) for m in (model, emulated(low, FORMATS["fp16"]), low)
    )
    limit = 3 * max(float(np.abs(theirs - exact).max()), 1e-3)
    assert 0 < float(np.abs(ours - exact).max()) <= limit
