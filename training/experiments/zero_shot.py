"""Zero-shot: evaluate a checkpoint on corpora that it was not trained on, with several wordings of the types.

    python -m training.experiments.zero_shot demo/model corpora/archaeology corpora/aptner --json zero_shot.json
    python -m training.experiments.zero_shot demo/model corpora/* --against checkpoints/base --limit 500 --parents

Each corpus is a folder in the format of this project. Its path may be relative to `--data` or $BINDER_DATA. The model
gets the entity types in these wordings:

- the name,
- the description,
- "name: description",
- the second and the third description in types.json. If a type has fewer descriptions, its last description is used.

The name of a type is its label. But if its first phrasing begins with a short name and a colon ("threat actor: a group
of hackers"), this name is used. Each wording is evaluated in flat and in nested decoding. If a text lists its `types`,
the model searches this text only for these types.

`false mentions` is the number of predictions, per 1,000 texts, whose type has no mention in the text.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, pstdev
from typing import Any

import torch
from transformers import pipeline

import modeling_binder  # noqa: F401 (registers the pipeline)
from modeling_binder.finetuning import Corpus, DataError, Document, EntityType, compute_span_metrics, load_corpus
from modeling_binder.finetuning.counts import aligned_table
from modeling_binder.finetuning.data import with_ancestors, write_json
from modeling_binder.finetuning.metrics import has_overlap
from modeling_binder.finetuning.mix import choose_types, restrict
from modeling_binder.finetuning.splits import SPLIT_NAMES
from training.experiments.provenance import provenance
from training.mixes import Folders

DECODINGS = ("flat", "nested")
MAX_NAME_WORDS = 6
MAX_DESCRIPTIONS = 3  # limits the time: a type can have more descriptions

Span = tuple[int, int, str]
ScoredSpan = tuple[int, int, str, float]


@dataclass(frozen=True)
class Wording:
    """A wording of types: its name, such as "description", and the text of each type as label -> text."""

    name: str
    texts: Mapping[str, str]


@dataclass(frozen=True)
class Task:
    """Documents of a split of a corpus, and the types to find in these documents."""

    split: str
    documents: list[Document]
    types: tuple[EntityType, ...]

    @classmethod
    def of(cls, corpus: Corpus, source: str, split: str | None, exclude: Sequence[str], limit: int | None) -> "Task":
        """Make a task from a corpus.

        Args:
            corpus: the corpus.
            source: name of the corpus, for error messages.
            split: name of the split. Defaults to the first of test, dev and train that has documents.
            exclude: labels to exclude. Labels that are not in the corpus are ignored.
            limit: maximum number of documents, evenly spread over the split.

        Raises:
            DataError: the split has no documents, or no type is left.
        """
        known = {entity_type.name for entity_type in corpus.types}
        types = choose_types(source, corpus.types, None, [label for label in exclude if label in known], {})
        splits = [split] if split else [name for name in ("test", "dev", "train") if getattr(corpus, name)]
        documents = restrict(getattr(corpus, splits[0]), types) if splits else []
        if not documents:
            raise DataError(f"{source}: the corpus has no documents{f' in the split {split!r}' if split else ''}.")
        documents = spread(documents, limit)
        if all(document.types is not None for document in documents):  # exclude types that no document lists
            asked = {label for document in documents for label in document.types or ()}
            types = tuple(entity_type for entity_type in types if entity_type.name in asked)
        return cls(splits[0], documents, types)

    @property
    def decoding(self) -> str:
        """The decoding that fits the gold mentions: "nested" if gold mentions overlap, otherwise "flat"."""
        return "nested" if any(has_overlap(document.entities) for document in self.documents) else "flat"


def spread(documents: Sequence[Document], limit: int | None) -> list[Document]:
    """Return at most `limit` documents, evenly spread over the list, because files are often sorted by source."""
    if limit is None or len(documents) <= limit:
        return list(documents)
    step = len(documents) / limit
    return [documents[int(index * step)] for index in range(limit)]


def split_phrasing(label: str, text: str) -> tuple[str, str]:
    """Return the name and the description of a type.

    >>> split_phrasing("Actor", "threat actor: a group of hackers"), split_phrasing("time_span", "A time.")
    (('threat actor', 'a group of hackers'), ('time span', 'A time.'))
    """
    name, colon, description = text.partition(": ")
    if colon and len(name.split()) <= MAX_NAME_WORDS:
        return name, description
    return label.replace("_", " "), text


def wordings(types: Sequence[EntityType]) -> list[Wording]:
    """Return the wordings of types: "name", "description", "description 2", "description 3" and "name and description".

    "description N" is the Nth description of each type. If a type has fewer descriptions, it is the last description.
    The wording is omitted if no type has N descriptions.

    If several types have the same name, the wording "name" uses "name: description" to distinguish these types.
    """
    names, descriptions = {}, {}
    for entity_type in types:
        names[entity_type.name] = split_phrasing(entity_type.name, entity_type.phrasings[0])[0]
        texts = [split_phrasing(entity_type.name, text)[1] for text in entity_type.phrasings]
        # A phrasing that equals the name is not a description. Use it only if there is no other phrasing.
        descriptions[entity_type.name] = [text for text in texts if text != names[entity_type.name]] or texts[:1]
    both = {label: f"{name}: {descriptions[label][0]}" for label, name in names.items()}
    several = [name for name in set(names.values()) if list(names.values()).count(name) > 1]
    ways = [Wording("name", {label: both[label] if name in several else name for label, name in names.items()})]
    most = max(len(texts) for texts in descriptions.values())
    for index in range(min(most, MAX_DESCRIPTIONS)):
        texts_of_all = {label: texts[min(index, len(texts) - 1)] for label, texts in descriptions.items()}
        ways.append(Wording("description" if index == 0 else f"description {index + 1}", texts_of_all))
    ways.append(Wording("name and description", both))
    return ways


def predict(
    recognizer: Any, task: Task, wording: Wording, decoding: str, parents: bool = False
) -> list[list[ScoredSpan]]:
    """Find the mentions of the types of a task in each document.

    Args:
        recognizer: a "binder-ner" pipeline.
        task: documents and types.
        wording: the texts of the types.
        decoding: "flat" or "nested".
        parents: whether to pass the parents of the types to the pipeline.

    Returns:
        The spans of each document as (start, end, label, score).
    """
    groups: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for index, document in enumerate(task.documents):
        own = document.types
        groups[tuple(entity_type.name for entity_type in task.types) if own is None else own].append(index)
    parent_of = {entity_type.name: entity_type.parent for entity_type in task.types} if parents else {}
    found: list[list[ScoredSpan]] = [[] for _ in task.documents]
    for labels, indices in groups.items():
        if not labels:
            continue
        asked: dict[str, Any] = {label: wording.texts[label] for label in labels}
        for label, parent in parent_of.items():
            if label in asked and parent in asked:
                asked[label] = {"description": asked[label], "parent": parent}
        texts = [task.documents[index].text for index in indices]
        for index, entities in zip(indices, recognizer(texts, entity_types=asked, decoding=decoding), strict=True):
            found[index] = [(e["start"], e["end"], e["entity_group"], e["score"]) for e in entities]
    return found


def false_mentions(documents: Sequence[Document], found: Sequence[Iterable[Span]]) -> float:
    """Return the number of predictions per 1,000 texts whose type has no mention in the text."""
    number = 0
    for document, spans in zip(documents, found, strict=True):
        present = {mention.label for mention in document.entities}
        number += sum(label not in present for *_, label in spans)
    return 1000 * number / max(len(documents), 1)


def measure(recognizer: Any, task: Task, wording: Wording, decoding: str, parents: bool = False) -> dict[str, Any]:
    """Return the metrics of a wording and a decoding, for JSON.

    `per_type` maps a label to its numbers of correct, predicted and gold mentions. In nested decoding, a gold mention
    is also a gold mention of the ancestors of its type, if the document was annotated for the ancestors.
    """
    gold = with_ancestors(task.documents, task.types) if decoding == "nested" else task.documents
    found = [[span[:3] for span in spans] for spans in predict(recognizer, task, wording, decoding, parents)]
    metrics = compute_span_metrics([document.entities for document in gold], found, list(wording.texts))
    return {
        "f1": metrics.micro.f1,
        "precision": metrics.micro.precision,
        "recall": metrics.micro.recall,
        "false_mentions_per_1000_texts": false_mentions(gold, found),
        "per_type": {
            label: [score.correct, score.predicted, score.gold]
            for label, score in metrics.per_type.items()
            if score.gold or score.predicted
        },
    }


def measure_corpus(recognizer: Any, task: Task, parents: bool = False) -> dict[str, Any]:
    """Evaluate the pipeline on a task in every wording and decoding. Return the results for JSON."""
    return {
        "split": task.split,
        "texts": len(task.documents),
        "mentions": sum(len(document.entities) for document in task.documents),
        "types": len(task.types),
        "decoding": task.decoding,
        "wordings": {
            wording.name: {decoding: measure(recognizer, task, wording, decoding, parents) for decoding in DECODINGS}
            for wording in wordings(task.types)
        },
    }


def figures(result: Mapping[str, Any], decoding: str | None = None) -> dict[str, float]:
    """Return the figures of a corpus: F1 of each wording, their mean, and their spread (the standard deviation).

    "false mentions" is the number of false mentions per 1,000 texts with the wording "name".

    Args:
        result: result of `measure_corpus`.
        decoding: "flat" or "nested". Defaults to the decoding that fits the gold mentions.
    """
    decoding = decoding or result["decoding"]
    by_wording = {name: way[decoding]["f1"] for name, way in result["wordings"].items()}
    return {
        **by_wording,
        "all wordings": mean(by_wording.values()),
        "spread over wordings": pstdev(by_wording.values()),
        "false mentions": result["wordings"]["name"][decoding]["false_mentions_per_1000_texts"],
    }


def summarise(corpora: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Return the means of `figures` over corpora, for flat and for nested decoding.

    The key "fitting" has the means for the decoding that fits the gold mentions of each corpus, see `Task.decoding`.
    """
    keys = ("name", "description", "name and description", "all wordings", "spread over wordings", "false mentions")
    summary = {}
    for decoding in (*DECODINGS, "fitting"):
        chosen = None if decoding == "fitting" else decoding
        found = [figures(result, chosen) for result in corpora.values()]
        summary[decoding] = {key: mean(each[key] for each in found) for key in keys}
    return summary


