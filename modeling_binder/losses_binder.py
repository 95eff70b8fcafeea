"""The contrastive losses of BINDER (Zhang et al., ICLR 2023).

For each head and each type, a mention must beat the threshold ([CLS]) and every candidate that is no mention of that
type; the threshold must beat those candidates too. Together: mention > threshold > everything else.

One log-sum-exp over {threshold, negatives} per window and type serves both: the threshold loss is its distance to the
threshold, and a mention's loss is a `logaddexp` away. No mask per mention exists.

Dimensions: B windows, T types, L tokens, W widths, M mentions of the fullest window.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from .scoring_binder import shifted

IGNORED = -100  # pads `labels`, as everywhere in transformers
UNDECIDED = -1  # the type of a span that is neither a mention nor a negative, of any type (distant labels)


class BinderLosses(NamedTuple):
    """The six loss terms, each a scalar: mention and threshold loss of the three heads."""

    start: Tensor
    end: Tensor
    span: Tensor
    start_threshold: Tensor
    end_threshold: Tensor
    span_threshold: Tensor


def candidate_mask(word_start_mask: Tensor, word_end_mask: Tensor, width: int) -> Tensor:
    """Spans that may be mentions: from the first token of a word to the last token of a word.

    Args:
        word_start_mask, word_end_mask: [B, L], nonzero where a word starts / ends.
        width: W.

    Returns:
        [B, L, W], bool; entry (i, w) is the span of tokens i..i+w.
    """
    return word_start_mask.bool()[..., None] & shifted(word_end_mask.bool().to(torch.uint8), width).bool()


def _contrast(scores: Tensor, candidates: Tensor, gold: Tensor) -> tuple[Tensor, Tensor]:
    """Log-sum-exp over the threshold and the negatives, and the threshold itself.

    Args:
        scores: [B, T, N] with the threshold at entry 0; candidates: [B, N]; gold: [B, T, N].

    Returns:
        Two tensors [B, T].
    """
    rivals = candidates[:, None] & ~gold
    rivals[..., 0] = True  # the threshold is always in, so the sum is finite even in a window without candidates
    return scores.masked_fill(~rivals, float("-inf")).logsumexp(-1), scores[..., 0]


def binder_losses(
    start_scores: Tensor,
    end_scores: Tensor,
    span_scores: Tensor,
    word_start_mask: Tensor,
    word_end_mask: Tensor,
    labels: Tensor,
    num_mentions: Tensor | int | None = None,
    num_windows: Tensor | int | None = None,
) -> BinderLosses:
    """Mention and threshold losses of the three heads.

    Args:
        start_scores, end_scores: [B, T, L]; position 0 is the threshold.
        span_scores: [B, T, L, W]; entry (0, 0) is the threshold.
        word_start_mask, word_end_mask: [B, L], nonzero on the first / last token of each word.
        labels: [B, M, 3], a row (type, first token, last token) per gold mention, padded with -100. A mention wider
            than W has no span score: it trains no head, and its ends are no negatives either. A row of type -1 is
            a span of which nothing is known: it is left out everywhere.
        num_mentions, num_windows: divide by these instead of the counts of this batch. With gradient accumulation or
            several processes they are the counts of the whole optimizer step, so that the split does not change
            the gradient.

    Returns:
        The six terms: mention losses averaged over mentions, threshold losses over windows x types.
    """
    num_types, width = span_scores.shape[1], span_scores.shape[-1]
    open_window, row = (labels[..., 0] == UNDECIDED).nonzero(as_tuple=True)
    _, open_first, open_last = labels[open_window, row].unbind(-1)
    window, row = (labels[..., 0] >= 0).nonzero(as_tuple=True)
    kind, first, last = labels[window, row].unbind(-1)  # [M_total] each
    scored = last - first < width

    # True marks on every gold mention; the mentions that can be scored are a subset.
    gold_start = torch.zeros_like(start_scores, dtype=torch.bool)
    gold_end = torch.zeros_like(end_scores, dtype=torch.bool)
    gold_span = torch.zeros_like(span_scores, dtype=torch.bool)
    gold_start[window, kind, first] = True
    gold_end[window, kind, last] = True
    window, kind, first, last = (x[scored] for x in (window, kind, first, last))
    gold_span[window, kind, first, last - first] = True
    gold_start[open_window, :, open_first] = True
    gold_end[open_window, :, open_last] = True
    narrow = open_last - open_first < width
    gold_span[open_window[narrow], :, open_first[narrow], (open_last - open_first)[narrow]] = True

    mentions = max(window.numel(), 1) if num_mentions is None else num_mentions
    windows = (start_scores.shape[0] if num_windows is None else num_windows) * num_types

    span_candidates = candidate_mask(word_start_mask, word_end_mask, width)
    heads = (
        (start_scores, word_start_mask.bool(), gold_start, start_scores[window, kind, first]),
        (end_scores, word_end_mask.bool(), gold_end, end_scores[window, kind, last]),
        (
            span_scores.flatten(2),
            span_candidates.flatten(1),
            gold_span.flatten(2),
            span_scores[window, kind, first, last - first],
        ),
    )
    mention_terms, threshold_terms = [], []
    for scores, candidates, gold, gold_scores in heads:
        others, threshold = _contrast(scores, candidates, gold)
        mention_terms.append((torch.logaddexp(others[window, kind], gold_scores) - gold_scores).sum() / mentions)
        threshold_terms.append((others - threshold).sum() / windows)
    return BinderLosses(*mention_terms, *threshold_terms)
