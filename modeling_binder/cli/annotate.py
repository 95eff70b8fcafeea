"""Add a column of entities to a table of any size. The table is JSONL, CSV, Parquet or a dataset on the Hub.

  binder-ner annotate papers.jsonl annotated/ --model user/name --text-column abstract
  binder-ner annotate "s3://bucket/papers/*.parquet" s3://bucket/annotated --model user/name --ray auto
  binder-ner annotate user/dataset annotated/ --split train --model user/name --type "drug: a medicine"

The output is a folder of Parquet or JSONL files. They have all columns of the table and a new column "entities" with
lists of {"start", "end", "label", "score", "word"}. If a row fails (no text, broken bytes), the new column "error" has
the reason. After an interruption, run the same command again: it annotates only the missing rows.

With --ray, a Ray cluster does the work. Its nodes must be able to read the table and the model, and to write to the
output folder. --ray without an address uses the cluster in the environment variable RAY_ADDRESS. If the variable is not
set, it starts a cluster on this machine.
"""

import argparse
from typing import TYPE_CHECKING, Any

from . import CommandError
from .options import add_loading_arguments, add_type_arguments, entity_types, given

if TYPE_CHECKING:
    from ..annotating.job import Summary

_SETTINGS = ("revision", "device", "dtype", "batch_size", "threshold", "decoding", "inference", "max_length", "stride")
_TABLE = (
    "text_column",
    "id_column",
    "new_id_column",
    "entities_column",
    "error_column",
    "format",
    "rows_per_part",
    "split",
    "config",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("source", metavar="SOURCE", help="file, folder, pattern, fsspec URL, or dataset on the Hub")
    parser.add_argument("target", metavar="TARGET", help="output folder, or its fsspec URL")
    parser.add_argument("--model", required=True, help="folder, or id on the Hub")
    table = parser.add_argument_group("table").add_argument
    table("--text-column", metavar="NAME", help="column of the texts (default: text)")
    table("--id-column", metavar="NAME", help="column of the ids, which must be unique (default: id, if there is one)")
    table(
        "--new-id-column",
        metavar="NAME",
        help="add a column of ids, made from file and row (default: id, if the table has no ids)",
    )
    table("--split", metavar="NAME", help="split of a dataset on the Hub")
    table("--config", metavar="NAME", help="configuration of a dataset on the Hub")
    output = parser.add_argument_group("output").add_argument
    output("--format", choices=["parquet", "jsonl"], help="default: parquet")
    output("--entities-column", metavar="NAME", help="default: entities")
    output("--error-column", metavar="NAME", help="default: error")
    output("--rows-per-part", metavar="N", type=int, help="rows in a file of the output (default: 1000)")
    output("--no-progress", action="store_true", help="show no progress bar")
    entities = parser.add_argument_group("entities")
    add_type_arguments(entities)
    entities.add_argument("--inference", choices=["span", "joint"], help="default: the model's")
    entities.add_argument("--max-length", metavar="N", type=int, help="tokens in a window (default: the model's)")
    entities.add_argument("--stride", metavar="N", type=int, help="tokens that windows share (default: the model's)")
    add_loading_arguments(parser.add_argument_group("model"))
    cluster = parser.add_argument_group("Ray").add_argument
    cluster(
        "--ray", metavar="ADDRESS", nargs="?", const="", help="annotate on a Ray cluster, such as auto or host:6379"
    )
    cluster("--actors", metavar="N", type=_number_of_actors, help="processes, or MIN-MAX (default: as many as fit)")
    cluster("--cpus-per-actor", metavar="N", type=float, help="cores of an actor; may be a fraction (default: 1)")
    cluster("--gpus-per-actor", metavar="N", type=float, help="GPUs of an actor (default: 1 if the cluster has any)")


def run(arguments: argparse.Namespace) -> int:
    """Annotate a table and print how many rows have been annotated.

    Raises:
        CommandError: an argument has no effect without another argument, or the job failed.
        ValueError: the source, the model or an argument is wrong, or the output folder belongs to another job.
        ImportError: a package is missing.
    """
    ray_options = {
        "actors": arguments.actors,
        "num_cpus": arguments.cpus_per_actor,
        "num_gpus": arguments.gpus_per_actor,
    }
    ray_options = {name: value for name, value in ray_options.items() if value is not None}
    if ray_options and arguments.ray is None:
        raise CommandError("--actors, --cpus-per-actor and --gpus-per-actor need --ray.")
    options = given(arguments, (*_SETTINGS, *_TABLE))
    summary = _annotate(arguments, {**options, "entity_types": entity_types(arguments)}, ray_options)
    before = f"; {summary.done_before:,} were annotated before" if summary.done_before else ""
    failed = f"; {summary.errors:,} of them have an error" if summary.errors else ""
    print(f"{arguments.target}: {summary.rows:,} rows annotated{failed}{before}.")
    return 0


def _annotate(arguments: argparse.Namespace, options: dict[str, Any], ray_options: dict[str, Any]) -> "Summary":
    try:
        if arguments.ray is not None:
            import ray  # noqa: F401 (raises here if the package is missing, before the table is read)
        from transformers.utils import logging

        from ..annotating.job import prepare
    except ModuleNotFoundError as error:
        extra = "annotate" if arguments.ray is None else "ray"
        raise CommandError(f"the package {error.name} is missing: pip install 'binder-ner[{extra}]'") from None
    logging.disable_progress_bar()  # transformers shows one while it loads the weights
    progress = not arguments.no_progress
    on_ray = arguments.ray is not None
    job = prepare(arguments.source, arguments.target, arguments.model, check_on_cpu=on_ray, **options)
    try:
        if not on_ray:
            return job.run(progress)
        from ..integrations.ray import run as run_on_ray

        return run_on_ray(job, address=arguments.ray or None, progress=progress, **ray_options)
    except RuntimeError as error:
        raise CommandError(str(error)) from error


def _number_of_actors(text: str) -> int | tuple[int, int]:
    try:
        low, _, high = text.partition("-")
        return (int(low), int(high)) if high else int(low)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number, or a range such as 1-8, got {text!r}") from None
