"""`lower_precision`: an fp32 graph becomes a graph of mixed precision whose every type is written.

TensorRT from version 11 on, and any strongly typed network before, computes in the types that the
graph has. So the graph is the place where precision is decided: each node is either low (fp16 or
bf16) or fp32, values have the type of the node that makes them, and a Cast stands where a node
reads a value of the other type: one for each value, shared by all who read it. Weights are stored
in the type they are read in. The input and the outputs of the model stay fp32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import onnx
from onnx import helper, numpy_helper, shape_inference, version_converter

from aasist_deploy.errors import ModelFileError, UsageError
from aasist_deploy.export.precision.formats import (
    FLOAT,
    WEIGHTED,
    LowFormat,
    low_format,
    lowered_inputs,
    opset_of,
    takes,
)

if TYPE_CHECKING:
    from collections.abc import Collection

_TYPED_BY_ATTRIBUTE: Final = ("Cast", "Constant", "ConstantOfShape")  # float without float inputs
_N_FACTORS: Final = 2  # of a Conv, MatMul, Gemm or Mul: the third input is added


def lower_precision(
    model: onnx.ModelProto, precision: str, fp32_nodes: Collection[str]
) -> onnx.ModelProto:
    """The same network with fp16 or bf16 arithmetic in all nodes but the named ones.

    Args:
        model: A graph whose floats are all float32, with named nodes, as this package exports it.
        precision: "fp16" or "bf16".
        fp32_nodes: Names of nodes that keep float32. Operators that do not exist in the low
            format (TopK in bf16, all that hold a graph) must be among them: `required_islands`.

    Returns:
        A new model: checked, sorted, float32 at its input and outputs, its opset raised to the
        first that knows the format (22 for bf16). Names of nodes and values are kept; a Cast is
        named after the value it converts, `encoder.5/MaxPool.out.fp32`. It has no contract.

    Raises:
        UsageError: an unknown precision, or a name that is no node.
        ModelFileError: weights beyond the range of the format, or an operator without it.
    """
    form = low_format(precision)
    lowered = at_opset(model, form)
    del lowered.metadata_props[:]
    _check_names(lowered, fp32_nodes)
    low = _low_nodes(lowered, form, fp32_nodes)
    lost = {n.name: u for n in low if (u := unfit_weights(lowered, n, form))}
    if lost:
        raise ModelFileError(
            f"Weights do not fit {form.name} (largest {form.largest:.0f}, smallest normal "
            f"{form.smallest_normal:.1e}): {_first(lost)}.",
            fix=f"keep these nodes in fp32: {', '.join(lost)}",
        )
    _Typing(lowered, form, {node.name for node in low}).write()
    return _checked(lowered, form)


def at_opset(model: onnx.ModelProto, form: LowFormat) -> onnx.ModelProto:
    """A copy of the model at an opset that has the format: its own, or the first that does."""
    if opset_of(model) >= form.opset:
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        return copy
    return version_converter.convert_version(model, form.opset)


def float_nodes(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The nodes that read or make float32 values, in order: those that have a precision."""
    types = value_types(model)
    return [
        node
        for node in model.graph.node
        if any(types.get(name) == FLOAT for name in node.output)
        or any(types.get(node.input[i]) == FLOAT for i in _inputs(node, opset_of(model)))
    ]


def required_islands(model: onnx.ModelProto, precision: str) -> dict[str, str]:
    """Nodes that cannot be low -> why: no such operator, or weights that the format cannot hold."""
    form = low_format(precision)
    raised = at_opset(model, form)
    reasons = {}
    for node in float_nodes(raised):
        unfit = unfit_weights(raised, node, form)
        if not takes(node, form, opset_of(raised)):
            reasons[node.name] = f"{node.op_type} has no {form.name}"
        elif unfit:
            reasons[node.name] = unfit
    return reasons


