"""Functions that all readers and writers share: open text files, list folders and write files.

Text files are UTF-8, with or without a byte order mark, and may be compressed with gzip. A line ends only at "\\n" or
"\\r\\n". The module does not use `str.splitlines`. That method also splits at characters such as U+2028, which a text
may contain.
"""

import codecs
import csv
import gzip
import io
import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, TextIO
from xml.etree import ElementTree

from .errors import DataError

UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def suffix_of(path: str | Path) -> str:
    """Return the suffix of a file name in lower case, without ".gz": ".jsonl" for "train.JSONL.gz"."""
    path = Path(path)
    return Path(path.stem if path.suffix.lower() == ".gz" else path.name).suffix.lower()


def stem_of(path: str | Path) -> str:
    """Return a file name without its suffix and without ".gz": "train" for "train.jsonl.gz"."""
    path = Path(path)
    return Path(path.stem if path.suffix.lower() == ".gz" else path.name).stem


def is_hidden(path: str | Path) -> bool:
    """Return whether a component of a relative path starts with a dot: ._a.ann, .ipynb_checkpoints/a.txt."""
    return any(part.startswith(".") and part not in (".", "..") for part in Path(path).parts)


def visible_files(folder: str | Path, suffixes: Collection[str] | None = None) -> list[Path]:
    """Return the files of a folder and its sub-folders in the order of their names, without hidden files.

    Links to folders are followed, unless they lead to a folder that is listed already or that contains `folder`.

    Args:
        folder: the folder.
        suffixes: suffixes of the files to return, in lower case (see `suffix_of`). `None` means all files.
    """
    paths = (path for path in _walk(str(folder), set()) if path.is_file())
    return sorted(path for path in paths if suffixes is None or suffix_of(path) in suffixes)


def _walk(folder: str, seen: set[str]) -> Iterator[Path]:
    """Yield the visible files of a folder. Links to folders come last, so a file is listed under its own name.

    Args:
        folder: the folder.
        seen: real paths of the folders that were listed already. The function adds further paths.
    """
    links: list[str] = []
    for place, folders, names in os.walk(folder):
        real = os.path.realpath(place)
        folders[:] = [] if real in seen else [name for name in folders if not is_hidden(name)]
        links += [path for name in folders if os.path.islink(path := os.path.join(place, name))]
        if real not in seen:
            seen.add(real)
            yield from (Path(place, name) for name in names if not is_hidden(name))
    for link in sorted(links):
        if not any(path.startswith(os.path.join(os.path.realpath(link), "")) for path in seen):
            yield from _walk(link, seen)


@contextmanager
def open_bytes(path: str | Path) -> Iterator[IO[bytes]]:
    """Open a file to read its bytes, decompressed if the file is a gzip file.

    Raises:
        DataError: the file is missing, is a folder, or has incomplete or damaged gzip data.
    """
    path = Path(path)
    try:
        with path.open("rb") as file, decompressed(file, path) as content:
            yield content
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file.") from None
    except IsADirectoryError:
        raise DataError(f"{path}: this is a folder; give the path of a file in it.") from None


@contextmanager
def decompressed(file: IO[bytes], name: str | Path) -> Iterator[IO[bytes]]:
    """Yield a file for reading bytes, decompressed if it is a gzip file. The file may be a pipe.

    Args:
        file: a file that is open for reading bytes, with the method `peek`.
        name: the name of the file, for the error.

    Raises:
        DataError: the gzip data are incomplete or damaged.
    """
    try:
        if file.peek(2)[:2] == b"\x1f\x8b":  # type: ignore[attr-defined]
            with gzip.open(file) as content:
                yield content  # type: ignore[misc]
        else:
            yield file
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{name}: not a complete gzip file ({error}).") from None


def read_bytes(path: str | Path) -> bytes:
    """Return the bytes of a file, decompressed if the file is a gzip file.

    Raises:
        DataError: see `open_bytes`.
    """
    with open_bytes(path) as file:
        return file.read()


