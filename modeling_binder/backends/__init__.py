"""Export a checkpoint with ONNX or OpenVINO encoders, or with frozen entity types (fixed types, stored as vectors)."""

from typing import TYPE_CHECKING

from ..lazy import lazy_attributes

if TYPE_CHECKING:
    from .exporting import export
    from .gate import ExportError, check, disagreements, f1

__all__ = ["ExportError", "check", "disagreements", "export", "f1"]

if not TYPE_CHECKING:  # imports on first use, so that the help of the command does not import torch
    __getattr__, __dir__ = lazy_attributes(
        __name__, {"exporting": ["export"], "gate": ["ExportError", "check", "disagreements", "f1"]}
    )
