"""Export of models to ONNX, for programs that run without this package."""

from wavenet.export.networks import initial_state, networks, start
from wavenet.export.onnx import CLOSE, export_onnx, largest_differences
from wavenet.export.operations import exportable

__all__ = ["CLOSE", "export_onnx", "exportable", "initial_state", "largest_differences", "networks", "start"]
