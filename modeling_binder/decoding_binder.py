"""Turn scores into spans: find the spans above their thresholds, then keep all of them or a subset without overlaps.

All functions are pure functions of tensors. There are many candidate spans, so tensor operations compare them with
their thresholds. Only the few spans above a threshold are visited one by one, to choose a subset without overlaps.

Dimensions: B windows, T entity types, L tokens, W span widths, N spans.
"""

import warnings
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .losses_binder import candidate_mask
from .numbers_binder import as_number


class Proposals(NamedTuple):
    """Spans above their thresholds, as five tensors [N].

    Args:
        window: index of the window.
        type_id: index of the entity type.
        first, last: first and last token of the span in the window.
        margin: score of the span minus its dynamic threshold. The model predicts a mention if it is positive.
    """

    window: Tensor
    type_id: Tensor
    first: Tensor
    last: Tensor
    margin: Tensor

    @property
    def type(self) -> Tensor:
        """Deprecated name of `type_id`."""
        warnings.warn("Proposals.type is now Proposals.type_id.", FutureWarning, stacklevel=2)
        return self.type_id


def required_margin(threshold: Any, num_types: int) -> Tensor:
    """Convert thresholds from probabilities to margins. A span is kept if sigmoid(margin) > threshold.

    Args:
        threshold: a number between 0 and 1 for all types, or one number per type. 0.5 is the dynamic threshold. All
            kinds of numbers are accepted, see `as_number`.
        num_types: T.

    Returns:
        [T], float64. The threshold 0 gives -inf (keep every span), and the threshold 1 gives inf.

    Raises:
        ValueError: a threshold is not a number between 0 and 1, or the number of thresholds is not T.
    """
    is_list = (
        hasattr(threshold, "__iter__") and not isinstance(threshold, str) and getattr(threshold, "ndim", None) != 0
    )
    values = list(threshold) if is_list else [threshold] * num_types
    if len(values) != num_types:
        raise ValueError(f"got {len(values)} thresholds for {num_types} entity types: give one number or one per type.")
    numbers = [as_number(value) for value in values]
    for number, value in zip(numbers, values, strict=True):
        if not isinstance(number, float):
            raise ValueError(f"threshold must be a number between 0 and 1, got {value!r:.80}.")
        if not 0 <= number <= 1:
            raise ValueError(
                f"threshold must lie between 0 and 1, got {value!r:.80}. 0.5 keeps the spans above the model's dynamic "
                "threshold; a higher value is stricter."
            )
    return torch.logit(torch.tensor(numbers, dtype=torch.float64))


