"""Graphs of lower precision: written by rule, checked by the scores they give on real audio."""

from aasist_deploy.export.precision.emulation import emulated
from aasist_deploy.export.precision.formats import FORMATS, LowFormat, low_format
from aasist_deploy.export.precision.gate import GateAudio, GateLimits, GateReport
from aasist_deploy.export.precision.islands import bridged, rule_islands
from aasist_deploy.export.precision.lowered_file import (
    LoweredResult,
    PrecisionOptions,
    lower_file,
    require_audio,
    require_gate,
)
from aasist_deploy.export.precision.lowering import lower_precision, required_islands
from aasist_deploy.export.precision.search import Choice, choose_islands

__all__ = [
    "FORMATS",
    "Choice",
    "GateAudio",
    "GateLimits",
    "GateReport",
    "LowFormat",
    "LoweredResult",
    "PrecisionOptions",
    "bridged",
    "choose_islands",
    "emulated",
    "low_format",
    "lower_file",
    "lower_precision",
    "require_audio",
    "require_gate",
    "required_islands",
    "rule_islands",
]
