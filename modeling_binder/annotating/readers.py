"""Read tables in chunks of rows: JSONL, CSV and Parquet.

`scan` reads a file once and divides it into chunks. `read` then returns the rows of some chunks, on any machine and in
any order. A row that cannot be read gets an error instead of values, and does not end the job.
"""

import codecs
import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any, NamedTuple, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from ..finetuning.files import UTF16_MARKS, allow_long_csv_cells
from .files import SourceFile

MAX_CHUNK_BYTES = 2**25  # limits the memory of a chunk: chunks with long rows have fewer rows
_BLOCK_BYTES = 2**22  # bytes of a text file that are read at once
_HEADER_BYTES = 2**14  # bytes that are read at once to find the header of a CSV file


class Chunk(NamedTuple):
    """Neighbouring rows of a file.

    Args:
        file: index of the file in the source.
        first: index of the first row in the file.
        rows: number of rows.
        begin, end: position of the chunk; `end` is exclusive. In a text file, these are offsets in bytes after
            decompression. In a Parquet file, these are indices of the row groups that contain the chunk.
        skip: number of rows in these row groups before the chunk.
    """

    file: int
    first: int
    rows: int
    begin: int
    end: int
    skip: int = 0

    @property
    def name(self) -> str:
        """Name of the chunk. The alphabetical order of the names is the order of the rows."""
        return f"{self.file:05}-{self.first:012}"


class Rows(NamedTuple):
    """Rows of a table, and for each row an error or None."""

    table: pa.Table
    errors: list[str | None]


class Scanned(NamedTuple):
    """The result of a scan for a chunk: its columns, and the values of its column of ids."""

    chunk: Chunk
    schema: pa.Schema
    ids: pa.ChunkedArray | None


class Reader(Protocol):
    """Reads the tables of a format."""

    def scan(self, file: SourceFile, number: int, rows: int, id_column: str | None) -> Iterator[Scanned]:
        """Yield the chunks of a file.

        Args:
            file: the file.
            number: index of the file in the source.
            rows: maximum number of rows in a chunk.
            id_column: name of the column of ids, or None.
        """

    def read(self, file: SourceFile, chunks: Sequence[Chunk]) -> Iterator[Rows]:
        """Yield the rows of each chunk. The chunks must be in the order of the file."""


class JsonlReader:
    """Reads files with one JSON object per line. Blank lines are skipped.

    Args:
        text_column: name of the column of texts. If a text is not a string, its row gets an error.
    """

    def __init__(self, text_column: str) -> None:
        self.text_column = text_column

    def scan(self, file: SourceFile, number: int, rows: int, id_column: str | None) -> Iterator[Scanned]:
        first = begin = end = 0
        lines: list[bytes] = []

        def scanned() -> Scanned:
            chunk = Chunk(number, first, len(lines), begin, end)
            table = self._rows(file, chunk, lines).table
            return Scanned(chunk, table.schema, table[id_column] if id_column in table.column_names else None)

        with file.open() as content:
            for line in _lines(content):
                if end == 0:
                    _check_start(file, line)
                end += len(line)
                if line.strip():
                    lines.append(line)
                if len(lines) == rows or end - begin >= MAX_CHUNK_BYTES:
                    if lines:
                        yield scanned()
                    first, begin, lines = first + len(lines), end, []
        if lines:
            yield scanned()

    def read(self, file: SourceFile, chunks: Sequence[Chunk]) -> Iterator[Rows]:
        for chunk, content in _contents(file, chunks):
            lines = [line for line in content.split(b"\n") if line.strip()]
            yield self._rows(file, chunk, lines)

    def _rows(self, file: SourceFile, chunk: Chunk, lines: Sequence[bytes]) -> Rows:
        if len(lines) != chunk.rows:
            raise _changed(file)
        records, errors = [], []
        for line in lines:
            record, error = _parse_object(line)
            text = record.get(self.text_column)
            if text is not None and not isinstance(text, str):
                error = f"the text is not a string but {text!r:.80}"
                record = {**record, self.text_column: None}
            records.append(record)
            errors.append(error)
        columns = {}
        for name in dict.fromkeys(name for record in records for name in record):
            try:
                columns[name] = pa.array([record.get(name) for record in records])
            except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
                raise ValueError(
                    f"{file.url}: the column {name!r} cannot be stored: in the rows {chunk.first} to "
                    f"{chunk.first + chunk.rows - 1}, {error}. All values of a column must have the same type."
                ) from None
        return Rows(pa.table(columns) if columns else _without_columns(len(records)), errors)


