"""Column files with tags: IOB1, IOB2 (BIO), BIOES and BILOU, IO; the scheme is read off the file."""

import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from .data import DataError, Document, Mention, read_lines

logger = logging.getLogger(__name__)

_TAG = re.compile(r"(?:O|([BIESLU])(?:-(.+))?)")
Row = tuple[int, str, str]  # line number, token, tag


def read_iob(path: str | Path, label: str | None = None, context: str = "sentence") -> list[Document]:
    """Documents, one a sentence, from a file with a token in the first column and a tag in the last.

    Columns are parted by tabs or blanks, sentences by blank lines; `-DOCSTART-`, `###MEDLINE:` and comment rows
    ("# " and no tag column) are skipped. A text is its tokens joined by blanks, and its words are the tokens.

    The scheme is found in the tags of the whole file: S-, E-, U- or L- mean BIOES or BILOU; an I- that opens a mention
    means IOB1, or IO where there is no B-. One warning names any scheme but IOB2. All are read by conlleval's rules: a
    mention also begins where the type changes, so a broken sequence is repaired, not refused.

    Args:
        path: the file.
        label: the type of bare B and I tags, in files with a single type.
        context: "sentence", or "document" for one document from one `-DOCSTART-` or `###MEDLINE:` row to the next, its
            sentences a line each.

    Raises:
        DataError: names the line of a row without a tag, of an unknown tag, of a bare tag without `label`.
    """
    path = Path(path)
    problems: list[str] = []
    sentences: list[list[Row]] = [[]]
    openers: set[int] = set()  # sentences that open a document
    blank_tokens: list[int] = []
    lines = read_lines(path)
    width = next((len(_columns(line)) for line in lines if line.strip() and not line.startswith(("#", "-DOC"))), 0)
    for number, line in enumerate(lines, 1):
        columns = _columns(line)
        token, tag = columns[0].strip(), columns[-1].strip()
        if not line.strip() or token.startswith(("-DOCSTART-", "###MEDLINE:")):
            sentences.append([])
            if line.strip():
                openers.add(len(sentences) - 1)
        elif line.startswith("# ") and (len(columns) != width or not _TAG.fullmatch(tag)):
            continue  # a comment; a token "#" has as many columns as the other rows
        elif len(columns) < 2:
            problems.append(f"{path}:{number}: expected a token and a tag, got {line!r:.60}: every token needs a tag.")
        elif problem := _tag_problem(tag, label):
            problems.append(f"{path}:{number}: {problem}")
        elif token:
            sentences[-1].append((number, token, tag))
        elif tag == "O":
            blank_tokens.append(number)
        else:
            problems.append(f"{path}:{number}: the tag {tag!r} has a blank token; expected a token and a tag.")
    if problems:
        raise DataError.of(problems)
    numbered = [(index, sentence) for index, sentence in enumerate(sentences) if sentence]
    rows = [sentence for _, sentence in numbered]
    if not rows:
        raise DataError(f"{path}: there is no token in this file.")
    if blank_tokens:
        logger.warning("%s:%d: left out %d rows whose token is blank.", path, blank_tokens[0], len(blank_tokens))
    _tell_scheme(path, rows)
    documents = [
        _document([token for _, token, _ in sentence], [tag for *_, tag in sentence], f"{path.stem}-{index}", label)
        for index, sentence in enumerate(rows, 1)
    ]
    if context == "sentence":
        return documents
    stories: list[list[Document]] = []
    before = -1
    for (index, _), document in zip(numbered, documents, strict=True):
        if not stories or any(opener in openers for opener in range(before + 1, index + 1)):
            stories.append([])
        stories[-1].append(document)
        before = index
    return [_joined(story, f"{path.stem}-{number}") for number, story in enumerate(stories, 1)]


