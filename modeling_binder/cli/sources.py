"""Read texts from the command line, from files and from stdin, as documents without entities."""

import csv
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

from ..finetuning.data import Document
from ..finetuning.errors import DataError
from ..finetuning.files import (
    UTF16_MARKS,
    allow_long_csv_cells,
    decoded_lines,
    decompressed,
    is_stream,
    open_bytes,
    stem_of,
    suffix_of,
    surrogate_problem,
)
from ..finetuning.formats import FORMATS, detect_format, read_documents
from ..finetuning.formats.records import read_records

# Formats of plain texts. The other formats are for annotated documents; only their texts are read.
STREAMED_FORMATS = ("text", "lines", "jsonl", "csv", "tsv")  # these can also be read from stdin and from pipes
TEXT_FORMATS = (*STREAMED_FORMATS, "parquet")
INPUT_FORMATS = (*TEXT_FORMATS, *(name for name in FORMATS if name not in TEXT_FORMATS))

_FORMAT_OF_SUFFIX = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".tsv": "tsv", ".parquet": "parquet"}
_ANNOTATED = (".json", ".xml", ".nxml", ".ann", ".pubtator", ".conll", ".iob", ".iob2", ".bio", ".conllu", ".spacy")


class Columns(NamedTuple):
    """The names of two columns.

    Args:
        text: the column of the texts.
        id: the column of the ids. None means the column "id", if there is one.
    """

    text: str = "text"
    id: str | None = None


class Source(NamedTuple):
    """A source of texts: a file, stdin, or a text of the command line.

    Args:
        name: the name of the file, "stdin", or the text itself.
        format: one of `INPUT_FORMATS`. None means that `name` is the text itself.
        is_stdin: the texts are read from stdin.
    """

    name: str
    format: str | None
    is_stdin: bool = False


def find_sources(inputs: Sequence[str], format: str | None = None) -> list[Source]:
    """Return the sources for the arguments of the command line.

    Args:
        inputs: names of files, "-" for stdin, or one text.
        format: one of `INPUT_FORMATS`. None means that the suffix of a file determines its format. The format of
            stdin is then "text".

    Raises:
        DataError: a file is missing, or the format cannot be read from stdin or from a pipe.
    """
    sources = []
    for argument in inputs:
        if argument == "-":
            if format not in (None, *STREAMED_FORMATS):
                raise DataError(f"the format {format} cannot be read from stdin; pass a file instead.")
            sources.append(Source("stdin", format or "text", is_stdin=True))
        elif is_stream(argument):
            chosen = format or _FORMAT_OF_SUFFIX.get(suffix_of(argument), "text")
            if chosen not in STREAMED_FORMATS:
                raise DataError(f"{argument}: the format {chosen} cannot be read from a pipe; pass a file instead.")
            sources.append(Source(argument, chosen))
        elif os.path.exists(argument):
            sources.append(Source(argument, format or _format_of(Path(argument))))
        elif len(inputs) > 1:
            raise DataError(f"there is no file {argument!r}; put a text of several words in quotation marks.")
        elif _looks_like_a_file(argument):
            raise DataError(f"there is no file {argument!r}; if this is a text, pass it on stdin, with - as argument.")
        else:
            sources.append(Source(argument, None))
    return sources


def read_sources(sources: Iterable[Source], columns: Columns) -> Iterator[Document]:
    """Yield the documents of all sources one by one. Large files in text formats are never in memory as a whole.

    Raises:
        DataError: a source is malformed; the message names file, line and field.
    """
    for source in sources:
        if source.format is None:
            yield Document("1", _checked(source.name, "the text"))
        elif source.is_stdin:
            with decompressed(sys.stdin.buffer, "stdin") as file:
                yield from _READERS[source.format](file, "stdin", columns)
        elif source.format == "parquet":
            yield from _read_parquet(source.name, columns)
        elif source.format in _READERS:
            with open_bytes(source.name) as file:
                yield from _READERS[source.format](_text_only(file, source.name), source.name, columns)
        else:
            yield from (Document(read.id, read.text) for read in read_documents(source.name, source.format))


def count_documents(sources: Iterable[Source], columns: Columns) -> int | None:
    """Check all documents and return their number. Return None if a source is stdin or a pipe, which is read only once.

    Raises:
        DataError: see `read_sources`.
    """
    sources = list(sources)
    if any(source.is_stdin or (source.format is not None and is_stream(source.name)) for source in sources):
        return None
    return sum(1 for _ in read_sources(sources, columns))


def _looks_like_a_file(argument: str) -> bool:
    known = suffix_of(argument[-50:]) in (*_FORMAT_OF_SUFFIX, *_ANNOTATED, ".txt")
    return known or (("/" in argument or "\\" in argument) and not any(character.isspace() for character in argument))


def _format_of(path: Path) -> str:
    suffix = suffix_of(path)
    if suffix in _FORMAT_OF_SUFFIX:
        return _FORMAT_OF_SUFFIX[suffix]
    if suffix not in _ANNOTATED and not path.is_dir():
        return "text"
    found = detect_format(path)
    return "json" if found == "jsonl" else found


