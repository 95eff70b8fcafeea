"""From scores to spans: propose what beats its dynamic threshold, then keep all of it or a flat part.

Pure functions of tensors. Nothing here loops over candidate spans.

Dimensions: B windows, T types, L tokens, W widths, N proposed spans.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .losses_binder import candidate_mask


class Proposals(NamedTuple):
    """Spans that beat their thresholds; each a tensor [N].

    `margin` is the span's score minus its dynamic threshold: positive where the model says "mention".
    """

    window: Tensor
    type: Tensor
    first: Tensor
    last: Tensor
    margin: Tensor


def required_margin(threshold: float | Sequence[float], num_types: int) -> Tensor:
    """Turn probabilities into margins: a span is kept where sigmoid(margin) > threshold.

    Args:
        threshold: one number for all types, or one per type, each in 0..1. 0.5 is the dynamic threshold itself.

    Returns:
        [T], float64; 0 becomes -inf (keep everything) and 1 becomes inf.

    Raises:
        ValueError: a threshold lies outside 0..1, or their number is not T.
    """
    values = [threshold] * num_types if isinstance(threshold, (int, float)) else list(threshold)
    if len(values) != num_types:
        raise ValueError(f"got {len(values)} thresholds for {num_types} entity types: give one number or one per type.")
    for value in values:
        if not isinstance(value, (int, float)) or not 0 <= value <= 1:
            raise ValueError(
                f"threshold must lie between 0 and 1, got {value!r}. 0.5 keeps what beats the model's own dynamic "
                "threshold; more is stricter."
            )
    return torch.logit(torch.tensor(values, dtype=torch.float64))


def candidate_spans(
    word_start_mask: Tensor, word_end_mask: Tensor, width: int, owned: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """The spans that may be mentions, from the first token of a word to the last token of a word.

    Args:
        word_start_mask, word_end_mask: [B, L], nonzero on the first / last token of each word.
        width: W, the widest span in tokens.
        owned: [B, 2]; where windows overlap, window b decides the spans with owned[b, 0] < first + last <= owned[b, 1].

    Returns:
        Window, first token and width - 1 of each, [N], in this order.
    """
    candidates = candidate_mask(word_start_mask, word_end_mask, width)  # [B, L, W]
    if owned is not None:
        first = torch.arange(candidates.shape[1], device=candidates.device)[:, None]
        middle = 2 * first + torch.arange(width, device=candidates.device)  # first + last, [L, W]
        candidates = candidates & (middle > owned[:, 0, None, None]) & (middle <= owned[:, 1, None, None])
    window, first, offset = candidates.nonzero(as_tuple=True)
    return window, first, offset


def propose_spans(
    span_scores: Tensor,
    word_start_mask: Tensor,
    word_end_mask: Tensor,
    required: Tensor,
    start_scores: Tensor | None = None,
    end_scores: Tensor | None = None,
    owned: Tensor | None = None,
) -> Proposals:
    """Candidate spans that beat their type's dynamic threshold by the required margin, from a matrix of all scores.

    `BinderModel.find_spans` does the same without that matrix.

    Args:
        span_scores: [B, T, L, W], entry (0, 0) the threshold.
        word_start_mask, word_end_mask, owned: see `candidate_spans`.
        required: [T], margins from `required_margin`.
        start_scores, end_scores: [B, T, L]; when given, the start and the end of a span must beat their own
            thresholds as well (the paper's joint position-span inference).
    """
    window, first, offset = candidate_spans(word_start_mask, word_end_mask, span_scores.shape[-1], owned)
    margin = span_scores[window, :, first, offset] - span_scores[window, :, 0, 0]  # [N, T]
    found = beating(margin, required, window, first, offset)
    if start_scores is not None and end_scores is not None:
        found = with_both_ends(found, start_scores, end_scores)
    return found


def beating(margin: Tensor, required: Tensor, window: Tensor, first: Tensor, offset: Tensor) -> Proposals:
    """Those of N spans that beat a threshold by the required margin, for each type of which they do.

    Args:
        margin: [N, T]. required: [T]. window, first, offset: [N].
    """
    row, kind = (margin > required.to(margin)).nonzero(as_tuple=True)
    return Proposals(window[row], kind, first[row], first[row] + offset[row], margin[row, kind])


def with_both_ends(found: Proposals, start_scores: Tensor, end_scores: Tensor) -> Proposals:
    """Those whose start and end beat their own thresholds too: joint position-span inference.

    Args:
        found: spans whose types count from 0. start_scores, end_scores: [B, T, L], position 0 the threshold.
    """
    window, kind = found.window, found.type
    joint = (start_scores[window, kind, found.first] > start_scores[window, kind, 0]) & (
        end_scores[window, kind, found.last] > end_scores[window, kind, 0]
    )
    return Proposals(*(column[joint] for column in found))


def probability(margin: Tensor) -> Tensor:
    """The score that users see: sigmoid of the margin, above 0.5 exactly where the margin is positive.

    In float64, and never rounded to 0.5 from above.
    """
    score = torch.sigmoid(margin.double())
    return torch.where(margin > 0, score.clamp_min(0.5 + 2**-53), score)


def _by_weight(starts: Tensor, ends: Tensor, types: Tensor, weights: Tensor) -> Tensor:
    """Order by weight, heaviest first; ties by start, end and type, so that results do not depend on the order."""
    order = torch.argsort(types, stable=True)
    for key in (ends, starts, -weights):
        order = order[torch.argsort(key[order], stable=True)]
    return order


def _overlaps_nothing(starts: Tensor, ends: Tensor) -> bool:
    order = torch.argsort(starts)
    return bool((ends[order][:-1] <= starts[order][1:]).all())


def flat_greedy(starts: Tensor, ends: Tensor, types: Tensor, weights: Tensor) -> Tensor:
    """Take the heaviest span, drop what overlaps it, repeat.

    Args:
        starts, ends: [N], ends exclusive. types: [N], break ties. weights: [N], comparable across types.

    Returns:
        Indices of the spans kept, in order of position.
    """
    left = _by_weight(starts, ends, types, weights)
    kept = []
    while left.numel():
        best = left[0]
        kept.append(best)
        left = left[(starts[left] >= ends[best]) | (ends[left] <= starts[best])]
    if not kept:
        return left
    chosen = torch.stack(kept)
    return chosen[torch.argsort(starts[chosen])]


def flat_exact(starts: Tensor, ends: Tensor, types: Tensor, weights: Tensor) -> Tensor:
    """The non-overlapping set of largest total weight (weighted interval scheduling).

    Dynamic programming over the distinct end positions; the spans of one end are one vector operation.
    Args and result as in `flat_greedy`. Spans of weight zero or less are never taken.
    """
    if _overlaps_nothing(starts, ends):
        order = torch.argsort(starts)
        return order[weights[order] > 0]
    order = _by_weight(starts, ends, types, weights)
    order = order[torch.argsort(ends[order], stable=True)]  # per end: heaviest first, so argmax breaks ties alike
    positions, counts = ends[order].unique_consecutive(return_counts=True)
    before = torch.searchsorted(positions, starts[order], right=True)  # ends that a span leaves untouched
    total = torch.zeros(len(positions) + 1, dtype=weights.dtype)  # best total up to each end
    choice: list[int | None] = []
    begin = 0
    for step, count in enumerate(counts.tolist()):
        span = slice(begin, begin + count)
        values = weights[order[span]] + total[before[span]]
        best = int(values.argmax())
        taken = bool(values[best] > total[step])
        total[step + 1] = values[best] if taken else total[step]
        choice.append(begin + best if taken else None)
        begin += count
    chosen = []
    step = len(positions)
    while step:
        pick = choice[step - 1]
        if pick is None:
            step -= 1
        else:
            chosen.append(pick)
            step = int(before[pick])
    return order[torch.tensor(chosen[::-1], dtype=torch.long)]


FLAT_ALGORITHMS = {"exact": flat_exact, "greedy": flat_greedy}


def flat_spans(
    starts: Tensor, ends: Tensor, types: Tensor, margins: Tensor, required: Tensor, algorithm: str = "exact"
) -> Tensor:
    """A non-overlapping set of spans across all types.

    Spans are compared by how far they clear the margin that was asked of their type, never by raw score: each type
    has a threshold of its own.

    Args:
        starts, ends, types, margins: [N], ends exclusive. required: [T], margins from `required_margin`.
        algorithm: "exact" (largest total) or "greedy".

    Returns:
        Indices of the spans kept, in order of position.
    """
    weights = margins.double() - required[types].clamp(-1e6, 1e6)
    return FLAT_ALGORITHMS[algorithm](starts, ends, types, weights)
