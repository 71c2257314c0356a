"""int8 by static quantization: ranges from real audio, layers chosen by their scores."""

from aasist_deploy.export.int8.calibration import CalibrationAudio, calibrate, refuse_overlap
from aasist_deploy.export.int8.int8_file import (
    DEFAULT_HEADROOM,
    Int8Options,
    Int8Result,
    quantize_file,
)
from aasist_deploy.export.int8.layers import Layer, quantizable_layers
from aasist_deploy.export.int8.quantizing import quantized
from aasist_deploy.export.int8.search import Int8Choice, LayerDamage, choose_layers

__all__ = [
    "DEFAULT_HEADROOM",
    "CalibrationAudio",
    "Int8Choice",
    "Int8Options",
    "Int8Result",
    "Layer",
    "LayerDamage",
    "calibrate",
    "choose_layers",
    "quantizable_layers",
    "quantize_file",
    "quantized",
    "refuse_overlap",
]
