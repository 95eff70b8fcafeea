"""The three heads of BINDER. A head projects entity types, and tokens or spans, to the same space and compares them.

The heads call their projection layers, so that adapters (LoRA), quantised layers and the hooks of accelerate work. The
span head makes one exception, which is faster: if its `text_projection` is a plain `nn.Linear`, it multiplies by slices
of the weight.

Dimensions: B windows, T entity types, L tokens, W span widths, H hidden size, E size of a width embedding, D projection
size, N spans.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from .configuration_binder import BinderConfig
from .scoring_binder import SpanParts, past_the_end


class Head(nn.Module):
    """Base class of the heads: the two projections and the learned scale.

    Norms and comparisons are always computed in float32, even under autocast or in half-precision models.
    `from_pretrained` always loads the heads in float32, because they are small compared with the encoders.
    """

    def __init__(self, text_size: int, type_size: int, config: BinderConfig) -> None:
        super().__init__()
        self.text_projection = nn.Linear(text_size, config.projection_size)
        self.type_projection = nn.Linear(type_size, config.projection_size)
        self.scale = nn.Parameter(torch.empty(()))
        self.dropout = nn.Dropout(config.projection_dropout)

    def types(self, type_states: Tensor) -> Tensor:
        """Project the states of entity types, [T, H], to unit vectors, [T, D]."""
        return nn.functional.normalize(self.dropout(project(self.type_projection, type_states)), dim=-1)


class PositionHead(Head):
    """Compares single tokens with entity types, to find the start or the end of a mention."""

    def forward(self, hidden: Tensor, types: Tensor) -> Tensor:
        """Return the scores [B, T, L] of tokens with hidden states [B, L, H] for type vectors [T, D] or [B, T, D]."""
        tokens = nn.functional.normalize(self.dropout(project(self.text_projection, hidden)), dim=-1)
        return self.scale.float().exp() * (types @ tokens.transpose(-1, -2))


class SpanHead(Head):
    """Compares spans with entity types, by the fast exact formula of `scoring_binder`."""

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
        """Project hidden states [B, L, H] to start, end and width vectors, which can be compared with any types."""
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

        This method returns the same as `_calls`, in a third of the time.

        Args:
            hidden: hidden states, [B, L, H].
            embedded: width embeddings, [W, E].

        Returns:
            Start vectors and end vectors, [B, L, D] each, and width vectors, [W, D].
        """
        layer = self.text_projection
        weight, bias = layer.weight.float(), None if layer.bias is None else layer.bias.float()
        start, end, rest = weight.split((self.text_size, self.text_size, self.width_size), dim=1)
        starts, ends = nn.functional.linear(hidden, start, bias), nn.functional.linear(hidden, end)
        return starts, ends, None if embedded is None else nn.functional.linear(embedded, rest)

    def _calls(self, hidden: Tensor, embedded: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return the same as `_slices`, by calling the layer. So adapters, quantised layers and hooks work.

        For a span of the tokens i..j, the layer computes W [h_i ; h_j ; e] + b, with hidden states h_i and h_j and the
        width embedding e. This method calls the layer with only one of h_i, h_j and e at a time, and zeros in place of
        the other two. The results are W_start h_i + b, W_end h_j + b and W_width e + b. An input of zeros gives b. It
        is subtracted from the last two results, so that the sum of all results contains b once.
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
        """Return the scores of spans for entity types.

        Args:
            parts: the start, end and width vectors, see `parts`.
            types: type vectors, [T, D], or [B, T, D] with different types for each window.
            spans: window, first token and width - 1 of the spans to score, [N] each. `None` means all spans.
            block_scores: with `spans`, the number of scores that are computed at once.

        Returns:
            The scores of all spans, [B, T, L, W]. They are -inf for spans past the end of the window. With `spans`, the
            result is an iterator over blocks of spans. It yields a slice of `spans`, and the margins of these spans
            (scores minus thresholds).
        """
        scale = self.scale.float().exp()
        if spans is not None:
            window, first, offset = spans
            return parts.above_threshold(scale * types, window, first, offset, block_scores)
        scores = scale * parts.cosine(types)
        outside = past_the_end(parts.starts.shape[1], parts.width, scores.device)
        return scores.masked_fill(outside, float("-inf"))


def vectors_of_windows(type_vectors: Tensor, type_index: Tensor) -> Tensor:
    """Return the vectors of the types that each window is compared with, [B, T, 3, D].

    Args:
        type_vectors: vectors of all types, [N, 3, D]. type_index: indices of these types, [B, T].
    """
    # Use `embedding`, because its gradient is computed faster than the gradient of type_vectors[type_index].
    flat = nn.functional.embedding(type_index, type_vectors.flatten(1))
    return flat.unflatten(-1, type_vectors.shape[1:])


def without_autocast(device: torch.device) -> AbstractContextManager[Any]:
    """Return a context without autocast on a device. It does nothing on devices that have no autocast (meta)."""
    kind = device.type
    if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
        return torch.autocast(kind, enabled=False)
    return nullcontext()


def project(layer: nn.Module, inputs: Tensor) -> Tensor:
    """Call a linear layer in its own dtype, or in float32 if it is quantised. Return float32."""
    weight = getattr(layer, "weight", None)  # a method, not a tensor, if torch has quantised the layer
    dtype = weight.dtype if isinstance(weight, Tensor) else torch.float32
    floats = (torch.float16, torch.bfloat16, torch.float64)
    outputs: Tensor = layer(inputs.to(dtype if dtype in floats else torch.float32))
    return outputs.float()


def _is_plain(layer: nn.Module) -> bool:
    """Return whether a call of a layer only multiplies by its weight and adds its bias."""
    hooks = (layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks, layer._backward_pre_hooks)
    hooked = any(hooks) or nn.modules.module._has_any_global_hook()
    plain = type(layer) is nn.Linear and type(layer.weight) is nn.Parameter  # no adapter, not quantised
    return plain and "forward" not in vars(layer) and not hooked
