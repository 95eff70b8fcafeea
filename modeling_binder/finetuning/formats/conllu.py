"""Read CoNLL-U and CoNLL-U Plus, with the tags of entities in a separate column or in the column MISC."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ..data import Document
from ..errors import DataError
from ..files import read_lines, stem_of
from ..iob import document_of_tags, tag_problem, warn_of_scheme

_COLUMNS = ("ID", "FORM", "LEMMA", "UPOS", "XPOS", "FEATS", "HEAD", "DEPREL", "DEPS", "MISC")
_TAG_KEYS = ("ner", "ne", "bio", "iob", "ner_tag", "name")
_ID = re.compile(r"(\d+)(?:-(\d+)|(\.\d+))?")


class _Row(NamedTuple):
    """A row with a word, or with a multi-word token. In the text, the token "3-4 du" replaces the words 3 and 4.

    Args:
        line: number of the line in the file.
        first, last: numbers of the first and last word in the row. They are equal if the row has one word.
        form: the form of the word or token in the text.
        tag: the tag of the row. None if the row has no tag.
    """

    line: int
    first: int
    last: int
    form: str
    tag: str | None


def read_conllu(path: str | Path) -> list[Document]:
    """Read the sentences of a CoNLL-U or CoNLL-U Plus file. Each sentence becomes a document.

    Tags can have any scheme that `read_iob` reads. They are in a column that `# global.columns` calls NER, NE, BIO or
    IOB. Or they are in the column MISC, as `NER=B-PER` or `name=B-PER`.

    In the text, a multi-word token ("3-4 du") replaces its words. Its tag is in its row, or is derived from the tags of
    its words. If a mention begins or ends inside a multi-word token, the text contains its words instead. Empty nodes
    are skipped.

    Raises:
        DataError: a line is malformed or has an unknown tag (the message names the line), or no word has a tag.
    """
    path = Path(path)
    columns: Sequence[str] = _COLUMNS
    sentences: list[list[_Row]] = [[]]
    for number, line in enumerate(read_lines(path), 1):
        if line.startswith("# global.columns"):
            columns = line.partition("=")[2].upper().split()
        elif not line.strip():
            sentences.append([])
        elif not line.startswith("#"):
            sentences[-1] += _row(line, columns, f"{path}:{number}", number)
    sentences = [sentence for sentence in sentences if sentence]
    if not any(row.tag for sentence in sentences for row in sentence):
        raise DataError(f"{path}: no token has a tag; expected tags in a column NER, or in MISC as NER=B-TYPE.")
    problems = [
        f"{path}:{row.line}: {problem}"
        for sentence in sentences
        for row in sentence
        if row.tag and (problem := tag_problem(row.tag, None))
    ]
    if problems:
        raise DataError.of(problems)
    problems = [problem for sentence in sentences for problem in _contradictions(path, sentence)]
    if problems:
        raise DataError.of(problems)
    surfaces = [list(_surface(sentence)) for sentence in sentences]
    warn_of_scheme(path, [[(row.line, row.tag or "O") for row in sentence] for sentence in surfaces])
    return [
        document_of_tags(
            [row.form for row in sentence],
            [row.tag or "O" for row in sentence],
            f"{stem_of(path)}-{number}",
            None,
            [f"{path}:{row.line}" for row in sentence],
        )
        for number, sentence in enumerate(surfaces, 1)
    ]


def _contradictions(path: Path, sentence: Sequence[_Row]) -> Iterator[str]:
    """Yield an error message for each multi-word token whose type differs from the types of its words."""
    for token in sentence:
        if token.first != token.last and token.tag not in (None, "O"):
            words = [row for row in sentence if row.first == row.last and token.first <= row.first <= token.last]
            for word in words:
                if word.tag not in (None, "O") and str(word.tag)[2:] != str(token.tag)[2:]:
                    yield (
                        f"{path}:{word.line}: the word {word.form!r:.30} has the tag {word.tag}, but the token "
                        f"{token.form!r:.30} (line {token.line}) has the tag {token.tag}; expected the same type."
                    )


def _row(line: str, columns: Sequence[str], where: str, number: int) -> list[_Row]:
    fields = line.split("\t")
    if len(fields) != len(columns):
        raise DataError(f"{where}: expected {len(columns)} columns separated by tabs, got {len(fields)}: {line!r:.60}.")
    values = dict(zip(columns, fields, strict=True))
    match = _ID.fullmatch(values.get("ID", "1"))
    if match is None or "FORM" not in values:
        raise DataError(f"{where}: expected a number in the column ID and a word in FORM, got {line!r:.60}.")
    if match[3]:
        return []  # skip an empty node (such as 1.1), because it does not occur in the text
    first = int(match[1])
    return [_Row(number, first, int(match[2] or first), values["FORM"], _tag(values))]


def _tag(values: dict[str, str]) -> str | None:
    for name, value in values.items():
        if name.lower().split(":")[-1] in _TAG_KEYS[:5] and value not in ("_", ""):
            return value
    pairs = [pair.partition("=") for pair in values.get("MISC", "").split("|")]
    found = {key.strip().lower().split(":")[-1]: value.strip() for key, _, value in pairs}
    return next((found[key] for key in _TAG_KEYS if found.get(key, "_") not in ("_", "")), None)


def _surface(sentence: Sequence[_Row]) -> Iterator[_Row]:
    """Yield the rows whose forms make up the text: multi-word tokens, and all words outside multi-word tokens.

    If no single tag describes a multi-word token, its words are used instead.
    """
    words = [row for row in sentence if row.first == row.last]
    tokens = [row for row in sentence if row.first != row.last]
    position = 0
    while position < len(words):
        word = words[position]
        token = next((token for token in tokens if token.first <= word.first <= token.last), None)
        parts = [row for row in words[position:] if row.first <= token.last] if token else [word]
        tag = _tag_of(token, parts) if token else None
        if token is None or tag is None:
            yield from parts
        else:
            yield token._replace(tag=tag)
        position += len(parts)


def _tag_of(token: _Row, parts: Sequence[_Row]) -> str | None:
    """Return the tag of a multi-word token: the tag in its row, or a tag that is derived from the tags of its words.

    The tags of the words are used if the row has no tag, or if the row has O and a word has another tag. The result is
    None if a mention begins or ends inside the token.
    """
    if token.tag in (None, "O") and any(part.tag not in (None, "O") for part in parts):
        return _common(parts)
    return token.tag or _common(parts)


def _common(parts: Sequence[_Row]) -> str | None:
    """Derive the tag of a multi-word token from its words. Return None if a mention begins or ends inside the token."""
    tags = [part.tag or "O" for part in parts]
    if all(tag == "O" for tag in tags):
        return "O"
    first, last = tags[0], tags[-1]
    if first == "O" or any(tag[0] not in "IMEL" or tag[2:] != first[2:] for tag in tags[1:]):
        return None
    prefix = first[0] if last[0] in "IM" else "S" if first[0] == "B" else "E"
    return prefix + first[1:]
