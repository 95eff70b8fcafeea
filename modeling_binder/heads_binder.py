"""The three heads of BINDER: each projects tokens or spans and entity types into one space and compares them there.

Dimensions: B windows, T types, L tokens, W widths, H hidden size, D projection size.
"""

import torch
from torch import Tensor, nn

from .configuration_binder import BinderConfig
from .scoring_binder import SpanParts, past_the_end


class Head(nn.Module):
    """Base class of the heads: projects text and types into a shared space and holds the learned scale.

    All arithmetic is in float32, also under autocast and in half-precision models: norms and softmax need it, and the
    cost is small compared with the encoder's.
    """

    def __init__(self, text_size: int, type_size: int, config: BinderConfig) -> None:
        super().__init__()
        self.text_projection = nn.Linear(text_size, config.projection_size)
        self.type_projection = nn.Linear(type_size, config.projection_size)
        self.scale = nn.Parameter(torch.empty(()))
        self.dropout = nn.Dropout(config.projection_dropout)

    def types(self, type_states: Tensor) -> Tensor:
        """Project the pooled states of types to unit vectors: [T, H] -> [T, D]."""
        return nn.functional.normalize(self.dropout(_linear(type_states, self.type_projection)), dim=-1)


class PositionHead(Head):
    """Compares single tokens with types, to find the start or the end of a mention."""

    def forward(self, hidden: Tensor, types: Tensor) -> Tensor:
        """Score hidden states [B, L, H] against unit type vectors [T, D]; returns [B, T, L]."""
        tokens = nn.functional.normalize(self.dropout(_linear(hidden, self.text_projection)), dim=-1)
        return self.scale.float().exp() * (types @ tokens.transpose(-1, -2))


class SpanHead(Head):
    """Compares spans with types by the exact factored score of `scoring_binder`."""

    def __init__(self, text_size: int, type_size: int, config: BinderConfig) -> None:
        width_size = config.projection_size if config.use_span_width_embedding else 0
        super().__init__(2 * text_size + width_size, type_size, config)
        self.text_size = text_size
        self.max_span_width = config.max_span_width
        # Row 0 is padding, row 1 a span of one token, as in the released checkpoints.
        self.width_embedding = (
            nn.Embedding(config.max_span_width + 1, width_size, padding_idx=0) if width_size else None
        )

    def parts(self, hidden: Tensor) -> SpanParts:
        """Project a batch of texts [B, L, H] to start, end and width vectors, which can be compared with any types."""
        width = min(self.max_span_width, hidden.shape[1])
        weight, bias = self.text_projection.weight.float(), self.text_projection.bias.float()
        hidden = hidden.float()
        starts = nn.functional.linear(hidden, weight[:, : self.text_size], bias)  # [B, L, D]
        ends = nn.functional.linear(hidden, weight[:, self.text_size : 2 * self.text_size])  # [B, L, D]
        widths = None
        if self.width_embedding is not None:
            embedded = self.width_embedding.weight[1 : width + 1].float()  # [W, E]
            widths = self.dropout(nn.functional.linear(embedded, weight[:, 2 * self.text_size :]))  # [W, D]
        return SpanParts(self.dropout(starts), self.dropout(ends), widths, width)

    def forward(self, parts: SpanParts, types: Tensor) -> Tensor:
        """Score the spans of a batch against unit type vectors [T, D]; returns [B, T, L, W], -inf past the end."""
        scores = self.scale.float().exp() * parts.cosine(types)
        gone = past_the_end(parts.starts.shape[1], parts.width, scores.device)
        return scores.masked_fill(gone, float("-inf"))


def _linear(x: Tensor, layer: nn.Linear) -> Tensor:
    return nn.functional.linear(x.float(), layer.weight.float(), layer.bias.float())
