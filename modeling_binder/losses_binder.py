"""The contrastive losses of BINDER (Zhang et al., ICLR 2023).

A head scores candidates for each entity type. The candidates are the starts of words (start head), the ends of words
(end head), or the spans from a start to an end (span head). Candidates that are not mentions of the type are negatives.
The score of [CLS] is the threshold. The losses train each head to give scores in this order: mentions > threshold >
negatives.

Each head has a threshold loss and a mention loss. Both use the same log-sum-exp, which is computed once for a window
and a type, over the threshold and the negatives. The threshold loss is this log-sum-exp minus the threshold. For the
loss of a mention, `logaddexp` adds the score of the mention to the log-sum-exp. So no mask per mention is needed.

Dimensions: B windows, T entity types, L tokens, W span widths, M maximum number of mentions in a window, N rows.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from .scoring_binder import shifted

IGNORED = -100  # pads `labels`, as in transformers
UNDECIDED = -1  # the type id of an undecided span, which is neither a mention nor a negative of any type


class BinderLosses(NamedTuple):
    """The six loss terms, which are scalars: the mention losses and the threshold losses of the three heads."""

    start: Tensor
    end: Tensor
    span: Tensor
    start_threshold: Tensor
    end_threshold: Tensor
    span_threshold: Tensor


def candidate_mask(word_start_mask: Tensor, word_end_mask: Tensor, width: int) -> Tensor:
    """Return a mask of the spans that may be mentions: from the first token of a word to the last token of a word.

    Args:
        word_start_mask, word_end_mask: [B, L], nonzero on the first / last token of each word.
        width: W, the maximum width of a span in tokens.

    Returns:
        [B, L, W], bool. Entry (i, w) is the span of the tokens i..i+w.
    """
    return word_start_mask.bool()[..., None] & shifted(word_end_mask.bool().to(torch.uint8), width).bool()


def _contrast(scores: Tensor, candidates: Tensor, gold: Tensor) -> tuple[Tensor, Tensor]:
    """Return the log-sum-exp over the threshold and the negatives, and the threshold.

    Args:
        scores: [B, T, N], scores of N tokens or spans. Entry 0 is the threshold.
        candidates: [B, N], true for candidates.
        gold: [B, T, N], true for entries that are not negatives.

    Returns:
        Two tensors [B, T].
    """
    rivals = candidates[:, None] & ~gold
    rivals[..., 0] = True  # always include the threshold, so that the sum is finite in a window without candidates
    return scores.masked_fill(~rivals, float("-inf")).logsumexp(-1), scores[..., 0]


class _Spans(NamedTuple):
    """N spans as four tensors [N]: window, entity type, first token and last token."""

    window: Tensor
    type_id: Tensor
    first: Tensor
    last: Tensor


def _split_labels(labels: Tensor, excluded: Tensor | None, num_types: int, width: int) -> tuple[_Spans, _Spans]:
    """Return the mentions that have a span score, and the spans that are excluded from the negatives.

    With labels of shape [B, M, 3], mentions wider than W are excluded, and undecided spans are excluded for every type.
    With labels of shape [N, 4], the spans in `excluded` are excluded. For the arguments, see `binder_losses`.
    """
    if labels.dim() == 2:
        excluded = labels[:0] if excluded is None else excluded
        return _Spans(*labels.unbind(-1)), _Spans(*excluded.unbind(-1))
    window, row = (labels[..., 0] >= 0).nonzero(as_tuple=True)
    mentions = _Spans(window, *labels[window, row].unbind(-1))
    scored = mentions.last - mentions.first < width
    window, row = (labels[..., 0] == UNDECIDED).nonzero(as_tuple=True)
    _, first, last = labels[window, row].unbind(-1)
    every = torch.arange(num_types, device=labels.device).repeat(len(window))
    undecided = (window, first, last)
    window, first, last = (column.repeat_interleave(num_types) for column in undecided)
    wide = _Spans(*(column[~scored] for column in mentions))
    columns = zip(wide, (window, every, first, last), strict=True)
    return _Spans(*(column[scored] for column in mentions)), _Spans(*(torch.cat(pair) for pair in columns))


def _gold_masks(mentions: _Spans, excluded: _Spans, width: int, like: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Return a mask for each of the three heads, which is true for mentions and excluded spans.

    Args:
        mentions, excluded: see `_split_labels`.
        width: W, the maximum width of a span in tokens.
        like: the scores of the three heads. A mask has the same shape as the scores of its head.
    """
    starts, ends, spans = (torch.zeros_like(scores, dtype=torch.bool) for scores in like)
    for window, type_id, first, last in (mentions, excluded):
        starts[window, type_id, first] = True
        ends[window, type_id, last] = True
    spans[mentions.window, mentions.type_id, mentions.first, mentions.last - mentions.first] = True
    # An excluded span wider than W has no entry. Entry (0, 0) is set to true instead. This has no effect, because the
    # entry is the threshold, and `_contrast` always includes the threshold.
    narrow = excluded.last - excluded.first < width
    first = torch.where(narrow, excluded.first, 0)
    spans[excluded.window, excluded.type_id, first, torch.where(narrow, excluded.last - excluded.first, 0)] = True
    return starts, ends, spans