def decode(content: bytes, name: str | Path) -> str:
    """Decode UTF-8, with or without a byte order mark. Line ends are not changed.

    Args:
        content: the bytes of a whole file.
        name: the name of the file, for the error.

    Raises:
        DataError: the content is not UTF-8. The message contains the line and the byte (counted from 0).
    """
    return "".join(decoded_lines(io.BytesIO(content), name))


def read_text(path: str | Path) -> str:
    """Return the text of a UTF-8 file with unchanged line ends, without a byte order mark.

    Raises:
        DataError: see `open_bytes` and `decode`.
    """
    with open_bytes(path) as file:
        return "".join(decoded_lines(file, path))


def iter_lines(path: str | Path, keep_ends: bool = False) -> Iterator[str]:
    """Yield the lines of a UTF-8 file one by one. So the whole file is never in memory.

    Args:
        path: the file.
        keep_ends: whether lines keep their "\\n" or "\\r\\n". The csv module expects lines with ends.

    Raises:
        DataError: see `open_bytes` and `decode`.
    """
    with open_bytes(path) as file:
        for line in decoded_lines(file, path):
            yield line if keep_ends else line.removesuffix("\n").removesuffix("\r")


def decoded_lines(file: IO[bytes], name: str | Path) -> Iterator[str]:
    """Yield the lines of UTF-8 bytes with their ends, without a byte order mark.

    Args:
        file: a file that is open for reading bytes.
        name: the name of the file, for the error.

    Raises:
        DataError: the bytes are not UTF-8. The message contains the line and the byte (counted from 0).
    """
    position = 0
    for number, line in enumerate(file, 1):
        if number == 1 and (line.startswith(UTF16_MARKS) or _is_utf16(line)):
            raise DataError(f"{name}:1: not UTF-8 but UTF-16; convert the file: iconv -f utf-16 -t utf-8 FILE > NEW.")
        mark = len(codecs.BOM_UTF8) if number == 1 and line.startswith(codecs.BOM_UTF8) else 0
        try:
            yield line[mark:].decode("utf-8")
        except UnicodeDecodeError as error:
            byte = mark + error.start
            raise DataError(
                f"{name}:{number}: not UTF-8: byte {position + byte} is 0x{line[byte]:02x}; convert the file, for "
                "example with iconv -f latin1 -t utf-8 FILE > NEW."
            ) from None
        position += len(line)


def _is_utf16(line: bytes) -> bool:
    """Return whether bytes without a byte order mark are UTF-16: spaces and Latin letters then have a zero byte.

    Such bytes are also valid UTF-8. So without this check, the decoded text would contain null characters.
    """
    halves = [line[:1000][start::2].count(0) for start in (0, 1)]
    return min(halves) == 0 and max(halves) > 1 and 16 * max(halves) >= len(line[:1000])


def allow_long_csv_cells() -> None:
    """Let the csv module read cells of any length. By default, a cell has at most 2**17 characters."""
    csv.field_size_limit(2**31 - 1)


