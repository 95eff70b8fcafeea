"""Read JSON with lists of tokens and spans of tokens: the format of GLiNER, and common JSON versions of GENIA."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ...words_binder import join_words
from ..data import Document, Mention
from ..errors import DataError
from ..files import stem_of, surrogate_problem
from ..offsets import distinct_ids, same_text
from .records import Record, identifier_of, read_records

_EXPECTED = "'tokens' and 'entities', 'sentence' and 'ner', or 'tokenized_text' and 'ner'"
_TOKENS = ("tokens", "sentence", "tokenized_text")


class _Span(NamedTuple):
    """A span of tokens in the file.

    Args:
        first: index of the first token.
        last: the end of the span: index of the last token if `inclusive`, otherwise index of the token after it.
        label: the entity type.
        stated: the text of the span according to the file. None if the file does not contain this text.
        inclusive: whether `last` is an inclusive end. The format of the file defines this; `turned` negates it.
    """

    first: int
    last: int
    label: str
    stated: str | None
    inclusive: bool

    @property
    def read(self) -> int:
        """Index of the last token."""
        return self.last if self.inclusive else self.last - 1

    @property
    def other(self) -> int:
        """Index of the last token if `inclusive` were negated."""
        return self.last - 1 if self.inclusive else self.last

    def turned(self) -> "_Span":
        """Return the span with `inclusive` negated. The results of `read` and `other` are then exchanged."""
        return self._replace(inclusive=not self.inclusive)


def read_token_spans(path: str | Path, types: Mapping[str, str] | None = None) -> list[Document]:
    """Read documents from a JSON list, or from a file with one JSON object per line. There are three formats:

    - `{"tokens": [...], "entities": [{"start", "end" (exclusive), "type"}]}`
    - `{"sentence": [...], "ner": [{"index": [...], "type"}]}`
    - `{"tokenized_text": [...], "ner": [[first, last (inclusive), "type"]]}` (GLiNER)

    The words of a document are its tokens, and its text consists of the tokens, joined by spaces. Blank tokens are
    skipped.

    Some files use inclusive ends where the format has exclusive ends, or vice versa. If a span also has its text
    ("text", or a fourth item of the list), the reader compares this text with the tokens. If they differ, the reader
    tries the other kind of end. If all texts of the file need the other kind, it also applies to the spans without a
    text.

    Args:
        path: the file.
        types: type in the file -> entity type. Mentions of other types are skipped. `None` means that the entity types
            are the types in the file.

    Raises:
        DataError: a row has none of these formats, or a span is outside the tokens or differs from its text.
    """
    records = read_records(path, _EXPECTED, "row")
    rows = [_tokens_and_spans(record) for record in records]
    stated = [(span, tokens) for tokens, spans in rows for span in spans if span.stated is not None]
    turned = bool(stated) and all(
        not _has_text(span, tokens, span.read) and _has_text(span, tokens, span.other) for span, tokens in stated
    )
    return distinct_ids(
        _document(
            record, tokens, [span.turned() for span in spans] if turned else spans, f"{stem_of(path)}-{number}", types
        )
        for number, (record, (tokens, spans)) in enumerate(zip(records, rows, strict=True), 1)
    )


def _tokens_and_spans(record: Record) -> tuple[list[str], list[_Span]]:
    where, row = record
    try:
        tokens = next(row[key] for key in _TOKENS if isinstance(row.get(key), list))
        spans = [_span(entity) for entity in row.get("entities", row.get("ner", []))]
    except (StopIteration, TypeError, KeyError, AttributeError, ValueError, IndexError):
        raise DataError(f"{where}: expected {_EXPECTED}, got {dict(row)!r:.80}.") from None
    if not {"entities", "ner"} & set(row):  # otherwise, a misspelt key would give texts without mentions
        raise DataError(f"{where}: expected {_EXPECTED}, got the fields {', '.join(map(repr, row)):.80}.")
    for token in tokens:
        if not isinstance(token, str):
            raise DataError(f"{where}: the token {token!r} is not a string.")
    return tokens, spans


def _document(
    record: Record, tokens: list[str], spans: list[_Span], default_id: str, types: Mapping[str, str] | None
) -> Document:
    where, row = record
    text, words = join_words((token.strip() for token in tokens), keep_blank=False)
    identifier = identifier_of(row, default_id)
    for name, value in (("text", text), ("id", identifier), *(("type", span.label) for span in spans)):
        if problem := surrogate_problem(value):
            raise DataError(f"{where}: the {name} {problem}.")
    mentions = []
    for span in spans:
        covered = _words(span, tokens, words, where)
        label = span.label if types is None else types.get(span.label)
        if label is not None:
            mentions.append(Mention(covered[0][0], covered[-1][1], label))
    return Document(
        identifier,
        text,
        tuple(dict.fromkeys(mentions)),
        tuple(word for word in words if word is not None),
    )


def _words(span: _Span, tokens: list[str], words: list[tuple[int, int] | None], where: str) -> list[tuple[int, int]]:
    """Return the character spans of the words of a span of tokens.

    The format of the file defines whether the end of the span is inclusive. If the tokens then differ from the stated
    text, the function tries the other kind of end.
    """
    if not span.label.strip():
        raise DataError(f"{where}: the span {span.first}..{span.last} has no type.")
    read = span.read
    for last in (read, *([span.other] if span.stated is not None else [])):
        if _has_text(span, tokens, last):
            covered = [word for word in words[span.first : last + 1] if word is not None]
            if not covered:
                raise DataError(f"{where}: the tokens {span.first}..{last} of a {span.label} are blank.")
            return covered
    if not 0 <= span.first <= read < len(tokens):
        raise DataError(
            f"{where}: a {span.label} spans the tokens {span.first}..{read}, but there are {len(tokens)} tokens."
        )
    words_read = " ".join(tokens[span.first : read + 1])
    raise DataError(
        f"{where}: the tokens {span.first}..{read} are {words_read!r:.60}, but the text of the span is "
        f"{span.stated!r:.60}."
    )


def _has_text(span: _Span, tokens: list[str], last: int) -> bool:
    """Return whether the tokens from `span.first` to `last` exist and match the stated text, if there is a text."""
    exist = 0 <= span.first <= last < len(tokens)
    return exist and (span.stated is None or same_text("".join(tokens[span.first : last + 1]), span.stated))


def _span(entity: Any) -> _Span:
    if isinstance(entity, Mapping):
        stated = entity.get("text", entity.get("word"))
        stated = stated if isinstance(stated, str) else None
        label = _string(entity["type"] if "type" in entity else entity["label"])
        if "index" in entity:
            index = [_integer(number) for number in entity["index"]]
            return _Span(min(index), max(index), label, stated, True)
        return _Span(_integer(entity["start"]), _integer(entity["end"]), label, stated, False)
    first, last, label, *stated = entity
    text = stated[0] if stated and isinstance(stated[0], str) else None  # some tools write a score instead of a text
    return _Span(_integer(first), _integer(last), _string(label), text, True)


def _integer(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(value)
    return value


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(value)
    return value
