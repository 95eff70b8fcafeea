"""Read and write brat standoff: a .txt and an .ann file for each document.

Offsets count code points. "\\r\\n" counts as two characters.
"""

import codecs
import gzip
import logging
import re
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

from ..data import Document
from ..errors import DataError
from ..files import decode, is_hidden, read_bytes, stem_of, suffix_of, visible_files, written_whole
from ..offsets import PYTHON_UNITS, RawDocument, RawMention, align, fits
from .found import Found, found_documents

logger = logging.getLogger(__name__)

# The first character of a line is the kind of the annotation: mention (T), relation, event, attribute, modification,
# normalisation, note, equivalence.
_LINES = "TREAMN#*"
_SUFFIXES = (".txt", ".ann")
_OFFSETS = re.compile(r"(.+?) (-?\d+ -?\d+(?:;-?\d+ -?\d+)*)")
_UNSAFE = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|%]|^\.')


def read_brat(source: str | Path, types: Mapping[str, str] | None = None) -> dict[str, Document]:
    """Read the documents of a folder, a tar archive or a single file.

    - An empty .ann file means a document without mentions. A text without an .ann file is skipped.
    - A discontinuous mention becomes the span from its smallest to its largest offset.
    - Hidden files and other annotations (relations, events, notes, ...) are skipped. A line that begins with none of
      the characters T, R, E, A, M, N, # and * is not an annotation, and raises an error.
    - The id of a document is the name of its file without suffix. If several files have this name, it is the path.

    Args:
        source: a folder (including its sub-folders), or a .tar, .tar.gz, .ann or .txt file.
        types: type in the file -> entity type. Mentions of other types are skipped. `None` means that the entity types
            are the types in the file.

    Returns:
        A dictionary path -> document. The path is relative to `source`, without suffix ("train/1").

    Raises:
        DataError: a mention is malformed or outside the text, or its offsets do not select its text; a text file is
            missing; or there is no .ann file. Messages about mentions name file and line.
    """
    source = Path(source)
    files = dict(_files(source))
    stems = sorted(stem for stem, suffix in files if suffix == ".ann")
    names = Counter(PurePosixPath(stem).name for stem in stems)
    documents = []
    for stem in stems:
        if (stem, ".txt") not in files:
            raise DataError(f"{source}: {stem}.ann has no text: {stem}.txt is missing.")
        name = PurePosixPath(stem).name
        document = RawDocument(
            name if names[name] == 1 else stem,
            _text(files[stem, ".txt"], source, f"{stem}.txt"),
            where=f"{source}: {stem}.txt",
        )
        annotation = _text(files[stem, ".ann"], source, f"{stem}.ann")
        for number, line in enumerate(annotation.split("\n"), 1):
            if line.strip() and line[0] not in _LINES:
                raise DataError(f"{source}: {stem}.ann:{number}: expected a line of brat's standoff, got {line!r:.60}.")
            if line.startswith("T"):
                mention = _mention(line.removesuffix("\r"), f"{source}: {stem}.ann:{number}")
                label = mention.label if types is None else types.get(mention.label)
                document.mentions += [] if label is None else [mention._replace(label=label)]
        if files[stem, ".txt"].startswith(codecs.BOM_UTF8):
            document.mentions = _without_mark(document)
        documents.append(document)
    if not documents:
        raise DataError(f"{source}: there is no .ann file.")
    texts = [f"{stem}.txt" for stem, suffix in files if suffix == ".txt" and (stem, ".ann") not in files]
    if texts:
        logger.warning("%s: left out %d texts without .ann, for example %s.", source, len(texts), texts[0])
    return dict(zip(stems, align(documents), strict=True))


def _mention(line: str, where: str) -> RawMention:
    # Split only twice, because the text of a mention may contain a tab.
    _, place, *rest = [*line.split("\t", 2), ""]
    match = _OFFSETS.fullmatch(place)
    if match is None:
        raise DataError(f"{where}: expected 'T1<TAB>Type start end<TAB>text', got {line!r:.60}.")
    fragments = tuple((int(start), int(end)) for start, end in (part.split(" ") for part in match[2].split(";")))
    return RawMention(fragments, match[1], rest[0] if "".join(rest) else None, where)


def _without_mark(document: RawDocument) -> list[RawMention]:
    """Return the mentions of a text whose file begins with a byte order mark.

    The offsets usually count the mark as a character. So all offsets are reduced by 1, if more mentions select their
    stated texts with the reduced offsets than with the offsets in the file.
    """
    moved = [
        mention._replace(fragments=tuple((start - 1, end - 1) for start, end in mention.fragments))  # type: ignore[operator]
        for mention in document.mentions
    ]

    def misfits(mentions: list[RawMention]) -> int:
        return sum(not fits(document, mention, PYTHON_UNITS) for mention in mentions)

    return moved if misfits(moved) < misfits(document.mentions) else document.mentions


