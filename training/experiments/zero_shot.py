"""Zero-shot: ask a checkpoint for the types of corpora that did not train it, by name and by description.

    python -m training.experiments.zero_shot demo/model corpora/archaeology corpora/aptner --json zero_shot.json

Each corpus is a folder in the project's format. The text of a type may begin with a natural name and a colon
("threat actor: a group of hackers"): the name is the part before the colon. Types are asked for in several ways: by
name, by description, and by both; further phrasings in types.json are asked for too. Every way is measured in flat and
in nested decoding. Texts that list their own `types` are asked for those alone.

`false mentions` counts, for 1,000 texts, the mentions that are found of types that have none in the text.
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
from modeling_binder.finetuning import DataError, Document, compute_span_metrics, load_corpus
from modeling_binder.finetuning.data import write_json
from modeling_binder.finetuning.metrics import SpanMetrics
from training.experiments.provenance import provenance

DECODINGS = ("flat", "nested")
MAX_PHRASINGS = 3


@dataclass(frozen=True)
class Wording:
    """The text that stands for each type when a corpus is asked: label -> text."""

    name: str
    texts: Mapping[str, str]


def split_phrasing(label: str, text: str) -> tuple[str, str]:
    """Return the natural name and the description of a type.

    A short part before the first colon is the name; without one, the label is, with its underscores read as blanks.
    """
    name, colon, description = text.partition(": ")
    if colon and len(name.split()) <= 6:
        return name, description
    return label.replace("_", " "), text


def wordings(phrasings: Mapping[str, Sequence[str]]) -> list[Wording]:
    """The ways in which the types of a corpus are asked for.

    Args:
        phrasings: label -> the texts of its types.json.
    """
    split = {label: [split_phrasing(label, text) for text in texts] for label, texts in phrasings.items()}
    ways = [Wording("name", {label: pairs[0][0] for label, pairs in split.items()})]
    most = min(MAX_PHRASINGS - 1, max(len(pairs) for pairs in split.values()))
    for index in range(most):
        texts = {label: pairs[min(index, len(pairs) - 1)][1] for label, pairs in split.items()}
        ways.append(Wording("description" if index == 0 else f"description {index + 1}", texts))
    if len(ways) < MAX_PHRASINGS:
        ways.append(
            Wording("name and description", {label: f"{pairs[0][0]}: {pairs[0][1]}" for label, pairs in split.items()})
        )
    return ways


def looked_for(document: Document, labels: Sequence[str]) -> tuple[str, ...]:
    """The types that a document is asked for."""
    own = getattr(document, "types", None)
    return tuple(labels) if own is None else tuple(own)


def predict(
    recognizer: Any, documents: Sequence[Document], labels: Sequence[str], wording: Wording, decoding: str
) -> list[list[tuple[int, int, str]]]:
    """The spans that a pipeline finds in each document, asked for the document's types."""
    groups: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for index, document in enumerate(documents):
        groups[looked_for(document, labels)].append(index)
    found: list[list[tuple[int, int, str]]] = [[] for _ in documents]
    for types, indices in groups.items():
        asked = {label: wording.texts[label] for label in types}
        texts = [documents[index].text for index in indices]
        for index, entities in zip(indices, recognizer(texts, entity_types=asked, decoding=decoding), strict=True):
            found[index] = [(entity["start"], entity["end"], entity["entity_group"]) for entity in entities]
    return found


def false_mentions(documents: Sequence[Document], found: Sequence[Iterable[tuple[int, int, str]]]) -> float:
    """Mentions found of types that have none in the text, for 1,000 texts."""
    count = 0
    for document, spans in zip(documents, found, strict=True):
        present = {mention.label for mention in document.entities}
        count += sum(label not in present for *_, label in spans)
    return 1000 * count / max(len(documents), 1)


def score(
    recognizer: Any, documents: Sequence[Document], labels: Sequence[str], wording: Wording, decoding: str
) -> tuple[SpanMetrics, float]:
    """Metrics of a way of asking, and its false mentions."""
    found = predict(recognizer, documents, labels, wording, decoding)
    metrics = compute_span_metrics([document.entities for document in documents], found, labels)
    return metrics, false_mentions(documents, found)


