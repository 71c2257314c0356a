"""What can be quantized: products of matrices with fixed weights, by the value that they read.

Two products that read one value (a block's first convolution and its downsampling) share its 8-bit
form, so they are quantized together or not at all: such a group is a layer here.

| rule | why a product stays in fp32 |
|---|---|
| samples | it reads the wave itself: 8 bits are a 48 dB range, and speech needs more |
| little arithmetic | less than `LEAST_SHARE` of it all: nothing to gain, a score to lose |
| no convolution | a Gemm or MatMul: of the networks here, all their arithmetic is in convolutions |
| no fixed weights | a convolution whose weights are computed |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import onnx
from onnx import shape_inference

from aasist_deploy.export.precision.formats import FLOAT, MOVING

PRODUCTS: Final = frozenset({"Conv", "Gemm", "MatMul"})
# Of the multiplications of the network. Each layer of the published graph heads has under 0.1 %.
LEAST_SHARE: Final = 0.005


@dataclass(frozen=True, slots=True)
class Layer:
    """Products that read one value.

    Attributes:
        value: Name of the value that is quantized.
        nodes: Names of the products, in the order of the graph.
        share: Their part of the network's multiplications, in [0, 1].
    """

    value: str
    nodes: tuple[str, ...]
    share: float


def quantizable_layers(
    model: onnx.ModelProto, n_samples: int
) -> tuple[list[Layer], dict[str, str]]:
    """The layers that may be int8, and the products that may not.

    Args:
        model: The fp32 graph.
        n_samples: Length of a wave, by which multiplications are counted.

    Returns:
        The layers in the order of the graph; product -> the rule by which it stays in fp32.
    """
    weights = {w.name: w for w in model.graph.initializer if w.data_type == FLOAT}
    products = [node for node in model.graph.node if node.op_type in PRODUCTS]
    counts = _multiplications(model, products, n_samples)
    total = max(sum(counts.values()), 1)
    samples = _moved_samples(model)
    groups: dict[str, list[onnx.NodeProto]] = {}
    kept: dict[str, str] = {}
    for node in products:
        if node.op_type != "Conv":
            kept[node.name] = "no convolution"
        elif node.input[1] not in weights:
            kept[node.name] = "no fixed weights"
        elif node.input[0] in samples:
            kept[node.name] = "samples"
        else:
            groups.setdefault(node.input[0], []).append(node)
    layers = []
    for value, nodes in groups.items():
        share = sum(counts[node.name] for node in nodes) / total
        if share < LEAST_SHARE:
            kept |= dict.fromkeys((node.name for node in nodes), "little arithmetic")
        else:
            layers.append(Layer(value, tuple(node.name for node in nodes), share))
    return layers, kept


def _moved_samples(model: onnx.ModelProto) -> set[str]:
    """The input and every value that only holds its samples in another shape."""
    found = {value.name for value in model.graph.input}
    for node in model.graph.node:
        if node.op_type in MOVING and node.input and node.input[0] in found:
            found.update(node.output)
    return found


def _multiplications(
    model: onnx.ModelProto, products: list[onnx.NodeProto], n_samples: int
) -> dict[str, int]:
    """Product -> multiplications of one wave; 0 where the shapes are not known."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    for value in fixed.graph.input:
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            dim.dim_value = 1 if axis == 0 else dim.dim_value or n_samples
    # Inferred anew: what was noted for a batch of any size stays in the way otherwise.
    del fixed.graph.value_info[:]
    inferred = shape_inference.infer_shapes(fixed, data_prop=True).graph
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in [*inferred.value_info, *inferred.input, *inferred.output]
    }
    shapes |= {weight.name: list(weight.dims) for weight in model.graph.initializer}
    counts = {}
    for node in products:
        out, factor = shapes.get(node.output[0], []), shapes.get(node.input[1], [])
        inner = factor[1:] if node.op_type == "Conv" else _inner(node, factor)
        counts[node.name] = int(np.prod([*out, *inner])) if out and inner else 0
    return counts


def _inner(node: onnx.NodeProto, factor: list[int]) -> list[int]:
    """The dimension that a Gemm or MatMul sums over."""
    transposed = any(a.name == "transB" and a.i for a in node.attribute)
    return factor[-1:] if transposed else factor[-2:-1]
