"""Export of models to ONNX, for programs that run without this package."""

from wavenet.export.onnx import export_onnx

__all__ = ["export_onnx"]
