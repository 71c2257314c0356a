"""Exporting: a checkpoint goes in, one self-describing model file comes out."""

from aasist_deploy.export.onnx_from_torch import ExportResult, export_onnx
from aasist_deploy.export.options import ExportOptions

__all__ = ["ExportOptions", "ExportResult", "export_onnx"]