def _text(content: bytes, source: Path, name: str) -> str:
    return decode(content, f"{source}: {name}" if source.name != name else source)


def _files(source: Path) -> Iterator[tuple[tuple[str, str], bytes]]:
    """Yield each .txt and .ann file, decompressed: (relative path without suffix, suffix), and its content."""
    if source.is_dir():
        for path in visible_files(source, _SUFFIXES):
            yield _key(path.relative_to(source)), read_bytes(path)
    elif suffix_of(source) in _SUFFIXES and not (source.exists() and tarfile.is_tarfile(source)):
        siblings = source.parent.iterdir() if source.exists() else ()
        for path in [source, *sorted(siblings)]:
            if path == source or (stem_of(path) == stem_of(source) and suffix_of(path) in _SUFFIXES and path.is_file()):
                yield _key(Path(path.name)), read_bytes(path)
    else:
        yield from _members(source)


def _key(path: PurePath) -> tuple[str, str]:
    return path.with_name(stem_of(path.name)).as_posix(), suffix_of(path.name)


def _members(source: Path) -> Iterator[tuple[tuple[str, str], bytes]]:
    try:
        with tarfile.open(source) as archive:
            for member in archive:
                if suffix_of(member.name) not in _SUFFIXES or is_hidden(member.name):
                    continue
                # For security: extract in memory, because a member with a path such as ../../x must not write a file.
                try:
                    content = archive.extractfile(member)
                except KeyError:
                    raise DataError(
                        f"{source}: {member.name} is a link to {member.linkname}, which is not in the archive; make "
                        "the archive with files instead of links: tar --dereference."
                    ) from None
                if content is not None:
                    data = content.read()
                    data = gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data
                    yield _key(PurePosixPath(member.name)), data
    except (tarfile.TarError, zlib.error, OSError, EOFError) as error:
        raise DataError(f"{source}: neither a folder nor an .ann or .txt file nor a tar archive ({error}).") from None


def write_brat(documents: Iterable[Document | Mapping[str, Any]], folder: str | Path) -> None:
    """Write a .txt and an .ann file for each document. The id of the document is the name of the files.

    - Characters that a file name must not contain become %XX.
    - A mention on several lines becomes one fragment per line, as in brat.
    - Spaces in the name of a type become underscores, because brat does not allow spaces.
    - Scores are not written.

    Args:
        documents: documents, or texts with predicted entities (see `found_documents`).
        folder: the folder to write to.

    Raises:
        DataError: the names of two types differ only in spaces and underscores; two ids give the same file name; or the
            folder contains annotations of other documents.
    """
    folder = Path(folder)
    found = found_documents(documents)
    names = _type_names(found)
    stems = [_UNSAFE.sub(lambda match: f"%{ord(match[0]):02X}", item.document.id)[:150] for item in found]
    if twice := [stem for stem, count in Counter(stem.lower() for stem in stems).items() if count > 1]:
        raise DataError(f"{folder}: two documents would be named {twice[0]}.txt if case is ignored; use other ids.")
    if others := [path.name for path in folder.glob("*.ann") if path.stem not in stems]:
        raise DataError(
            f"{folder}: the folder contains annotations of {len(others)} other documents, for example {others[0]}; "
            "remove them, or choose another folder."
        )
    for stem, item in zip(stems, found, strict=True):
        text = item.document.text
        rows = []
        for number, mention in enumerate(item.document.entities, 1):
            parts = [match.span() for match in re.finditer(r"[^\r\n]+", text[mention.start : mention.end])]
            parts = [(mention.start + start, mention.start + end) for start, end in parts]
            offsets = ";".join(f"{start} {end}" for start, end in parts)
            words = " ".join(text[start:end] for start, end in parts)
            rows.append(f"T{number}\t{names[mention.label]} {offsets}\t{words}\n")
        with written_whole(folder / f"{stem}.txt") as file:
            file.write(text)
        with written_whole(folder / f"{stem}.ann") as file:
            file.write("".join(rows))


def _type_names(found: Iterable[Found]) -> dict[str, str]:
    names = {mention.label: "_".join(mention.label.split()) for item in found for mention in item.document.entities}
    twice = [name for name, count in Counter(names.values()).items() if count > 1]
    if twice:
        labels = [label for label, name in names.items() if name == twice[0]]
        raise DataError(
            f"the types {' and '.join(map(repr, labels))} would both be {twice[0]!r}, because brat allows no blanks in "
            "the name of a type; rename one of them."
        )
    return names
