"""Measure how much personal data remains visible if Presidio redacts texts with a BINDER model.

    python -m training.experiments.personal_data demo/model --data open/personal-data --json personal_data.json

The corpus is a folder in the format of this project, here `personal-data` (microsoft/presidio-research). Its path may
be relative to $BINDER_DATA. Three analyzers are compared:

- the built-in recognizers of Presidio,
- `BinderRecognizer`, at several thresholds,
- all recognizers together, at several thresholds.

Presidio has no spaCy model here. So its built-in recognizers search only patterns, checksums and phone numbers. All
recognizers search for their default entities. `BinderRecognizer` also searches for titles and occupations, because the
corpus annotates them.

A character is masked if it is inside a result of the analyzer, with any entity type. White space is not counted. These
figures are computed:

- leaking texts: texts in which at least one character of a gold mention is not masked
- recall: share of gold mentions whose characters are all masked; the other mentions are at least partly visible
- precision: share of masked characters that are inside a gold mention

The training split and the measured split may come from the same templates. Then a model that was trained on the corpus
has already seen sentences of the measured split. So the command also counts the texts that differ from a training text
only in their mentions.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import tldextract
from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
from presidio_analyzer.nlp_engine import NlpEngine, NlpEngineProvider

from modeling_binder.finetuning import DataError, Document, load_corpus
from modeling_binder.finetuning.counts import aligned_table
from modeling_binder.finetuning.data import write_json
from modeling_binder.finetuning.splits import SPLIT_NAMES
from modeling_binder.integrations.presidio import DEFAULT_ENTITY_MAPPING, BinderRecognizer
from modeling_binder.loading import load_pipeline
from modeling_binder.pipeline_binder import BinderNerPipeline
from training.experiments.provenance import provenance
from training.mixes import Folders

LANGUAGE = "en"
THRESHOLDS = (0.5, 0.3, 0.1)
ENTITY_MAPPING = {**DEFAULT_ENTITY_MAPPING, "form of address": "TITLE", "occupation": "TITLE"}
PRESIDIO, MODEL, BOTH = "Presidio's own recognizers", "the model", "both"

Span = tuple[int, int]


def nlp_engine() -> NlpEngine:
    """Return a Presidio engine without a language model, so that nothing is downloaded."""
    models = [{"lang_code": LANGUAGE, "model_name": "no_op"}]
    return NlpEngineProvider(nlp_configuration={"nlp_engine_name": "no_op", "models": models}).create_engine()


def analyzers(
    pipeline: BinderNerPipeline, thresholds: Sequence[float]
) -> Iterable[tuple[str, float | None, AnalyzerEngine]]:
    """Yield a name, a threshold (None without the model) and an analyzer for each row of the results."""
    yield PRESIDIO, None, AnalyzerEngine(nlp_engine=nlp_engine())
    for threshold in thresholds:
        recognizer = BinderRecognizer(pipeline, ENTITY_MAPPING, threshold=threshold, supported_language=LANGUAGE)
        yield MODEL, threshold, AnalyzerEngine(RecognizerRegistry([recognizer]), nlp_engine())
        both = AnalyzerEngine(nlp_engine=nlp_engine())
        both.registry.add_recognizer(recognizer)
        yield BOTH, threshold, both


def covered(text: str, spans: Iterable[Span]) -> set[int]:
    """Return the offsets of all characters inside the spans, without white space.

    >>> sorted(covered("a bc d", [(0, 3), (2, 4)]))
    [0, 2, 3]
    """
    return {offset for start, end in spans for offset in range(start, end) if not text[offset].isspace()}


def measure(
    documents: Sequence[Document],
    find: Callable[[str], Iterable[Span]],
    is_wide: Callable[[str], bool] = lambda mention: False,
) -> dict[str, Any]:
    """Return the figures of an analyzer as a dictionary for JSON. The docstring of the module defines the figures.

    `per_type` maps a label to the number of masked mentions and the number of all mentions.

    Args:
        documents: texts with their gold mentions.
        find: function that returns the masked spans of a text.
        is_wide: function that returns whether a mention has more tokens than the maximum span width of the model.
    """
    leaking, correct, masked_characters, visible_wide = 0, 0, 0, 0
    masked_mentions: Counter[str] = Counter()
    mentions: Counter[str] = Counter()
    for document in documents:
        masked = covered(document.text, find(document.text))
        gold: set[int] = set()
        for mention in document.entities:
            characters = covered(document.text, [(mention.start, mention.end)])
            gold |= characters
            mentions[mention.label] += 1
            if characters <= masked:
                masked_mentions[mention.label] += 1
            else:
                visible_wide += is_wide(document.text[mention.start : mention.end])
        leaking += not gold <= masked
        correct += len(masked & gold)
        masked_characters += len(masked)
    total = mentions.total()
    return {
        "leaking_texts": leaking,
        "leaking_share": leaking / len(documents),
        "recall": masked_mentions.total() / total if total else None,
        "precision": correct / masked_characters if masked_characters else None,
        "visible_mentions": total - masked_mentions.total(),
        "visible_wide_mentions": visible_wide,
        "per_type": {label: [masked_mentions[label], number] for label, number in mentions.most_common()},
    }


def measure_all(
    pipeline: BinderNerPipeline, documents: Sequence[Document], thresholds: Sequence[float] = THRESHOLDS
) -> list[dict[str, Any]]:
    """Return the figures of all analyzers, as one dictionary for each analyzer."""
    # Presidio uses a list of internet domains, which it would download. The list inside the package gives the same
    # results on every machine and every day.
    tldextract.tldextract.TLD_EXTRACTOR.suffix_list_urls = ()
    tokenizer, max_width = pipeline.tokenizer, pipeline.model.config.max_span_width

    def is_wide(mention: str) -> bool:
        return len(tokenizer.tokenize(mention)) > max_width

    rows = []
    for name, threshold, analyzer in analyzers(pipeline, thresholds):

        def find(text: str, analyzer: AnalyzerEngine = analyzer) -> list[Span]:
            return [(result.start, result.end) for result in analyzer.analyze(text, LANGUAGE)]

        rows.append({"analyzer": name, "threshold": threshold, **measure(documents, find, is_wide)})
    return rows


def known_texts(documents: Sequence[Document], training: Sequence[Document]) -> int:
    """Return the number of documents that equal a training document except for the mentions."""
    known = {_without_mentions(document) for document in training}
    return sum(_without_mentions(document) in known for document in documents)


def _without_mentions(document: Document) -> str:
    parts, position = [], 0
    for mention in sorted(document.entities, key=lambda mention: mention.start):
        parts.append(document.text[position : mention.start])
        position = max(position, mention.end)
    return "\0".join([*parts, document.text[position:]])


def report(rows: Sequence[dict[str, Any]]) -> str:
    """Return a table for the terminal."""
    header = ["analyzer", "threshold", "leaking texts", "recall", "precision"]
    lines = [header]
    for row in rows:
        threshold = "" if row["threshold"] is None else f"{row['threshold']:g}"
        shares = ["" if row[key] is None else f"{row[key]:.1%}" for key in ("leaking_share", "recall", "precision")]
        lines.append([row["analyzer"], threshold, *shares])
    return aligned_table(lines)


def main(argv: list[str] | None = None) -> dict[str, Any]:
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(
        prog="python -m training.experiments.personal_data",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", help="folder or id on the Hub")
    parser.add_argument("--data", required=True, metavar="CORPUS", help="folder with types.json and the splits")
    parser.add_argument("--split", default="test", choices=list(SPLIT_NAMES), help="default: test")
    parser.add_argument("--thresholds", nargs="+", type=float, default=list(THRESHOLDS), help="default: 0.5 0.3 0.1")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    arguments = parser.parse_args(argv)
    try:
        folder = Folders().find(arguments.data)
        corpus = load_corpus(folder)
        documents = getattr(corpus, arguments.split)
        if not documents:
            raise DataError(f"{folder}: the corpus has no documents in the split {arguments.split!r}.")
        pipeline = load_pipeline(arguments.model)
        rows = measure_all(pipeline, documents, arguments.thresholds)
    except (DataError, ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print(report(rows))
    results = {
        "origin": provenance("training.experiments.personal_data", argv, None, {}, "personal data"),
        "model": arguments.model,
        "corpus": folder.resolve().name,
        "split": arguments.split,
        "texts": len(documents),
        "known_texts": known_texts(documents, corpus.train),
        "max_span_width": pipeline.model.config.max_span_width,
        "analyzers": rows,
    }
    if arguments.json:
        write_json(arguments.json, results)
    return results


if __name__ == "__main__":
    main()
