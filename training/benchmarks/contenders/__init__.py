"""The contenders of the speed benchmark: the bare encoder (floor), variants of binder-ner, and other packages (peers).

Peers run in separate environments, which do not contain the libraries of the other contenders. The peers import this
module too. So it imports the module of a contender only when the contender is created.
"""

from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from .base import Contender, Settings

FLOOR = "floor"
FLOOR_TITLE = "bare encoder"
INT8_NOTE = "exported with --max-loss 100, which accepts any loss of F1"
UNTRAINED_NOTE = "untrained head, calibrated to find as many entities as are annotated"


@dataclass(frozen=True)
class Entry:
    """A contender.

    Attributes:
        title: name in tables and plots.
        where: "module:class" in this package.
        options: options of the class.
        environment: name of a file of requirements in the folder peers. None means the environment of binder-ner.
        types: whether entity types can be passed with each call. Otherwise, the types are fixed, and the contender is
            measured only for one number of types.
        ours: whether the contender is a variant of binder-ner.
        max_types: maximum number of types that are measured. None means that there is no maximum.
        encodes: whether the encoding of types is a separate step, which is measured.
        trains: whether training steps are measured.
        note: explanation for the page with the results.
    """

    title: str
    where: str
    options: dict[str, Any] = field(default_factory=dict)
    environment: str | None = None
    types: bool = False
    max_types: int | None = None
    encodes: bool = False
    ours: bool = False
    trains: bool = False
    note: str = ""


CONTENDERS = {
    FLOOR: Entry(
        f"{FLOOR_TITLE}, fp32",
        "floor:Floor",
        trains=True,
        note="forward pass over the batches of binder-ner, without tokenisation; training step: forward and backward "
        "passes of two encoders and a step of their optimizer",
    ),
    "floor-bf16": Entry(f"{FLOOR_TITLE}, bf16", "floor:Floor", {"dtype": "bfloat16"}),
    "binder": Entry("binder-ner, fp32", "binder:Binder", types=True, encodes=True, ours=True, trains=True),
    "binder-bf16": Entry(
        "binder-ner, bf16", "binder:Binder", {"dtype": "bfloat16"}, types=True, encodes=True, ours=True
    ),
    "binder-onnx": Entry(
        "binder-ner, ONNX fp32", "binder:Binder", {"export": "onnx"}, types=True, encodes=True, ours=True
    ),
    "binder-int8": Entry(
        "binder-ner, ONNX int8",
        "binder:Binder",
        {"export": "onnx", "int8": True},
        types=True,
        encodes=True,
        ours=True,
        note=INT8_NOTE,
    ),
    "binder-openvino": Entry(
        "binder-ner, OpenVINO int8",
        "binder:Binder",
        {"export": "openvino", "int8": True},
        types=True,
        encodes=True,
        ours=True,
        note=INT8_NOTE,
    ),
    "tokens": Entry(
        "transformers token classification",
        "tokens:TokenClassifier",
        note=f"types are fixed in training; {UNTRAINED_NOTE}",
    ),
    "gliner": Entry(
        "GLiNER, one encoder",
        "gliner:Gliner",
        environment="gliner",
        types=True,
        max_types=1000,  # its input contains all labels, so the memory grows with the square of their number
        trains=True,
        note=f"{UNTRAINED_NOTE}; with a larger table of position embeddings, so that many labels fit",
    ),
    "gliner-bi": Entry(
        "GLiNER, two encoders",
        "gliner:Gliner",
        {"two": True},
        environment="gliner",
        types=True,
        encodes=True,
        trains=True,
        note=f"label embeddings are computed beforehand; {UNTRAINED_NOTE}",
    ),
    "fast-gliner": Entry(
        "fast_gliner, one encoder",
        "fast_gliner:FastGliner",
        environment="fast_gliner",
        types=True,
        max_types=1000,
        note=f"GLiNER in Rust and onnxruntime, with 4 threads (the library chooses their number); {UNTRAINED_NOTE}",
    ),
    "span-marker": Entry(
        "SpanMarker",
        "span_marker:SpanMarker",
        environment="span_marker",
        trains=True,
        note=f"types are fixed in training; {UNTRAINED_NOTE}",
    ),
}


def make(name: str, settings: Settings) -> Contender:
    """Create a contender by name."""
    entry = CONTENDERS[name]
    module, class_name = entry.where.split(":")
    contender: Contender = getattr(import_module(f".{module}", __name__), class_name)(settings, **entry.options)
    return contender
