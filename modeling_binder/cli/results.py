"""Write found entities as a drawing, as rows of JSON or TSV, or in the format of an annotation tool."""

import contextlib
import io
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, TypeAlias

from ..finetuning.data import Document
from ..finetuning.files import suffix_of, written_whole
from ..finetuning.formats import FORMATS, write_format
from . import CommandError

# A document, and its entities as the pipeline returns them
Result: TypeAlias = tuple[Document, Sequence[Mapping[str, Any]]]

_TOOLS = tuple(name for name, format in FORMATS.items() if format.write and name != "jsonl")
OUTPUT_FORMATS = ("drawing", "jsonl", "tsv", *_TOOLS)
_FOLDERS = ("brat",)
_BINARY = ("docbin",)
_TSV_COLUMNS = ("id", "start", "end", "label", "score", "word")
_SEPARATORS = dict.fromkeys(map(ord, "\t\r\n"), " ")  # a cell of TSV holds neither tabs nor line ends
_MAX_WIDTH = 100  # columns of a drawing; longer lines are hard to read


def choose_format(format: str | None, output: Path | None) -> str:
    """Return `format`, or a default if `format` is None.

    The default depends on the suffix of `output`. If `output` is None too, the default is "drawing" on a terminal and
    "jsonl" elsewhere.

    Raises:
        CommandError: the format needs a folder or a binary file and `output` is None, or no format has the suffix of
            `output`.
    """
    if format is None and output is not None:
        format = {".tsv": "tsv", ".jsonl": "jsonl", ".spacy": "docbin"}.get(suffix_of(output))
        if format is None:
            raise CommandError(f"--output {output} needs --format; its choices are {', '.join(OUTPUT_FORMATS)}.")
    elif format is None:
        format = "drawing" if sys.stdout.isatty() else "jsonl"
    if format in _FOLDERS and output is None:
        raise CommandError(f"--format {format} writes several files: choose a folder with --output.")
    if format in _BINARY and output is None:
        raise CommandError(f"--format {format} writes a binary file: choose the file with --output.")
    return format


def write_results(results: Iterable[Result], format: str, output: Path | None, labels: Sequence[str]) -> None:
    """Write results to a file, a folder or stdout. Drawings and rows are written one result at a time.

    Args:
        results: documents and entities.
        format: one of `OUTPUT_FORMATS`.
        output: the file or folder; None means stdout.
        labels: names of all entity types, which get the colours of a drawing.

    Raises:
        DataError: the format cannot hold the results.
    """
    if format in _TOOLS:
        with _path_of(output) as path:
            write_format(map(_row, results), path, format)
    elif format == "drawing":
        with _file_of(output) as file:
            _draw(results, file, labels)
    else:
        writers: dict[str, Callable[[Iterable[Result], IO[str]], None]] = {"jsonl": _write_jsonl, "tsv": _write_tsv}
        with _file_of(output) as file:
            writers[format](results, file)


@contextlib.contextmanager
def _file_of(output: Path | None) -> Iterator[IO[str]]:
    if output is None:
        if isinstance(sys.stdout, io.TextIOWrapper) and not sys.stdout.isatty():
            sys.stdout.reconfigure(encoding="utf-8", newline="\n", line_buffering=True)
        yield sys.stdout
    else:
        with written_whole(output) as file:
            yield file


@contextlib.contextmanager
def _path_of(output: Path | None) -> Iterator[Path]:
    """Yield `output`. If it is None, yield a temporary path, and copy this file to stdout at the end."""
    if output is not None:
        yield output
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "stdout")
        yield path
        with path.open(encoding="utf-8", newline="") as file, _file_of(None) as stdout:
            shutil.copyfileobj(file, stdout)


def _row(result: Result) -> dict[str, Any]:
    document, entities = result
    return {
        "id": document.id,
        "text": document.text,
        "entities": [
            {
                "start": entity["start"],
                "end": entity["end"],
                "label": entity["entity_group"],
                "score": entity["score"],
                "word": entity["word"],
            }
            for entity in entities
        ],
    }


def _write_jsonl(results: Iterable[Result], file: IO[str]) -> None:
    for result in results:
        file.write(json.dumps(_row(result), ensure_ascii=False) + "\n")


def _write_tsv(results: Iterable[Result], file: IO[str]) -> None:
    file.write("\t".join(_TSV_COLUMNS) + "\n")
    for result in results:
        row = _row(result)
        for entity in row["entities"]:
            values = {**entity, "id": row["id"], "score": f"{entity['score']:.4f}"}
            file.write("\t".join(str(values[name]).translate(_SEPARATORS) for name in _TSV_COLUMNS) + "\n")


def _draw(results: Iterable[Result], file: IO[str], labels: Sequence[str]) -> None:
    from rich.console import Console
    from rich.text import Text

    from ..drawing.terminal import CONTROLS, draw_entities

    console = Console(file=file, highlight=False)
    for number, (document, entities) in enumerate(results):
        # Without `capture`, rich would end the process with exit code 1 if the pipe is closed.
        with console.capture() as drawn:
            if number:
                console.print()
            if number or document.id != "1":
                console.print(Text(document.id.translate(CONTROLS), style="dim"))
            console.print(draw_entities(document.text, entities, min(console.width, _MAX_WIDTH), labels), end="")
        file.write(drawn.get())
        file.flush()
