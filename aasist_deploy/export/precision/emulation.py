"""Lower precision on a CPU: an fp32 graph that rounds wherever the low graph would.

A CPU's runtime has no fp16 or bf16 kernels for these operators (ONNX Runtime runs fp16 graphs by
widening around each node, and skips roundings where it can; bf16 not at all), so its scores would
say little about a GPU's. Here every value of a low node is computed in float32 from rounded values
and then rounded to the format, by a Cast there and back: what a GPU does that multiplies 16-bit
numbers and accumulates in float32, which is how its matrix units work.

Two differences from a GPU are left. It may fuse nodes and then rounds less often; and it adds in
another order, which float32 makes small beside 16-bit rounding. Both make this the stricter test.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import onnx
from onnx import helper, numpy_helper

from aasist_deploy.errors import ModelFileError
from aasist_deploy.export.precision.formats import FLOAT, MOVING, LowFormat
from aasist_deploy.export.precision.lowering import value_types

if TYPE_CHECKING:
    from collections.abc import Iterator

LARGEST: Final = "largest"  # output of a probing graph


def emulated(model: onnx.ModelProto, form: LowFormat, *, probe: bool = False) -> onnx.ModelProto:
    """An fp32 graph with the results of a graph of lower precision.

    Args:
        model: What `lower_precision` gave.
        form: Its low format.
        probe: Add an output `largest`: for each of `low_values` its largest magnitude, so that an
            overflow shows even where a later tanh or softmax would hide it.

    Returns:
        A graph with the same names of values, all of them float32.
    """
    types = value_types(model)
    low = {name for name, kind in types.items() if kind == form.elem_type}
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        nodes += _rounding(node, low, form)
    del graph.node[:]
    graph.node.extend(nodes)
    for weight in graph.initializer:
        if weight.data_type == form.elem_type:
            exact = numpy_helper.to_array(weight).astype(np.float32)
            weight.CopyFrom(numpy_helper.from_array(exact, weight.name))
    del graph.value_info[:]
    if probe:
        _add_probe(graph, low_values(model, form))
    left = [name for name, kind in value_types(result).items() if kind == form.elem_type]
    allowed = {name for name in left if name.endswith(_ROUNDED)}
    if set(left) - allowed:
        raise ModelFileError(f"Left in {form.name} by the emulation: {', '.join(sorted(left)[:3])}")
    return result


def low_values(model: onnx.ModelProto, form: LowFormat) -> list[str]:
    """Names of the values of a lowered graph that are in the low format, in order."""
    types = value_types(model)
    made = [name for node in model.graph.node for name in node.output]
    return [name for name in made if types.get(name) == form.elem_type]


_UNROUNDED: Final = ".unrounded"
_ROUNDED: Final = ".rounded"


def _rounding(node: onnx.NodeProto, low: set[str], form: LowFormat) -> Iterator[onnx.NodeProto]:
    """The node in float32, and after it the rounding of each of its low values."""
    if node.op_type == "Cast" and node.input[0] in low and _cast_to(node) == FLOAT:
        yield helper.make_node("Identity", node.input, node.output, name=node.name)
        return
    for attribute in node.attribute:
        if attribute.name == "to" and attribute.i == form.elem_type:
            attribute.i = FLOAT
        elif attribute.name == "value" and attribute.t.data_type == form.elem_type:
            exact = numpy_helper.to_array(attribute.t).astype(np.float32)
            attribute.t.CopyFrom(numpy_helper.from_array(exact, attribute.t.name))
    to_round = [] if node.op_type in MOVING else [name for name in node.output if name in low]
    node.output[:] = [f"{n}{_UNROUNDED}" if n in to_round else n for n in node.output]
    yield node
    for name in to_round:
        yield helper.make_node(
            "Cast", [f"{name}{_UNROUNDED}"], [f"{name}{_ROUNDED}"], to=form.elem_type
        )
        yield helper.make_node("Cast", [f"{name}{_ROUNDED}"], [name], to=FLOAT)


def _add_probe(graph: onnx.GraphProto, values: list[str]) -> None:
    """An output with the largest magnitude of each of these values, NaN or infinity included."""
    one = "largest.shape"
    graph.initializer.append(numpy_helper.from_array(np.array([1], np.int64), one))
    for name in values:
        graph.node.extend(
            [
                helper.make_node("Abs", [name], [f"{name}.abs"]),
                helper.make_node("ReduceMax", [f"{name}.abs"], [f"{name}.max"], keepdims=0),
                helper.make_node("Reshape", [f"{name}.max", one], [f"{name}.max1"]),
            ]
        )
    graph.node.append(helper.make_node("Concat", [f"{n}.max1" for n in values], [LARGEST], axis=0))
    graph.output.append(helper.make_tensor_value_info(LARGEST, FLOAT, [len(values)]))


def _cast_to(node: onnx.NodeProto) -> int:
    return int(next(a.i for a in node.attribute if a.name == "to"))
