"""Other ways to run a checkpoint: encoders as files of another runtime, and types whose vectors are kept."""

from .export import export
from .gate import ExportError, check, disagreements, f1

__all__ = ["ExportError", "check", "disagreements", "export", "f1"]