def report(models: Mapping[str, Mapping[str, Any]], decoding: str) -> str:
    """Return a table of F1 in percent for the terminal. Rows are corpora, and columns are models and wordings."""
    columns = ("name", "description", "name and description")
    header = ["corpus", "texts", "types", *(f"{model}: {column}" for model in models for column in columns)]
    rows = []
    for corpus, first in next(iter(models.values()))["corpora"].items():
        found = [figures(results["corpora"][corpus], decoding) for results in models.values()]
        cells = [f"{100 * each[column]:.1f}" for each in found for column in columns]
        rows.append([corpus, str(first["texts"]), str(first["types"]), *cells])
    means = [results["summary"][decoding] for results in models.values()]
    rows.append(["mean", "", "", *(f"{100 * each[column]:.1f}" for each in means for column in columns)])
    return aligned_table([header, *rows])


def read_tasks(arguments: argparse.Namespace) -> dict[str, Task]:
    """Read the corpora that the command line lists.

    Raises:
        DataError: a corpus cannot be read, two corpora have the same name, or an excluded label is in no corpus.
    """
    tasks: dict[str, Task] = {}
    labels: set[str] = set()
    for folder in map(Folders(arguments.data).find, arguments.corpora):
        corpus = load_corpus(folder)
        labels |= set(corpus.entity_types)
        if folder.resolve().name in tasks:
            raise DataError(f"two corpora are named {folder.resolve().name!r}; rename one of the folders.")
        tasks[folder.resolve().name] = Task.of(corpus, str(folder), arguments.split, arguments.exclude, arguments.limit)
    if unknown := sorted(set(arguments.exclude) - labels):
        raise DataError(f"--exclude lists {unknown[0]!r}, which is not a type of any of the corpora.")
    return tasks


