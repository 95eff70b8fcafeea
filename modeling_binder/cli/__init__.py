"""The command `binder-ner`.

Each command is a module of this package with the functions `add_arguments(parser)` and `run(arguments) -> int`, which
returns the exit code. The docstring of the module is the description of the command in `--help`.

`--help` must answer at once. So a module is imported only when its command is called, and its functions import torch,
transformers and the rest of `modeling_binder` themselves.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import NamedTuple

from .. import __version__


class Command(NamedTuple):
    """A command: its name, its module in this package, and its line in `binder-ner --help`."""

    name: str
    module: str
    help: str


class CommandError(Exception):
    """The input of a command is wrong; the message is printed without a traceback."""


# To add a command, add a line here (name, module, line of the help) and its module to this package.
COMMANDS = (
    Command("find", "find", "find entities in texts and files"),
    Command("annotate", "annotate", "add a column of entities to a table of any size, also on a Ray cluster"),
    Command("serve", "serve", "answer requests over HTTP, on this machine or on a Ray cluster"),
    Command("evaluate", "evaluate", "compute precision, recall and F1 on a corpus"),
    Command("tune-thresholds", "tune_thresholds", "find the best thresholds on development data, and save them"),
    Command("export", "export", "store the encoders as ONNX or OpenVINO files, or freeze the entity types"),
)

_EXAMPLES = """\
examples:
  binder-ner find --model user/name "The IL-2 gene is expressed in T cells."
  binder-ner find --model user/name --type "drug: a medicine" notes.jsonl > found.jsonl
  binder-ner annotate papers.parquet annotated/ --model user/name --text-column abstract
  binder-ner evaluate checkpoints/mine my_corpus/test.jsonl

`binder-ner COMMAND --help` shows the arguments of a command.
"""

# A shell reports 128 plus the number of the signal for a process that a signal has ended.
_INTERRUPTED = 130
_CLOSED_PIPE = 141


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    The exit code is 0 if the command succeeded, 1 if its input or its model is wrong, and 2 if the arguments are wrong.
    It is 130 after Ctrl-C, and 141 if the program that reads the output has closed the pipe. Errors are printed to
    stderr.

    Args:
        arguments: the arguments of the command line. Defaults to the arguments of this process.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    command = next((command for command in COMMANDS if command.name in arguments[:1]), None)
    try:
        module = None if command is None else importlib.import_module(f".{command.module}", __name__)
        parsed = _build_parser(command, module).parse_args(arguments)
        assert command is not None and module is not None  # otherwise the parser has ended the process
        code = module.run(parsed)
        sys.stdout.flush()
        return int(code)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        # Python flushes stdout again at exit. That would fail with a traceback, so stdout becomes the null device.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _CLOSED_PIPE
    except (CommandError, ValueError, OSError, ImportError) as error:
        print(f"binder-ner {command.name if command else ''}: error: {error}", file=sys.stderr)
        return 1


def _build_parser(command: Command | None, module: ModuleType | None) -> argparse.ArgumentParser:
    """Return the parser of all commands, with the arguments of only one command."""
    parser = argparse.ArgumentParser(
        prog="binder-ner",
        description="Find entities of any type in texts.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"binder-ner {__version__}")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for entry in COMMANDS:
        subparser = subparsers.add_parser(entry.name, help=entry.help)
        if entry is command and module is not None:
            subparser.description = module.__doc__
            subparser.formatter_class = argparse.RawDescriptionHelpFormatter
            module.add_arguments(subparser)
    return parser
