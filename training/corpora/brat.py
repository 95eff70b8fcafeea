"""BRAT standoff: a .txt and a .ann file for each document."""

import io
import logging
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from modeling_binder.finetuning import DataError, Document, Mention

logger = logging.getLogger(__name__)


def read_brat(source: str | Path, types: Mapping[str, str] | None = None) -> dict[str, Document]:
    """Documents of a folder or a tar archive, by their path without suffix ("train/123").

    Empty .ann files are documents without mentions; a text without .ann is left out. A discontinuous mention is taken
    from its first to its last character. Lines other than text-bound ones (T...) are skipped.

    Args:
        source: folder, or .tar, .tar.gz; sub-folders are read too.
        types: type in the file -> entity type; defaults to the type itself. Types that are not in it are left out.

    Raises:
        DataError: names the file and line of a mention that is malformed, outside the text, or not what the text has.
    """
    files = dict(_files(Path(source)))
    documents = {}
    for name, annotation in sorted(files.items()):
        if not name.endswith(".ann"):
            continue
        stem = name.removesuffix(".ann")
        if f"{stem}.txt" not in files:
            raise DataError(f"{source}: {name} has no text beside it ({stem}.txt).")
        text = files[f"{stem}.txt"]
        mentions = []
        for number, line in enumerate(annotation.splitlines(), 1):
            if not line.startswith("T"):
                continue
            where = f"{source}: {name}:{number}"
            fields = line.split("\t")
            try:
                kind, offsets = fields[1].split(" ", 1)
                numbers = [int(offset) for part in offsets.split(";") for offset in part.split()]
                start, end = numbers[0], numbers[-1]
                if len(numbers) % 2:
                    raise ValueError(numbers)
            except (IndexError, ValueError):
                raise DataError(f"{where}: expected 'T1<TAB>Type start end<TAB>text', got {line!r:.60}.") from None
            if not 0 <= start < end <= len(text):
                raise DataError(f"{where}: spans {start}..{end} in a text of {len(text)} characters.")
            if len(numbers) == 2 and len(fields) > 2 and text[start:end].split() != fields[2].split():
                raise DataError(
                    f"{where}: the text at {start}..{end} is {text[start:end]!r:.60}, not {fields[2]!r:.60}."
                )
            label = kind if types is None else types.get(kind)
            if label is not None:
                mentions.append(Mention(start, end, label))
        documents[stem] = Document(PurePosixPath(stem).name, text, tuple(dict.fromkeys(mentions)))
    if not documents:
        raise DataError(f"{source}: there is no .ann file in it.")
    return documents


def _files(source: Path) -> Iterator[tuple[str, str]]:
    """Relative path and text of the .txt and .ann files."""
    if source.is_dir():
        for path in source.rglob("*"):
            if path.suffix in (".txt", ".ann"):
                # newline="": the offsets count \r\n as two characters
                with path.open(encoding="utf-8", newline="") as file:
                    yield path.relative_to(source).as_posix(), file.read()
        return
    try:
        with tarfile.open(source) as archive:
            for member in archive:
                content = archive.extractfile(member) if member.name.endswith((".txt", ".ann")) else None
                if content is not None:
                    yield member.name, io.TextIOWrapper(content, encoding="utf-8", newline="").read()
    except (tarfile.TarError, OSError) as error:
        raise DataError(f"{source}: neither a folder nor a tar archive ({error}).") from None
