"""Export checkpoints: encoders as ONNX files, or fixed entity types with their vectors stored."""

from .export import export
from .gate import ExportError, check, disagreements, f1

__all__ = ["ExportError", "check", "disagreements", "export", "f1"]
