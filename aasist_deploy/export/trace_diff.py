"""What a trace says of sizes: its symbols, its assumptions, and where it differs from another."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import Node

Size = tuple[int, int]  # batch, samples


def input_sizes(program: ExportedProgram) -> tuple[dict[Any, int], list[Any]]:
    """The symbols of a program's open axes, and the assumptions that its trace made about them.

    Returns:
        Symbol -> axis of the wave (0 batch, 1 samples), also of an axis that was meant to be open
        and is fixed; and the assumptions, each with the expression `expr`.
    """
    (name,) = program.graph_signature.user_inputs
    wave = next(node for node in program.graph.nodes if node.name == name).meta["val"]
    environment = wave.fake_mode.shape_env
    if environment is None:  # no axis is open
        return {}, []
    symbols = {}
    for symbol, sources in environment.var_to_sources.items():
        for source in sources:
            axis = getattr(source, "idx", None)
            if axis in (0, 1):
                symbols[symbol] = axis
    return symbols, list(environment.guards)


def first_difference(
    program: ExportedProgram, fixed: ExportedProgram, size: Size
) -> tuple[str, traceback.StackSummary] | None:
    """Compare a program of open sizes with one that was traced at one size.

    Returns:
        What differs at this size in the first operator that does, and the source lines of it; None
        when they are the same.
    """
    symbols, _ = input_sizes(program)
    values = {symbol: size[axis] for symbol, axis in symbols.items()}
    ours, theirs = _operators(program), _operators(fixed)
    for a, b in zip(ours, theirs, strict=False):
        if a.target != b.target:
            return f"it takes another way ({b.target} in place of {a.target})", _stack(b)
        for given, wanted in zip(_numbers(a, values), _numbers(b, {}), strict=False):
            if given != wanted:
                return f"{a.target} needs {wanted} and has {given}", _stack(a)
    if len(ours) != len(theirs):
        longer = max(ours, theirs, key=len)
        node = longer[min(len(ours), len(theirs))]
        return f"it has {len(theirs)} operators and not {len(ours)}", _stack(node)
    return None


def rounded_fraction(program: ExportedProgram) -> traceback.StackSummary | None:
    """The source lines where a fraction of a size becomes a whole number, if it does anywhere."""
    for node in program.graph.nodes:
        from_fraction = any(
            isinstance(i.meta.get("val"), torch.SymFloat) for i in node.all_input_nodes
        )
        if isinstance(node.meta.get("val"), torch.SymInt) and from_fraction:
            return _stack(node)
    return None


def batch_lost(program: ExportedProgram) -> traceback.StackSummary | None:
    """The source lines of the first reshaping whose first axis is no longer the batch, if any."""
    symbols, _ = input_sizes(program)
    names = {str(symbol) for symbol, axis in symbols.items() if axis == 0}
    for node in _operators(program):
        reshapes = any(word in str(node.target) for word in ("view", "reshape", "expand"))
        made = node.meta["val"]
        if not reshapes or not isinstance(made, torch.Tensor) or made.ndim == 0:
            continue
        given = [i.meta["val"] for i in node.all_input_nodes if _holds_tensors(i.meta.get("val"))]
        if any(str(tensor.shape[0]) in names for tensor in given if tensor.ndim) and (
            str(made.shape[0]) not in names
        ):
            return _stack(node)
    return None


def _operators(program: ExportedProgram) -> list[Node]:
    """The operators that compute tensors; arithmetic on sizes and its checks are left out."""
    return [
        node
        for node in program.graph.nodes
        if node.op == "call_function"
        and _holds_tensors(node.meta.get("val"))
        and not _takes_all(node)
    ]


def _takes_all(node: Node) -> bool:
    """Whether it is a slice of everything, which the tracer leaves out where sizes are known."""
    if node.target is not torch.ops.aten.slice.Tensor:
        return False
    given = node.all_input_nodes[0].meta["val"]
    return str(given.shape) == str(node.meta["val"].shape)


def _holds_tensors(value: Any) -> bool:  # noqa: ANN401  # what a node gives
    if isinstance(value, tuple | list):
        return any(isinstance(part, torch.Tensor) for part in value)
    return isinstance(value, torch.Tensor)


def _numbers(node: Node, values: dict[Any, int]) -> list[Any]:
    """The numbers an operator is given, and the shape of what it gives, at these sizes."""
    found: list[Any] = []

    def keep(argument: Any) -> None:  # noqa: ANN401  # any argument of an operator
        if isinstance(argument, tuple | list):
            for part in argument:
                keep(part)
        elif isinstance(argument, torch.fx.Node):
            value = argument.meta.get("val")
            if not _holds_tensors(value):
                found.append(_at(value, values))
        elif isinstance(argument, int | float | torch.SymInt | torch.SymFloat):
            found.append(_at(argument, values))

    keep(list(node.args))
    keep(list(node.kwargs.values()))
    value = node.meta["val"]
    tensors = value if isinstance(value, tuple | list) else [value]
    shapes = [tensor.shape for tensor in tensors if isinstance(tensor, torch.Tensor)]
    return found + [tuple(_at(n, values) for n in shape) for shape in shapes]


def _at(value: Any, values: dict[Any, int]) -> Any:  # noqa: ANN401  # number or symbol
    if isinstance(value, torch.SymInt | torch.SymFloat):
        number = value.node.expr.subs(values)
        return float(number) if isinstance(value, torch.SymFloat) else int(number)
    return value


def _stack(node: Node) -> traceback.StackSummary:
    """The source lines of an operator, read back from the text that the tracer keeps."""
    lines = str(node.meta.get("stack_trace") or "").splitlines()
    frames = []
    for place, code in zip(lines, [*lines[1:], ""], strict=True):
        parts = place.strip().split(", ")
        if len(parts) == 3 and parts[0].startswith('File "') and parts[1].startswith("line "):
            name = parts[2].removeprefix("in ")
            number = int(parts[1].removeprefix("line "))
            file = parts[0].removeprefix('File "').removesuffix('"')
            frames.append(traceback.FrameSummary(file, number, name, line=code.strip()))
    return traceback.StackSummary.from_list(frames)
