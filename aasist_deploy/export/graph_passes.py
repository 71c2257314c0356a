"""Passes over the traced ONNX graph: exact node counts, requested outputs, readable names."""

from __future__ import annotations

import ast
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import helper, numpy_helper

from aasist_deploy.errors import ModelFileError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_SCOPES = "pkg.torch.onnx.name_scopes"


def count_kept_nodes_exactly(
    model: onnx.ModelProto, ratios: Sequence[float], max_nodes: int
) -> int:
    """Replace float32 arithmetic on node counts by tables of whole numbers.

    A trace of `trunc(n * ratio)` becomes Cast to float32, Mul, Cast to int64, and float32 does not
    always give what Python's float64 gave in training (90 * 0.7: 62 there, 63 here). A table of
    int(n * ratio) for n = 0 .. max_nodes is exact on every runtime, also without float64.

    Returns:
        How many counts were replaced.
    """
    graph = model.graph
    makers = {output: node for node in graph.node for output in node.output}
    constants = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    replaced = 0
    for node in graph.node:
        if node.op_type != "Cast" or _cast_to(node) != onnx.TensorProto.INT64:
            continue
        product = makers.get(node.input[0])
        if product is None or product.op_type != "Mul":
            continue
        factor = next((constants[i] for i in product.input if i in constants), None)
        source = next((makers[i] for i in product.input if i in makers), None)
        if factor is None or source is None or source.op_type != "Cast":
            continue
        ratio = next((r for r in ratios if np.float32(r) == np.float32(factor)), None)
        if ratio is None:
            raise ModelFileError(
                f"The traced graph multiplies a node count by {factor}, which is no pooling ratio "
                f"of the configuration ({', '.join(map(str, ratios))})."
            )
        table_name = f"n_kept.of_ratio_{ratio}"
        if table_name not in constants:
            table = np.array([int(n * ratio) for n in range(max_nodes + 1)], dtype=np.int64)
            constants[table_name] = table
            graph.initializer.append(numpy_helper.from_array(table, table_name))
        lookup = helper.make_node(
            "Gather", [table_name, source.input[0]], list(node.output), axis=0
        )
        lookup.metadata_props.extend(node.metadata_props)
        node.CopyFrom(lookup)
        replaced += 1
    _drop_unused(graph)
    return replaced


def keep_outputs(model: onnx.ModelProto, names: Sequence[str]) -> None:
    """Leave only these graph outputs, in this order; inner values keep their names."""
    by_name = {output.name: output for output in model.graph.output}
    del model.graph.output[:]
    model.graph.output.extend(by_name[name] for name in names)
    observed = {name for name in by_name if name.startswith("order.")}
    _drop_unused(model.graph, keep=observed)


def name_by_layer(model: onnx.ModelProto) -> None:
    """Name nodes and values by the layer they come from, e.g. `encoder.0.conv1/Conv`.

    The tracer's own notes are dropped: they hold source lines and paths of the exporting machine.
    """
    graph = model.graph
    fixed = {value.name for value in [*graph.input, *graph.output]}
    fixed |= {i.name for i in graph.initializer}
    seen: Counter[str] = Counter()
    renamed: dict[str, str] = {}
    for node in graph.node:
        base = f"{_layer_of(node)}{node.op_type}"
        seen[base] += 1
        node.name = base if seen[base] == 1 else f"{base}_{seen[base]}"
        for index, output in enumerate(node.output):
            if output and output not in fixed and not output.startswith("order."):
                renamed[output] = f"{node.name}.out" if index == 0 else f"{node.name}.out{index}"
        node.doc_string = ""
        del node.metadata_props[:]
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]
    del graph.value_info[:]
    del graph.metadata_props[:]
    for value in [*graph.input, *graph.output]:
        del value.metadata_props[:]
    graph.doc_string = ""


def name_dimensions(model: onnx.ModelProto, names: Mapping[str, Sequence[str | int]]) -> None:
    """Give the axes of inputs and outputs their names (text: dynamic) or sizes."""
    for value in [*model.graph.input, *model.graph.output]:
        shape = value.type.tensor_type.shape
        if value.name in names:
            del shape.dim[:]
            for size in names[value.name]:
                if isinstance(size, int):
                    shape.dim.add().dim_value = size
                else:
                    shape.dim.add().dim_param = size


def _cast_to(node: onnx.NodeProto) -> int:
    return int(next(a.i for a in node.attribute if a.name == "to"))


def _layer_of(node: onnx.NodeProto) -> str:
    """`encoder.0.conv1/` for a node traced inside that module, "" for one at the top."""
    scopes = next((p.value for p in node.metadata_props if p.key == _SCOPES), "[]")
    try:
        path = [str(s) for s in ast.literal_eval(scopes)]
    except (ValueError, SyntaxError):
        return ""
    # Scopes nest: ['', 'encoder', 'encoder.0', 'encoder.0.conv1', 'conv2d']; the last is the node.
    # Names with a leading underscore are the tracer's own, e.g. for arithmetic on sizes.
    inner = path[-2] if len(path) > 1 else ""
    return f"{inner}/" if inner and not inner.startswith("_") else ""


def _drop_unused(graph: onnx.GraphProto, keep: set[str] | None = None) -> None:
    """Remove nodes and initializers whose results nobody reads."""
    needed = {output.name for output in graph.output} | (keep or set())
    kept = []
    for node in reversed(graph.node):
        if any(output in needed for output in node.output):
            needed |= set(node.input)
            kept.append(node)
    nodes = list(reversed(kept))
    del graph.node[:]
    graph.node.extend(nodes)
    used = [i for i in graph.initializer if i.name in needed]
    del graph.initializer[:]
    graph.initializer.extend(used)