def unfit_weights(model: onnx.ModelProto, node: onnx.NodeProto, form: LowFormat) -> str:
    """What is wrong with a node's weights in this format, in words; empty when nothing is.

    Weights are lost when one is beyond the largest value, or when they multiply and the largest of
    them is below the smallest normal value, so that all lose bits. Small weights that are added
    (biases) lose less than the rounding of the sum they are added to, and are no reason.
    """
    by_name = {i.name: i for i in model.graph.initializer}
    for index in _inputs(node, opset_of(model)):
        initializer = by_name.get(node.input[index])
        if initializer is None or initializer.data_type != FLOAT:
            continue
        largest = float(np.max(np.abs(numpy_helper.to_array(initializer)), initial=0.0))
        if not largest <= form.largest:  # NaN too
            return f"{initializer.name} of {node.name} reaches {largest:.3g}"
        multiplies = node.op_type in WEIGHTED and index < _N_FACTORS
        if multiplies and 0 < largest < form.smallest_normal:
            return f"{initializer.name} of {node.name} is at most {largest:.3g}"
    return ""


def value_types(model: onnx.ModelProto) -> dict[str, int]:
    """Name of each value and initializer -> its ONNX element type, by strict inference.

    Raises:
        ModelFileError: the types in the graph contradict one another.
    """
    try:
        inferred = shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    except (shape_inference.InferenceError, onnx.checker.ValidationError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelFileError(f"The types of the graph contradict one another: {reason}") from error
    graph = inferred.graph
    types = {v.name: int(v.type.tensor_type.elem_type) for v in [*graph.input, *graph.output]}
    types |= {v.name: int(v.type.tensor_type.elem_type) for v in graph.value_info}
    return types | {i.name: int(i.data_type) for i in graph.initializer}


class _Typing:
    """Writes the types into a graph: Casts at the borders, weights as they are read.

    Args:
        model: Changed in place.
        form: The low format.
        low: Names of the low nodes.
    """

    def __init__(self, model: onnx.ModelProto, form: LowFormat, low: set[str]) -> None:
        self.model, self.form, self.low = model, form, low
        self.opset = opset_of(model)
        self.fp32 = {name for name, kind in value_types(model).items() if kind == FLOAT}
        self.weights = {i.name: i for i in model.graph.initializer}
        self.low_values = {
            output
            for node in model.graph.node
            if node.name in low
            for output in node.output
            if output in self.fp32
        }
        self.read_as: dict[str, set[int]] = {}  # weight -> types it is read in
        self.casts: dict[str, onnx.NodeProto] = {}  # result of a Cast -> the Cast

    def write(self) -> None:
        graph = self.model.graph
        self._free_output_names()
        for node in graph.node:
            wanted = self.form.elem_type if node.name in self.low else FLOAT
            for index in _inputs(node, self.opset):
                node.input[index] = self._as(node.input[index], wanted)
            if node.name in self.low:
                _retype_attributes(node, self.form)
        self._add_casts()
        self._store_weights()
        del graph.value_info[:]

    def _free_output_names(self) -> None:
        """An output of the model that a low node makes is a Cast's; the node's gets a suffix."""
        graph = self.model.graph
        for value in graph.output:
            if value.name not in self.low_values:
                continue
            inner = f"{value.name}.{self.form.name}"
            for node in graph.node:
                node.output[:] = [inner if n == value.name else n for n in node.output]
                node.input[:] = [inner if n == value.name else n for n in node.input]
            self.low_values = self.low_values - {value.name} | {inner}
            self.fp32.add(inner)
            self.casts[value.name] = _cast(inner, value.name, FLOAT)

    def _as(self, name: str, wanted: int) -> str:
        """The name of this value in the wanted type; the Cast is noted if there must be one."""
        if name not in self.fp32:
            return name  # no float
        suffix = "fp32" if wanted == FLOAT else self.form.name
        if name in self.weights:
            self.read_as.setdefault(name, set()).add(wanted)
            return name if wanted == FLOAT else f"{name}.{suffix}"
        if (name in self.low_values) == (wanted != FLOAT):
            return name
        public = name.removesuffix(f".{self.form.name}")
        if wanted == FLOAT and public in self.casts:
            return public  # the model's output is that value in float32
        converted = f"{name}.{suffix}"
        self.casts.setdefault(converted, _cast(name, converted, wanted))
        return converted

    def _add_casts(self) -> None:
        """Each Cast right after the node whose value it converts, so that the graph is sorted."""
        graph = self.model.graph
        of_value: dict[str, list[onnx.NodeProto]] = {}
        for cast in self.casts.values():
            of_value.setdefault(cast.input[0], []).append(cast)
        nodes = [cast for value in graph.input for cast in of_value.get(value.name, [])]
        for node in graph.node:
            nodes.append(node)
            nodes += [cast for output in node.output for cast in of_value.get(output, [])]
        del graph.node[:]
        graph.node.extend(nodes)

    def _store_weights(self) -> None:
        """Weights in the types they are read in; the low ones keep their name when alone."""
        graph, form = self.model.graph, self.form
        renamed: dict[str, str] = {}
        kept = []
        for weight in graph.initializer:
            types = self.read_as.get(weight.name, {FLOAT})
            if FLOAT in types:
                kept.append(weight)
            if form.elem_type in types:
                low_name = f"{weight.name}.{form.name}"
                if types == {form.elem_type}:
                    renamed[low_name] = weight.name
                kept.append(rounded(weight, form, renamed.get(low_name, low_name)))
        for node in graph.node:
            node.input[:] = [renamed.get(name, name) for name in node.input]
        del graph.initializer[:]
        graph.initializer.extend(kept)


def rounded(weight: onnx.TensorProto, form: LowFormat, name: str) -> onnx.TensorProto:
    """A float32 tensor in the low format, rounded to the nearest, ties to even."""
    dtype = helper.tensor_dtype_to_np_dtype(form.elem_type)
    return numpy_helper.from_array(numpy_helper.to_array(weight).astype(dtype), name)


def _cast(source: str, result: str, kind: int) -> onnx.NodeProto:
    return helper.make_node("Cast", [source], [result], name=f"{result}/Cast", to=kind)


def _inputs(node: onnx.NodeProto, opset: int) -> list[int]:
    """Indices of the inputs that have the node's precision; none for operators of other domains."""
    if node.domain not in ("", "ai.onnx"):
        return [i for i, name in enumerate(node.input) if name]
    return list(lowered_inputs(node, opset))


def _low_nodes(
    model: onnx.ModelProto, form: LowFormat, fp32_nodes: Collection[str]
) -> list[onnx.NodeProto]:
    low = [node for node in float_nodes(model) if node.name not in fp32_nodes]
    for node in low:
        if not takes(node, form, opset_of(model)):
            raise ModelFileError(
                f"{node.name} cannot be {form.name}: {node.op_type} of opset {opset_of(model)} "
                f"has no such form.",
                fix=f"keep it in fp32: {node.name}",
            )
    return low


def _retype_attributes(node: onnx.NodeProto, form: LowFormat) -> None:
    """Operators whose attribute says what they make: a Cast from bool, a constant."""
    if node.op_type not in _TYPED_BY_ATTRIBUTE:
        return
    for attribute in node.attribute:
        if attribute.name == "to" and attribute.i == FLOAT:
            attribute.i = form.elem_type
        elif attribute.name == "value" and attribute.t.data_type == FLOAT:
            attribute.t.CopyFrom(rounded(attribute.t, form, attribute.t.name))


def _check_names(model: onnx.ModelProto, fp32_nodes: Collection[str]) -> None:
    names = [node.name for node in model.graph.node]
    if len(set(names)) < len(names) or "" in names:
        raise ModelFileError(
            "Nodes of the graph have no names of their own, so none can be kept in fp32.",
            fix="export the checkpoint again with this version",
        )
    unknown = sorted(set(fp32_nodes) - set(names))
    if unknown:
        raise UsageError(f"To be kept in fp32, but no node of the graph: {', '.join(unknown)}.")


def _checked(model: onnx.ModelProto, form: LowFormat) -> onnx.ModelProto:
    """Refuse a result that a strongly typed runtime would not take: a fault of this module."""
    onnx.checker.check_model(model, full_check=True)
    types = value_types(model)
    for value in [*model.graph.input, *model.graph.output]:
        if types[value.name] == form.elem_type:
            raise ModelFileError(f"{value.name} became {form.name}; it must stay float32.")
    return model


def _first(reasons: dict[str, str], most: int = 3) -> str:
    shown = "; ".join(list(reasons.values())[:most])
    return shown if len(reasons) <= most else f"{shown}; and {len(reasons) - most} more"
