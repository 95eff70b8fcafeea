"""Compute precision, recall and F1 of a model on a corpus, in total and per entity type.

binder-ner evaluate checkpoints/mine my_corpus/test.jsonl --json metrics.json
binder-ner evaluate checkpoints/mine my_corpus/test.jsonl --predictions mine.jsonl --errors errors.html
binder-ner evaluate mine.jsonl my_corpus/test.jsonl --against other.jsonl

MODEL may also be a file with the predictions of any model. --predictions writes such files.
"""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from . import CommandError

if TYPE_CHECKING:
    from ..finetuning import Document, SpanMetrics

_OF_MODELS = ("decoding", "inference", "max_length")  # arguments that have no effect on a file with predictions


class Evaluation(NamedTuple):
    """The exact-match scores and the predictions of a model."""

    metrics: "SpanMetrics"
    predictions: list[list[dict[str, Any]]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("model", metavar="MODEL", help="folder, id on the Hub, or a file with predictions")
    parser.add_argument("corpus", metavar="CORPUS", type=Path, help="documents with gold mentions, in any format")
    parser.add_argument("--types", metavar="FILE", type=Path, help="JSON, name -> description (default: the model's)")
    parser.add_argument("--decoding", choices=["nested", "flat"], help="default: the model's")
    parser.add_argument("--inference", choices=["span", "joint"], help="default: the model's")
    parser.add_argument("--flat-algorithm", choices=["exact", "greedy"], default="exact", help="default: exact")
    parser.add_argument("--max-length", metavar="N", type=int, help="tokens in a window (default: the model's)")
    parser.add_argument("--batch-size", metavar="N", type=int, default=32, help="windows per batch (default: 32)")
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write the metrics to this file")
    parser.add_argument("--predictions", metavar="FILE", type=Path, help="write the predicted mentions, as JSONL")
    parser.add_argument(
        "--errors", metavar="FILE", type=Path, help="write all errors, as a page with drawings (.html) or as JSON"
    )
    parser.add_argument(
        "--max-errors", metavar="N", type=int, default=100, help="errors of each kind on the page (default: 100)"
    )
    parser.add_argument("--against", metavar="MODEL", help="another MODEL; a bootstrap test compares the two F1 scores")
    parser.add_argument(
        "--resamples", metavar="N", type=int, default=10_000, help="with --against: number of samples (default: 10000)"
    )
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="with --against: random seed (default: 0)")


def run(arguments: argparse.Namespace) -> int:
    """Evaluate a model and print the metrics."""
    evaluate_model(arguments)
    return 0


def evaluate_model(arguments: argparse.Namespace) -> "SpanMetrics":
    """Evaluate a model, print the metrics, and write the files that the arguments name.

    Raises:
        CommandError: the packages of the extra "train" are not installed, or an argument is wrong.
        DataError: the corpus, the file of types or a file with predictions is malformed.
        ValueError: an argument is out of range, or a model cannot be loaded.
        OSError: an output cannot be written, or the weights of a model are missing.
    """
    named = {"MODEL": arguments.model, "--against": arguments.against}
    models = {name: model for name, model in named.items() if model and not os.path.isfile(model)}
    _check_arguments(arguments, models)
    _check_files(arguments, models)
    from ..finetuning.data import write_json
    from ..finetuning.formats import read_documents
    from ..finetuning.metrics import compute_scheme_metrics
    from ..finetuning.prediction_files import read_predictions, write_predictions

    documents = read_documents(arguments.corpus)
    against_file = arguments.against and os.path.isfile(arguments.against)
    other = read_predictions(arguments.against, documents) if against_file else None
    metrics, predictions = _evaluate(arguments.model, documents, arguments)
    schemes = compute_scheme_metrics(documents, predictions, metrics.per_type)
    report = {**metrics.to_dict(), "schemes": schemes.to_dict()}
    print(f"{metrics.table()}\n\n{schemes.table()}")
    if arguments.predictions:  # write these before the comparison, which may take long or fail
        write_predictions(arguments.predictions, documents, predictions)
        print(f"{arguments.predictions}: {sum(map(len, predictions))} mentions")
    if arguments.against:
        if other is None:
            other = _evaluate(arguments.against, documents, arguments).predictions
        report["against"] = _compare(documents, predictions, other, arguments)
    if arguments.json:
        write_json(arguments.json, report)
    if arguments.errors:
        _write_errors(documents, predictions, list(metrics.per_type), arguments)
    return metrics


