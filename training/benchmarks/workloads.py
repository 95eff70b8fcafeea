"""Make the texts and entity types of the speed benchmark: sentences of corpora, long documents, made-up types."""

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modeling_binder.finetuning.files import read_lines

from .worker import spread

CALIBRATION_SENTENCES = 8  # a small number, because calibration processes these sentences many times
LONG = "long"
CORPORA = ("ncbi", "genia")
TITLES = {"ncbi": "NCBI", "genia": "GENIA", LONG: "long documents"}

_QUALITIES = (
    "hollow", "folded", "painted", "borrowed", "frozen", "wooden", "silent", "striped", "rolling", "hidden",
    "spare", "narrow", "floating", "polished", "heated", "broken", "early", "distant", "woven", "salted",
)  # fmt: skip
_THINGS = (
    "bridge", "kettle", "ladder", "orchard", "compass", "lantern", "harbour", "saddle", "violin", "chimney",
    "anchor", "basket", "carpet", "drawer", "engine", "feather", "garden", "hammer", "island", "jacket",
    "kitchen", "locker", "magnet", "needle", "oven", "pencil", "quarry", "ribbon", "shovel", "teapot",
    "umbrella", "valley", "wagon", "yard", "button", "candle", "dome", "easel", "fence", "glove",
    "hinge", "inkwell", "jar", "kite", "lever", "mirror", "nail", "oar", "pulley", "quilt",
)  # fmt: skip
_PLACES = ("", " of a farm", " of a school", " of a ship", " of a station", " of a museum", " of a shop", " of a hotel",
           " of a castle", " of a factory")  # fmt: skip


def made_up_types(count: int) -> dict[str, str]:
    """Return made-up entity types as name -> description. Their names consist of everyday words.

    A larger count adds types to the types of a smaller count.

    Raises:
        ValueError: the number is not between 1 and 10,000.
    """
    most = len(_PLACES) * len(_QUALITIES) * len(_THINGS)
    if not 1 <= count <= most:
        raise ValueError(
            f"the number of types must be between 1 and {most}, got {count}. Example: --types 1 5 20 100 1000"
        )
    names = [
        (_QUALITIES[(index + turn) % len(_QUALITIES)], thing + place)
        for place in _PLACES
        for turn in range(len(_QUALITIES))
        for index, thing in enumerate(_THINGS)
    ]
    return {
        f"{quality} {thing}": f"A {thing} that is {quality}, or a part, a maker or a place of such a {thing}."
        for quality, thing in names[:count]
    }


@dataclass(frozen=True)
class Workload:
    """Texts to process.

    Attributes:
        texts: the texts.
        gold: number of annotated mentions in each text.
        sample: a few sentences -> number of their mentions, to calibrate contenders with untrained heads.
    """

    texts: list[str]
    gold: list[int]
    sample: dict[str, int]


def read_documents(corpora: Path, name: str, split: str) -> list[dict[str, Any]]:
    """Read the documents of a split of a corpus.

    Raises:
        FileNotFoundError: the file is missing or empty. The message contains the command that makes it.
    """
    path = corpora / name / f"{split}.jsonl"
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} does not exist. Convert the original files of the corpus: python -m training.corpora {name} "
            f"DOWNLOADED_FOLDER {path.parent}"
        )
    documents = [json.loads(line) for line in read_lines(path) if line.strip()]
    documents = [document for document in documents if document["text"].strip()]
    if not documents:
        raise FileNotFoundError(f"{path} contains no text; convert the corpus again with python -m training.corpora.")
    return documents


def sentences(documents: Sequence[dict[str, Any]], limit: int | None) -> Workload:
    """Return the texts of a corpus, or `limit` of them with the same distribution of lengths."""
    texts = [document["text"] for document in documents]
    chosen = spread(texts, limit or len(texts))
    gold = [len(documents[index]["entities"]) for index in chosen]
    return Workload([texts[index] for index in chosen], gold, _sample(documents))


def _sample(documents: Sequence[dict[str, Any]]) -> dict[str, int]:
    chosen = spread([document["text"] for document in documents], CALIBRATION_SENTENCES)
    return {documents[index]["text"]: len(documents[index]["entities"]) for index in chosen}


def long_documents(corpora: Sequence[Sequence[dict[str, Any]]], characters: int) -> Workload:
    """Join the sentences of each corpus to a text with a given number of characters. Repeat them if necessary."""
    texts, gold = [], []
    for documents in corpora:
        parts: list[str] = []
        length = mentions = 0
        for document in itertools.cycle(documents):
            parts.append(document["text"])
            length += len(document["text"]) + 1
            mentions += len(document["entities"])
            if length > characters:
                break
        texts.append(" ".join(parts)[:characters])
        gold.append(mentions)
    return Workload(texts, gold, _sample([document for documents in corpora for document in documents]))
