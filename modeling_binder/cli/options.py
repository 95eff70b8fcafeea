"""Arguments that several commands share: the model and the entity types."""

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import CommandError

if TYPE_CHECKING:
    from ..pipeline_binder import BinderNerPipeline


def add_loading_arguments(parser: argparse._ActionsContainer) -> None:
    """Add the arguments for loading and running a model."""
    add = parser.add_argument
    add("--revision", metavar="NAME", help="branch, tag or commit of the model on the Hub")
    add("--device", help="such as cpu, cuda:1 or mps (default: the first GPU, if there is one)")
    add(
        "--dtype",
        choices=["float32", "bfloat16", "float16"],
        help="data type of the encoders (default: the checkpoint's)",
    )
    add("--batch-size", metavar="N", type=int, help="windows in a batch (default: 16 on a CPU, 64 on a GPU)")


def add_type_arguments(parser: argparse._ActionsContainer) -> None:
    """Add the arguments that choose which entities are found."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--types", metavar="FILE", type=Path, help='JSON, {"name": "description", ...}')
    group.add_argument(
        "--type",
        metavar="NAME[: DESCRIPTION]",
        dest="type_list",
        type=parse_type,
        action="append",
        help='such as "drug" or "drug: a medicine"; may be repeated (default: the types of the model)',
    )
    parser.add_argument(
        "--threshold", metavar="P", type=float, help="lowest score of an entity (default: the model's, usually 0.5)"
    )
    decoding = parser.add_mutually_exclusive_group()
    decoding.add_argument(
        "--flat", dest="decoding", action="store_const", const="flat", help="find entities that do not overlap"
    )
    decoding.add_argument(
        "--nested",
        dest="decoding",
        action="store_const",
        const="nested",
        help="also find entities inside other entities (default: as the model is configured)",
    )


def parse_type(text: str) -> tuple[str, str | None]:
    """Split `name: description` into the name and the description. Without a colon, the description is None.

    Raises:
        argparse.ArgumentTypeError: the name, or the description after a colon, is blank.
    """
    name, colon, description = (part.strip() for part in text.partition(":"))
    if not name or (colon and not description):
        raise argparse.ArgumentTypeError(f"expected 'name' or 'name: description', got {text!r}")
    return name, description or None


def entity_types(arguments: argparse.Namespace) -> dict[str, Any] | None:
    """Return the entity types for a call of the pipeline, name -> description. None means the types of the model.

    If a name has no description, its description is None. The pipeline then uses the model's type with this name.

    Raises:
        CommandError: a name appears twice.
        DataError: the file of types is missing or malformed.
    """
    if arguments.type_list:
        names = [name for name, _ in arguments.type_list]
        if twice := [name for name in names if names.count(name) > 1]:
            raise CommandError(f"--type {twice[0]!r} appears twice; names must be unique.")
        return dict(arguments.type_list)
    if arguments.types is None:
        return None
    from ..finetuning.entity_types import read_entity_types

    return {
        entry.name: {"description": entry.description, "parent": entry.parent} if entry.parent else entry.description
        for entry in read_entity_types(arguments.types)
    }


def load_pipeline(arguments: argparse.Namespace) -> "BinderNerPipeline":
    """Load the pipeline of a model with the arguments of `add_loading_arguments`.

    Raises:
        CommandError: the device is not available.
        ValueError: the model cannot be loaded, or it is not a BINDER model.
    """
    import torch
    from transformers.utils import logging

    from .. import loading

    logging.disable_progress_bar()  # the bar for loading the weights; downloads have other bars
    if arguments.device is not None:
        try:
            torch.empty(0, device=arguments.device)
        except (RuntimeError, AssertionError) as error:  # torch raises AssertionError without CUDA
            raise CommandError(
                f"the device {arguments.device!r} is not available: {loading.one_line(error)}"
            ) from error
    return loading.load_pipeline(arguments.model, **loading_options(arguments))


def loading_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of `add_loading_arguments` that are not None, as arguments of `pipeline(...)`."""
    return given(arguments, ("revision", "device", "dtype", "batch_size"))


def call_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of `add_type_arguments` that are not None, as arguments of a call of the pipeline.

    Raises:
        CommandError, DataError: see `entity_types`.
    """
    types = entity_types(arguments)
    options = given(arguments, ("threshold", "decoding"))
    return options if types is None else {"entity_types": types, **options}


def given(arguments: argparse.Namespace, names: Iterable[str]) -> dict[str, Any]:
    """Return the arguments with these names that are not None."""
    return {name: value for name in names if (value := getattr(arguments, name)) is not None}