class CsvReader:
    """Reads CSV files. The first line contains the names of the columns. All values are read as strings.

    Args:
        delimiter: character between the fields.
    """

    def __init__(self, delimiter: str) -> None:
        self.delimiter = delimiter

    def scan(self, file: SourceFile, number: int, rows: int, id_column: str | None) -> Iterator[Scanned]:
        allow_long_csv_cells()
        first = begin = end = 0
        records: list[list[str]] = []
        names: list[str] | None = None

        def lines(content: IO[bytes]) -> Iterator[str]:
            nonlocal end
            for line in _lines(content):
                if end == 0:
                    _check_start(file, line)
                is_first, end = end == 0, end + len(line)
                # Remove a byte order mark. Otherwise csv would read a quote after the mark as a part of the name.
                yield (line.removeprefix(codecs.BOM_UTF8) if is_first else line).decode("utf-8", "surrogateescape")

        def scanned() -> Scanned:
            assert names is not None
            table = self._rows(names, records).table
            ids = table[id_column] if id_column in names else None
            return Scanned(Chunk(number, first, len(records), begin, end), table.schema, ids)

        with file.open() as content:
            for record in self._records(file, lines(content)):
                if names is None:
                    names, begin = _header(file, record), end
                    continue
                records.append(record)
                if len(records) == rows or end - begin >= MAX_CHUNK_BYTES:
                    yield scanned()
                    first, begin, records = first + len(records), end, []
        if records:
            yield scanned()

    def read(self, file: SourceFile, chunks: Sequence[Chunk]) -> Iterator[Rows]:
        allow_long_csv_cells()
        with file.open() as content:
            if content.read(len(codecs.BOM_UTF8)) != codecs.BOM_UTF8:
                content.seek(0)
            lines = (line.decode("utf-8", "surrogateescape") for line in _lines(content, _HEADER_BYTES))
            names = _header(file, next(self._records(file, lines)))
        for chunk, data in _contents(file, chunks):
            # io.StringIO with newline="" keeps line ends inside quoted fields
            text = io.StringIO(data.decode("utf-8", "surrogateescape"), newline="")
            records = list(self._records(file, text))
            if len(records) != chunk.rows:
                raise _changed(file)
            yield self._rows(names, records)

    def _records(self, file: SourceFile, lines: Iterator[str] | io.StringIO) -> Iterator[list[str]]:
        """Yield the records, and skip blank lines."""
        reader = csv.reader(lines, delimiter=self.delimiter, strict=True)
        try:
            yield from (record for record in reader if record)
        except csv.Error as error:
            raise ValueError(f"{file.url}: line {reader.line_num} is not valid CSV ({error}).") from None

    def _rows(self, names: Sequence[str], records: Sequence[list[str]]) -> Rows:
        values: list[list[str | None]] = []
        errors: list[str | None] = []
        for record in records:
            error = None
            if len(record) != len(names):
                error = f"the row has {len(record)} fields, and the header has {len(names)}"
            cells: list[str | None] = [*record, *[None] * len(names)][: len(names)]
            for position, cell in enumerate(cells):
                if cell is not None and not cell.isascii():
                    cells[position], broken = _replace_broken_bytes(cell)
                    error = error or (f"the column {names[position]!r} {broken}" if broken else None)
            values.append(cells)
            errors.append(error)
        columns = zip(*values, strict=True) if values else [()] * len(names)
        arrays = {name: pa.array(column, pa.string()) for name, column in zip(names, columns, strict=True)}
        return Rows(pa.table(arrays), errors)


