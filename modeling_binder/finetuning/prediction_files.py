"""Write and read files of predictions, so that an evaluation can be repeated without the model."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from .data import DataError, Document
from .files import read_lines, written_whole
from .formats import detect_format, found_documents, read_documents
from .formats.found import with_label

_SHOWN = 3  # maximum number of ids in an error message
_Key: TypeAlias = tuple[str, int, int, str]  # id of the document, start, end and label of an entity


def write_predictions(
    path: str | Path, documents: Sequence[Document], predictions: Sequence[Sequence[Mapping[str, Any]]]
) -> None:
    """Write documents with their predicted mentions, instead of their gold mentions, to a JSONL file.

    The format is the output format of `binder-ner find`. An entity has "start", "end", "label", "word" and, if the
    score is known, "score". The file can also be read as a corpus.

    Args:
        path: the file. It is compressed if its name ends in ".gz".
        documents: the documents that were passed to `evaluate`.
        predictions: the predicted entities of each document, the second result of `evaluate`.
    """
    with written_whole(path) as file:
        for document, entities in zip(documents, predictions, strict=True):
            row = document.to_dict()
            row.pop("undecided", None)
            row["entities"] = [
                {
                    **{name: entity[name] for name in ("start", "end", "label", "score") if name in entity},
                    "word": document.text[entity["start"] : entity["end"]],
                }
                for entity in entities
            ]
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def read_predictions(path: str | Path, documents: Sequence[Document]) -> list[list[dict[str, Any]]]:
    """Read the predicted entities of documents from a file in any of the formats of `read_documents`.

    Predictions are assigned to documents by position if the file has the same texts as `documents` in the same order.
    Otherwise, they are assigned by id. If a document has `Document.types`, predictions of other types are ignored.

    Args:
        path: a file, for example from `write_predictions`.
        documents: the documents with gold mentions.

    Returns:
        For each document, a list of `{"start", "end", "label"}`. Entities also have a "score" if the file has the
        format of `write_predictions` and contains scores.

    Raises:
        DataError: the file is malformed, or it does not contain the same documents.
    """
    found, scores = _read(path)
    if [document.text for document in found] != [document.text for document in documents]:
        found = _by_id(found, documents, path)
    predictions = []
    for document, predicted in zip(documents, found, strict=True):
        entities = []
        for mention in sorted(predicted.entities):
            if document.types is None or mention.label in document.types:
                entity: dict[str, Any] = {"start": mention.start, "end": mention.end, "label": mention.label}
                score = scores.get((predicted.id, mention.start, mention.end, mention.label))
                entities.append(entity if score is None else {**entity, "score": score})
        predictions.append(entities)
    return predictions


def _by_id(found: Sequence[Document], documents: Sequence[Document], path: str | Path) -> list[Document]:
    """Return the documents of a file in the order of `documents`.

    Raises:
        DataError: the ids in the file differ from the ids of `documents`, or a text differs.
    """
    by_id = {document.id: document for document in found}
    known = {document.id for document in documents}
    for ids, problem in (
        ([document.id for document in documents if document.id not in by_id], "lacks"),
        ([identifier for identifier in by_id if identifier not in known], "also contains"),
    ):
        if ids:
            more = f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else ""
            raise DataError(
                f"{path}: the file {problem} the document {', '.join(map(repr, ids[:_SHOWN]))}{more}; expected "
                f"predictions for the same {len(documents)} documents as in the corpus (equal texts or equal ids)."
            )
    for document in documents:
        if by_id[document.id].text != document.text:
            raise DataError(
                f"{path}: the text of document {document.id!r} differs from the corpus, so its offsets would not fit."
            )
    return [by_id[document.id] for document in documents]


def _read(path: str | Path) -> tuple[list[Document], dict[_Key, float]]:
    """Return the documents of a file, and the scores of their entities: (id, start, end, label) -> score.

    Only the format of `write_predictions` has scores. In this format, the key of the type may also be "entity_group".
    """
    rows = _rows(path) if detect_format(path) == "jsonl" else []
    if any(with_label(entity) is not entity for row in rows for entity in _entities(row)):
        try:
            documents = [found.document for found in found_documents(rows)]
        except DataError as error:
            raise DataError(f"{path}: {error}") from None
    else:
        documents = read_documents(path)
    scores = {}
    for row in rows:
        for entity in map(with_label, _entities(row)):
            if isinstance(score := entity.get("score"), (int, float)) and "id" in row:
                scores[str(row["id"]), entity["start"], entity["end"], entity["label"]] = float(score)
    return documents, scores


def _rows(path: str | Path) -> list[Mapping[str, Any]]:
    """Return the objects of a JSONL file, or of a JSON file with a list.

    The result is empty if the file is not JSON. `read_documents` then raises the error.
    """
    lines = [line for line in read_lines(path) if line.strip()]
    try:
        rows = json.loads("\n".join(lines)) if lines[0].lstrip().startswith("[") else [json.loads(x) for x in lines]
    except (ValueError, RecursionError):
        return []
    return rows if all(isinstance(row, Mapping) for row in rows) else []


def _entities(row: Mapping[str, Any]) -> Sequence[Any]:
    entities = row.get("entities")
    return entities if isinstance(entities, list) else ()
