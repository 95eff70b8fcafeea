"""JSON with lists of tokens and spans over them: GENIA as the literature passes it around, and GLiNER's format."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modeling_binder.finetuning import DataError, Document, Mention


def read_token_spans(path: str | Path, types: Mapping[str, str] | None = None) -> list[Document]:
    """Documents from a JSON list, or from one JSON object a line, in any of three forms.

    - `{"tokens": [...], "entities": [{"start", "end" (exclusive), "type"}]}`
    - `{"sentence": [...], "ner": [{"index": [...], "type"}]}`
    - `{"tokenized_text": [...], "ner": [[first, last (inclusive), "type"]]}` (GLiNER)

    A text is its tokens joined by blanks; its words are the tokens.

    Args:
        path: the file.
        types: type in the file -> entity type; defaults to the type itself. Types that are not in it are left out.

    Raises:
        DataError: names the row that is none of these, or has a span outside its tokens.
    """
    path = Path(path)
    return [_document(row, f"{path.stem}-{n}", f"{path}: row {n}", types) for n, row in enumerate(_rows(path), 1)]


def _rows(path: Path) -> list[Any]:
    text = path.read_text(encoding="utf-8")
    rows: list[Any] = []
    # A list of objects, or an object a line
    parts = [(1, text)] if text.lstrip().startswith("[") else list(enumerate(text.splitlines(), 1))
    for number, part in parts:
        try:
            rows += [json.loads(part)] if part.strip() else []
        except ValueError as error:
            raise DataError(f"{path}:{number}: not valid JSON ({error}).") from None
    rows = rows[0] if text.lstrip().startswith("[") else rows
    if not rows:
        raise DataError(f"{path}: there is no row in this file.")
    return rows


def _document(row: Any, identifier: str, where: str, types: Mapping[str, str] | None) -> Document:
    try:
        tokens = next(row[key] for key in ("tokens", "sentence", "tokenized_text") if key in row)
        spans = [_span(entity) for entity in row.get("entities", row.get("ner", []))]
    except (StopIteration, TypeError, KeyError, AttributeError, ValueError, IndexError):
        raise DataError(
            f"{where}: expected tokens and entities, sentence and ner, or tokenized_text and ner, got {row!r:.80}."
        ) from None
    words, position = [], 0
    for token in tokens:
        if not isinstance(token, str) or not token.strip():
            raise DataError(f"{where}: the token {token!r} is blank or no string.")
        words.append((position, position + len(token)))
        position += len(token) + 1
    mentions = []
    for first, last, kind in spans:
        if not 0 <= first <= last < len(tokens):
            raise DataError(f"{where}: a {kind} spans the tokens {first}..{last} of {len(tokens)}.")
        label = kind if types is None else types.get(kind)
        if label is not None:
            mentions.append(Mention(words[first][0], words[last][1], label))
    return Document(identifier, " ".join(tokens), tuple(dict.fromkeys(mentions)), tuple(words))


def _span(entity: Any) -> tuple[int, int, str]:
    """First token, last token (inclusive) and type."""
    if isinstance(entity, Mapping):
        if "index" in entity:
            return min(entity["index"]), max(entity["index"]), str(entity["type"])
        return int(entity["start"]), int(entity["end"]) - 1, str(entity["type"])
    first, last, kind = entity
    return int(first), int(last), str(kind)