class ParquetReader:
    """Reads Parquet files."""

    def scan(self, file: SourceFile, number: int, rows: int, id_column: str | None) -> Iterator[Scanned]:
        with file.open() as content:
            table = _parquet(file, content)
            schema = table.schema_arrow.remove_metadata()
            groups = [table.metadata.row_group(index) for index in range(table.num_row_groups)]
            first = begin = 0
            while begin < len(groups):
                # Join small row groups, because a row group is read as a whole.
                end, num_rows, num_bytes = begin, 0, 0
                while end < len(groups) and num_rows < rows and num_bytes < MAX_CHUNK_BYTES:
                    num_rows += groups[end].num_rows
                    num_bytes += groups[end].total_byte_size
                    end += 1
                size = max(1, min(rows, MAX_CHUNK_BYTES * num_rows // max(1, num_bytes)))
                ids = None
                if num_rows and id_column in schema.names:
                    ids = table.read_row_groups(range(begin, end), [id_column])[id_column]
                for skip in range(0, num_rows, size):
                    chunk = Chunk(number, first + skip, min(size, num_rows - skip), begin, end, skip)
                    yield Scanned(chunk, schema, None if ids is None else ids.slice(skip, chunk.rows))
                first, begin = first + num_rows, end

    def read(self, file: SourceFile, chunks: Sequence[Chunk]) -> Iterator[Rows]:
        with file.open() as content:
            table = _parquet(file, content)
            for begin, end in dict.fromkeys((chunk.begin, chunk.end) for chunk in chunks):
                wanted = [chunk for chunk in chunks if chunk.begin == begin]
                for chunk, part in zip(wanted, _slices(table, range(begin, end), wanted), strict=True):
                    if part.num_rows != chunk.rows:
                        raise _changed(file)
                    yield _valid_strings(part)


READERS: dict[str, Callable[[str], Reader]] = {
    "jsonl": lambda text_column: JsonlReader(text_column),
    "csv": lambda text_column: CsvReader(","),
    "tsv": lambda text_column: CsvReader("\t"),
    "parquet": lambda text_column: ParquetReader(),
}


def reader_of(format: str, text_column: str) -> Reader:
    """Return the reader of a format. The format is a value of `files.FORMATS`."""
    return READERS[format](text_column)


def _lines(content: IO[bytes], block_size: int = _BLOCK_BYTES) -> Iterator[bytes]:
    """Yield lines with their line ends. Only "\\n" ends a line."""
    rest = b""
    while block := content.read(block_size):
        lines = (rest + block).split(b"\n") if rest else block.split(b"\n")
        rest = lines.pop()
        for line in lines:
            yield line + b"\n"
    if rest:
        yield rest


def _contents(file: SourceFile, chunks: Sequence[Chunk]) -> Iterator[tuple[Chunk, bytes]]:
    """Yield each chunk of a text file with its bytes."""
    with file.open() as content:
        for chunk in chunks:
            content.seek(chunk.begin)
            data = content.read(chunk.end - chunk.begin)
            yield chunk, data.removeprefix(codecs.BOM_UTF8) if chunk.begin == 0 else data


def _check_start(file: SourceFile, line: bytes) -> None:
    if line.startswith(UTF16_MARKS):
        raise ValueError(f"{file.url}: the file is UTF-16, not UTF-8; convert it: iconv -f utf-16 -t utf-8 FILE > NEW.")
    if file.format == "jsonl" and line.lstrip(codecs.BOM_UTF8 + b" \t\r\n").startswith(b"["):
        raise ValueError(f"{file.url}: expected one object per line, got a JSON array: jq -c '.[]' FILE > NEW.jsonl.")


def _parse_object(line: bytes) -> tuple[dict[str, Any], str | None]:
    """Return the JSON object of a line and None. If the line is invalid, return an empty object and an error."""
    try:
        text = line.removeprefix(codecs.BOM_UTF8).decode("utf-8")
        record = json.loads(text)
        if not isinstance(record, dict):
            return {}, f"expected a JSON object, got {text.strip():.80}"
        if "\\ud" in text or "\\uD" in text:
            json.dumps(record, ensure_ascii=False).encode()
    except UnicodeDecodeError as error:
        return {}, f"byte {error.start} of the line, 0x{line[error.start]:02x}, is not UTF-8"
    except UnicodeEncodeError as error:
        return {}, f"the line contains half of a surrogate pair ({error.object[error.start]!a})"
    except (ValueError, RecursionError) as error:
        return {}, f"the line is not valid JSON ({error})"
    return record, None


def _header(file: SourceFile, names: list[str]) -> list[str]:
    names = [_replace_broken_bytes(name)[0] for name in names]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{file.url}: the header has the column {twice[0]!r} twice; names must be unique.")
    return names


def _replace_broken_bytes(text: str) -> tuple[str, str | None]:
    """Replace bytes that are not UTF-8. Return the text and a description of the first of these bytes, or None."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        fault = f"is not UTF-8: 0x{ord(text[error.start]) & 0xFF:02x} at offset {error.start}"
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace"), fault
    return text, None


def _without_columns(rows: int) -> pa.Table:
    return pa.table({"": pa.nulls(rows)}).select([])


def _changed(file: SourceFile) -> ValueError:
    return ValueError(f"{file.url}: the file has changed while it was read.")


def _parquet(file: SourceFile, content: IO[bytes]) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(content)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{file.url}: not a Parquet file ({error}).") from None


def _slices(table: pq.ParquetFile, groups: range, chunks: Sequence[Chunk]) -> Iterator[pa.Table]:
    """Yield the rows of each chunk. All chunks must be in the same row groups."""
    batches = table.iter_batches(max(chunk.rows for chunk in chunks), row_groups=groups)
    pending: list[pa.RecordBatch] = []
    start = stop = 0  # rows of the pending batches
    for chunk in chunks:
        while stop < chunk.skip + chunk.rows:
            while pending and start + pending[0].num_rows <= chunk.skip:
                start += pending.pop(0).num_rows
            batch = next(batches, None)
            if batch is None:
                break
            pending.append(batch)
            stop += batch.num_rows
        yield pa.Table.from_batches(pending, table.schema_arrow).slice(chunk.skip - start, chunk.rows)


def _valid_strings(table: pa.Table) -> Rows:
    """Return the rows of a table, with an error for each row in which a string is not UTF-8."""
    errors: list[str | None] = [None] * table.num_rows
    for position, field in enumerate(table.schema):
        if not (pa.types.is_string(field.type) or pa.types.is_large_string(field.type)):
            continue
        try:
            table[field.name].validate(full=True)
        except pa.ArrowInvalid:
            values = []
            for row, value in enumerate(table[field.name].cast(pa.large_binary())):
                text, broken = _replace_broken_bytes((value.as_py() or b"").decode("utf-8", "surrogateescape"))
                values.append(text if value.is_valid else None)
                errors[row] = errors[row] or (f"the column {field.name!r} {broken}" if broken else None)
            table = table.set_column(position, field, pa.array(values, field.type))
    return Rows(table, errors)
