"""Exporting: a checkpoint goes in, one self-describing model file comes out."""

from aasist_deploy.export.onnx_from_torch import ExportOptions, export_onnx

__all__ = ["ExportOptions", "export_onnx"]
