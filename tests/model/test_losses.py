"""Tests of the losses: known values for uniform scores, gradients, and a comparison with a loop over mentions."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modeling_binder.losses_binder import BinderLosses, binder_losses, candidate_mask


def masks(*rows):
    return torch.tensor(rows)


def uniform(batch=1, types=1, length=6, width=6):
    """Return start, end and span scores that are all zero."""
    scores = torch.zeros(batch, types, length, width)
    return torch.zeros(batch, types, length), torch.zeros(batch, types, length), scores


def test_uniform_scores_give_the_logarithm_of_the_number_of_candidates():
    # The words of the window [CLS] a b c d [SEP] have one token. So there are 4 starts, 4 ends and 10 spans.
    words = masks([0, 1, 1, 1, 1, 0])
    losses = binder_losses(*uniform(), words, words, torch.tensor([[[0, 2, 3]]]))
    # The mention loss of the start head compares the gold start, 3 negatives and the threshold. The threshold loss
    # compares only the threshold and the 3 negatives.
    assert losses.start.item() == pytest.approx(math.log(5))
    assert losses.end.item() == pytest.approx(math.log(5))
    assert losses.span.item() == pytest.approx(math.log(11))
    assert losses.start_threshold.item() == pytest.approx(math.log(4))
    assert losses.span_threshold.item() == pytest.approx(math.log(10))


def test_other_gold_mentions_are_left_out_of_the_denominator():
    words = masks([0, 1, 1, 1, 1, 0])
    two = binder_losses(*uniform(), words, words, torch.tensor([[[0, 1, 1], [0, 3, 4]]]))
    assert two.start.item() == pytest.approx(math.log(4))  # the gold start, two negatives and the threshold
    assert two.span.item() == pytest.approx(math.log(10))
    assert two.span_threshold.item() == pytest.approx(math.log(9))


def test_a_window_without_mentions_has_only_threshold_losses():
    words = masks([0, 1, 1, 1, 1, 0])
    losses = binder_losses(*uniform(), words, words, torch.full((1, 1, 3), -100))
    assert losses.start.item() == losses.end.item() == losses.span.item() == 0
    assert losses.span_threshold.item() == pytest.approx(math.log(11))


def test_a_window_without_candidates_has_zero_loss_and_finite_gradients():
    start, end, span = (scores.requires_grad_() for scores in uniform())
    nothing = masks([0, 0, 0, 0, 0, 0])
    losses = binder_losses(start, end, span, nothing, nothing, torch.full((1, 1, 3), -100))
    assert sum(losses).item() == 0
    sum(losses).backward()
    assert torch.isfinite(span.grad).all() and torch.isfinite(start.grad).all()


def test_gradients_move_gold_scores_above_and_negatives_below_the_threshold():
    start, end, span = (scores.requires_grad_() for scores in uniform(types=2))
    words = masks([0, 1, 1, 1, 1, 0])
    losses = binder_losses(start, end, span, words, words, torch.tensor([[[1, 2, 3]]]))
    losses.span.backward()
    assert span.grad[0, 1, 2, 1] < 0  # the gold score must rise
    assert span.grad[0, 1, 1, 0] > 0 and span.grad[0, 1, 0, 0] > 0  # a negative and the threshold must fall
    assert not span.grad[0, 0].any()  # type 0 has no mention
    span.grad = None
    binder_losses(start, end, span, words, words, torch.tensor([[[1, 2, 3]]])).span_threshold.backward()
    assert span.grad[0, 1, 0, 0] < 0 and span.grad[0, 1, 1, 0] > 0 and span.grad[0, 1, 2, 1] == 0


def test_candidate_spans_start_and_end_at_word_boundaries():
    # The window [CLS] a ##b c ##d [SEP] has two words of two tokens each.
    starts, ends = masks([0, 1, 0, 1, 0, 0]), masks([0, 0, 1, 0, 1, 0])
    mask = candidate_mask(starts, ends, 6)
    assert mask[0].nonzero().tolist() == [[1, 1], [1, 3], [3, 1]]
    losses = binder_losses(*uniform(), starts, ends, torch.tensor([[[0, 1, 4]]]))
    assert losses.span.item() == pytest.approx(math.log(4))


def loop_over_mentions(start, end, span, word_starts, word_ends, mentions, max_width):
    """Compute the losses by the definitions of the paper, one mention and one candidate span at a time."""
    length = start.shape[-1]

    def softmax_loss(positive, others):
        values = torch.stack([positive, *others])
        return values.logsumexp(0) - positive

    terms = {name: [] for name in BinderLosses._fields}
    for b in range(start.shape[0]):
        for t in range(start.shape[1]):
            gold = {(i, j) for w, k, i, j in mentions if (w, k) == (b, t)}
            negative_starts = [
                start[b, t, i] for i in range(length) if word_starts[b, i] and i not in {g[0] for g in gold}
            ]
            negative_ends = [end[b, t, j] for j in range(length) if word_ends[b, j] and j not in {g[1] for g in gold}]
            negative_spans = [
                span[b, t, i, j - i]
                for i in range(length)
                for j in range(i, min(length, i + max_width))
                if word_starts[b, i] and word_ends[b, j] and (i, j) not in gold
            ]
            terms["start_threshold"].append(softmax_loss(start[b, t, 0], negative_starts))
            terms["end_threshold"].append(softmax_loss(end[b, t, 0], negative_ends))
            terms["span_threshold"].append(softmax_loss(span[b, t, 0, 0], negative_spans))
    for b, t, i, j in mentions:
        gold = {(m[2], m[3]) for m in mentions if m[:2] == (b, t)}
        if j - i >= max_width:
            continue
        terms["start"].append(
            softmax_loss(
                start[b, t, i],
                [start[b, t, 0]]
                + [start[b, t, p] for p in range(length) if word_starts[b, p] and p not in {g[0] for g in gold}],
            )
        )
        terms["end"].append(
            softmax_loss(
                end[b, t, j],
                [end[b, t, 0]]
                + [end[b, t, p] for p in range(length) if word_ends[b, p] and p not in {g[1] for g in gold}],
            )
        )
        others = [
            span[b, t, p, q - p]
            for p in range(length)
            for q in range(p, min(length, p + max_width))
            if word_starts[b, p] and word_ends[b, q] and (p, q) not in gold
        ]
        terms["span"].append(softmax_loss(span[b, t, i, j - i], [span[b, t, 0, 0], *others]))
    return {name: torch.stack(values).mean().item() if values else 0.0 for name, values in terms.items()}


@st.composite
def batches(draw):
    """Generate the sizes, word masks and gold mentions of a batch."""
    batch, types, length = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(2, 7))
    width = draw(st.integers(1, length))
    flags = st.lists(st.lists(st.integers(0, 1), min_size=length, max_size=length), min_size=batch, max_size=batch)
    starts, ends = torch.tensor(draw(flags)), torch.tensor(draw(flags))
    starts[:, 0] = ends[:, 0] = 0
    places = [
        (b, t, i, j)
        for b in range(batch)
        for t in range(types)
        for i in range(1, length)
        for j in range(i, length)
        if starts[b, i] and ends[b, j]
    ]
    mentions = draw(st.lists(st.sampled_from(places), unique=True, max_size=5)) if places else []
    return batch, types, length, width, starts, ends, mentions, draw(st.integers(0, 1000))


@given(batches())
@settings(deadline=None, max_examples=150)
def test_losses_equal_a_loop_over_mentions(case):
    batch, types, length, width, starts, ends, mentions, seed = case
    torch.manual_seed(seed)
    scores = (
        torch.randn(batch, types, length),
        torch.randn(batch, types, length),
        torch.randn(batch, types, length, width),
    )
    most = max([sum(m[0] == b for m in mentions) for b in range(batch)] + [1])
    labels = torch.full((batch, most, 3), -100)
    for b in range(batch):
        rows = [m[1:] for m in mentions if m[0] == b]
        if rows:
            labels[b, : len(rows)] = torch.tensor(rows)
    got = {name: term.item() for name, term in binder_losses(*scores, starts, ends, labels)._asdict().items()}
    assert got == pytest.approx(loop_over_mentions(*scores, starts, ends, mentions, width), abs=1e-5)


def test_splitting_an_optimizer_step_into_batches_does_not_change_its_loss():
    torch.manual_seed(1)
    scores = (torch.randn(4, 2, 6), torch.randn(4, 2, 6), torch.randn(4, 2, 6, 6))
    words = masks([0, 1, 1, 1, 1, 0]).expand(4, -1)
    labels = torch.full((4, 2, 3), -100)
    labels[0, 0], labels[0, 1], labels[3, 0] = torch.tensor([[0, 1, 2], [1, 2, 2], [1, 1, 4]])
    whole = binder_losses(*scores, words, words, labels)
    parts = [
        binder_losses(*(s[part] for s in scores), words[part], words[part], labels[part], 3, 4)
        for part in (slice(0, 1), slice(1, 4))
    ]
    for one, two, three in zip(whole, *parts, strict=True):
        torch.testing.assert_close(one, two + three)
