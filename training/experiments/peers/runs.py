"""Prepare the data of a comparison, run contenders in their own processes, and score their predictions."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from modeling_binder.finetuning.bootstrap import paired_bootstrap
from modeling_binder.finetuning.corpus import Corpus
from modeling_binder.finetuning.data import DataError, Document, with_ancestors, write_json, write_jsonl
from modeling_binder.finetuning.formats import read_documents
from modeling_binder.finetuning.metrics import compute_span_metrics, has_overlap
from modeling_binder.finetuning.prediction_files import read_predictions
from modeling_binder.finetuning.splits import SPLIT_NAMES
from modeling_binder.words_binder import split_words
from training.benchmarks.environments import python_of
from training.benchmarks.processes import environment
from training.experiments.provenance import commit
from training.pages import ROOT

from . import CONTENDERS
from .base import Settings, predictions_file
from .worker import FINISHED, SETTINGS, read_settings

LOG = "log.txt"
_NESTED = 0.01  # a corpus is nested if more than this share of its training texts have mentions that overlap


class RunError(RuntimeError):
    """A contender could not be run; the message is the reason in the table."""


@dataclass(frozen=True)
class Data:
    """A corpus as the contenders read it.

    Attributes:
        name: name of the corpus.
        folder: folder with the files.
        nested: whether mentions overlap.
        documents: number of documents of each split.
    """

    name: str
    folder: Path
    nested: bool
    documents: dict[str, int]


def write_data(name: str, corpus: Corpus, folder: Path, first: int | None = None) -> Data:
    """Write a corpus in the form that all contenders read: JSONL files in which all texts have words.

    Args:
        name: name of the corpus.
        corpus: its documents and types.
        folder: folder for the files.
        first: number of documents of each split, from its beginning; None means all.

    Raises:
        DataError: a split is empty, or texts are annotated only in part, which most contenders cannot take into
            account.
    """
    documents: dict[str, list[Document]] = {}
    for split in SPLIT_NAMES:
        found = with_ancestors(getattr(corpus, split)[:first], corpus.types)
        if not found:
            raise DataError(f"{name}: the split {split} has no documents; a comparison needs train, dev and test.")
        partial = next((each.id for each in found if each.undecided or each.types is not None), None)
        if partial is not None:
            raise DataError(f"{name}: document {partial!r} is annotated only in part; use a corpus without such texts.")
        documents[split] = [
            replace(each, words=tuple(split_words(each.text)) if each.words is None else each.words) for each in found
        ]
        write_jsonl(folder / f"{split}.jsonl", documents[split])
    write_json(folder / "types.json", corpus.entity_types)
    train = documents["train"]
    overlapping = sum(has_overlap(each.entities) for each in train)
    counts = {split: len(found) for split, found in documents.items()}
    return Data(name, folder, overlapping > _NESTED * len(train), counts)


def run(settings: Settings, output: Path) -> dict[str, Any]:
    """Run a contender, except if it has finished before, and return the facts of the run.

    Raises:
        RunError: the environment could not be installed, or the process failed.
        ValueError: the folder holds a run with other settings.
    """
    finished = output / FINISHED
    if finished.exists():
        earlier = asdict(read_settings(output))
        different = [key for key, value in asdict(settings).items() if earlier[key] != value]
        if different:
            raise ValueError(
                f"{output} holds a run with other settings ({', '.join(different)}): delete it, or pass another "
                "--folder."
            )
    else:
        output.mkdir(parents=True, exist_ok=True)
        write_json(output / SETTINGS, {**asdict(settings), "commit": commit()})
        _start(settings, output)
    facts: dict[str, Any] = json.loads(finished.read_text(encoding="utf-8"))
    return facts


def _start(settings: Settings, output: Path) -> None:
    peer = CONTENDERS[settings.contender].environment
    try:
        python = python_of(peer) if peer else sys.executable
    except RuntimeError as error:
        raise RunError(str(error)) from None
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])) if peer is None else str(ROOT)
    with (output / LOG).open("w", encoding="utf-8") as log:
        done = subprocess.run(
            [python, "-m", "training.experiments.peers.worker", str(output)],
            cwd=ROOT,
            env={**environment(settings.threads), "PYTHONPATH": path},
            stdout=log,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if done.returncode or not (output / FINISHED).exists():
        lines = (output / LOG).read_text(encoding="utf-8", errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "no output")
        print(f"{output / LOG} has the output of the process.", flush=True)
        raise RunError(f"ended with exit status {done.returncode}: {last[:300]}")


def scored(data: Data, facts: dict[str, Any], output: Path, split: str) -> list[dict[str, Any]]:
    """Return the evaluations of a run with their scores in percent: exact matches, micro average."""
    documents = read_documents(data.folder / f"{split}.jsonl")
    gold = [document.entities for document in documents]
    points = []
    for point in facts["points"]:
        metrics = compute_span_metrics(
            gold, read_predictions(predictions_file(output, split, point["share"]), documents)
        )
        scores = {name: round(100 * getattr(metrics.micro, name), 2) for name in ("precision", "recall", "f1")}
        if data.nested:
            scores["nested_f1"] = round(100 * metrics.nested.f1, 2)
        kept = {name: round(value, 3) for name, value in point.items()}
        points.append({**kept, **scores})
    return points


def difference(data: Data, ours: Path, other: Path, share: float = 1.0) -> dict[str, Any]:
    """Compare the predictions of two finished runs on the test set by a paired bootstrap over its documents."""
    documents = read_documents(data.folder / "test.jsonl")
    gold: Sequence[Any] = [document.entities for document in documents]
    found = [read_predictions(predictions_file(output, "test", share), documents) for output in (ours, other)]
    return paired_bootstrap(gold, *found).to_dict()