def measure_corpus(recognizer: Any, folder: Path, split: str | None, excluded: Sequence[str], limit: int | None) -> Any:
    """Ask a checkpoint for the types of a corpus in every way; the results as a dictionary for JSON."""
    corpus = load_corpus(folder)
    name = split or next(name for name in ("test", "dev", "train") if getattr(corpus, name))
    documents: list[Document] = getattr(corpus, name)
    if not documents:
        raise DataError(f"{folder}: the split {name!r} has no documents.")
    if limit is not None and len(documents) > limit:
        step = len(documents) / limit
        documents = [documents[int(index * step)] for index in range(limit)]
    phrasings = {label: texts for label, texts in _phrasings(corpus).items() if label not in excluded}
    documents = [_without(document, excluded) for document in documents]
    labels = list(phrasings)
    ways: dict[str, Any] = {}
    for wording in wordings(phrasings):
        for decoding in DECODINGS:
            metrics, false = score(recognizer, documents, labels, wording, decoding)
            occurring = {label: value for label, value in metrics.per_type.items() if value.gold or value.predicted}
            ways.setdefault(wording.name, {})[decoding] = {
                "f1": metrics.micro.f1,
                "precision": metrics.micro.precision,
                "recall": metrics.micro.recall,
                "false_mentions_per_1000_texts": false,
                "per_type": {label: value.to_dict() for label, value in occurring.items()} if len(labels) < 200 else {},
            }
    return {
        "split": name,
        "texts": len(documents),
        "mentions": sum(len(document.entities) for document in documents),
        "types": len(labels),
        "ways": ways,
    }


def _phrasings(corpus: Any) -> dict[str, Sequence[str]]:
    return {label: corpus.phrasings(label) for label in corpus.entity_types}


def _without(document: Document, excluded: Sequence[str]) -> Document:
    if not excluded:
        return document
    from dataclasses import replace

    kept = tuple(mention for mention in document.entities if mention.label not in excluded)
    return replace(document, entities=kept)


def summarise(corpora: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Mean F1 over the corpora by name and over all ways, and the mean spread over the ways."""
    summary: dict[str, dict[str, float]] = {}
    for decoding in DECODINGS:
        by_name = [result["ways"]["name"][decoding]["f1"] for result in corpora.values()]
        by_way = [[way[decoding]["f1"] for way in result["ways"].values()] for result in corpora.values()]
        described = [result["ways"]["description"][decoding]["f1"] for result in corpora.values()]
        summary[decoding] = {
            "name": mean(by_name),
            "description": mean(described),
            "all ways": mean(mean(values) for values in by_way),
            "spread over the ways": mean(pstdev(values) for values in by_way),
        }
    return summary


def table(models: Mapping[str, Mapping[str, Any]], decoding: str) -> str:
    """A table for the terminal: F1 in percent, corpora in rows, models and ways in columns."""
    header = ["corpus", "texts", "types", *(f"{name}: {way}" for name in models for way in ("name", "description"))]
    rows = []
    for corpus, first in next(iter(models.values())).items():
        cells = [
            f"{100 * results[corpus]['ways'][way][decoding]['f1']:.1f}"
            for results in models.values()
            for way in ("name", "description")
        ]
        rows.append([corpus, str(first["texts"]), str(first["types"]), *cells])
    summaries = [summarise(results)[decoding] for results in models.values()]
    means = [f"{100 * summary[way]:.1f}" for summary in summaries for way in ("name", "description")]
    rows.append(["mean", "", "", *means])
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [header, *rows]
    )


def main(argv: list[str] | None = None) -> dict[str, Any]:
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(
        prog="python -m training.experiments.zero_shot",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", help="folder or id on the Hub")
    parser.add_argument("corpora", nargs="+", type=Path, help="folders with types.json and the splits")
    parser.add_argument("--against", metavar="MODEL", help="a second checkpoint, asked the same")
    parser.add_argument("--split", choices=["train", "dev", "test"], help="default: test, else dev, else train")
    parser.add_argument("--exclude", nargs="*", default=[], metavar="LABEL", help="labels to leave out of all corpora")
    parser.add_argument("--limit", type=int, help="ask only N texts of each corpus, spread evenly over the split")
    parser.add_argument("--device", help="cpu, cuda, ...")
    parser.add_argument("--json", type=Path, help="write all results to this file")
    arguments = parser.parse_args(argv)
    models: dict[str, dict[str, Any]] = {}
    try:
        for source in [arguments.model, *([arguments.against] if arguments.against else [])]:
            options = {"device": torch.device(arguments.device)} if arguments.device else {}
            recognizer = pipeline("binder-ner", model=source, **options)
            models[source] = {}
            for folder in arguments.corpora:
                print(f"{source}: {folder.name} ...", file=sys.stderr, flush=True)
                models[source][folder.name] = measure_corpus(
                    recognizer, folder, arguments.split, arguments.exclude, arguments.limit
                )
    except (DataError, ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    for decoding in DECODINGS:
        print(f"\nF1, {decoding} decoding\n{table(models, decoding)}")
    origin = provenance("training.experiments.zero_shot", argv, None, {}, "zero-shot")
    results = {
        "origin": origin,
        "models": {name: {"corpora": corpora, "summary": summarise(corpora)} for name, corpora in models.items()},
    }
    if arguments.json:
        write_json(arguments.json, results)
    return results


if __name__ == "__main__":
    main()
