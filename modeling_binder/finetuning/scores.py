"""Compute precision, recall and F1 for all metrics, and convert mentions in different formats into tuples."""

import operator
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

from .data import Document, Mention

# A mention in any format that the metrics accept
AnyMention: TypeAlias = Mention | tuple[int, int, str] | Mapping[str, Any]
# A mention in the internal format of the metrics: (start, end, label)
Span: TypeAlias = tuple[int, int, str]
# The mentions of a document
AnyDocument: TypeAlias = Collection[AnyMention] | Document | Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Score:
    """Precision, recall and F1, computed from counts. A ratio with the denominator 0 is 0.

    Args:
        correct: number of correct predictions. A partially correct prediction may count as a half.
        predicted, gold: number of predictions and of gold mentions.
        found: number of gold mentions that were found. Recall uses `found`, and precision uses `correct`. The two
            numbers differ in two cases. In the score of nested mentions, `correct` counts nested predictions that are
            gold mentions, and `found` counts nested gold mentions that were predicted. In the score of a type by a
            scheme that ignores types, a prediction and its gold mention may have different types.
    """

    correct: float
    predicted: int
    gold: int
    found: float

    @property
    def precision(self) -> float:
        return self.correct / self.predicted if self.predicted else 0.0

    @property
    def recall(self) -> float:
        return self.found / self.gold if self.gold else 0.0

    @property
    def f1(self) -> float:
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else 0.0

    def to_dict(self) -> dict[str, float]:
        """Return the ratios and the counts as a dictionary for JSON."""
        ratios = {"precision": self.precision, "recall": self.recall, "f1": self.f1}
        return {**ratios, **asdict(self)}


def macro_means(scores: Iterable[Score]) -> tuple[float, float, float]:
    """Return the means of precision, recall and F1 over the scores with a gold mention or a prediction."""
    occurring = [score for score in scores if score.gold or score.predicted]
    if not occurring:
        return 0.0, 0.0, 0.0
    columns = zip(*((score.precision, score.recall, score.f1) for score in occurring), strict=True)
    precision, recall, f1 = (sum(column) / len(occurring) for column in columns)
    return precision, recall, f1


def as_span(mention: AnyMention, name: str = "a mention") -> Span:
    """Convert a mention into a tuple (start, end, label).

    Args:
        mention: a `Mention`, a tuple (start, end, label), or a dictionary with the keys "start", "end" and "label".
            "entity_group" is accepted instead of "label", because the pipeline returns it.
        name: name of the mention in error messages.

    Raises:
        ValueError: the mention has another format, or its offsets are not integers with 0 <= start < end.
    """
    if isinstance(mention, Mention):
        return mention.start, mention.end, mention.label
    values: Any = mention
    if isinstance(mention, Mapping):
        values = (mention.get("start"), mention.get("end"), mention.get("label", mention.get("entity_group")))
    try:
        start, end, label = values
        start, end = operator.index(start), operator.index(end)
    except (TypeError, ValueError):
        label = None
    if not isinstance(label, str):
        raise ValueError(
            f"{name} is {mention!r:.120}; expected {{'start': 0, 'end': 4, 'label': 'gene'}} with integer offsets "
            "('entity_group' is accepted instead of 'label'), or (0, 4, 'gene')."
        )
    if not 0 <= start < end:
        raise ValueError(
            f"{name} spans {start}..{end} ({label!r}); expected 0 <= start < end, because the end is exclusive."
        )
    return start, end, label


def mentions_of(documents: Iterable[AnyDocument], name: str) -> list[set[Span]]:
    """Convert the mentions of each document into a set of tuples (start, end, label), without duplicates.

    Args:
        documents: for each document, a collection of mentions (see `as_span`), a `Document`, or a dictionary with the
            key "entities".
        name: name of the documents in error messages.

    Raises:
        ValueError: a document or a mention has another format.
    """
    converted = []
    for index, document in enumerate(documents):
        mentions: Any = document
        if isinstance(document, Document):
            mentions = document.entities
        elif isinstance(document, Mapping) and "entities" in document:
            mentions = document["entities"]
        if _is_mention(mentions):
            raise ValueError(
                f"{name}[{index}] is one mention, {document!r:.80}; expected a list with the mentions of a document. "
                "For one document, wrap its mentions in a list: [mentions]."
            )
        if isinstance(mentions, (str, Mapping)) or not isinstance(mentions, Iterable):
            raise ValueError(
                f"{name}[{index}] is {document!r:.80}; expected a list of mentions, a Document, or a dictionary with "
                "'entities'."
            )
        converted.append({as_span(mention, f"{name}[{index}][{i}]") for i, mention in enumerate(mentions)})
    return converted


def _is_mention(value: Any) -> bool:
    if isinstance(value, Mapping):
        return "start" in value and "end" in value
    return isinstance(value, Mention) or (isinstance(value, tuple) and len(value) == 3 and isinstance(value[2], str))


def aligned_mentions(
    gold: Sequence[AnyDocument], predicted: Sequence[AnyDocument], name: str = "predicted"
) -> tuple[list[set[Span]], list[set[Span]]]:
    """Convert the gold and the predicted mentions of the same documents with `mentions_of`.

    Args:
        gold, predicted: one item for each document.
        name: name of the predictions in error messages.

    Raises:
        ValueError: the numbers of documents differ, or a document or a mention has another format.
    """
    if len(gold) != len(predicted):
        raise ValueError(f"got {len(gold)} documents with gold mentions and {len(predicted)} with predictions.")
    return mentions_of(gold, "gold"), mentions_of(predicted, name)


def ordered_labels(labels: Iterable[str] | None, *documents: Iterable[Collection[Span]]) -> list[str]:
    """Return `labels` in the given order, followed by the other labels of the mentions in sorted order."""
    names = dict.fromkeys(labels or ())
    others = {span[2] for side in documents for spans in side for span in spans}
    return list(names) + sorted(others - names.keys())
