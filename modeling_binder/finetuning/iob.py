"""Convert tags of words into mentions, by the rules of conlleval, the script of the CoNLL shared tasks.

The schemes are IOB1, IOB2 (BIO), BIOES, BMES, BILOU and IO.
"""

import logging
import re
from collections.abc import Iterator, Sequence, Sized
from pathlib import Path

from ..words_binder import join_words
from .data import Document, Mention
from .errors import DataError
from .files import surrogate_problem

logger = logging.getLogger(__name__)

_TAG = re.compile(r"(?:O|([BIESLUM])(?:-(.+))?)")


def documents_from_words(
    words: Sequence[Sequence[str]], tags: Sequence[Sequence[str]], label: str | None = None
) -> list[Document]:
    """Convert lists of words and of tags into documents, such as the columns "tokens" and "ner_tags" of a dataset.

    The id of a document is its row number. Blank words are removed.

    Args:
        words, tags: for each document, a list of words and a list of tags of equal length. Tags can have any scheme
            that `read_iob` reads.
        label: the entity type of tags without a type ("B", "I").

    Raises:
        DataError: a row has different numbers of words and tags, a word that is not a string, an unknown tag, or a
            mention with only blank words. The message names the row.
    """
    if len(words) != len(tags):
        raise DataError(
            f"got {len(words)} lists of words and {len(tags)} lists of tags; expected one list of tags for each list "
            "of words."
        )
    problems: list[str] = []
    documents: list[Document] = []
    for row, (tokens, labels) in enumerate(zip(words, tags, strict=True)):
        before = len(problems)
        if any(isinstance(value, str) or not isinstance(value, Sized) for value in (tokens, labels)):
            problems.append(
                f"row {row}: expected a list of words and a list of tags, got {tokens!r:.40}, {labels!r:.40}."
            )
            continue
        if len(tokens) != len(labels):
            problems.append(f"row {row}: {len(tokens)} words but {len(labels)} tags; every word needs a tag.")
        odd = next((word for word in tokens if not isinstance(word, str)), None)
        if any(not isinstance(word, str) for word in tokens):
            problems.append(f"row {row}: the word {odd!r} is not a string.")
        problem = next(filter(None, (tag_problem(tag, label) for tag in labels)), None)
        if problem is not None:
            problems.append(f"row {row}: {problem}")
        if len(problems) == before:
            try:
                places = [f"row {row}"] * len(tokens)
                documents.append(document_of_tags(list(tokens), list(labels), str(row), label, places))
            except DataError as error:
                problems.append(str(error))
    if problems:
        raise DataError.of(problems)
    return documents


def is_tag(tag: str, label: str | None) -> bool:
    """Return whether a string is a tag: O, or a letter and a type, such as B-Disease.

    If `label` is given, the type may be missing.
    """
    match = _TAG.fullmatch(tag)
    return match is not None and (tag == "O" or match[2] is not None or label is not None)


def tag_problem(tag: object, label: str | None) -> str | None:
    """Return an error message if a tag is invalid, or None if it is valid."""
    if not isinstance(tag, str):
        return f"the tag {tag!r} is not a string; turn class numbers into names first, for example with `int2str`."
    match = _TAG.fullmatch(tag)
    if match is None:
        return f"unknown tag {tag!r}; expected O, or B-, I-, E-, S-, L-, U- or M- with a type, for example B-Disease."
    if any(is_tag(part, label) for part in tag.split("|")[1:]):
        return f"the tag {tag!r} contains several tags; expected one for each token. If it is one, rename its type."
    if not is_tag(tag, label):
        return f"the tag {tag!r} has no type; write {tag}-TYPE, or pass label='TYPE'."
    return None


