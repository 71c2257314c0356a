"""Graphs of lower precision: written by rule, checked by the scores they give on real audio."""

from aasist_deploy.export.precision.emulation import emulated
from aasist_deploy.export.precision.formats import FORMATS, LowFormat, low_format
from aasist_deploy.export.precision.islands import bridged, rule_islands
from aasist_deploy.export.precision.lowering import lower_precision, required_islands

__all__ = [
    "FORMATS",
    "LowFormat",
    "bridged",
    "emulated",
    "low_format",
    "lower_precision",
    "required_islands",
    "rule_islands",
]
