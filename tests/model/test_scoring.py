"""Tests of span scores. The fast computation in the package must equal the formula of the paper."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from modeling_binder import BinderConfig
from modeling_binder.modeling_binder import SpanHead
from modeling_binder.scoring_binder import SpanParts, band_of_columns, band_of_products, past_the_end, shifted
from tests.tiny import tiny_encoder_config


def concatenated_span_scores(
    hidden: torch.Tensor,
    types: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    widths: torch.Tensor | None,
    width: int,
) -> torch.Tensor:
    """Compute the formula of the paper directly, with one vector for each span.

    Args:
        hidden: token states of B windows with L tokens, [B, L, H].
        types: unit vectors of T entity types, [T, D].
        weight: weight of the span projection, [D, 2H + E].
        bias: bias of the span projection, [D].
        widths: embeddings of the span widths, [W, E], or `None` for a model without width embeddings.
        width: number of span widths, W.

    Returns:
        Cosines of spans and types, [B, T, L, W]. Spans past the end of the window have -inf.
    """
    length = hidden.shape[1]
    last = (torch.arange(length)[:, None] + torch.arange(width)[None]).clamp_max(length - 1)
    parts = [hidden[:, :, None].expand(-1, -1, width, -1), hidden[:, last]]
    if widths is not None:
        parts.append(widths[None, None].expand(*hidden.shape[:2], -1, -1))
    spans = torch.nn.functional.linear(torch.cat(parts, -1), weight, bias)  # [B, L, W, D]
    scores = torch.einsum("blwd,td->btlw", torch.nn.functional.normalize(spans, dim=-1), types)
    return scores.masked_fill(past_the_end(length, width, hidden.device), float("-inf"))


@given(length=st.integers(1, 9), width=st.integers(1, 9), rows=st.integers(1, 10))
@settings(deadline=None)
def test_functions_for_spans_select_the_entries_of_each_span(length, width, rows):
    vector, columns = torch.rand(2, length), torch.rand(2, length, width)
    starts, ends = torch.randint(9, (2, 2, length, 3)).float()  # whole numbers: products are exact
    products = starts @ ends.mT
    for i in range(length):
        for w in range(width):
            inside = i + w < length
            for got, want in (
                (shifted(vector, width)[:, i, w], vector[:, i + w] if inside else None),
                (band_of_products(starts, ends, width, rows)[:, i, w], products[:, i, i + w] if inside else None),
                (band_of_columns(columns)[:, i, w], columns[:, i + w, w] if inside else None),
            ):
                assert torch.equal(got, want if want is not None else torch.zeros(2))


@given(
    batch=st.integers(1, 3),
    types=st.integers(1, 5),
    length=st.integers(1, 24),
    max_width=st.integers(1, 24),
    with_width=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    data=st.data(),
    seed=st.integers(0, 2**16),
)
@settings(deadline=None, max_examples=150)
def test_scores_equal_the_formula_of_the_paper(batch, types, length, max_width, with_width, dtype, data, seed):
    torch.manual_seed(seed)
    config = BinderConfig(
        text_config=tiny_encoder_config().to_dict(),
        projection_size=8,
        max_span_width=max_width,
        use_span_width_embedding=with_width,
    )
    head = SpanHead(16, 16, config).eval()
    torch.nn.init.constant_(head.scale, 2.0)
    head = head.to(dtype)
    hidden = torch.randn(batch, length, 16).to(dtype)
    vectors = torch.nn.functional.normalize(torch.randn(types, 8), dim=-1)
    width = min(max_width, length)
    with torch.no_grad():
        got = head(head.parts(hidden), vectors)
        want = head.scale.float().exp() * concatenated_span_scores(
            hidden.float(),
            vectors,
            head.text_projection.weight.float(),
            head.text_projection.bias.float(),
            head.width_embedding.weight[1 : width + 1].float() if with_width else None,
            width,
        )
    assert got.shape == (batch, types, length, width)
    outside = past_the_end(length, width, got.device)
    assert torch.isneginf(got[:, :, outside]).all()
    # The scores are computed in float32, which represents bfloat16 inputs exactly. So both dtypes have one tolerance.
    torch.testing.assert_close(got[:, :, ~outside], want[:, :, ~outside], atol=2e-5, rtol=1e-4)
    # Token states of padding do not change the scores of spans in the text.
    real = data.draw(st.integers(1, length))
    with_padding = torch.where(torch.arange(length)[:, None] < real, hidden, torch.full_like(hidden, 100.0))
    with torch.no_grad():
        masked = head(head.parts(with_padding), vectors)
    inside = ~past_the_end(real, width, got.device)
    torch.testing.assert_close(masked[:, :, :real][:, :, inside], got[:, :, :real][:, :, inside], atol=2e-5, rtol=1e-4)


class Largest(TorchDispatchMode):
    """Record the number of elements of the largest tensor that any operation returns."""

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.elements = max(self.elements, result.untyped_storage().nbytes() // result.element_size())
        return result


def test_no_tensor_grows_with_the_square_of_the_window_length():
    length, width = 2048, 8
    parts = SpanParts(torch.randn(1, length, 4), torch.randn(1, length, 4), torch.randn(width, 4), width)
    first = torch.arange(length - width)
    with Largest() as largest:
        for some, above in parts.above_threshold(torch.eye(4)[:2], 0 * first, first, first % width, at_once=512):
            assert above.shape == (len(first[some]), 2) and len(above) <= 256
    assert largest.elements < 4 * length * width


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_equal_the_gradients_of_the_formula_of_the_paper(dtype):
    torch.manual_seed(0)
    config = BinderConfig(text_config=tiny_encoder_config().to_dict(), projection_size=8, max_span_width=6)
    head = SpanHead(16, 16, config).eval()
    torch.nn.init.constant_(head.scale, 1.0)
    vectors = torch.nn.functional.normalize(torch.randn(3, 8), dim=-1)
    hidden = torch.randn(2, 10, 16).to(dtype).float()
    weights = torch.randn(2, 3, 10, 6)
    outside = past_the_end(10, 6, hidden.device)
    gradients = []
    for factored in (True, False):
        x = hidden.clone().requires_grad_()
        head.zero_grad()
        if factored:
            scores = head(head.parts(x), vectors)
        else:
            cosines = concatenated_span_scores(
                x,
                vectors,
                head.text_projection.weight,
                head.text_projection.bias,
                head.width_embedding.weight[1:7],
                6,
            )
            scores = head.scale.exp() * cosines.masked_fill(outside, 0)
        (scores.masked_fill(outside, 0) * weights).sum().backward()
        gradients.append([x.grad, *(p.grad.clone() for p in head.parameters() if p.grad is not None)])
    for got, want in zip(*gradients, strict=True):
        torch.testing.assert_close(got, want, atol=1e-4, rtol=1e-4)


def test_a_span_vector_of_zeros_causes_no_division_by_zero():
    config = BinderConfig(
        text_config=tiny_encoder_config().to_dict(), projection_size=4, use_span_width_embedding=False
    )
    head = SpanHead(4, 4, config)
    for parameter in head.parameters():
        torch.nn.init.zeros_(parameter)
    hidden = torch.randn(1, 3, 4, requires_grad=True)
    scores = head(head.parts(hidden), torch.eye(4)[:1])
    scores[torch.isfinite(scores)].sum().backward()
    assert torch.isfinite(hidden.grad).all()