def documents_from_words(
    words: Sequence[Sequence[str]], tags: Sequence[Sequence[str]], label: str | None = None
) -> list[Document]:
    """Documents from lists of words and lists of tags, as many datasets hold them; ids are the numbers of the rows.

    Args:
        words, tags: one list a document, of equal length. Tags in any scheme that `read_iob` knows.
        label: the type of bare B and I tags.

    Raises:
        DataError: names the row whose words are blank, or whose tags are unknown or not as many as its words.
    """
    if len(words) != len(tags):
        raise DataError(f"got {len(words)} lists of words and {len(tags)} lists of tags; they must go together.")
    problems = []
    for row, (tokens, labels) in enumerate(zip(words, tags, strict=True)):
        if len(tokens) != len(labels):
            problems.append(f"row {row}: {len(tokens)} words but {len(labels)} tags; every word needs a tag.")
        blank = next((word for word in tokens if not isinstance(word, str) or not word.strip()), None)
        if blank is not None:
            problems.append(f"row {row}: the word {blank!r} is blank or no string; leave it and its tag out.")
        problem = next(filter(None, (_tag_problem(tag, label) for tag in labels)), None)
        if problem is not None:
            problems.append(f"row {row}: {problem}")
    if problems:
        raise DataError.of(problems)
    return [
        _document(list(tokens), list(labels), str(row), label)
        for row, (tokens, labels) in enumerate(zip(words, tags, strict=True))
    ]


def _columns(line: str) -> list[str]:
    # Not `line.split()`: it would cut a token at a no-break space
    return line.rstrip("\t ").split("\t") if "\t" in line.rstrip("\t ") else re.split(" +", line.strip("\t "))


def _tag_problem(tag: object, label: str | None) -> str | None:
    """What is wrong with a tag, if anything."""
    if not isinstance(tag, str):
        return f"the tag {tag!r} is no string; turn class numbers into names first, for example with `int2str`."
    match = _TAG.fullmatch(tag)
    if match is None:
        return f"unknown tag {tag!r}; expected O, or B-, I-, E-, S-, L-, U- and a type, for example B-Disease."
    if tag != "O" and match[2] is None and label is None:
        return f"the tag {tag!r} names no type; write {tag}-TYPE, or pass label='TYPE'."
    return None


def _document(tokens: list[str], tags: list[str], identifier: str, label: str | None) -> Document:
    words, position = [], 0
    for token in tokens:
        words.append((position, position + len(token)))
        position += len(token) + 1
    mentions = tuple(Mention(words[first][0], words[last][1], kind) for first, last, kind in chunks(tags, label))
    return Document(identifier, " ".join(tokens), mentions, tuple(words))


def _joined(sentences: Sequence[Document], identifier: str) -> Document:
    """One document of several sentences, a line each."""
    mentions: list[Mention] = []
    words: list[tuple[int, int]] = []
    position = 0
    for sentence in sentences:
        mentions += [Mention(m.start + position, m.end + position, m.label) for m in sentence.entities]
        words += [(start + position, end + position) for start, end in sentence.words or ()]
        position += len(sentence.text) + 1
    return Document(identifier, "\n".join(sentence.text for sentence in sentences), tuple(mentions), tuple(words))


def chunks(tags: Sequence[str], label: str | None) -> Iterator[tuple[int, int, str]]:
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
        logger.warning("%s: read as %s.", path, "BIOES" if prefixes & set("ES") else "BILOU")
        return
    opened: Row | None = None  # the first I- that opens a mention
    needless_b = False  # a B- that does not part two mentions: IOB1 has none
    for sentence in sentences:
        before = "O"
        for row in sentence:
            tag = row[2]
            if before == "O" or before[2:] != tag[2:]:
                opened = opened or (row if tag[0] == "I" else None)
                needless_b = needless_b or tag[0] == "B"
            before = tag
    if opened is not None:
        scheme = "IO" if "B" not in prefixes else "IOB2 with breaks" if needless_b else "IOB1"
        logger.warning(
            "%s:%d: %s opens a mention; the file is read as %s by conlleval's rules.",
            path,
            opened[0],
            opened[2],
            scheme,
        )
