"""Compare an exported checkpoint with the original, and reject it if the two do not agree."""

from collections.abc import Sequence
from typing import Any

from hub_cards import EXAMPLES

from ..finetuning import compute_span_metrics
from ..pipeline_binder import BinderNerPipeline

Texts = Sequence[str]
# The scores of two correct float32 programs may differ by this much, because the programs round differently.
_TOLERANCE = 1e-3


class ExportError(RuntimeError):
    """The exported model does not agree with the original, or the export failed. Nothing was written."""


def disagreements(one: BinderNerPipeline, two: BinderNerPipeline, texts: Texts) -> list[str]:
    """Describe the spans whose scores differ between two pipelines by more than rounding errors.

    A pipeline returns only spans whose score is above the threshold. The threshold here is 0.3. If only one pipeline
    returns a span, 0.3 is used as the score in the other pipeline.
    """
    lowest = 0.3
    found = []
    for text, *results in zip(
        texts, one(list(texts), threshold=lowest), two(list(texts), threshold=lowest), strict=True
    ):
        first, second = (
            {(e["entity_group"], e["start"], e["end"]): e["score"] for e in entities} for entities in results
        )
        for span in first.keys() | second.keys():
            scores = first.get(span, lowest), second.get(span, lowest)
            if abs(scores[0] - scores[1]) > _TOLERANCE:
                label, start, end = span
                found.append(f"{label} {text[start:end]!r}: {scores[0]:.4f} and {scores[1]:.4f}")
    return found


def f1(pipe: BinderNerPipeline, documents: Sequence[Any]) -> float:
    """Return the exact-match micro-F1 of a pipeline on documents, in percent."""
    found = pipe([document.text for document in documents])
    guesses = [[(e["start"], e["end"], e["entity_group"]) for e in entities] for entities in found]
    gold = [document.entities for document in documents]
    return 100 * compute_span_metrics(gold, guesses, list(pipe.model.config.type_descriptions)).micro.f1


def check(original: BinderNerPipeline, exported: BinderNerPipeline, data: Sequence[Any], max_loss: float | None) -> str:
    """Compare an exported checkpoint with the original, and return the result as a sentence.

    Args:
        original: the original checkpoint.
        exported: the exported checkpoint.
        data: documents with gold mentions. If it is empty, the checkpoints are compared on example sentences.
        max_loss: points of F1 that an int8 export may lose on `data`. `None` means that F1 is not computed. The two
            checkpoints must then find the same spans with the same scores, except for rounding errors.

    Raises:
        ExportError: the two checkpoints do not agree.
    """
    if max_loss is not None:
        before, after = f1(original, data), f1(exported, data)
        report = f"F1 {before:.2f} in float32, {after:.2f} in int8, on {len(data):,} documents"
        if before - after > max_loss:
            raise ExportError(
                f"int8 loses {before - after:.2f} points of F1, and at most {max_loss:g} are allowed ({report}); "
                "nothing was written. Leave out --int8, raise the limit with --max-loss, or use the original "
                "checkpoint with pipeline(..., dtype='bfloat16')."
            )
        return report
    texts = [document.text for document in data[:500]] or [*EXAMPLES, " ".join(EXAMPLES * 4)]
    different = disagreements(original, exported, texts)
    if different:
        raise ExportError(
            f"the scores of {len(different)} spans on {len(texts)} texts differ between the original and the exported "
            f"model ({'; '.join(different[:3])}); nothing was written. Please report this with the encoder's name."
        )
    return f"finds the same spans as the original checkpoint on {len(texts)} texts"
