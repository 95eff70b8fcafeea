"""Read and write PubTator: records with a title, an abstract, and a row for each mention.

Offsets count code points.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..data import Document
from ..errors import DataError
from ..files import read_lines, written_whole
from ..offsets import RawDocument, RawMention, align, distinct_ids
from .found import found_documents

TEXT_LINE = re.compile(r"([^|\t]+)\|([ta])\|(.*)", re.DOTALL)
_RELATION = re.compile(r"[A-Za-z_]\S*(?: \S+)*")
# Characters that must not occur in a field: the tab, which separates fields, and all characters that some programs use
# as line ends
_SEPARATORS = re.compile("[\t\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")


def read_pubtator(path: str | Path, types: Mapping[str, str] | None = None, repair_within: int = 0) -> list[Document]:
    """Read the documents of a PubTator file. The offsets refer to the text `title + " " + abstract`.

    Rows of relations (their second field is a word) are skipped. An abstract may be missing. If several records have
    the same id, the ids are made distinct.

    Args:
        path: the file.
        types: type in the file -> entity type. Mentions of other types are skipped. `None` means that the entity types
            are the types in the file.
        repair_within: maximum number of characters by which a mention with wrong offsets may be moved, see
            `offsets.align`. 0 raises an error instead.

    Raises:
        DataError: a line is not part of a record, or the offsets of a mention do not select the text in its row.
    """
    path = Path(path)
    documents: list[RawDocument] = []
    for number, record in _records(read_lines(path)):
        title = TEXT_LINE.fullmatch(record[0])
        abstract = TEXT_LINE.fullmatch(record[1]) if len(record) > 1 else None
        if title is None or title[2] != "t" or (abstract is not None and (abstract[2], abstract[1]) != ("a", title[1])):
            raise DataError(f"{path}:{number}: expected 'ID|t|title' and 'ID|a|abstract', got {record[0]!r:.60}.")
        rows = record[1:] if abstract is None else record[2:]
        document = RawDocument(
            title[1].strip(),
            title[3] if abstract is None else f"{title[3]} {abstract[3]}",
            where=f"{path}:{number}",
        )
        for line_number, line in enumerate(rows, number + len(record) - len(rows)):
            mention = _mention(line, document.id, f"{path}:{line_number}")
            label = None if mention is None else mention.label if types is None else types.get(mention.label)
            if mention is not None and label is not None:
                document.mentions.append(mention._replace(label=label))
        documents.append(document)
    return distinct_ids(align(documents, repair_within=repair_within))


def _records(lines: list[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield records with the number of their first line. A record ends at a blank line or before the next title."""
    record: list[str] = []
    for number, line in enumerate([*lines, ""], 1):
        match = TEXT_LINE.fullmatch(line)
        if record and (not line.strip() or (match and match[2] == "t")):
            yield number - len(record), record
            record = []
        if line.strip():
            record.append(line)


def _mention(line: str, identifier: str, where: str) -> RawMention | None:
    """Return the mention of a row, or None if the row is a relation."""
    fields = line.split("\t")
    if fields[0].strip() != identifier:
        raise DataError(f"{where}: expected a row of the record {identifier!r}, got {line!r:.60}.")
    if len(fields) > 2 and _RELATION.fullmatch(fields[1]):
        return None
    if len(fields) < 5 or not (fields[1].isdecimal() and fields[2].isdecimal()):
        raise DataError(f"{where}: expected ID, start, end, text and class, separated by tabs, got {line!r:.60}.")
    # In public corpora, some mentions end in spaces that lie after the end of the text. So remove these spaces.
    stated = fields[3].rstrip()
    end = int(fields[2]) - (len(fields[3]) - len(stated))
    return RawMention(((int(fields[1]), end),), fields[4].strip(), stated, where)


def write_pubtator(documents: Iterable[Document | Mapping[str, Any]], path: str | Path) -> None:
    """Write a PubTator file. The first line of a text is its title, and the rest is its abstract.

    - Each tab and each character of a line end becomes one space, so that offsets do not change.
    - Bars and white space in an id become underscores, because the format does not allow them.
    - Scores are not written.

    Args:
        documents: documents, or texts with predicted entities (see `found_documents`).
        path: the file to write.
    """
    with written_whole(path) as file:
        for document, _ in found_documents(documents):
            line_end = document.text.find("\n")
            text = _SEPARATORS.sub(" ", document.text)
            title, abstract = (text, "") if line_end < 0 else (text[:line_end], text[line_end + 1 :])
            identifier = re.sub(r"[|\s]", "_", document.id)
            rows = [f"{identifier}|t|{title}", f"{identifier}|a|{abstract}"]
            for mention in document.entities:
                label = _SEPARATORS.sub(" ", mention.label)
                words = text[mention.start : mention.end]
                rows.append(f"{identifier}\t{mention.start}\t{mention.end}\t{words}\t{label}")
            file.write("\n".join(rows) + "\n\n")
