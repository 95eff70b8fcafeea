"""Compare BINDER with other packages: F1 at equal training time, with the same encoder, data and CPU cores.

`python -m training.experiments.peers` starts each contender in its own process. Peers, the other packages, run in their
own environments, which lack the libraries of binder-ner. This module is imported there too, so it imports the module of
a contender only when the contender is created.
"""

from dataclasses import dataclass
from importlib import import_module

from .base import Contender, Run

OURS = "binder"


@dataclass(frozen=True)
class Entry:
    """A contender.

    Attributes:
        title: name in tables and plots.
        where: "module:class" in this package.
        source: where its training settings come from.
        learning_rates: the learning rate of this source, followed by the other rates that `--tune` compares.
        environment: name of a file of requirements in `training/benchmarks/peers`; None means the environment of
            binder-ner.
        nested: whether it can learn and find entities that overlap. A contender that cannot is trained on the outermost
            entities.
    """

    title: str
    where: str
    source: str
    learning_rates: tuple[float, ...]
    environment: str | None = None
    nested: bool = True


CONTENDERS = {
    OURS: Entry(
        "BINDER",
        "binder:Binder",
        "batch size and windows of training/recipes/ncbi-minilm.yaml; one learning rate for all parts of the model",
        (6e-5, 3e-5, 1.2e-4),
    ),
    "tokens": Entry(
        "transformers token classification",
        "tokens:Tokens",
        "defaults of transformers' TrainingArguments; batch size and windows of training/recipes/ncbi-minilm.yaml",
        (5e-5, 2e-5, 1e-4),
        nested=False,
    ),
    "gliner": Entry(
        "GLiNER",
        "gliner:Gliner",
        "defaults of GLiNER.create_training_args and GLiNERConfig",
        (5e-5, 1e-5, 1e-4),
        environment="gliner",
    ),
    "span-marker": Entry(
        "SpanMarker",
        "span_marker:SpanMarker",
        "example of SpanMarker's documentation (Getting Started)",
        (5e-5, 1e-5, 1e-4),
        environment="span_marker",
        nested=False,
    ),
    "spancat": Entry(
        "spaCy spancat",
        "spancat:Spancat",
        "python -m spacy init config --pipeline spancat --gpu, with a wider n-gram suggester",
        (5e-5, 2e-5, 1e-4),
        environment="spacy",
    ),
}


def make(name: str, run: Run) -> Contender:
    """Create a contender by name."""
    module, class_name = CONTENDERS[name].where.split(":")
    contender: Contender = getattr(import_module(f".{module}", __name__), class_name)(run)
    return contender
