"""Read the texts of an uploaded file, and write them to a JSONL file together with their entities."""

import csv
import io
import json
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .limits import MAX_CHARACTERS, MAX_FILE_BYTES, MAX_RECORDS, Refused

Record = dict[str, Any]
SUFFIXES = (".txt", ".jsonl", ".csv")


def read_records(path: str | Path) -> list[Record]:
    """Read a file as records with the key "text": lines of .txt, objects of .jsonl, or rows of .csv (column "text").

    Raises:
        Refused: the file has another suffix, is too large, or is malformed. The message states the line.
    """
    path = Path(path)
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise Refused(f"The file has {size / 1e6:.1f} MB; this page reads up to {MAX_FILE_BYTES / 1e6:.0f} MB.")
    readers: dict[str, Callable[[str], Iterator[tuple[int, Record]]]] = {
        ".txt": _lines,
        ".jsonl": _objects,
        ".csv": _rows,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise Refused(f"The type of the file is {path.suffix or path.name!r}; this page reads {', '.join(SUFFIXES)}.")
    try:
        content = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Refused(f"The file is not UTF-8 (invalid byte at {error.start:,}). Save it as UTF-8.") from None
    if "\0" in content:  # UTF-16 without a byte order mark, or not a text file
        raise Refused(f"The file is not UTF-8 (zero byte at {content.index(chr(0)):,}). Save it as UTF-8.")
    records = []
    for number, record in reader(content):
        text = record["text"]
        if len(text) > MAX_CHARACTERS:
            raise Refused(
                f"Line {number}: the text has {len(text):,} characters; this page accepts {MAX_CHARACTERS:,}."
            )
        records.append(record)
        if len(records) > MAX_RECORDS:
            raise Refused(
                f"The file has more than {MAX_RECORDS:,} texts: split it, or use the package on your machine."
            )
    if not records:
        raise Refused("The file has no text.")
    return records


def _lines(content: str) -> Iterator[tuple[int, Record]]:
    # `splitlines` would also split at characters such as U+2028, which may be part of a text.
    for number, line in enumerate(content.split("\n"), 1):
        if line.strip():
            yield number, {"text": line.removesuffix("\r")}


def _objects(content: str) -> Iterator[tuple[int, Record]]:
    for number, line in enumerate(content.split("\n"), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise Refused(f"Line {number} is not valid JSON: {error}.") from None
        if not isinstance(record, dict) or not isinstance(record.get("text"), str):
            raise Refused(f'Line {number} must be an object with a "text", such as {{"text": "The IL-2 gene."}}.')
        try:
            json.dumps(record, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise Refused(f"Line {number} contains half a character (a lone surrogate such as \\ud83d).") from None
        yield number, record


def _rows(content: str) -> Iterator[tuple[int, Record]]:
    csv.field_size_limit(max(csv.field_size_limit(), len(content)))  # `read_records` limits the length of texts
    reader = csv.DictReader(io.StringIO(content, newline=""), strict=True)
    try:
        if "text" not in (reader.fieldnames or []):
            raise Refused(f'The first line must contain the column "text"; got {reader.fieldnames or "no columns"}.')
        if twice := [name for name, count in Counter(reader.fieldnames or []).items() if count > 1]:
            raise Refused(f"The first line must not contain the column {twice[0]!r} twice.")
        for row in reader:
            if row["text"] is None or None in row:
                raise Refused(f"Line {reader.line_num} does not have the same number of columns as the first line.")
            yield reader.line_num, dict(row)
    except csv.Error as error:
        raise Refused(f"Line {reader.line_num}: {error}.") from None


def write_records(records: list[Record], found: Iterator[list[dict[str, Any]]]) -> Iterator[tuple[int, str | None]]:
    """Write each record with its `entities` to a file.

    After each record, yield a pair: the number of written records, and None.

    The last item is the number of all records and the path of the file. If the generator is closed before the last
    item, it deletes the incomplete file.
    """
    folder = tempfile.mkdtemp(prefix="entities-")
    target = os.path.join(folder, "entities.jsonl")
    partial = f"{target}.part"
    try:
        with open(partial, "w", encoding="utf-8") as file:
            for number, (record, entities) in enumerate(zip(records, found, strict=True), 1):
                file.write(json.dumps({**record, "entities": entities}, ensure_ascii=False) + "\n")
                yield number, None
        os.replace(partial, target)
    except BaseException:  # also GeneratorExit, which is raised if the generator is closed
        os.remove(partial)
        os.rmdir(folder)
        raise
    yield len(records), target
