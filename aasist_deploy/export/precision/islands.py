"""Which nodes keep fp32 by rule, before anything is measured.

| rule | why |
|---|---|
| no such operator, weights out of range | the format cannot hold it (`required_islands`) |
| ranking | rounding makes ties, and ties change which nodes graph pooling keeps |
| sums | softmax and means add many values: the sum, not its terms, has to be representable |
| recurrent | a GRU's state is rounded at every step, where no emulation of the graph sees it |
| recurrent | what makes a GRU's input: TensorRT-RTX 1.7.1 builds none behind a node in fp16 |
| last layer | the score itself: 16 bits of a logit are a step of 0.008 at 11 |
| between islands | a node that only islands read and feed would cost two Casts and save nothing |

The ranking rule takes the whole layer that ranks (the projection that gives the scores, the
comparison or TopK, and the gathering), as its nodes are named: `pool_S.proj/MatMul`, `pool_S/Mul`.
In a graph without layers it takes what leads from the last projection to the comparison.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aasist_deploy.export.precision.formats import FLOAT, MOVING, at_layer
from aasist_deploy.export.precision.lowering import float_nodes, required_islands, value_types

if TYPE_CHECKING:
    from collections.abc import Iterable

    import onnx

# Operators that order values. Equal is among them: the form "rank" breaks ties with it.
# fmt: off
_RANKING: Final = frozenset({
    "ArgMax", "ArgMin", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "TopK",
})
# fmt: on
# fmt: off
_SUMMING: Final = frozenset({
    "AveragePool", "BatchNormalization", "CumSum", "GlobalAveragePool", "GroupNormalization",
    "InstanceNormalization", "LayerNormalization", "LogSoftmax", "ReduceL1", "ReduceL2",
    "ReduceLogSum", "ReduceLogSumExp", "ReduceMean", "ReduceProd", "ReduceSum",
    "ReduceSumSquare", "Softmax",
})
# fmt: on
_RECURRENT: Final = frozenset({"GRU", "LSTM", "RNN"})
_PROJECTING: Final = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_OUTSIDE: Final = "input or output of the model"


def rule_islands(model: onnx.ModelProto, precision: str) -> dict[str, str]:
    """Nodes that keep fp32 by rule -> the rule, in the order of the graph.

    Args:
        model: The fp32 graph.
        precision: "fp16" or "bf16".
    """
    nodes = float_nodes(model)
    reasons = dict(required_islands(model, precision))
    types = value_types(model)
    makers = {output: node for node in model.graph.node for output in node.output}

    def add(names: Iterable[str], rule: str) -> None:
        for name in names:
            reasons.setdefault(name, rule)

    for node in nodes:
        if node.op_type in _RANKING and any(types.get(i) == FLOAT for i in node.input):
            layer = at_layer(node.name)
            add(_projection(node, makers), "ranking")
            if layer:
                add((n.name for n in nodes if _inside(n.name, layer)), "ranking")
        elif node.op_type in _SUMMING:
            add([node.name], "sums")
        elif node.op_type in _RECURRENT:
            add([node.name, *_sequence(node, makers)], "recurrent")
    for value in model.graph.output:
        if value.name in makers:
            add(_projection(makers[value.name], makers), "last layer")
    reasons = dict(_bridged(model, nodes, reasons))
    order = {node.name: index for index, node in enumerate(model.graph.node)}
    return dict(sorted(reasons.items(), key=lambda item: order[item[0]]))


def bridged(model: onnx.ModelProto, islands: Iterable[str]) -> list[str]:
    """The islands and every node that stands between them and nothing else, in graph order."""
    names = set(_bridged(model, float_nodes(model), dict.fromkeys(islands, "")))
    return [node.name for node in model.graph.node if node.name in names]


def _bridged(
    model: onnx.ModelProto, nodes: list[onnx.NodeProto], reasons: dict[str, str]
) -> dict[str, str]:
    """Adds what low precision would not pay for, until there is none left.

    That is a group of connected nodes without products of matrices, all of whose neighbours are
    fp32; and a node that only moves values (Transpose, Slice, Concat) when all it reads is fp32, or
    all that read it are: it rounds nothing, and the Cast then stands on its other side.
    """
    neighbours = _Neighbours(model, nodes)
    found = dict(reasons)
    grown = True
    while grown:
        grown = False
        light = [n for n in nodes if n.name not in found and n.op_type not in _PROJECTING]
        for node in light:
            before, after = neighbours.before[node.name], neighbours.after[node.name]
            fed = bool(before) and all(name in found for name in before)
            read = bool(after) and all(name in found for name in after)
            if node.op_type in MOVING and (fed or read):
                found[node.name] = "between islands"
                grown = True
        for group in neighbours.groups([n.name for n in light if n.name not in found]):
            around = {m for name in group for m in neighbours.of(name)} - group
            if around and all(name in found for name in around):
                found.update(dict.fromkeys(sorted(group), "between islands"))
                grown = True
    return found


class _Neighbours:
    """Which nodes give float values to which; the model's input and outputs are neighbours too."""

    def __init__(self, model: onnx.ModelProto, nodes: list[onnx.NodeProto]) -> None:
        types = value_types(model)
        makers = {output: node.name for node in nodes for output in node.output}
        makers |= {value.name: _OUTSIDE for value in model.graph.input}
        self.before: dict[str, list[str]] = {}
        self.after: dict[str, list[str]] = {node.name: [] for node in nodes}
        for node in nodes:
            floats = [i for i in node.input if types.get(i) == FLOAT and i in makers]
            self.before[node.name] = [makers[i] for i in floats]
            for maker in self.before[node.name]:
                if maker != _OUTSIDE:
                    self.after[maker].append(node.name)
        for value in model.graph.output:
            if value.name in makers:
                self.after[makers[value.name]].append(_OUTSIDE)

    def of(self, name: str) -> list[str]:
        return [*self.before[name], *self.after[name]]

    def groups(self, names: list[str]) -> list[set[str]]:
        """The connected groups of these nodes."""
        left, found = set(names), []
        while left:
            group, waiting = set(), [min(left)]
            while waiting:
                name = waiting.pop()
                if name in left:
                    left.discard(name)
                    group.add(name)
                    waiting += self.of(name)
            found.append(group)
        return found


def _projection(node: onnx.NodeProto, makers: dict[str, onnx.NodeProto]) -> list[str]:
    """The node and what leads to it, back to the last operators that project, these included."""
    found, waiting = {node.name: None}, [node]
    while waiting:
        current = waiting.pop()
        if current.op_type in _PROJECTING:
            continue
        for name in current.input:
            maker = makers.get(name)
            if maker is not None and maker.name not in found:
                found[maker.name] = None
                waiting.append(maker)
    return list(found)


def _sequence(node: onnx.NodeProto, makers: dict[str, onnx.NodeProto]) -> list[str]:
    """The node that computes what a recurrent one reads, and those that only move it."""
    names = []
    while (maker := makers.get(node.input[0])) is not None:
        names.append(maker.name)
        if maker.op_type not in MOVING:
            break
        node = maker
    return names


def _inside(name: str, layer: str) -> bool:
    """Whether the node is of this layer or of one inside it."""
    own = at_layer(name)
    return own == layer or own.startswith(f"{layer}.")