def binder_losses(
    start_scores: Tensor,
    end_scores: Tensor,
    span_scores: Tensor,
    word_start_mask: Tensor,
    word_end_mask: Tensor,
    labels: Tensor,
    num_mentions: Tensor | int | None = None,
    num_windows: Tensor | int | None = None,
    excluded: Tensor | None = None,
    asked: Tensor | None = None,
    num_asked: Tensor | int | None = None,
) -> BinderLosses:
    """Return the mention and threshold losses of the three heads.

    Args:
        start_scores, end_scores: [B, T, L]. Position 0 is the threshold.
        span_scores: [B, T, L, W]. Entry (0, 0) is the threshold.
        word_start_mask, word_end_mask: [B, L], nonzero on the first / last token of each word.
        labels: the gold mentions in one of two forms.

            - [B, M, 3], padded with -100: a row (type, first token, last token) per mention. A mention wider than W has
              no span score. It trains no head, and its tokens are not negatives of the start and end heads. A row with
              type -1 is an undecided span, which all losses ignore.
            - [N, 4], without padding: a row (window, type, first token, last token) per mention that is not wider than
              W. This form needs no synchronisation with the device.
        num_mentions, num_windows: the mention losses are divided by `num_mentions`, and the threshold losses by
            `num_windows` times T. These numbers default to the counts of this batch. With gradient accumulation or
            several processes, pass the counts of the whole optimizer step. Then the gradient does not depend on how the
            step is split.
        excluded: [N, 4], spans that are neither mentions nor negatives, as rows like in `labels`. It is used only if
            `labels` has the shape [N, 4] too.
        asked: [B, T], true if a type was annotated in a window. The threshold losses ignore all other pairs of a window
            and a type.
        num_asked: number of true entries of `asked`. Defaults to the number in this batch. With `asked` or `num_asked`,
            the threshold losses are divided by this number, and `num_windows` is ignored.

    Returns:
        The six terms. Mention losses are averaged over mentions, threshold losses over pairs of a window and a type.
    """
    num_types, width = span_scores.shape[1], span_scores.shape[-1]
    mentions, left_out = _split_labels(labels, excluded, num_types, width)
    gold = _gold_masks(mentions, left_out, width, (start_scores, end_scores, span_scores))
    if num_mentions is None:
        num_mentions = max(len(mentions.window), 1)
    if num_asked is None and asked is not None:
        num_asked = asked.sum().clamp_min(1)
    elif num_asked is None:
        num_asked = (start_scores.shape[0] if num_windows is None else num_windows) * num_types

    window, type_id, first, last = mentions
    span_entry = first * width + last - first  # in the flattened scores
    span_candidates = candidate_mask(word_start_mask, word_end_mask, width)
    heads = (
        (start_scores, word_start_mask.bool(), gold[0], first),
        (end_scores, word_end_mask.bool(), gold[1], last),
        (span_scores.flatten(2), span_candidates.flatten(1), gold[2].flatten(2), span_entry),
    )
    mention_terms, threshold_terms = [], []
    for scores, candidates, gold_entries, entry in heads:
        others, threshold = _contrast(scores, candidates, gold_entries)
        gold_scores = scores[window, type_id, entry]
        mention_terms.append((torch.logaddexp(others[window, type_id], gold_scores) - gold_scores).sum() / num_mentions)
        distances = others - threshold
        threshold_terms.append((distances if asked is None else distances.where(asked, 0)).sum() / num_asked)
    return BinderLosses(*mention_terms, *threshold_terms)
