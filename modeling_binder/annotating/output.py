"""Write the output folder: one file per chunk of the source, and a manifest with the parameters of the job.

A file appears only when it is complete, and its name depends only on its rows. So a job that was killed continues with
the chunks that have no file. If a task runs twice, it writes the same file twice.
"""

import json
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from .files import MANIFEST, filesystem_of
from .source import PART_COLUMN, Columns

_SUCCESS = "_SUCCESS"
_TEMPORARY = ".tmp-"
FORMATS = ("parquet", "jsonl")


class OutputFolder:
    """A folder of parts. A part is a file with the rows of one chunk. This object can be sent to other machines.

    Args:
        url: the folder, as a local path or an fsspec URL. It is created if it is missing.
        format: "parquet" or "jsonl".

    Raises:
        ValueError: the format is unknown, the URL belongs to a file, or the folder is on the Hub.
    """

    def __init__(self, url: str | Path, format: str = "parquet") -> None:
        if format not in FORMATS:
            raise ValueError(f"format must be one of {', '.join(map(repr, FORMATS))}, got {format!r}.")
        self.url, self.format = str(url), format
        self.filesystem, self.path = filesystem_of(url)
        self.path = self.path.rstrip("/")
        if "hf" in _protocols(self.filesystem):
            raise ValueError(f"{url}: on the Hub, each file would be a commit; write to another folder, and upload it.")
        if self.filesystem.isfile(self.path) or self.path.lower().endswith((".parquet", ".jsonl", ".csv")):
            raise ValueError(f"{url}: the output is a folder with several files; choose a folder and a format.")

    def check(self, parameters: Mapping[str, Any]) -> None:
        """Check that the folder is empty, or belongs to a job with the same parameters.

        Raises:
            ValueError: the folder belongs to a job with other parameters, or contains other files.
        """
        self.filesystem.invalidate_cache()
        manifest = f"{self.path}/{MANIFEST}"
        if not self.filesystem.exists(manifest):
            if self._names(""):
                raise ValueError(f"{self.url}: the folder has files of other programs; choose another folder.")
            return
        try:
            found = json.loads(self.filesystem.cat_file(manifest))["parameters"]
        except (ValueError, KeyError, TypeError):
            raise ValueError(f"{self.url}: {MANIFEST} is broken; choose another folder.") from None
        differences = _differences(found, json.loads(json.dumps(parameters)))
        if differences:
            raise ValueError(
                f"{self.url}: the folder belongs to another job. {' '.join(differences)} Use the same "
                "parameters, or choose another folder."
            )

    def check_schema(self, schema: pa.Schema) -> None:
        """Check that the format of the folder can store all columns.

        Raises:
            ValueError: the format is Parquet, and a column contains only objects without fields.
        """
        for field in schema if self.format == "parquet" else ():
            if _has_empty_struct(field.type):
                raise ValueError(
                    f"{self.url}: Parquet cannot store the column {field.name!r}, because it has objects without "
                    "fields ({}); write JSONL with format='jsonl' (--format jsonl), or remove the column."
                )

    def start(self, parameters: Mapping[str, Any], about: Mapping[str, Any]) -> None:
        """Create the folder and its manifest, if they do not exist yet.

        Args:
            parameters: all settings that change the output, as JSON values.
            about: other facts for the manifest. They may differ when a job continues.

        Raises:
            ValueError: see `check`.
        """
        self.check(parameters)
        self.filesystem.makedirs(self.path, exist_ok=True)
        if not self.filesystem.exists(f"{self.path}/{MANIFEST}"):
            content = {"parameters": parameters, **about}
            self._write(MANIFEST, json.dumps(content, indent=2, ensure_ascii=False).encode() + b"\n")
        for name in self._names(_TEMPORARY):  # a process that was killed may have left these files
            Path(self.path, name).unlink(missing_ok=True)

    def done(self) -> set[str]:
        """Return the names of the chunks that have a file."""
        self.filesystem.invalidate_cache()
        suffix = f".{self.format}"
        return {name.removeprefix("part-").removesuffix(suffix) for name in self._names("part-") if suffix in name}

    def write(self, chunk: str, table: pa.Table) -> None:
        """Write the rows of a chunk."""
        self._write(f"part-{chunk}.{self.format}", _parquet(table) if self.format == "parquet" else _jsonl(table))

    def finish(self, chunks: set[str]) -> None:
        """Mark the folder as complete.

        Args:
            chunks: names of all chunks.

        Raises:
            RuntimeError: a chunk has no file.
        """
        missing = sorted(chunks - self.done())
        if missing:
            raise RuntimeError(
                f"{self.url}: {len(missing)} parts are missing, such as {missing[0]}; run the job again."
            )
        self._write(_SUCCESS, b"")

    def _names(self, start: str) -> list[str]:
        """Return the names of the files in the folder that start with `start`."""
        if not self.filesystem.exists(self.path):
            return []
        names = [path.rstrip("/").rpartition("/")[2] for path in self.filesystem.ls(self.path, detail=False)]
        return [name for name in names if name.startswith(start)]

    def _write(self, name: str, content: bytes) -> None:
        """Write a file, which appears only when it is complete."""
        path = f"{self.path}/{name}"
        if "file" not in _protocols(self.filesystem):
            self.filesystem.pipe_file(path, content)  # one request, so object stores show only complete files
            return
        temporary = f"{self.path}/{_TEMPORARY}{uuid.uuid4().hex}"
        try:
            with open(temporary, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


def write_parts(folder: OutputFolder, columns: Columns, table: pa.Table) -> int:
    """Write annotated rows of one or more chunks, and return the number of rows with an error.

    Raises:
        RuntimeError: rows of a chunk are missing.
    """
    parts = table[PART_COLUMN]
    for part in pc.unique(parts).to_pylist():
        name, _, num_rows = part.partition("/")
        rows = table.filter(pc.equal(parts, part)).drop_columns([PART_COLUMN])
        if rows.num_rows != int(num_rows):
            raise RuntimeError(f"expected {num_rows} rows of the part {name}, got {rows.num_rows}.")
        folder.write(name, rows)
    return int(table.num_rows - table[columns.error].null_count)


def _has_empty_struct(type: pa.DataType) -> bool:
    inner = [type.field(index).type for index in range(type.num_fields)]
    return (pa.types.is_struct(type) and not inner) or any(map(_has_empty_struct, inner))


def _protocols(filesystem: Any) -> tuple[str, ...]:
    protocol = filesystem.protocol
    return (protocol,) if isinstance(protocol, str) else tuple(protocol)


def _parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue().to_pybytes()


def _jsonl(table: pa.Table) -> bytes:
    lines = (json.dumps(row, ensure_ascii=False, default=_as_json) for row in table.to_pylist())
    return "".join(f"{line}\n" for line in lines).encode()


def _as_json(value: Any) -> Any:
    """Convert a value that JSON does not have to a string. Dates are written as in ISO 8601."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _differences(found: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each parameter that differs between an earlier job and the new job."""
    differences = []
    for name in sorted({*found, *given}):
        old, new = found.get(name), given.get(name)
        if old == new:
            continue
        if name == "files" and isinstance(old, dict) and isinstance(new, dict):
            changed = sorted(file for file in {*old, *new} if old.get(file) != new.get(file))
            differences.append(f"The source differs in {len(changed)} files, such as {changed[0]}.")
        else:
            differences.append(f"Its {name} is {_shown(old)}, but now it is {_shown(new)}.")
    return differences


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}..."