def candidate_spans(
    word_start_mask: Tensor, word_end_mask: Tensor, width: int, owned: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the spans that may be mentions: from the first token of a word to the last token of a word.

    Args:
        word_start_mask, word_end_mask: [B, L], nonzero on the first / last token of each word.
        width: W, the maximum width of a span in tokens.
        owned: [B, 2]. Windows overlap, so each span is assigned to a single window. Window b predicts the spans with
            owned[b, 0] < first + last <= owned[b, 1]. `None` means that each window predicts all its spans.

    Returns:
        Three tensors [N]: the window of each span, its first token, and its width minus 1.
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
    """Return the candidate spans whose margin exceeds the required margin of a type.

    This function needs the scores of all spans. `BinderModel.find_spans` returns the same result with less memory.

    Args:
        span_scores: [B, T, L, W]. Entry (0, 0) is the threshold.
        word_start_mask, word_end_mask, owned: see `candidate_spans`.
        required: [T], margins from `required_margin`.
        start_scores, end_scores: [B, T, L], for joint position-span inference as in the paper: the start and the end of
            a span must exceed their own thresholds too. `None` means that only the span score is used.
    """
    window, first, offset = candidate_spans(word_start_mask, word_end_mask, span_scores.shape[-1], owned)
    margin = span_scores[window, :, first, offset] - span_scores[window, :, 0, 0]  # [N, T]
    found = above_threshold(margin, required, window, first, offset)
    if start_scores is not None and end_scores is not None:
        found = with_both_ends(found, start_scores, end_scores)
    return found


def above_threshold(margin: Tensor, required: Tensor, window: Tensor, first: Tensor, offset: Tensor) -> Proposals:
    """Return the pairs of a span and a type whose margin exceeds the required margin of the type.

    Args:
        margin: [N, T], margin of each span for each type.
        required: [T], required margin of each type.
        window, first, offset: [N], the spans from `candidate_spans`.
    """
    required = required.to(margin)
    # Most spans are not above the threshold of any type. So first compare only the largest margin of each span with the
    # smallest required margin. This is faster with many types. If a margin of a span is nan, the largest margin is nan
    # too, and `<=` is false. So this step does not drop spans with nan.
    near = (~(margin.amax(-1) <= required.min())).nonzero()[:, 0]
    margin = margin.index_select(0, near)
    row, type_id = (margin > required).nonzero(as_tuple=True)
    span = near[row]
    return Proposals(window[span], type_id, first[span], first[span] + offset[span], margin[row, type_id])


def with_both_ends(found: Proposals, start_scores: Tensor, end_scores: Tensor) -> Proposals:
    """Keep the spans whose start and end exceed their own thresholds too (joint position-span inference).

    Args:
        found: the spans.
        start_scores, end_scores: [B, T, L]. Position 0 is the threshold.
    """
    window, type_id = found.window, found.type_id
    joint = (start_scores[window, type_id, found.first] > start_scores[window, type_id, 0]) & (
        end_scores[window, type_id, found.last] > end_scores[window, type_id, 0]
    )
    return Proposals(*(column[joint] for column in found))


def probability(margin: Tensor, temperature: Tensor | None = None) -> Tensor:
    """Convert margins to the scores that users see: sigmoid(margin / temperature).

    The score of a positive margin is always above 0.5, even if rounding in float64 would give 0.5.

    Args:
        margin: [N].
        temperature: [N], positive, see `thresholds_binder`. `None` means 1.
    """
    score = torch.sigmoid(margin.double() if temperature is None else margin.double() / temperature)
    return torch.where(margin > 0, score.clamp_min(0.5 + 2**-53), score)


def _one_type_each(
    starts: Tensor, ends: Tensor, types: Tensor, weights: Tensor
) -> Iterator[tuple[int, int, float, int]]:
    """Yield each span once, with the type of largest weight, as (end, start, weight, index).

    A span may have several types, but a set without overlaps contains a span only once. The type of largest weight is
    then best. Of types with equal weights, the type with the lowest id is chosen, so that the result does not depend on
    the order of the input.

    Args:
        starts, ends, types, weights: [N], pairs of a span and a type. The yielded index is a position in these tensors.

    Yields:
        The spans in the order of their ends, and then of their starts.
    """
    type_id, weight, start, end = (column.detach().cpu().numpy() for column in (types, weights, starts, ends))
    order = np.lexsort((type_id, -weight, start, end))  # sorts by end, then start, then weight, then type
    start, end = start[order], end[order]
    new = np.ones(len(order), dtype=bool)
    new[1:] = (end[1:] != end[:-1]) | (start[1:] != start[:-1])
    index = order[new]
    return zip(end[new].tolist(), start[new].tolist(), weight[index].tolist(), index.tolist(), strict=True)


def flat_greedy(starts: Tensor, ends: Tensor, types: Tensor, weights: Tensor) -> Tensor:
    """Choose spans without overlaps greedily: choose the span of largest weight, drop spans that overlap it, repeat.

    Args:
        starts, ends: [N], positions of the spans. Ends are exclusive.
        types: [N], ids of the entity types. They decide between equal weights.
        weights: [N], which must be comparable across types.

    Returns:
        Indices of the chosen spans, sorted by position.
    """
    spans = [(-weight, start, end, index) for end, start, weight, index in _one_type_each(starts, ends, types, weights)]
    kept: list[tuple[int, int, int]] = []  # sorted by position
    for _, start, end, index in sorted(spans):
        place = bisect_left(kept, (end,))  # only the spans kept[:place] start before `end`
        if place == 0 or kept[place - 1][1] <= start:
            kept.insert(place, (start, end, index))
    return starts.new_tensor([index for *_, index in kept], dtype=torch.long)


def flat_exact(starts: Tensor, ends: Tensor, types: Tensor, weights: Tensor) -> Tensor:
    """Choose the set of spans without overlaps that has the largest total weight (weighted interval scheduling).

    The arguments and the result are the same as in `flat_greedy`. Spans of weight zero or less are never chosen.
    """
    positions: list[int] = []  # the distinct ends of the spans, in order
    # total[i] is the total weight of the best set of spans that end at one of the first i positions.
    total = [0.0]
    # choice[i] belongs to total[i + 1]. If the best set contains a span that ends at positions[i], choice[i] is a pair:
    # the index of this span, and the number of positions at or before its start. Otherwise, choice[i] is None.
    choice: list[tuple[int, int] | None] = []
    for end, start, weight, index in _one_type_each(starts, ends, types, weights):
        if not positions or positions[-1] != end:
            positions.append(end)
            total.append(total[-1])
            choice.append(None)
        before = bisect_right(positions, start)
        if total[before] + weight > total[-1]:
            total[-1] = total[before] + weight
            choice[-1] = index, before
    chosen = []
    step = len(positions)
    while step:
        pick = choice[step - 1]
        if pick is None:
            step -= 1
        else:
            chosen.append(pick[0])
            step = pick[1]
    return starts.new_tensor(chosen[::-1], dtype=torch.long)


FLAT_ALGORITHMS = {"exact": flat_exact, "greedy": flat_greedy}


def drop_broader(starts: Tensor, ends: Tensor, types: Tensor, weights: Tensor, broader: Tensor) -> Tensor:
    """If a span has several types, drop the types that are broader than another type of this span.

    A broader type is kept if its weight exceeds the weight of the narrower type by more than the limit in `broader`.

    Args:
        starts, ends, types, weights: [N], pairs of a span and a type with their weights, see `flat_spans`.
        broader: [T, T], from `breadth_binder.broader_types`. Entry [i, j] is the limit if type i is broader than type
            j, and -inf if it is not. The relation must have no cycles, so that each span keeps at least one type.

    Returns:
        Indices of the remaining pairs, in order.
    """
    same_span: dict[tuple[int, int], list[int]] = {}
    for index, span in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
        same_span.setdefault(span, []).append(index)
    kept = torch.ones(len(starts), dtype=torch.bool)
    types, weights, broader = types.cpu(), weights.double().cpu(), broader.cpu()
    for indices in same_span.values():
        if len(indices) > 1:
            claims, weight = types[indices], weights[indices]
            largest = broader[claims[:, None], claims]
            kept[indices] = ~((largest > -torch.inf) & (weight[:, None] - weight <= largest)).any(1)
    return kept.nonzero()[:, 0].to(starts.device)


def flat_spans(
    starts: Tensor,
    ends: Tensor,
    types: Tensor,
    margins: Tensor,
    required: Tensor,
    algorithm: str = "exact",
    broader: Tensor | None = None,
) -> Tensor:
    """Choose a set of spans without overlaps, across all types.

    Spans are compared by their weights. The weight of a span is its margin minus the required margin of its type. Raw
    scores cannot be compared, because each type has its own threshold.

    Args:
        starts, ends, types, margins: [N], pairs of a span and a type with their margins. Ends are exclusive.
        required: [T], margins from `required_margin`.
        algorithm: "exact" (see `flat_exact`) or "greedy" (see `flat_greedy`).
        broader: [T, T]. If it is not None, `drop_broader` first drops broader types.

    Returns:
        Indices of the chosen spans, sorted by position.
    """
    weights = margins.double() - required[types].clamp(-1e6, 1e6)
    if broader is None:
        return FLAT_ALGORITHMS[algorithm](starts, ends, types, weights)
    fine = drop_broader(starts, ends, types, weights, broader)
    return fine[FLAT_ALGORITHMS[algorithm](starts[fine], ends[fine], types[fine], weights[fine])]


def __getattr__(name: str) -> Any:
    if name == "beating":
        warnings.warn("decoding_binder.beating is now decoding_binder.above_threshold.", FutureWarning, stacklevel=2)
        return above_threshold
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