def document_of_tags(
    tokens: Sequence[str], tags: Sequence[str], identifier: str, label: str | None, places: Sequence[str]
) -> Document:
    """Return a document whose words are the given tokens. Its text consists of the tokens, joined by spaces.

    White space around a token is removed. Blank tokens are removed, also inside a mention.

    Args:
        tokens, tags: the tokens of the document, and one tag for each token.
        identifier: the id of the document.
        label: the entity type of tags without a type ("B", "I").
        places: for each token, its position in the source ("FILE:LINE"), for error messages.

    Raises:
        DataError: all tokens of a mention are blank, or a token contains a lone surrogate (half of a UTF-16 pair).
    """
    text, words = join_words((token.strip() for token in tokens), keep_blank=False)
    mentions = []
    for first, last, name in chunks(tags, label):
        covered = [word for word in words[first : last + 1] if word is not None]
        if not covered:
            raise DataError(f"{places[first]}: the tag {tags[first]!r} has a blank token; expected a token and a tag.")
        mentions.append(Mention(covered[0][0], covered[-1][1], name))
    for what, value in (("text", text), *(("type", mention.label) for mention in mentions)):
        if problem := surrogate_problem(value):
            raise DataError(f"{places[0]}: the {what} {problem}.")
    return Document(identifier, text, tuple(mentions), tuple(word for word in words if word is not None))


def joined(sentences: Sequence[Document], identifier: str) -> Document:
    """Join sentences into one document, with one sentence per line."""
    mentions: list[Mention] = []
    words: list[tuple[int, int]] = []
    position = 0
    for sentence in sentences:
        mentions += [Mention(m.start + position, m.end + position, m.label) for m in sentence.entities]
        words += [(start + position, end + position) for start, end in sentence.words or ()]
        position += len(sentence.text) + 1
    return Document(identifier, "\n".join(sentence.text for sentence in sentences), tuple(mentions), tuple(words))


def chunks(tags: Sequence[str], label: str | None) -> Iterator[tuple[int, int, str]]:
    """Yield the first word, the last word and the type of each mention, by the rules of conlleval.

    I-, M-, E- and L- continue a mention. If the tag before has another type or is O, they begin a new mention. So an
    invalid sequence of tags, such as O I-Disease, is repaired and raises no error.
    """
    begin: int | None = None
    current = ""
    for index, tag in enumerate([*tags, "O"]):
        prefix, name = tag[0], tag[2:] or (label or "")
        opens = prefix in "BSU" or (prefix in "IMEL" and (begin is None or name != current))
        if begin is not None and (prefix == "O" or opens):
            yield begin, index - 1, current
            begin = None
        if opens:
            begin, current = index, name
        if begin is not None and prefix in "ESLU":
            yield begin, index, current
            begin = None


def warn_of_scheme(path: Path, sentences: Sequence[Sequence[tuple[int, str]]]) -> None:
    """Log the scheme of a file once, if it is not IOB2.

    Args:
        path: the file.
        sentences: for each sentence, the line number and the tag of each word.
    """
    prefixes = {tag[0] for sentence in sentences for _, tag in sentence}
    if prefixes & set("ESLUM"):
        scheme = "BMES" if "M" in prefixes else "BIOES" if prefixes & set("ES") else "BILOU"
        logger.warning("%s: the tags are read as %s.", path, scheme)
        return
    opened: tuple[int, str] | None = None  # line and tag of the first I- at the start of a mention
    # Whether a B- occurs at the start of a sentence, after O, or after a word of another type. In IOB1, B- occurs only
    # directly after a mention of the same type.
    needless_b = False
    for sentence in sentences:
        before = "O"
        for line, tag in sentence:
            if before == "O" or before[2:] != tag[2:]:
                opened = opened or ((line, tag) if tag[0] == "I" else None)
                needless_b = needless_b or tag[0] == "B"
            before = tag
    if opened is not None:
        scheme = "IO" if "B" not in prefixes else "IOB2 with missing B- tags" if needless_b else "IOB1"
        logger.warning("%s:%d: %s opens a mention; the file is read as %s by conlleval's rules.", path, *opened, scheme)
