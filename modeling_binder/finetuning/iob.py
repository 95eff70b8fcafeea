"""Column files with tags: IOB1, IOB2 (BIO), BIOES and BILOU, IO; the scheme is read off the file."""

import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from .data import DataError, Document, Mention, read_lines

logger = logging.getLogger(__name__)

_TAG = re.compile(r"^(?:O|([BIESLU])(?:-(.+))?)$")
Row = tuple[int, str, str]  # line number, token, tag


def read_iob(path: str | Path, label: str | None = None) -> list[Document]:
    """Documents, one a sentence, from a file with a token in the first column and a tag in the last.

    Columns are parted by tabs or blanks, sentences by blank lines; `-DOCSTART-` and `###MEDLINE:` rows are skipped. A
    text is its tokens joined by blanks, and its words are the tokens.

    The scheme is found in the tags: S-, E-, U- or L- mean BIOES or BILOU; an I- that opens a mention means IOB1 (or
    IO), which is read by conlleval's rules: a mention also begins where the type changes. A message says so once.

    Args:
        path: the file.
        label: the type of bare B and I tags, in files with a single type.

    Raises:
        DataError: names the line of a row without a tag, of an unknown tag, of a bare tag without `label`.
    """
    path = Path(path)
    problems: list[str] = []
    sentences: list[list[Row]] = [[]]
    for number, line in enumerate(read_lines(path), 1):
        if not line.strip():
            sentences.append([])
            continue
        columns = line.split("\t") if "\t" in line else line.split()
        if columns[0].startswith(("-DOCSTART-", "###MEDLINE:")):
            continue
        token, tag = columns[0].strip(), columns[-1].strip()
        if len(columns) < 2 or not token:
            problems.append(f"{path}:{number}: expected a token and a tag, got {line!r:.60}: every token needs a tag.")
            continue
        match = _TAG.match(tag)
        if match is None:
            problems.append(f"{path}:{number}: unknown tag {tag!r}; expected O, or B-, I-, E-, S- and a type.")
        elif tag != "O" and match[2] is None and label is None:
            problems.append(f"{path}:{number}: the tag {tag!r} names no type; write {tag}-TYPE, or pass label='TYPE'.")
        sentences[-1].append((number, token, tag))
    if problems:
        raise DataError.of(problems)
    rows = [sentence for sentence in sentences if sentence]
    if not rows:
        raise DataError(f"{path}: there is no token in this file.")
    _tell_scheme(path, rows)
    return [
        _document([token for _, token, _ in sentence], [tag for *_, tag in sentence], f"{path.stem}-{index}", label)
        for index, sentence in enumerate(rows, 1)
    ]


def documents_from_words(
    words: Sequence[Sequence[str]], tags: Sequence[Sequence[str]], label: str | None = None
) -> list[Document]:
    """Documents from lists of words and lists of tags, as many datasets hold them.

    Raises:
        DataError: names the row whose tags are unknown or not as many as its words.
    """
    if len(words) != len(tags):
        raise DataError(f"got {len(words)} lists of words and {len(tags)} lists of tags; they must go together.")
    problems = []
    for row, (tokens, labels) in enumerate(zip(words, tags, strict=True)):
        if len(tokens) != len(labels):
            problems.append(f"row {row}: {len(tokens)} words but {len(labels)} tags; every word needs a tag.")
        for tag in labels:
            match = _TAG.match(tag)
            if match is None or (tag != "O" and match[2] is None and label is None):
                problems.append(f"row {row}: unknown tag {tag!r}; expected O, or B-, I-, E-, S- and a type.")
                break
    if problems:
        raise DataError.of(problems)
    return [
        _document(list(tokens), list(labels), str(row), label)
        for row, (tokens, labels) in enumerate(zip(words, tags, strict=True))
    ]


def _document(tokens: list[str], tags: list[str], identifier: str, label: str | None) -> Document:
    words, position = [], 0
    for token in tokens:
        words.append((position, position + len(token)))
        position += len(token) + 1
    mentions = tuple(Mention(words[first][0], words[last][1], kind) for first, last, kind in _chunks(tags, label))
    return Document(identifier, " ".join(tokens), mentions, tuple(words))


def _chunks(tags: Sequence[str], label: str | None) -> Iterator[tuple[int, int, str]]:
    """First word, last word and type of each mention, by conlleval's rules for every scheme."""
    begin: int | None = None
    kind = ""
    for index, tag in enumerate([*tags, "O"]):
        prefix, name = tag[0], tag[2:] or (label or "")
        opens = prefix in "BSU" or (prefix in "IEL" and (begin is None or name != kind))
        if begin is not None and (prefix == "O" or opens):
            yield begin, index - 1, kind
            begin = None
        if opens:
            begin, kind = index, name
        if begin is not None and prefix in "ESLU":
            yield begin, index, kind
            begin = None


def _tell_scheme(path: Path, sentences: Sequence[Sequence[Row]]) -> None:
    prefixes = {tag[0] for sentence in sentences for *_, tag in sentence}
    if prefixes & set("ESLU"):
        logger.info("%s: read as %s.", path, "BIOES" if prefixes & set("ES") else "BILOU")
        return
    for sentence in sentences:
        before = "O"
        for number, _, tag in sentence:
            if tag[0] == "I" and (before == "O" or before[2:] != tag[2:]):
                scheme = "IOB1" if "B" in prefixes else "IO"
                logger.warning(
                    "%s:%d: %s opens a mention; the file is read as %s by conlleval's rules.", path, number, tag, scheme
                )
                return
            before = tag
