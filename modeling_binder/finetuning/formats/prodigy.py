"""Read annotation tasks of Prodigy in JSONL. Offsets count code points, as in spaCy."""

import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..data import Document
from ..errors import DataError
from ..files import stem_of
from ..offsets import RawDocument, RawMention, align, distinct_ids
from .records import Record, identifier_of, label_of, list_of, offset_of, read_records, text_of

logger = logging.getLogger(__name__)

_EXPECTED = "'text' and 'spans': [{'start', 'end', 'label'}, ...]"


def read_prodigy(path: str | Path) -> list[Document]:
    """Read tasks that Prodigy exported (`prodigy db-out`): `{"text", "spans": [{"start", "end", "label"}], "answer"}`.

    Rejected and ignored tasks are skipped, and a warning reports their number. The offsets of a span are compared with
    its "text", or with the text of its tokens. If several people annotated a text, each task becomes a document.

    Raises:
        DataError: a field is missing or malformed, the offsets of a span do not select its text, or no task was
            accepted. The message names the task.
    """
    records = read_records(path, _EXPECTED, "task")
    documents: list[RawDocument] = []
    answers: Counter[str] = Counter()
    for number, record in enumerate(records, 1):
        where, data = record
        answer = data.get("answer", "accept")
        answers[str(answer)] += 1
        if answer not in ("accept", "reject", "ignore"):
            raise DataError(f"{where}: 'answer' must be accept, reject or ignore, got {answer!r:.60}.")
        if answer == "accept":
            identifier = identifier_of(data, f"{stem_of(path)}-{number}")
            document = RawDocument(identifier, text_of(data, "text", where), list(_mentions(record)), where=where)
            documents.append(document)
    if not documents:
        raise DataError(f"{path}: none of the {len(records)} tasks was accepted.")
    left_out = len(records) - len(documents)
    if left_out:
        logger.warning("%s: left out %d of %d tasks, which were rejected or ignored.", path, left_out, len(records))
    return distinct_ids(align(documents))


def _mentions(record: Record) -> Iterator[RawMention]:
    where, data = record
    is_choice = bool({"options", "accept", "label"} & set(data))  # the task is to choose a category for the text
    if "spans" not in data and "tokens" not in data and (is_choice or "answer" not in data):
        raise DataError(f"{where}: expected {_EXPECTED}, got the fields {', '.join(map(repr, data)):.200}.")
    tokens = [token for token in list_of(data.get("tokens"), "tokens", where) if isinstance(token, Mapping)]
    for number, span in enumerate(list_of(data.get("spans"), "spans", where)):
        place = f"{where}: spans[{number}]"
        if not isinstance(span, Mapping):
            raise DataError(f"{place}: expected an object with 'start', 'end' and 'label', got {span!r:.60}.")
        edges = (offset_of(span.get("start"), "start", place), offset_of(span.get("end"), "end", place))
        label = label_of(span.get("label"), place)
        yield RawMention((edges,), label, _stated(span, tokens), place)


def _stated(span: Mapping[str, Any], tokens: list[Mapping[str, Any]]) -> str | None:
    """Return the text of a span, from its field "text" or from its tokens. Return None if there is neither."""
    if isinstance(span.get("text"), str):
        return str(span["text"])
    first, last = span.get("token_start"), span.get("token_end")
    if not (isinstance(first, int) and isinstance(last, int) and 0 <= first <= last < len(tokens)):
        return None
    words = [token.get("text") for token in tokens[first : last + 1]]
    return " ".join(map(str, words)) if all(isinstance(word, str) for word in words) else None
