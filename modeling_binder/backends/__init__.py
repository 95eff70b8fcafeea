"""Export checkpoints whose encoders are ONNX files, or whose entity types are fixed and stored as vectors."""

from typing import TYPE_CHECKING

from ..lazy import lazy_attributes

if TYPE_CHECKING:
    from .exporting import export
    from .gate import ExportError, check, disagreements, f1

__all__ = ["ExportError", "check", "disagreements", "export", "f1"]

if not TYPE_CHECKING:  # so that the help of the command can be shown without importing torch
    __getattr__, __dir__ = lazy_attributes(
        __name__, {"exporting": ["export"], "gate": ["ExportError", "check", "disagreements", "f1"]}
    )
