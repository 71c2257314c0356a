"""`with_clip_scales`: layers read values divided by the largest of the clip. Exact before rounding.

One scale for all audio has to hold the loudest moment of the loudest clip, and wastes most of its
256 steps on every other clip (AASIST: the largest values of the first block are 12 to 84). A
convolution without its bias is linear, so the division can be undone after it:

    a = max(|x|)  of each clip;   conv(x) + b = a * conv(x / a) + b

What is quantized is x / a, whose largest magnitude is 1 in every clip. `a` is computed per clip, so
the score of a clip does not depend on its batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import onnx
from onnx import helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from aasist_deploy.export.int8.layers import Layer

# Scales are not below the largest magnitude seen in calibration divided by this: what is so quiet
# is not amplified to the full range, and silence is not divided by zero.
MOST_GAIN: Final = 32.0
_SCALED: Final = ".per_clip"


def scaled_name(value: str) -> str:
    """The name of what is quantized in place of this value."""
    return f"{value}{_SCALED}"


def with_clip_scales(
    model: onnx.ModelProto, layers: Iterable[Layer], largest: Mapping[str, float]
) -> onnx.ModelProto:
    """The same function, with these layers reading values whose largest magnitude is 1.

    Args:
        model: The fp32 graph.
        layers: Of `quantizable_layers`.
        largest: Value -> largest magnitude seen in calibration.

    Returns:
        A new model; `scaled_name(value)` is what the layer reads.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    chosen = {layer.value: layer for layer in layers}
    readers = {name for layer in chosen.values() for name in layer.nodes}
    weights = {weight.name: weight for weight in graph.initializer}
    ranks = _ranks(model, readers)
    for rank in set(ranks.values()):
        axes = np.arange(1, rank, dtype=np.int64)
        graph.initializer.append(numpy_helper.from_array(axes, _axes(rank)))
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        nodes += _undone(node, weights, graph) if node.name in readers else [node]
        for value in [name for name in node.output if name in chosen]:
            least = f"{value}.least"
            bound = np.array(largest[value] / MOST_GAIN, np.float32)
            graph.initializer.append(numpy_helper.from_array(bound, least))
            nodes += [
                helper.make_node("Abs", [value], [f"{value}.abs"], f"{value}/Abs"),
                helper.make_node(
                    "ReduceMax",
                    [f"{value}.abs", _axes(ranks[value])],
                    [f"{value}.max"],
                    f"{value}/ReduceMax",
                ),
                helper.make_node(
                    "Max", [f"{value}.max", least], [f"{value}.scale"], f"{value}/Max"
                ),
                helper.make_node(
                    "Div", [value, f"{value}.scale"], [scaled_name(value)], f"{value}/Div"
                ),
            ]
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.value_info[:]
    return result


def _undone(
    node: onnx.NodeProto, weights: dict[str, onnx.TensorProto], graph: onnx.GraphProto
) -> list[onnx.NodeProto]:
    """The convolution of the scaled value without its bias, then the scale, then the bias."""
    value, output = node.input[0], node.output[0]
    bias = node.input[2] if len(node.input) > 2 else ""
    node.input[:] = [scaled_name(value), node.input[1]]
    node.output[0] = f"{output}.of_scaled"
    back = f"{output}.unbiased" if bias else output
    found = [
        node,
        helper.make_node("Mul", [node.output[0], f"{value}.scale"], [back], f"{node.name}/scale"),
    ]
    if bias:
        column = f"{bias}.column"
        n_spatial = len(weights[node.input[1]].dims) - 2
        exact = numpy_helper.to_array(weights[bias]).reshape(1, -1, *[1] * n_spatial)
        graph.initializer.append(numpy_helper.from_array(exact, column))
        found.append(helper.make_node("Add", [back, column], [output], f"{node.name}/bias"))
    return found


def _ranks(model: onnx.ModelProto, readers: Collection[str]) -> dict[str, int]:
    """Value -> its number of axes: that of the weights of the convolutions that read it."""
    n_axes = {weight.name: len(weight.dims) for weight in model.graph.initializer}
    return {n.input[0]: n_axes[n.input[1]] for n in model.graph.node if n.name in readers}


def _axes(rank: int) -> str:
    """The name of the axes of one clip, for values of so many axes."""
    return f"per_clip.axes.{rank}"
