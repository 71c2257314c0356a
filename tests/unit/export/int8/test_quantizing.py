"""The small network in int8: which products, what values they read, what else stays exact."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from aasist_deploy.contract import read_contract
from aasist_deploy.export.int8 import Layer, calibrate, quantizable_layers, quantized
from aasist_deploy.export.int8.clip_scales import MOST_GAIN, scaled_name, with_clip_scales
from aasist_deploy.export.precision.measuring import measure, open_session

if TYPE_CHECKING:
    from collections.abc import Callable

# The same function in another order of float32 operations; scores are of the order of 1.
EXACT_ATOL = 2e-4
# Per clip, 8 bits leave 1/127 of the largest value; measured 0.03 on this network.
INT8_ATOL = 0.2

Small = tuple[onnx.ModelProto, Any, list[Layer], dict[str, tuple[float, float]]]


@pytest.fixture(scope="module")
def small(small_onnx: Callable[..., Any], noise: Callable[..., Any]) -> Small:
    path = small_onnx()
    model = onnx.load(path)
    layers, _ = quantizable_layers(model, 16_000)
    ranges = calibrate(model, [layer.value for layer in layers], noise(4))
    return model, read_contract(path)[0], layers, ranges


def largest(ranges: dict[str, tuple[float, float]]) -> dict[str, float]:
    return {value: max(-low, high) for value, (low, high) in ranges.items()}


def per_clip(small: Small, layers: list[Layer]) -> onnx.ModelProto:
    model, _, _, ranges = small
    units = {scaled_name(value): (-1.0, 1.0) for value in ranges}
    return quantized(model, layers, units, symmetric=True, per_clip=largest(ranges))


def test_convolutions_that_read_one_value_are_one_layer(small: Small) -> None:
    layers = small[2]
    assert ("encoder.0.conv1/Conv", "encoder.0.conv_downsample/Conv") in [x.nodes for x in layers]
    assert all(name.startswith("encoder.") for layer in layers for name in layer.nodes)


def test_what_reads_samples_or_is_no_convolution_stays_in_fp32(small: Small) -> None:
    _, kept = quantizable_layers(small[0], 16_000)
    assert kept["front_end/Conv"] == "samples"
    assert kept["pool_S.proj/MatMul"] == "no convolution"


def test_shares_are_of_all_multiplications(small: Small) -> None:
    layers = small[2]
    assert 0.1 < sum(layer.share for layer in layers) < 0.5  # its sinc filters have most
    assert layers[1].share > layers[0].share  # conv2 of block 0 has 4 times the channels of conv1


def test_ranges_are_what_the_graph_computes(small: Small, noise: Callable[..., Any]) -> None:
    model, contract, _, ranges = small
    values = list(ranges)
    session = open_session(model, values, 1)
    seen = [session.run(values, {contract.input_name: wave[None]}) for wave in noise(4)]
    for index, value in enumerate(values):
        low = min(float(one[index].min()) for one in seen)
        high = max(float(one[index].max()) for one in seen)
        np.testing.assert_allclose(ranges[value], (low, high), rtol=1e-5, atol=1e-6)


def test_scales_per_clip_do_not_change_the_function(
    small: Small, noise: Callable[..., Any]
) -> None:
    model, contract, layers, ranges = small
    waves = noise(3, seed=1)
    scaled = with_clip_scales(model, layers, largest(ranges))
    exact, same = (measure(m, contract, waves, threads=1).scores for m in (model, scaled))
    np.testing.assert_allclose(same, exact, atol=EXACT_ATOL)


@pytest.mark.parametrize("scales", ["clip", "fixed"])
def test_int8_is_near_fp32_and_not_the_same(
    scales: str, small: Small, noise: Callable[..., Any]
) -> None:
    model, contract, layers, ranges = small
    waves = noise(4)
    low = per_clip(small, layers) if scales == "clip" else quantized(model, layers, ranges)
    gaps = np.abs(
        measure(low, contract, waves, threads=1).scores
        - measure(model, contract, waves, threads=1).scores
    )
    assert 1e-5 < gaps.max() < INT8_ATOL


def test_a_score_does_not_depend_on_the_other_clips_of_its_batch(
    small: Small, noise: Callable[..., Any]
) -> None:
    low, waves = per_clip(small, small[2]), noise(4)
    session = open_session(low, ["score"], 1)
    together = session.run(["score"], {"wave": waves})[0]
    alone = [session.run(["score"], {"wave": wave[None]})[0][0] for wave in waves]
    np.testing.assert_allclose(together, alone, atol=EXACT_ATOL)


def test_silence_has_a_score(small: Small) -> None:
    session = open_session(per_clip(small, small[2]), ["score"], 1)
    (score,) = session.run(["score"], {"wave": np.zeros((1, 16_000), np.float32)})
    assert np.isfinite(score).all()


def test_a_scale_is_not_below_a_part_of_what_was_seen(small: Small) -> None:
    model, _, layers, ranges = small
    scaled = with_clip_scales(model, layers[:1], largest(ranges))
    least = {w.name: w for w in scaled.graph.initializer}[f"{layers[0].value}.least"]
    bound = max(map(abs, ranges[layers[0].value])) / MOST_GAIN
    assert numpy_helper.to_array(least) == pytest.approx(bound)


def test_weights_are_8_bit_with_a_scale_for_each_channel(small: Small) -> None:
    low = per_clip(small, small[2])
    weights = {w.name: numpy_helper.to_array(w) for w in low.graph.initializer}
    exact = {w.name: numpy_helper.to_array(w) for w in small[0].graph.initializer}
    makers = {out: node for node in low.graph.node for out in node.output}
    convs = {node.name: node for node in low.graph.node if node.op_type == "Conv"}
    for node in small[0].graph.node:
        if node.name not in {name for layer in small[2] for name in layer.nodes}:
            continue
        dequantize = makers[convs[node.name].input[1]]
        stored, scale, zero = (weights[name] for name in dequantize.input)
        assert stored.dtype == np.int8
        assert not zero.any()
        assert scale.shape == (stored.shape[0],)
        back = stored * scale.reshape(-1, 1, 1, 1)
        step = scale.reshape(-1, 1, 1, 1) * np.ones_like(back)
        assert (np.abs(back - exact[node.input[1]]) <= 0.51 * step).all()


def test_zero_points_are_0_where_that_is_asked_for(small: Small) -> None:
    model, _, layers, ranges = small
    for low, zero in (
        (per_clip(small, layers), True),
        (quantized(model, layers, ranges, symmetric=True), True),
        (quantized(model, layers, ranges), False),
    ):
        weights = {w.name: numpy_helper.to_array(w) for w in low.graph.initializer}
        points = [weights[n.input[2]] for n in low.graph.node if n.op_type == "QuantizeLinear"]
        assert len(points) == len(layers)
        assert all(not point.any() for point in points) == zero
        assert {point.dtype for point in points} == {np.dtype(np.int8 if zero else np.uint8)}


def test_other_readers_of_a_value_keep_the_exact_one(small: Small) -> None:
    model, _, layers, ranges = small
    shared = next(layer for layer in layers if layer.value == "encoder.0/MaxPool.out")
    low = quantized(model, [shared], ranges)
    add = next(node for node in low.graph.node if node.name == "encoder.1/Add")
    exact = next(node for node in model.graph.node if node.name == "encoder.1/Add")
    assert list(add.input) == list(exact.input)
    products = [n for n in low.graph.node if n.op_type == "QuantizeLinear"]
    assert [n.input[0] for n in products] == [shared.value]


def test_no_layers_give_the_same_graph(small: Small) -> None:
    model, _, _, ranges = small
    assert quantized(model, [], ranges).graph == model.graph