def surrogate_problem(text: str) -> str | None:
    """Return an error message if a text contains a lone surrogate (half of a UTF-16 pair), otherwise None.

    JSON allows lone surrogates, but tokenizers and UTF-8 files do not.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"contains a lone surrogate (half of a UTF-16 pair) at offset {error.start} ({text[error.start]!a})"
    return None


def read_lines(path: str | Path, expected: str = "at least one document") -> list[str]:
    """Return the lines of a UTF-8 file without their line ends.

    Joined files may have a byte order mark at the start of a later line. It is removed as well.

    Args:
        path: the file.
        expected: the content that the file should have, for the error message.

    Raises:
        DataError: the file is empty, cannot be opened (see `open_bytes`), is not UTF-8, or has the line ends "\\r".
    """
    lines = [line.removeprefix("\ufeff") for line in iter_lines(path)]
    if not any(line.strip() for line in lines):
        raise DataError(f"{path}: the file is empty; expected {expected}.")
    if len(lines) == 1 and "\r" in lines[0] and not lines[0].lstrip().startswith(("{", "[")):
        raise DataError(f"{path}: the lines end at \\r alone; convert the file: tr '\\r' '\\n' < FILE > NEW.")
    return lines


def read_json(path: str | Path, expected: str) -> Any:
    """Return the value of a JSON file.

    Args:
        path: the file.
        expected: the content that the file should have, for the error message.

    Raises:
        DataError: the file is not JSON, cannot be opened (see `open_bytes`), or is not UTF-8.
    """
    text = read_text(path)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not valid JSON ({error}); expected {expected}.") from None


@contextmanager
def xml_errors(path: str | Path) -> Iterator[None]:
    """Convert all errors of XML parsers into DataError.

    Raises:
        DataError: the file is not XML, or its encoding is unknown.
    """
    try:
        yield
    except (ElementTree.ParseError, LookupError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        advice = "" if isinstance(error, ElementTree.ParseError) else "; convert the file to UTF-8"
        raise DataError(f"{path}: not valid XML ({error}){advice}.") from None


@contextmanager
def replacement_of(path: str | Path) -> Iterator[Path]:
    """Yield the path of a temporary file to write, and rename this file to `path` when it is complete.

    So `path` never contains a half-written file. An existing file keeps its permissions, and a symbolic link keeps
    pointing to its file. A stream (see `is_stream`) is not replaced: its own path is yielded.
    """
    path = Path(path)
    if is_stream(path):
        yield path
        return
    target = Path(os.path.realpath(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(target.name + ".tmp")
    try:
        yield temporary
        if target.is_file():
            with suppress(OSError):  # some file systems have no permissions
                shutil.copymode(target, temporary)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def is_stream(path: str | Path) -> bool:
    """Return whether a path is a device, a pipe or an open file such as /dev/stdout, which must not be replaced."""
    path = Path(path)
    opened = path.parent in (Path("/dev"), Path("/dev/fd"))
    return path.exists() and not path.is_dir() and (opened or not path.is_file())


@contextmanager
def written_whole(path: str | Path) -> Iterator[TextIO]:
    """Open a text file for writing that replaces the file at `path` when it is complete; see `replacement_of`.

    A file whose name ends in ".gz" is compressed.
    """
    path = Path(path)
    with replacement_of(path) as temporary, temporary.open("ab" if is_stream(path) else "wb") as raw:
        # By default, gzip writes the current time into the header. Without the time, equal texts give equal files.
        binary: Any = gzip.GzipFile("", "wb", fileobj=raw, mtime=0) if path.suffix.lower() == ".gz" else raw
        with io.TextIOWrapper(binary, encoding="utf-8", newline="\n") as file:
            yield file


def check_writable(path: str | Path) -> None:
    """Check, before a long computation, that a file can be written. Create its folder if necessary.

    Raises:
        OSError: the path is a folder, or its folder cannot be created or cannot be written to.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path}: this is a folder; give the path of a file in it.")
    if is_stream(path):
        return
    path = Path(os.path.realpath(path))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise OSError(f"{path}: cannot write to the folder {path.parent} ({error.strerror}).") from None


def check_not_input(output: Path, inputs: Iterable[Path]) -> None:
    """Check that an output is not one of the inputs.

    Raises:
        DataError: the output would replace an input.
    """
    if any(path.exists() and output.resolve() == path.resolve() for path in inputs) and not is_stream(output):
        raise DataError(f"{output}: the output is an input; choose another output.")


def write_json(path: str | Path, value: Any) -> None:
    """Write a value as JSON. If an error occurs, an existing file is unchanged."""
    with written_whole(path) as file:
        file.write(json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")
