"""`quantized`: QuantizeLinear and DequantizeLinear around the chosen layers, by ONNX Runtime.

The arithmetic (scales, zero points, 8-bit weights) is that of `onnxruntime.quantization`. What a
layer reads is 8-bit with one scale; its weights are 8-bit, symmetric, with a scale for each output
channel; its bias and its result stay float, so a runtime may add a residual and apply an activation
before it rounds again. Readers of the same value that are not quantized keep the exact one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import onnx

from aasist_deploy.engines.onnx import import_onnxruntime
from aasist_deploy.export.int8.clip_scales import scaled_name, with_clip_scales
from aasist_deploy.export.int8.layers import PRODUCTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from aasist_deploy.export.int8.layers import Layer

_DEQUANTIZED: Final = "_DequantizeLinear_Output"  # the quantizer's name for a value's 8-bit form


def quantized(
    model: onnx.ModelProto,
    layers: Iterable[Layer],
    ranges: Mapping[str, tuple[float, float]],
    *,
    symmetric: bool = False,
    per_clip: Mapping[str, float] | None = None,
) -> onnx.ModelProto:
    """The graph with these layers in int8.

    Args:
        model: The fp32 graph.
        layers: Of `quantizable_layers`; none gives a copy.
        ranges: Value -> (smallest, largest) that 8 bits must hold; 0 is always among them.
        symmetric: Signed values with the zero point 0, as TensorRT needs them, in place of unsigned
            ones with a zero point: a step is up to twice as large.
        per_clip: Value -> largest magnitude seen: divide what a layer reads by the largest of each
            clip (`with_clip_scales`); ranges are then those of `scaled_name(value)`.

    Returns:
        A checked model with the same input, outputs and names of nodes.
    """
    chosen = list(layers)
    source = with_clip_scales(model, chosen if per_clip else [], per_clip or {})
    if not chosen:
        return source
    nodes = [name for layer in chosen for name in layer.nodes]
    values = [scaled_name(layer.value) if per_clip else layer.value for layer in chosen]
    held = {value: ranges[value] for value in values}
    result = _quantized_by_onnxruntime(source, nodes, held, symmetric=symmetric)
    for node in result.graph.node:
        if node.name not in nodes and not node.op_type.endswith("QuantizeLinear"):
            node.input[:] = [name.removesuffix(_DEQUANTIZED) for name in node.input]
    del result.graph.value_info[:]
    result.producer_name, result.producer_version = model.producer_name, model.producer_version
    onnx.checker.check_model(result, full_check=True)
    return result


def _quantized_by_onnxruntime(
    model: onnx.ModelProto,
    nodes: list[str],
    ranges: Mapping[str, tuple[float, float]],
    *,
    symmetric: bool,
) -> onnx.ModelProto:
    import_onnxruntime()
    from onnxruntime import quantization
    from onnxruntime.quantization.calibrate import TensorData, TensorsData

    held = {
        value: TensorData(
            lowest=np.array(min(low, 0.0), np.float32), highest=np.array(max(high, 0.0), np.float32)
        )
        for value, (low, high) in ranges.items()
    }
    types = quantization.QuantType
    quantizer = quantization.QDQQuantizer(
        model,
        per_channel=True,
        reduce_range=False,
        weight_qType=types.QInt8,
        activation_qType=types.QInt8 if symmetric else types.QUInt8,
        tensors_range=TensorsData(quantization.CalibrationMethod.MinMax, held),
        nodes_to_quantize=nodes,
        nodes_to_exclude=[],
        op_types_to_quantize=sorted(PRODUCTS),
        extra_options={
            "ActivationSymmetric": symmetric,
            "WeightSymmetric": True,
            "QuantizeBias": False,
            "OpTypesToExcludeOutputQuantization": sorted(PRODUCTS),
        },
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()  # new nodes stand at its end
    result: onnx.ModelProto = quantizer.model.model
    return result
