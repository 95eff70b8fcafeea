"""Who is measured: the floor, our pipeline in its forms, the peers.

Imported in the peers' environments too: the module of a contender is imported when it is made.
"""

from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from .base import Contender, Settings

FLOOR = "floor"
FLOOR_TITLE = "bare encoder"


@dataclass(frozen=True)
class Entry:
    """A contender: what it is called, and where it is found.

    Attributes:
        title: its name in tables and plots.
        where: "module:class" in this package.
        options: passed to the class.
        environment: the file of peers/ that names what it runs on; None: what binder-ner runs on.
        types: whether the number of types makes a difference; the others run once for all numbers.
        ours: binder-ner itself.
        trains: whether its training step is measured.
        note: what a reader of its figures must know.
    """

    title: str
    where: str
    options: dict[str, Any] = field(default_factory=dict)
    environment: str | None = None
    types: bool = False
    ours: bool = False
    trains: bool = False
    note: str = ""


CONTENDERS = {
    FLOOR: Entry(
        f"{FLOOR_TITLE}, fp32",
        "floor:Floor",
        trains=True,
        note="forward pass alone over binder-ner's batches, sorted by length; tokenising is not counted; "
        "its training step: forward and backward passes of both encoders, and their optimizer",
    ),
    "floor-bf16": Entry(f"{FLOOR_TITLE}, bf16", "floor:Floor", {"dtype": "bfloat16"}),
    "binder": Entry("binder-ner, fp32", "binder:Binder", types=True, ours=True, trains=True),
    "binder-bf16": Entry("binder-ner, bf16", "binder:Binder", {"dtype": "bfloat16"}, types=True, ours=True),
    "binder-onnx": Entry("binder-ner, ONNX fp32", "binder:Binder", {"onnx": "fp32"}, types=True, ours=True),
    "binder-int8": Entry("binder-ner, ONNX int8", "binder:Binder", {"onnx": "int8"}, types=True, ours=True),
    "tokens": Entry(
        "transformers token classification",
        "tokens:TokenClassifier",
        note="its types are fixed when it is trained; untrained head, biased to find as many entities as there are",
    ),
    "gliner": Entry(
        "GLiNER, one encoder",
        "gliner:Gliner",
        environment="gliner",
        types=True,
        trains=True,
        note="untrained head, its threshold set to find as many entities as there are; table of positions enlarged, "
        "so that many labels fit",
    ),
    "gliner-bi": Entry(
        "GLiNER, two encoders",
        "gliner:Gliner",
        {"two": True},
        environment="gliner",
        types=True,
        trains=True,
        note="vectors of labels computed beforehand; untrained head, its threshold set to find as many entities as "
        "there are",
    ),
    "span-marker": Entry(
        "SpanMarker",
        "span_marker:SpanMarker",
        environment="span_marker",
        trains=True,
        note="its types are fixed when it is trained; untrained head, biased to find as many entities as there are",
    ),
}


def make(name: str, settings: Settings) -> Contender:
    """The contender of that name."""
    entry = CONTENDERS[name]
    module, kind = entry.where.split(":")
    contender: Contender = getattr(import_module(f".{module}", __name__), kind)(settings, **entry.options)
    return contender