def main(argv: list[str] | None = None) -> dict[str, Any]:
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(
        prog="python -m training.experiments.zero_shot",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", help="folder or id on the Hub")
    parser.add_argument("corpora", nargs="+", help="folders with types.json and the splits")
    parser.add_argument("--data", help="folder of the corpora; defaults to $BINDER_DATA")
    parser.add_argument("--against", metavar="MODEL", help="a second checkpoint to compare with")
    parser.add_argument(
        "--split",
        choices=list(SPLIT_NAMES),
        help="split to evaluate on; defaults to the first of test, dev and train that exists",
    )
    parser.add_argument("--exclude", nargs="*", default=[], metavar="LABEL", help="labels to exclude from all corpora")
    parser.add_argument("--parents", action="store_true", help="pass the parents of the corpora's types to the model")
    parser.add_argument(
        "--limit", type=int, help="maximum number of texts of each corpus, evenly spread over the split"
    )
    parser.add_argument("--device", help="cpu, cuda, ...")
    parser.add_argument("--json", type=Path, help="write all results to this file")
    arguments = parser.parse_args(argv)
    models: dict[str, dict[str, Any]] = {}
    try:
        tasks = read_tasks(arguments)
        options = {"device": torch.device(arguments.device)} if arguments.device else {}
        for source in dict.fromkeys([arguments.model, *filter(None, [arguments.against])]):
            recognizer = pipeline("binder-ner", model=source, **options)
            corpora = {}
            for name, task in tasks.items():
                print(f"{source}: {name} ...", file=sys.stderr, flush=True)
                corpora[name] = measure_corpus(recognizer, task, arguments.parents)
            models[source] = {"corpora": corpora, "summary": summarise(corpora)}
    except (DataError, ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    for decoding in DECODINGS:
        print(f"\nF1, {decoding} decoding\n{report(models, decoding)}")
    origin = provenance("training.experiments.zero_shot", argv, None, {}, "zero-shot")
    results = {"origin": origin, "models": models}
    if arguments.json:
        write_json(arguments.json, results)
    return results


if __name__ == "__main__":
    main()