def _check_arguments(arguments: argparse.Namespace, models: dict[str, str]) -> None:
    """Check the arguments before the evaluation, which may take long.

    Args:
        models: the arguments that are models and not files with predictions, as name of the argument -> model.

    Raises:
        CommandError: an argument is wrong, or the packages of the extra "train" are not installed.
    """
    if arguments.errors and arguments.errors.suffix.lower() not in (".html", ".htm", ".json"):
        raise CommandError(f"--errors {arguments.errors}: expected a name that ends in .html or .json.")
    for name in ("max_errors", "resamples"):
        if getattr(arguments, name) < 1:
            raise CommandError(f"--{name.replace('_', '-')} must be at least 1, got {getattr(arguments, name)}.")
    if arguments.seed < 0:
        raise CommandError(f"--seed must be at least 0, got {arguments.seed}.")
    if models:
        try:
            from ..finetuning.evaluation import evaluate  # noqa: F401
        except ImportError as error:
            raise CommandError(
                f"{error}; an evaluation needs further packages: pip install 'binder-ner[train]'."
            ) from error
    elif given := [name for name in _OF_MODELS if getattr(arguments, name) is not None]:
        raise CommandError(
            f"--{given[0].replace('_', '-')} has no effect on {arguments.model}, which is a file with predictions."
        )


def _check_files(arguments: argparse.Namespace, models: dict[str, str]) -> None:
    """Check that the models can be loaded and that the outputs can be written.

    Args:
        models: see `_check_arguments`.

    Raises:
        CommandError: a model cannot be loaded, a file is missing, or an output cannot be written.
    """
    from ..finetuning.errors import DataError
    from ..finetuning.files import check_not_input, check_writable, suffix_of
    from ..finetuning.formats import SUFFIXES

    for name, model in models.items():
        if suffix_of(model) in SUFFIXES and not os.path.exists(model):
            raise CommandError(f"{name} {model}: there is no such file.")
    inputs = [path for path in (arguments.corpus, arguments.model, arguments.against, arguments.types) if path]
    for name in ("json", "predictions", "errors"):
        if path := getattr(arguments, name):
            try:
                check_writable(path)
                check_not_input(path, map(Path, inputs))
            except (OSError, DataError) as error:
                raise CommandError(f"--{name} {error}") from None
    if models:
        from ..loading import check_model
    for name, model in models.items():
        try:
            check_model(model)
        except ValueError as error:
            raise CommandError(f"{name}: {error}") from error


def _evaluate(model: str, documents: "Sequence[Document]", arguments: argparse.Namespace) -> Evaluation:
    """Evaluate a model, or the predictions in a file."""
    from ..finetuning.data import read_types
    from ..finetuning.metrics import compute_span_metrics
    from ..finetuning.prediction_files import read_predictions

    types = read_types(arguments.types) if arguments.types else None
    if os.path.isfile(model):
        predictions = read_predictions(model, documents)
        return Evaluation(compute_span_metrics(documents, predictions, types), predictions)
    from ..finetuning.evaluation import evaluate

    return Evaluation(
        *evaluate(
            model,
            documents,
            entity_types=types,
            decoding=arguments.decoding,
            inference=arguments.inference,
            max_length=arguments.max_length,
            batch_size=arguments.batch_size,
            flat_algorithm=arguments.flat_algorithm,
        )
    )


def _compare(
    documents: "Sequence[Document]",
    predictions: list[list[dict[str, Any]]],
    other: list[list[dict[str, Any]]],
    arguments: argparse.Namespace,
) -> dict[str, Any]:
    """Print whether the F1 scores of the two models differ, and return the result as JSON data."""
    from ..finetuning.bootstrap import paired_bootstrap

    result = paired_bootstrap(documents, predictions, other, resamples=arguments.resamples, seed=arguments.seed)
    print(f"\n{result.summary(arguments.model, arguments.against)}")
    return {"model": arguments.against, **result.to_dict()}


def _write_errors(
    documents: "Sequence[Document]",
    predictions: list[list[dict[str, Any]]],
    labels: list[str],
    arguments: argparse.Namespace,
) -> None:
    """Write the errors as an HTML page or as JSON data."""
    from ..finetuning.data import write_json
    from ..finetuning.error_analysis import analyse_errors
    from ..finetuning.error_page import write_error_page

    analysis = analyse_errors(documents, predictions)
    if arguments.errors.suffix.lower() == ".json":
        write_json(arguments.errors, analysis.to_dict())
    else:
        title = f"Errors of {arguments.model} on {arguments.corpus}"
        write_error_page(arguments.errors, analysis, title=title, labels=labels, max_errors=arguments.max_errors)
    counts = ", ".join(f"{count} {kind.value}" for kind, count in analysis.counts().items())
    print(f"{arguments.errors}: {len(analysis.errors)} errors ({counts})")
