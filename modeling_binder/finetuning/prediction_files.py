"""Write and read files of predictions, from which an evaluation can be repeated without the model."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .data import DataError, Document
from .files import read_lines, suffix_of, written_whole
from .formats import read_documents

_SHOWN = 3  # ids in an error


def write_predictions(
    path: str | Path, documents: Sequence[Document], predictions: Sequence[Sequence[Mapping[str, Any]]]
) -> None:
    """Write documents to a JSONL file with their predicted instead of their gold mentions.

    The format is that of `binder-ner find`. An entity has "start", "end", "label", "score" (if the prediction has one)
    and "word". The file can also be read as a corpus.

    Args:
        path: the file; it is compressed if its name ends in ".gz".
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

    If the file has the same texts as `documents` in the same order, predictions are assigned to documents by position,
    otherwise by id. Predictions of types that a document is not annotated for (see `Document.types`) are ignored.

    Args:
        path: a file such as `write_predictions` writes.
        documents: the documents with gold mentions.

    Returns:
        For each document a list of `{"start", "end", "label"}`, and "score" if the file is JSONL and has scores.

    Raises:
        DataError: the file is malformed, or it does not contain the same documents.
    """
    found = read_documents(path)
    if [document.text for document in found] != [document.text for document in documents]:
        found = _by_id(found, documents, path)
    scores = _scores(path) if suffix_of(path) in (".jsonl", ".ndjson") else {}
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
        DataError: the ids of the file differ from those of `documents`, or a text differs.
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


def _scores(path: str | Path) -> dict[tuple[str, int, int, str], float]:
    """Return the scores of the entities in a JSONL file: (id, start, end, label) -> score."""
    scores = {}
    for line in read_lines(path):
        row = json.loads(line) if line.strip() else {}
        for entity in row.get("entities") or ():
            if isinstance(score := entity.get("score"), (int, float)) and "id" in row:
                scores[str(row["id"]), entity["start"], entity["end"], entity["label"]] = float(score)
    return scores
