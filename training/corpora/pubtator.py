"""PubTator: title and abstract of a PubMed record, then a row per mention."""

import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from modeling_binder.finetuning import DataError, Document, Mention
from modeling_binder.finetuning.data import read_lines

logger = logging.getLogger(__name__)
_TEXT = re.compile(r"(\d+)\|([ta])\|(.*)")
_NEAR = 20  # characters around a wrong offset in which its text is looked for


def read_pubtator(path: str | Path, types: Mapping[str, str] | None = None) -> list[Document]:
    """Documents of a PubTator file; the text is `title + " " + abstract`, into which the offsets point.

    Rows of relations (second field not a number) are skipped. A record that occurs again gets an id of its own. An
    offset that does not match its text is moved to where the text stands nearby, or its mention left out, with a
    warning.

    Args:
        path: the file.
        types: class in the file -> entity type; defaults to the class itself. Classes that are not in it are left out.

    Raises:
        DataError: names the line that is no part of a record.
    """
    path = Path(path)
    documents: list[Document] = []
    seen: dict[str, int] = {}
    for number, record in _records(read_lines(path)):
        title, abstract = (_TEXT.fullmatch(line) for line in [*record[:2], ""][:2])
        if title is None or abstract is None or title[2] != "t" or abstract[2] != "a":
            raise DataError(f"{path}:{number}: expected 'ID|t|title' and 'ID|a|abstract', got {record[0]!r:.60}.")
        text = f"{title[3]} {abstract[3]}"
        seen[title[1]] = seen.get(title[1], 0) + 1
        identifier = title[1] if seen[title[1]] == 1 else f"{title[1]}-{seen[title[1]]}"
        mentions = []
        for offset, line in enumerate(record[2:], number + 2):
            fields = line.split("\t")
            if len(fields) > 1 and not fields[1].isdigit():
                continue  # a relation
            if len(fields) < 5 or not fields[2].isdigit():
                raise DataError(f"{path}:{offset}: expected ID, start, end, text and class by tabs, got {line!r:.60}.")
            kind = fields[4] if types is None else types.get(fields[4])
            if kind is None:
                continue
            span = _locate(text, int(fields[1]), int(fields[2]), fields[3], f"{path}:{offset}")
            if span is not None:
                mentions.append(Mention(*span, kind))
        documents.append(Document(identifier, text, tuple(dict.fromkeys(mentions))))
    return documents


def _records(lines: list[str]) -> Iterator[tuple[int, list[str]]]:
    """Records with the number of their first line."""
    record: list[str] = []
    for number, line in enumerate([*lines, ""], 1):
        if line.strip():
            record.append(line)
        elif record:
            yield number - len(record), record
            record = []


def _locate(text: str, start: int, end: int, wanted: str, where: str) -> tuple[int, int] | None:
    # A few mentions end in blanks, some of them past the end of the text.
    wanted = wanted.rstrip()
    if text[start:end].rstrip() == wanted:
        return start, start + len(wanted)
    low = max(0, start - _NEAR)
    found = text.find(wanted, low, end + _NEAR)
    if found >= 0:
        logger.warning("%s: %r stands at %d, not at %d; moved.", where, wanted, found, start)
        return found, found + len(wanted)
    logger.warning("%s: the text at %d..%d is %r, not %r; left out.", where, start, end, text[start:end], wanted)
    return None