def _text_only(file: IO[bytes], name: str) -> IO[bytes]:
    """Return the file. Raise `DataError` if the file is binary."""
    head = file.peek(2**12)  # type: ignore[attr-defined]  # a pipe cannot be read again from its start
    if b"\0" in head and not head.startswith(UTF16_MARKS):  # the reader has a better error for UTF-16
        raise DataError(
            f"{name}: this is a binary file; expected text, JSONL or CSV, or a Parquet file with the suffix .parquet."
        )
    return file


def _read_text(file: IO[bytes], name: str, columns: Columns) -> Iterator[Document]:
    yield Document(stem_of(name), "".join(decoded_lines(file, name)))


def _read_lines(file: IO[bytes], name: str, columns: Columns) -> Iterator[Document]:
    for number, line in enumerate(decoded_lines(file, name), 1):
        if line.strip():
            yield Document(f"{stem_of(name)}-{number}", line.removesuffix("\n").removesuffix("\r"))


def _read_jsonl(file: IO[bytes], name: str, columns: Columns) -> Iterator[Document]:
    for number, line in enumerate(decoded_lines(file, name), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            reason = f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else error
            raise DataError(f"{name}:{number}: not valid JSON ({reason}); expected one object a line.") from None
        if not isinstance(row, Mapping):
            raise DataError(f"{name}:{number}: expected an object with a text, got {type(row).__name__}.")
        yield _document(row, columns, f"{name}:{number}", f"{stem_of(name)}-{number}")


def _read_json(file: IO[bytes], name: str, columns: Columns) -> Iterator[Document]:
    for number, (where, row) in enumerate(read_records(name, f"a text in {columns.text!r}"), 1):
        yield _document(row, columns, where, f"{stem_of(name)}-{number}")


def _read_csv(file: IO[bytes], name: str, columns: Columns, dialect: str = "excel") -> Iterator[Document]:
    allow_long_csv_cells()
    rows = csv.DictReader(decoded_lines(file, name), dialect=dialect, strict=True)
    try:
        _check_columns(rows.fieldnames or [], columns, name)
        if twice := [column for column, count in Counter(rows.fieldnames or []).items() if count > 1]:
            raise DataError(f"{name}:1: the header has the column {twice[0]!r} twice; names must differ.")
        for number, row in enumerate(rows, 1):
            where = f"{name}:{rows.line_num}"
            if None in row or None in row.values():
                raise DataError(
                    f"{where}: the header has {len(rows.fieldnames or [])} cells; this row has more or fewer."
                )
            yield _document(row, columns, where, f"{stem_of(name)}-{number}")
    except csv.Error as error:
        raise DataError(f"{name}:{rows.line_num}: not valid CSV ({error}).") from None


def _read_tsv(file: IO[bytes], name: str, columns: Columns) -> Iterator[Document]:
    return _read_csv(file, name, columns, "excel-tab")


_READERS: dict[str, Callable[[IO[bytes], str, Columns], Iterator[Document]]] = {
    "text": _read_text,
    "lines": _read_lines,
    "jsonl": _read_jsonl,
    "json": _read_json,
    "csv": _read_csv,
    "tsv": _read_tsv,
}


def _read_parquet(name: str, columns: Columns) -> Iterator[Document]:
    try:
        import pyarrow
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise DataError(f"{name}: Parquet needs a package: pip install 'binder-ner[annotate]'.") from None
    try:
        with ParquetFile(name) as file:
            names = file.schema_arrow.names
            _check_columns(names, columns, name)
            read = [columns.text, *_id_column(names, columns)]
            number = 0
            for batch in file.iter_batches(columns=read):
                for row in batch.to_pylist():
                    number += 1
                    yield _document(row, columns, f"{name}: row {number}", f"{stem_of(name)}-{number}")
    except pyarrow.ArrowException as error:
        raise DataError(f"{name}: not a Parquet file ({error}).") from None


def _id_column(names: Iterable[Any], columns: Columns) -> list[str]:
    column = columns.id or "id"
    return [column] if column in names else []


def _check_columns(names: Iterable[Any], columns: Columns, where: str) -> None:
    """Raise `DataError` if a table does not have the columns."""
    for column, option in ((columns.text, "--text-column"), (columns.id, "--id-column")):
        if column is not None and column not in names:
            listed = ", ".join(map(repr, names)) or "none"
            raise DataError(
                f"{where}: there is no column {column!r}; the columns are {listed:.300}. Choose one with {option}."
            )


def _document(row: Mapping[str, Any], columns: Columns, where: str, default_id: str) -> Document:
    _check_columns(row, columns, where)
    text = row[columns.text]
    if not isinstance(text, str):
        raise DataError(f"{where}: {columns.text!r} must be a text, got {text!r:.60}.")
    identifier = next((row[column] for column in _id_column(row, columns)), None)
    identifier = default_id if identifier in (None, "") else _checked(str(identifier), f"{where}: the id")
    return Document(identifier, _checked(text, f"{where}: the text"))


def _checked(text: str, where: str) -> str:
    if problem := surrogate_problem(text):
        raise DataError(f"{where} {problem}.")
    return text
