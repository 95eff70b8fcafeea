"""Read texts in the compact notation that they are written in, check them, and write them as JSON lines.

    [Ada Lovelace|person; mathematician] wrote to [Charles Babbage|person] in [1843|year]. ## university; computer

`[span|type; type]` is a mention; mentions may be nested. The types after ` ## ` were looked for and are absent. Types
that are neither used nor listed were not looked for. A second file describes the types, one phrasing a line:
`mathematician<TAB>A person who studies mathematics.`

    python -m training.open_types.compact mine.txt mine.types.tsv train.jsonl types.json
"""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

from modeling_binder.finetuning import DataError, Document, Mention
from modeling_binder.finetuning.data import read_lines


def parse(line: str, identifier: str = "") -> Document:
    """Return the document of a line.

    Raises:
        DataError: a bracket is not closed, a mention has no type, or its span begins or ends with a blank.
    """
    body, _, absent = line.partition(" ## ")
    text: list[str] = []
    mentions: list[Mention] = []
    starts: list[int] = []
    position = 0
    while position < len(body):
        character = body[position]
        if character == "[":
            starts.append(len(text))
        elif character == "|" and starts:
            end = body.find("]", position)
            labels = _names(body[position + 1 : end]) if end >= 0 else []
            if not labels:
                raise DataError(f"expected '|type]' at column {position + 1}, got {body[position : position + 20]!r}.")
            start = starts.pop()
            span = "".join(text[start:])
            if not span or span != span.strip():
                raise DataError(f"a mention must not begin or end with a blank, got {span!r}.")
            mentions += [Mention(start, len(text), label) for label in labels]
            position = end
        else:
            text.append(character)
        position += 1
    if starts:
        raise DataError(f"the bracket before {''.join(text[starts[-1] :])[:30]!r} is not closed.")
    looked_for = dict.fromkeys([mention.label for mention in mentions] + _names(absent))
    return Document(identifier, "".join(text), tuple(dict.fromkeys(mentions)), types=tuple(looked_for))


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(";") if name.strip()]


def absent_types(line: str) -> list[str]:
    """Return the types that a line lists as absent."""
    return _names(line.partition(" ## ")[2])


def read_compact(path: Path) -> list[Document]:
    """Read a file of texts; blank lines are skipped. Ids are the file's name and the line's number.

    Raises:
        DataError: names file and line; also of a type that a line lists both as present and as absent, and of a text
            that is there twice.
    """
    documents: list[Document] = []
    problems: list[str] = []
    seen: dict[str, int] = {}
    for number, line in enumerate(read_lines(path), 1):
        if not line.strip():
            continue
        try:
            document = parse(line, f"{path.stem}-{number}")
        except DataError as error:
            problems.append(f"{path}:{number}: {error}")
            continue
        present = {mention.label for mention in document.entities}
        both = [name for name in absent_types(line) if name in present]
        if both:
            problems.append(f"{path}:{number}: {both[0]!r} is marked in the text and listed as absent.")
        if document.text in seen:
            problems.append(f"{path}:{number}: the same text as line {seen[document.text]}.")
        seen.setdefault(document.text, number)
        documents.append(document)
    if problems:
        raise DataError.of(problems)
    return documents


def read_phrasings(paths: Iterable[Path]) -> dict[str, list[str]]:
    """Read tables `type<TAB>description`; a type may stand in several lines, one a phrasing.

    Raises:
        DataError: names the file and the line without a name or a description.
    """
    phrasings: dict[str, list[str]] = {}
    problems = []
    for path in paths:
        for number, line in enumerate(read_lines(path), 1):
            name, tab, description = (part.strip() for part in line.partition("\t"))
            if not line.strip():
                continue
            if not (name and tab is not None and description):
                problems.append(f"{path}:{number}: expected a type, a tab and a description, got {line!r:.60}.")
            elif description not in phrasings.setdefault(name, []):
                phrasings[name].append(description)
    if problems:
        raise DataError.of(problems)
    return phrasings
