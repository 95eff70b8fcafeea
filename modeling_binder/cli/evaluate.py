"""Compare what a model finds with the mentions of a corpus: precision, recall and F1, in total and per type.

binder-ner evaluate checkpoints/mine my_corpus/test.jsonl --json metrics.json
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from . import CommandError

if TYPE_CHECKING:
    from ..finetuning import SpanMetrics


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("model", metavar="MODEL", help="folder, or id on the Hub")
    parser.add_argument("corpus", metavar="CORPUS", type=Path, help="documents with gold mentions, in any format")
    parser.add_argument("--types", metavar="FILE", type=Path, help="JSON, name -> description (default: the model's)")
    parser.add_argument("--decoding", choices=["nested", "flat"], help="default: the model's")
    parser.add_argument("--inference", choices=["span", "joint"], help="default: the model's")
    parser.add_argument("--flat-algorithm", choices=["exact", "greedy"], default="exact", help="default: exact")
    parser.add_argument("--max-length", metavar="N", type=int, help="tokens in a window (default: the model's)")
    parser.add_argument("--batch-size", metavar="N", type=int, default=32, help="windows per batch (default: 32)")
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write the metrics to this file")
    parser.add_argument("--predictions", metavar="FILE", type=Path, help="write the predicted mentions, as JSONL")


def run(arguments: argparse.Namespace) -> int:
    """Evaluate a model and print the metrics."""
    evaluate_model(arguments)
    return 0


def evaluate_model(arguments: argparse.Namespace) -> "SpanMetrics":
    """Evaluate a model, print the metrics, and write the files that the arguments name.

    Raises:
        CommandError: the packages of the extra "train" are not installed.
        DataError: the corpus or the types are malformed.
        ValueError: an argument is out of range.
        OSError: the model cannot be loaded.
    """
    from ..finetuning.data import read_types, write_json, write_jsonl
    from ..finetuning.formats import read_documents

    try:
        from ..finetuning.evaluation import evaluate, with_predictions
    except ImportError as error:
        raise CommandError(
            f"{error}; an evaluation needs further packages: pip install 'binder-ner[train]'."
        ) from error

    documents = read_documents(arguments.corpus)
    metrics, predictions = evaluate(
        arguments.model,
        documents,
        entity_types=read_types(arguments.types) if arguments.types else None,
        decoding=arguments.decoding,
        inference=arguments.inference,
        max_length=arguments.max_length,
        batch_size=arguments.batch_size,
        flat_algorithm=arguments.flat_algorithm,
    )
    print(metrics.table())
    if arguments.json:
        write_json(arguments.json, metrics.to_dict())
    if arguments.predictions:
        found = with_predictions(documents, predictions)
        write_jsonl(arguments.predictions, found)
        print(f"{arguments.predictions}: {sum(len(document.entities) for document in found)} mentions")
    return metrics
