"""The command `binder-ner export`; see `modeling_binder.backends.command`."""

import argparse

from ..backends import command
from ..backends.command import add_arguments as add_arguments
from . import CommandError

__doc__ = command.__doc__


def run(arguments: argparse.Namespace) -> int:
    """Export a checkpoint, and print its size and the result of the comparison with the original."""
    from ..backends.gate import ExportError

    try:
        return command.run(arguments)
    except ExportError as error:
        raise CommandError(str(error)) from error
