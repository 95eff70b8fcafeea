"""The gate: nothing is exported that does not agree with the checkpoint it was made from."""

from collections.abc import Sequence
from typing import Any

from hub_cards import EXAMPLES

from ..finetuning import compute_span_metrics
from ..pipeline_binder import BinderNerPipeline

Texts = Sequence[str]
# Scores of two float32 programs differ in the last bits: spans this near to their threshold may go either way.
_TIE = 1e-3


class ExportError(RuntimeError):
    """The exported model does not do what the checkpoint does, or cannot be made; nothing was written."""


def disagreements(one: BinderNerPipeline, two: BinderNerPipeline, texts: Texts) -> list[str]:
    """Spans that one pipeline finds and the other does not, ties aside, as sentences."""
    lowest = 0.3
    said = []
    for text, *results in zip(
        texts, one(list(texts), threshold=lowest), two(list(texts), threshold=lowest), strict=True
    ):
        first, second = ({(e["entity_group"], e["start"], e["end"]): e["score"] for e in found} for found in results)
        for span in first.keys() | second.keys():
            scores = first.get(span, lowest), second.get(span, lowest)
            if abs(scores[0] - scores[1]) > _TIE:
                kind, start, end = span
                said.append(f"{kind} {text[start:end]!r}: {scores[0]:.4f} and {scores[1]:.4f}")
    return said


def f1(pipe: BinderNerPipeline, documents: Sequence[Any]) -> float:
    """Exact-match micro-F1 of a pipeline on documents, in percent."""
    found = pipe([document.text for document in documents])
    guesses = [[(e["start"], e["end"], e["entity_group"]) for e in entities] for entities in found]
    gold = [document.entities for document in documents]
    return 100 * compute_span_metrics(gold, guesses, list(pipe.model.config.type_descriptions)).micro.f1


def check(original: BinderNerPipeline, exported: BinderNerPipeline, data: Sequence[Any], max_loss: float | None) -> str:
    """Compare an exported checkpoint with the one that it was made of; what was found, in a sentence.

    Without `max_loss` the spans must be the same on the texts of the data, or on sentences of our own; with it the F1
    on the data may fall by so many points, as is expected of int8.

    Raises:
        ExportError: it does not agree.
    """
    if max_loss is not None:
        before, after = f1(original, data), f1(exported, data)
        said = f"F1 {before:.2f} in float32, {after:.2f} in int8, on {len(data):,} documents"
        if before - after > max_loss:
            raise ExportError(
                f"int8 loses {before - after:.2f} points of F1, more than {max_loss:g} ({said}); nothing was written. "
                "Try without --int8, or on the original checkpoint pipeline(..., dtype='bfloat16'); --max-loss allows "
                "more."
            )
        return said
    texts = [document.text for document in data[:500]] or [*EXAMPLES, " ".join(EXAMPLES * 4)]
    different = disagreements(original, exported, texts)
    if different:
        raise ExportError(
            f"the exported model finds other spans, {len(different)} on {len(texts)} texts "
            f"({'; '.join(different[:3])}); nothing was written. Please report this with the encoder's name."
        )
    return f"the same spans on {len(texts)} texts"
