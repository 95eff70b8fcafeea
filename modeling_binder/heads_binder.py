"""The three heads of BINDER: each projects entity types, and tokens or spans, into one space and compares them there.

A projection is computed by calling its layer, so that adapters (LoRA), quantised layers and the hooks of accelerate
work. There is one exception: if `text_projection` of the span head is a plain `nn.Linear`, the head multiplies by
slices of the weight of this layer, which is faster.

Dimensions: B windows, T types, L tokens, W widths, H hidden size, E size of a width embedding, D projection size, N
spans.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from .configuration_binder import BinderConfig
from .scoring_binder import SpanParts, past_the_end


class Head(nn.Module):
    """Base class of the heads: projects text and types into a shared space and holds the learned scale.

    Norms and comparisons are computed in float32, also under autocast and in half-precision models. `from_pretrained`
    loads the heads in float32 whatever `dtype` is, because they cost little compared with the encoders.
    """

    def __init__(self, text_size: int, type_size: int, config: BinderConfig) -> None:
        super().__init__()
        self.text_projection = nn.Linear(text_size, config.projection_size)
        self.type_projection = nn.Linear(type_size, config.projection_size)
        self.scale = nn.Parameter(torch.empty(()))
        self.dropout = nn.Dropout(config.projection_dropout)

    def types(self, type_states: Tensor) -> Tensor:
        """Project the pooled states of types to unit vectors: [T, H] -> [T, D]."""
        return nn.functional.normalize(self.dropout(project(self.type_projection, type_states)), dim=-1)


class PositionHead(Head):
    """Compares single tokens with types, to find the start or the end of a mention."""

    def forward(self, hidden: Tensor, types: Tensor) -> Tensor:
        """Score hidden states [B, L, H] against unit type vectors [T, D] or [B, T, D]; returns [B, T, L]."""
        tokens = nn.functional.normalize(self.dropout(project(self.text_projection, hidden)), dim=-1)
        return self.scale.float().exp() * (types @ tokens.transpose(-1, -2))


class SpanHead(Head):
    """Compares spans with types by the exact factored score of `scoring_binder`."""

    def __init__(self, text_size: int, type_size: int, config: BinderConfig) -> None:
        width_size = config.projection_size if config.use_span_width_embedding else 0
        super().__init__(2 * text_size + width_size, type_size, config)
        self.text_size, self.width_size = text_size, width_size
        self.max_span_width = config.max_span_width
        # Row 0 is padding and row 1 is for spans of one token, as in the checkpoints that the paper's authors released.
        self.width_embedding = (
            nn.Embedding(config.max_span_width + 1, width_size, padding_idx=0) if width_size else None
        )

    def parts(self, hidden: Tensor) -> SpanParts:
        """Project a batch of texts [B, L, H] to start, end and width vectors, which can be compared with any types."""
        width = min(self.max_span_width, hidden.shape[1])
        embedded = None
        if self.width_embedding is not None:
            embedded = self.width_embedding(torch.arange(1, width + 1, device=hidden.device)).float()  # [W, E]
        project = self._slices if _is_plain(self.text_projection) else self._calls
        starts, ends, widths = project(hidden.float(), embedded)
        widths = None if widths is None else self.dropout(widths)
        return SpanParts(self.dropout(starts), self.dropout(ends), widths, width)

    def _slices(self, hidden: Tensor, embedded: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
        """Multiply the inputs by the slices of the weight for the start, the end and the width.

        The results are the same as those of `_calls`, in a third of the time.

        Args:
            hidden: [B, L, H]. embedded: width embeddings, [W, E].

        Returns:
            Start vectors and end vectors, [B, L, D] each, and width vectors, [W, D].
        """
        layer = self.text_projection
        weight, bias = layer.weight.float(), None if layer.bias is None else layer.bias.float()
        start, end, rest = weight.split((self.text_size, self.text_size, self.width_size), dim=1)
        starts, ends = nn.functional.linear(hidden, start, bias), nn.functional.linear(hidden, end)
        return starts, ends, None if embedded is None else nn.functional.linear(embedded, rest)

    def _calls(self, hidden: Tensor, embedded: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return what `_slices` returns, but call the layer, so that adapters, quantised layers and hooks work.

        For the span of tokens i..j with hidden states h_i and h_j and width embedding e the layer computes
        W [h_i ; h_j ; e] + b. Here the layer gets only one of h_i, h_j and e at a time, with zeros in place of the
        other two, so the results are W_start h_i + b, W_end h_j + b and W_width e + b. An input of only zeros gives b,
        which is subtracted from the last two results.
        """
        size, texts = self.text_size, hidden.shape[0]
        tokens = hidden.shape[0] * hidden.shape[1]
        starts = project(self.text_projection, nn.functional.pad(hidden, (0, size + self.width_size)))
        widths = 0 if embedded is None else len(embedded)
        inputs = hidden.new_zeros(tokens + widths + 1, 2 * size + self.width_size)
        inputs[:tokens, size : 2 * size] = hidden.flatten(0, 1)
        if embedded is not None:
            inputs[tokens:-1, 2 * size :] = embedded
        outputs = project(self.text_projection, inputs)
        outputs = outputs[:-1] - outputs[-1]
        ends = outputs[:tokens].unflatten(0, (texts, -1))
        return starts, ends, None if embedded is None else outputs[tokens:]

    def forward(
        self, parts: SpanParts, types: Tensor, spans: tuple[Tensor, Tensor, Tensor] | None = None, block_scores: int = 0
    ) -> Tensor | Iterator[tuple[slice, Tensor]]:
        """Score spans against unit type vectors.

        Args:
            parts: the result of `parts` for a batch.
            types: [T, D], or [B, T, D] with different types for each window.
            spans: window, first token and width - 1 of the spans to score, [N] each. `None` means all spans.
            block_scores: number of scores to compute at once if `spans` is given.

        Returns:
            The scores of all spans, [B, T, L, W], -inf for spans past the end of the window. If `spans` is given, an
            iterator that yields for each block of spans its slice of `spans`, and the scores of the spans in the block
            minus their thresholds.
        """
        scale = self.scale.float().exp()
        if spans is not None:
            window, first, offset = spans
            return parts.above_threshold(scale * types, window, first, offset, block_scores)
        scores = scale * parts.cosine(types)
        outside = past_the_end(parts.starts.shape[1], parts.width, scores.device)
        return scores.masked_fill(outside, float("-inf"))


def without_autocast(device: torch.device) -> AbstractContextManager[Any]:
    """Return a context that switches autocast off on a device; it does nothing on devices without autocast (meta)."""
    kind = device.type
    if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
        return torch.autocast(kind, enabled=False)
    return nullcontext()


def project(layer: nn.Module, inputs: Tensor) -> Tensor:
    """Call a linear layer in its own dtype, or in float32 if it is quantised; returns float32."""
    weight = getattr(layer, "weight", None)  # a method, not a tensor, if torch has quantised the layer
    dtype = weight.dtype if isinstance(weight, Tensor) else torch.float32
    floats = (torch.float16, torch.bfloat16, torch.float64)
    outputs: Tensor = layer(inputs.to(dtype if dtype in floats else torch.float32))
    return outputs.float()


def _is_plain(layer: nn.Module) -> bool:
    """Return whether calling a layer only multiplies by its weight and adds its bias."""
    hooks = (layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks, layer._backward_pre_hooks)
    hooked = any(hooks) or nn.modules.module._has_any_global_hook()
    plain = type(layer) is nn.Linear and type(layer.weight) is nn.Parameter  # neither adapter nor quantised tensor
    return plain and "forward" not in vars(layer) and not hooked
