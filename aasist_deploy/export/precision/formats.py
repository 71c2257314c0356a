"""The number formats of lower precision, and which operators may use them at which opset."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import onnx
from onnx import TensorProto, defs

from aasist_deploy.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class LowFormat:
    """A 16-bit floating-point format.

    Attributes:
        name: As in `--precision` and in the contract.
        elem_type: ONNX's number of it.
        onnx_type: ONNX's word for tensors of it.
        largest: Largest finite value.
        smallest_normal: Smallest value with full precision; below it bits are lost one by one.
        opset: First opset whose Conv, MaxPool and Elu take it.

    Source: IEEE 754-2019 (binary16); bfloat16 is the upper half of binary32. Opsets: the operator
    schemas of ONNX (Conv-22 is the first with bfloat16).
    """

    name: str
    elem_type: int
    onnx_type: str
    largest: float
    smallest_normal: float
    opset: int


FORMATS: Final = {
    "fp16": LowFormat("fp16", TensorProto.FLOAT16, "tensor(float16)", 65504.0, 2.0**-14, 18),
    "bf16": LowFormat(
        "bf16", TensorProto.BFLOAT16, "tensor(bfloat16)", (2 - 2.0**-7) * 2.0**127, 2.0**-126, 22
    ),
}
FLOAT: Final = int(TensorProto.FLOAT)
_FLOAT_TYPE: Final = "tensor(float)"

# Their results hold the very bits of their inputs, or of one of them: no arithmetic, no rounding.
# fmt: off
MOVING: Final = frozenset({
    "Abs", "Concat", "Expand", "Flatten", "Gather", "GatherElements", "Identity", "Max",
    "MaxPool", "Min", "Neg", "Pad", "ReduceMax", "ReduceMin", "Relu", "Reshape", "Slice",
    "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze", "Where",
})
# fmt: on

# Their inputs are multiplied with one another.
WEIGHTED: Final = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "Mul"})


def low_format(precision: str) -> LowFormat:
    """The format by its name.

    Raises:
        UsageError: it is none of `FORMATS`.
    """
    if precision not in FORMATS:
        raise UsageError(
            f"There is no lower precision '{precision}'; known are: {', '.join(FORMATS)}."
        )
    return FORMATS[precision]


def opset_of(model: onnx.ModelProto) -> int:
    """The version of ONNX's own operators that the model uses."""
    return int(next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx")))


def takes(node: onnx.NodeProto, form: LowFormat, opset: int) -> bool:
    """Whether the operator exists in this format: every value that may be float may be low.

    Operators that hold graphs (If, Loop, Scan) or are none of ONNX's own do not count.
    """
    if node.domain not in ("", "ai.onnx") or any(a.HasField("g") for a in node.attribute):
        return False
    constraints = _constraints(node, opset)
    return all(
        form.onnx_type in allowed for _, allowed in constraints.items() if _FLOAT_TYPE in allowed
    )


def lowered_inputs(node: onnx.NodeProto, opset: int) -> Iterator[int]:
    """Indices of the inputs whose type follows the node's precision.

    Those that ONNX fixes as float32 (the scales of Resize), and those that take any type by
    themselves (Cast, Shape), do not.
    """
    schema = defs.get_schema(node.op_type, opset, "")
    if node.op_type in ("Cast", "CastLike", "Shape", "Size"):
        return
    for index, name in enumerate(node.input):
        formal = schema.inputs[min(index, len(schema.inputs) - 1)]
        if name and not formal.type_str.startswith("tensor("):
            yield index


def _constraints(node: onnx.NodeProto, opset: int) -> dict[str, frozenset[str]]:
    """Type variable of the operator's inputs and outputs -> the tensor types it may be."""
    schema = defs.get_schema(node.op_type, opset, "")
    used = {formal.type_str for formal in [*schema.inputs, *schema.outputs]}
    return {
        c.type_param_str: frozenset(c.allowed_type_strs)
        for c in schema.type_constraints
        if c.type_param_str in used
    }


def at_layer(node_name: str) -> str:
    """The layer that a node is named after: `pool_S.proj` of `pool_S.proj/MatMul`, "" without."""
    return node_name.rpartition("/")[0]
