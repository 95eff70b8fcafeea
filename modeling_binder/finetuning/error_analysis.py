"""Classify the errors of predictions: wrong types, wrong boundaries, missed and spurious mentions."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from .data import Document, as_documents
from .matching import Pair, match_by_span
from .scores import AnyDocument, Span, as_span, mentions_of


class ErrorKind(Enum):
    """A kind of error. `matching.match_by_span` pairs each gold mention with a prediction that overlaps it."""

    TYPE = "type"  # a gold mention and its prediction have equal spans and different types
    BOUNDARY = "boundary"  # their spans overlap, but are not equal; their types are equal
    BOTH = "type and boundary"  # their spans overlap, but are not equal; their types differ
    MISSED = "missed"  # a gold mention has no prediction
    SPURIOUS = "spurious"  # a prediction has no gold mention


@dataclass(frozen=True, slots=True)
class MentionError:
    """An error in a document.

    Args:
        kind: the kind of error.
        document: index of the document.
        gold: the gold mention (start, end, label); None for a spurious prediction.
        predicted: the prediction (start, end, label); None for a missed mention.
    """

    kind: ErrorKind
    document: int
    gold: Span | None
    predicted: Span | None

    @property
    def start(self) -> int:
        return min(span[0] for span in (self.gold, self.predicted) if span)

    @property
    def end(self) -> int:
        return max(span[1] for span in (self.gold, self.predicted) if span)


@dataclass(frozen=True, slots=True)
class ErrorAnalysis:
    """The result of `analyse_errors`.

    Args:
        documents: the documents with their gold mentions.
        predicted: for each document, its sorted predictions with their scores. An unknown score is None.
        correct: number of predictions that equal a gold mention.
        errors: all errors, ordered by document and position.
        confusion: (gold label, predicted label) -> number of pairs, including correct pairs. A spurious prediction has
            the gold label None. A missed mention has the predicted label None.
    """

    documents: Sequence[Document]
    predicted: Sequence[dict[Span, float | None]]
    correct: int
    errors: Sequence[MentionError]
    confusion: dict[tuple[str | None, str | None], int]

    def counts(self) -> dict[ErrorKind, int]:
        """Return the number of errors of each kind."""
        counts = Counter(error.kind for error in self.errors)
        return {kind: counts[kind] for kind in ErrorKind}

    def of(self, kind: ErrorKind) -> list[MentionError]:
        """Return the errors of one kind."""
        return [error for error in self.errors if error.kind is kind]

    def to_dict(self) -> dict[str, Any]:
        """Return a dictionary for JSON with the counts, the confusion matrix, and the errors with their texts."""
        return {
            "correct": self.correct,
            "errors": {kind.value: count for kind, count in self.counts().items()},
            "confusion": [
                {"gold": gold, "predicted": predicted, "count": count}
                for (gold, predicted), count in self.confusion.items()
            ],
            "mentions": [self._row(error) for error in self.errors],
        }

    def _row(self, error: MentionError) -> dict[str, Any]:
        document = self.documents[error.document]
        row: dict[str, Any] = {"kind": error.kind.value, "document": document.id}
        for name, span in (("gold", error.gold), ("predicted", error.predicted)):
            row[name] = None
            if span is not None:
                start, end, label = span
                row[name] = {"start": start, "end": end, "label": label, "text": document.text[start:end]}
        if error.predicted is not None:
            row["predicted"]["score"] = self.predicted[error.document][error.predicted]
        return row


def analyse_errors(documents: Iterable[Any], predicted: Sequence[AnyDocument]) -> ErrorAnalysis:
    """Compare predictions with gold mentions, and classify the errors.

    Args:
        documents: `Document` objects with gold mentions, or dictionaries with the same fields.
        predicted: the predictions of each document. See `metrics.compute_span_metrics` for the formats.

    Raises:
        DataError: a document is malformed.
        ValueError: the numbers of documents differ, a prediction is malformed, or it ends after the text.
    """
    texts = as_documents(documents)
    if len(texts) != len(predicted):
        raise ValueError(f"got {len(texts)} documents with gold mentions and {len(predicted)} with predictions.")
    guesses = [
        _with_scores(spans, document)
        for spans, document in zip(mentions_of(predicted, "predicted"), predicted, strict=True)
    ]
    errors: list[MentionError] = []
    confusion: Counter[tuple[str | None, str | None]] = Counter()
    correct = 0
    for index, (document, gold, guess) in enumerate(zip(texts, mentions_of(texts, "gold"), guesses, strict=True)):
        if late := [span for span in guess if span[1] > len(document.text)]:
            raise ValueError(
                f"the prediction {late[0]} ends after the text of document {document.id!r}, which has "
                f"{len(document.text)} characters; predictions must be in the order of the documents."
            )
        pairs = match_by_span(gold, guess)
        correct += sum(pair.gold == pair.predicted for pair in pairs)
        found = [*_pair_errors(index, pairs), *_single_errors(index, gold, guess, pairs)]
        errors += sorted(found, key=lambda error: (error.start, error.end))
        confusion.update((pair.gold[2], pair.predicted[2]) for pair in pairs)
        confusion.update((error.gold[2], None) for error in found if error.gold and not error.predicted)
        confusion.update((None, error.predicted[2]) for error in found if error.predicted and not error.gold)
    return ErrorAnalysis(texts, guesses, correct, errors, dict(confusion))


def _with_scores(spans: Iterable[Span], document: Any) -> dict[Span, float | None]:
    """Return the sorted predictions of a document with their scores. Only dictionaries with "score" have a score."""
    mentions = document.get("entities") if isinstance(document, Mapping) else document
    scores = (
        {}
        if isinstance(mentions, Document)
        else {
            as_span(mention): float(mention["score"])
            for mention in mentions or ()
            if isinstance(mention, Mapping) and mention.get("score") is not None
        }
    )
    return {span: scores.get(span) for span in sorted(spans)}


def _pair_errors(document: int, pairs: Iterable[Pair]) -> list[MentionError]:
    kinds = {(True, False): ErrorKind.TYPE, (False, True): ErrorKind.BOUNDARY, (False, False): ErrorKind.BOTH}
    return [
        MentionError(kinds[pair.same_span, pair.same_label], document, pair.gold, pair.predicted)
        for pair in pairs
        if pair.gold != pair.predicted
    ]


def _single_errors(
    document: int, gold: Iterable[Span], predicted: Iterable[Span], pairs: Sequence[Pair]
) -> list[MentionError]:
    missed = set(gold) - {pair.gold for pair in pairs}
    spurious = set(predicted) - {pair.predicted for pair in pairs}
    return [
        *(MentionError(ErrorKind.MISSED, document, span, None) for span in sorted(missed)),
        *(MentionError(ErrorKind.SPURIOUS, document, None, span) for span in sorted(spurious)),
    ]
