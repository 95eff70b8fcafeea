"""Convert entities with character offsets to spans of spaCy's tokens."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from spacy.tokens import Doc, Span


class Aligned(NamedTuple):
    """An entity as a span of tokens. `exact` is false if the entity did not consist of whole tokens and was changed."""

    span: Span
    score: float
    exact: bool


def align(
    doc: Doc, entities: Iterable[Mapping[str, Any]], mode: str, flat: bool
) -> tuple[list[Aligned], list[dict[str, Any]]]:
    """Return the entities as spans of tokens, ordered by position, and a list of the misaligned entities.

    An entity is misaligned if it does not consist of whole tokens.

    Args:
        doc: the document in which the entities were found.
        entities: entities as the pipeline returns them.
        mode: the `alignment_mode` of `Doc.char_span` for misaligned entities.
        flat: the returned spans must not overlap.
    """
    aligned: list[Aligned] = []
    misaligned = []
    for entity in entities:
        start, end, label, score = (entity[name] for name in ("start", "end", "entity_group", "score"))
        span = doc.char_span(start, end, label=label, alignment_mode=mode)
        exact = span is not None and (span.start_char, span.end_char) == (start, end)
        if span is not None:
            aligned.append(Aligned(span, score, exact))
        if not exact:
            misaligned.append({"start": start, "end": end, "label": label, "score": score})
    if not misaligned:
        return aligned, misaligned
    # A changed span may equal another span, or overlap another span although `flat` is true. Then one of the two is
    # left out. Exact spans come first in this loop. So only changed spans are left out, and `misaligned` has these.
    kept: dict[Any, Aligned] = {}
    used: set[int] = set()
    for each in sorted(aligned, key=lambda each: (-each.exact, -each.score)):
        tokens = range(each.span.start, each.span.end)
        key = (each.span.start, each.span.end, each.span.label)
        if key not in kept and not (flat and used.intersection(tokens)):
            kept[key] = each
            used.update(tokens)
    return sorted(kept.values(), key=lambda each: (each.span.start, -each.span.end)), misaligned


def set_ents(doc: Doc, found: Sequence[Span], overwrite: bool) -> None:
    """Add spans to `doc.ents`.

    If a found span and an old entity overlap, only one of the two is kept: the found span if `overwrite` is true,
    otherwise the old entity.
    """
    old, blocked = list(doc.ents), []
    if doc.has_annotation("ENT_IOB"):
        blocked = [doc[token.i : token.i + 1] for token in doc if token.ent_iob_ == "B" and not token.ent_type]
    if not overwrite:
        doc.set_ents([*old, *_without_overlap(found, [*old, *blocked])], blocked=blocked)
        return
    kept = _without_overlap(old, found)
    for span in old:
        if span not in kept:
            for token in span:
                token.ent_id_ = ""  # `Doc.set_ents` would keep the id of the old entity
    doc.set_ents([*kept, *found], blocked=_without_overlap(blocked, found))


def _without_overlap(spans: Iterable[Span], others: Iterable[Span]) -> list[Span]:
    """Return the spans that have no token in common with `others`."""
    used = {index for span in others for index in range(span.start, span.end)}
    return [span for span in spans if not used.intersection(range(span.start, span.end))]


def binder_score(span: Span) -> float | None:
    """Return the score of a span that a component has found, or None. This is the getter of `span._.binder_score`."""
    wanted = (span.start, span.end, span.label)
    for group in span.doc.spans.values():
        if "misaligned" in group.attrs:  # only groups of this component have this attribute
            for found, score in zip(group, group.attrs["scores"], strict=False):
                if (found.start, found.end, found.label) == wanted:
                    return score
    return None
