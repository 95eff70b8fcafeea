"""Convert the input of writers: documents, or texts with predicted entities and their scores."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from ..data import Document, Mention
from ..errors import DataError
from ..offsets import distinct_ids


class Found(NamedTuple):
    """A document, and the score of each of its mentions. A missing score is None."""

    document: Document
    scores: tuple[float | None, ...]


def found_documents(items: Iterable[Document | Mapping[str, Any]]) -> list[Found]:
    """Convert documents, or dictionaries with "text" and "entities", into documents with scores.

    In a dictionary, the key of the type of an entity is "label" (as in corpus files) or "entity_group" (as in the
    output of the pipeline). An entity may have a "score". So `{"text": text, "entities": pipe(text)}` is a valid item.
    A missing or blank id becomes the number of the document. Duplicate ids are made distinct.

    Raises:
        DataError: an item is malformed. The message names the document and the field.
    """
    found: list[Found] = []
    for number, item in enumerate(items, 1):
        if isinstance(item, Document):
            document = item
            scores: Sequence[float | None] = [None] * len(item.entities)
        elif isinstance(item, Mapping):
            document, scores = _from_mapping(item, number)
        else:
            raise DataError(f"document {number}: expected a Document or a dictionary, got {type(item).__name__}.")
        # With a blank id, the files of brat would be hidden (`.txt`, `.ann`), and PubTator files could not be read
        # again.
        if not document.id.strip():
            document = replace(document, id=str(number))
        found.append(Found(document, tuple(scores)))
    documents = distinct_ids(item.document for item in found)
    return [Found(document, item.scores) for document, item in zip(documents, found, strict=True)]


def _from_mapping(item: Mapping[str, Any], number: int) -> tuple[Document, list[float | None]]:
    scores: dict[Mention, float | None] = {}
    if "entities" not in item:
        keys = ", ".join(map(repr, item)) or "nothing"
        raise DataError(
            f"document {number}: 'entities' is missing (the keys are {keys:.80}); a text without entities needs []."
        )
    entities = item.get("entities")
    try:
        document = Document.from_dict(
            {**item, "entities": [with_label(entity) for entity in entities or ()]}, str(number)
        )
    except (DataError, TypeError) as error:
        raise DataError(f"document {number}: {error}.") from None
    for entity in entities or ():
        if isinstance(entity, Mapping):
            score = entity.get("score")
            mention = Mention(entity["start"], entity["end"], with_label(entity)["label"])
            try:
                scores.setdefault(mention, None if score is None else float(score))
            except (TypeError, ValueError):
                raise DataError(f"document {number}: 'score' must be a number, got {score!r:.60}.") from None
    return document, [scores.get(mention) for mention in document.entities]


def with_label(entity: Any) -> Any:
    """Return an entity with its type in "label". An entity that already has a "label" is returned unchanged."""
    if isinstance(entity, Mapping) and "label" not in entity and "entity_group" in entity:
        return {**entity, "label": entity["entity_group"]}
    return entity
