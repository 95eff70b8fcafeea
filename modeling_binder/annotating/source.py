"""Scan and read the table that is annotated: its files, its columns, and its chunks of rows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .files import SourceFile
from .readers import Chunk, Rows, Scanned, reader_of

PART_COLUMN = "__part"  # temporary column with the chunk of a row: "name/number of rows in the chunk"
_CHUNKS_CHECKED = 10  # the scan ends with an error if this many chunks have been read and none has the column of texts
CHUNKS_PER_TASK = 8  # chunks that one task reads from a file in which skipping rows takes time


@dataclass(frozen=True)
class Columns:
    """The names of columns.

    Args:
        text: column of the texts.
        id: column of the ids.
        entities: new column of entities, which are lists of structs.
        error: new column of errors. It is null in rows without an error.
        new_ids: add the column of ids too. An id is made from file and row, as in "train.jsonl:0". None means that the
            column is added if the source does not have it.
    """

    text: str = "text"
    id: str = "id"
    entities: str = "entities"
    error: str = "error"
    new_ids: bool | None = None

    def check(self, names: Sequence[str], source: str) -> None:
        """Check the columns of a source.

        Raises:
            ValueError: a column is missing, or a new column has the name of another column.
        """
        found = ", ".join(map(repr, names))
        for name, argument in ((self.text, "text_column"), *(() if self.new_ids else ((self.id, "id_column"),))):
            if name not in names:
                raise ValueError(f"{source}: there is no column {name!r}; choose the {argument} from {found}.")
        added = {self.entities: "entities_column", self.error: "error_column"}
        if self.new_ids:
            added[self.id] = "new_id_column"
        for name, argument in added.items():
            if name in names:
                raise ValueError(f"{source}: there is a column {name!r} already; choose another {argument}.")
        if len({self.text, self.id, self.entities, self.error}) < 4:
            raise ValueError(f"the columns of texts, ids, entities and errors must have different names, got {self}.")


@dataclass(frozen=True)
class ReadTask:
    """A task that reads some chunks of a file. It can be sent to another machine.

    Args:
        file: the file.
        chunks: chunks of the file, in the order of the file.
        schema: the columns of the source, without the new columns.
        columns: names of columns.
    """

    file: SourceFile
    chunks: tuple[Chunk, ...]
    schema: pa.Schema
    columns: Columns

    @property
    def num_rows(self) -> int:
        return sum(chunk.rows for chunk in self.chunks)

    def __call__(self) -> Iterator[pa.Table]:
        """Yield the rows of each chunk, with the columns of ids and errors and the column `PART_COLUMN`."""
        reader = reader_of(self.file.format, self.columns.text)
        for chunk, rows in zip(self.chunks, reader.read(self.file, self.chunks), strict=True):
            yield self._prepare(chunk, rows)

    def _prepare(self, chunk: Chunk, rows: Rows) -> pa.Table:
        table = _conform(rows.table, self.schema)
        new_ids = pa.array([f"{self.file.name}:{row}" for row in range(chunk.first, chunk.first + chunk.rows)])
        if self.columns.new_ids:
            table = table.append_column(self.columns.id, new_ids)
        elif table[self.columns.id].null_count:
            position = table.column_names.index(self.columns.id)
            table = table.set_column(position, self.columns.id, pc.coalesce(table[self.columns.id], new_ids))
        table = table.append_column(self.columns.error, pa.array(rows.errors, pa.string()))
        return table.append_column(PART_COLUMN, pa.array([f"{chunk.name}/{chunk.rows}"] * chunk.rows))


class Source:
    """A table in one or more files. The constructor scans all files once.

    Args:
        files: files of the same format.
        columns: names of columns.
        rows_per_part: maximum number of rows in a chunk.
        name: name of the source in error messages.

    Raises:
        ValueError: there are no rows, a column is missing or has a wrong type, a column has different types in
            different rows, or ids are not unique.
    """

    def __init__(self, files: Sequence[SourceFile], columns: Columns, rows_per_part: int, name: str) -> None:
        if rows_per_part < 1:
            raise ValueError(f"rows_per_part must be at least 1, got {rows_per_part}.")
        self.files = tuple(files)
        self.chunks: list[Chunk] = []
        id_column = None if columns.new_ids else columns.id
        schema, hashes = pa.schema([]), [np.empty(0, np.int64)]
        has_missing_ids = False
        for number, file in enumerate(self.files):
            reader = reader_of(file.format, columns.text)
            for scanned in reader.scan(file, number, rows_per_part, id_column):
                self.chunks.append(scanned.chunk)
                schema = _unify(schema, scanned, file)
                if scanned.ids is not None and _is_id(scanned.ids.type):
                    has_missing_ids = has_missing_ids or bool(scanned.ids.null_count)
                    ids = scanned.ids.drop_null().to_pylist()
                    hashes.append(np.fromiter(map(hash, ids), np.int64, len(ids)))
                if len(self.chunks) == _CHUNKS_CHECKED and columns.text not in schema.names:
                    columns.check(schema.names, name)
        if not self.chunks:
            raise ValueError(f"{name}: there are no rows.")
        if columns.new_ids is None:
            columns = replace(columns, new_ids=columns.id not in schema.names)
        self.columns = columns
        columns.check(schema.names, name)
        # `Table.filter` has no kernel for views of strings.
        fields = [field.with_type(pa.string()) if pa.types.is_string_view(field.type) else field for field in schema]
        self.schema = _check_types(pa.schema(fields), columns, has_missing_ids, name)
        self._check_ids(np.concatenate(hashes), name)

    @property
    def num_rows(self) -> int:
        """Number of rows in all files."""
        return sum(chunk.rows for chunk in self.chunks)

    def tasks(self, done: frozenset[str] | set[str] = frozenset()) -> Iterator[ReadTask]:
        """Yield tasks that together read all chunks, except the chunks whose names are in `done`."""
        pending: list[Chunk] = []
        for chunk in self.chunks:
            if chunk.name in done:
                continue
            if pending and (pending[0].file != chunk.file or len(pending) == self._chunks_per_task(pending[0])):
                yield self._task(pending)
                pending = []
            pending.append(chunk)
        if pending:
            yield self._task(pending)

    def _task(self, chunks: Sequence[Chunk]) -> ReadTask:
        return ReadTask(self.files[chunks[0].file], tuple(chunks), self.schema, self.columns)

    def _chunks_per_task(self, chunk: Chunk) -> int:
        """Return how many chunks a task reads.

        Compressed text files and row groups of Parquet must be read from their start. There, tasks with several chunks
        save time.
        """
        file = self.files[chunk.file]
        return CHUNKS_PER_TASK if file.format == "parquet" or file.url.endswith((".gz", ".bz2", ".xz")) else 1

    def _check_ids(self, hashes: np.ndarray, name: str) -> None:
        hashes.sort()
        repeated = set(hashes[1:][hashes[1:] == hashes[:-1]].tolist())
        if not repeated:
            return
        seen: dict[Any, str] = {}  # different ids can have equal hashes
        for task in self.tasks():
            for chunk, table in zip(task.chunks, task(), strict=True):
                for row, value in enumerate(table[self.columns.id].to_pylist(), chunk.first):
                    where = f"{task.file.name}:{row}"
                    if hash(value) in repeated and seen.setdefault(value, where) != where:
                        raise ValueError(
                            f"{name}: the id {value!r} is in the rows {seen[value]} and {where}; ids must be unique. "
                            "Choose another id_column, or leave it out and pass new_id_column for new ids, made from "
                            "file and row."
                        )


def _unify(schema: pa.Schema, scanned: Scanned, file: SourceFile) -> pa.Schema:
    if scanned.schema.equals(schema):
        return schema
    try:
        return pa.unify_schemas([schema, scanned.schema], promote_options="permissive")
    except pa.ArrowException as error:
        first, last = scanned.chunk.first, scanned.chunk.first + scanned.chunk.rows - 1
        raise ValueError(
            f"{file.url}: the columns of the rows {first} to {last} differ from the columns of earlier rows: {error}. "
            "All values of a column must have the same type."
        ) from None


def _check_types(schema: pa.Schema, columns: Columns, has_missing_ids: bool, name: str) -> pa.Schema:
    """Check the data types of texts and ids. Return the schema of the output, without the new columns."""
    text_type = schema.field(columns.text).type
    if pa.types.is_dictionary(text_type):
        text_type = text_type.value_type
    if not (pa.types.is_null(text_type) or _is_string(text_type) or _is_binary(text_type)):
        raise ValueError(f"{name}: the column {columns.text!r} has the type {text_type}; texts must be strings.")
    if columns.new_ids:
        return schema
    field = schema.field(columns.id)
    if not _is_id(field.type):
        raise ValueError(f"{name}: the column {columns.id!r} has the type {field.type}; expected strings or integers.")
    if has_missing_ids:  # the new ids of these rows are strings, so all ids must be strings
        schema = schema.set(schema.get_field_index(columns.id), field.with_type(pa.string()))
    return schema


def _is_id(type: pa.DataType) -> bool:
    return bool(pa.types.is_null(type) or _is_string(type) or pa.types.is_integer(type))


def _is_string(type: pa.DataType) -> bool:
    return bool(pa.types.is_string(type) or pa.types.is_large_string(type) or pa.types.is_string_view(type))


def _is_binary(type: pa.DataType) -> bool:
    return bool(pa.types.is_binary(type) or pa.types.is_large_binary(type))


def _conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return a table with the columns of a schema. A column that is missing in `table` is null."""
    columns = [
        table[field.name].cast(field.type) if field.name in table.column_names else pa.nulls(table.num_rows, field.type)
        for field in schema
    ]
    return pa.table(columns, schema)
