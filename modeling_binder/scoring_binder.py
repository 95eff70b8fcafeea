"""The span score of BINDER, exactly, without ever building a vector per span.

The paper represents the span of tokens i..j by ``z_ij = Linear([h_i ; h_j ; e_(j-i+1)])`` and compares it with a type's
vector t by cosine. The layer is linear, so ``z_ij = u_i + v_j + w_(j-i)`` with one vector per start token, one per end
token and one per width, and both halves of the cosine are sums of small products:

    t.z_ij   = t.u_i + t.v_j + t.w
    |z_ij|^2 = |u_i|^2 + |v_j|^2 + |w|^2 + 2 (u_i.v_j + u_i.w + v_j.w)

Nothing of size L x L x D is ever made. Training needs the scores of all spans (`SpanParts.cosine`); reading asks for
those alone that begin and end at words, some at a time (`SpanParts.above_threshold`).

Dimensions: B windows, T types, L tokens, W widths, H hidden size, D projection size.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn


def shifted(x: Tensor, width: int) -> Tensor:
    """Look ahead along the last dimension: [..., L] -> [..., L, W] with out[..., i, w] = x[..., i + w].

    Entries past the end are zero.
    """
    return nn.functional.pad(x, (0, width - 1)).unfold(-1, width, 1)


def band_of_products(starts: Tensor, ends: Tensor, width: int, rows: int = 64) -> Tensor:
    """Products of each vector with the next ones: [..., L, D] twice -> [..., L, W], out[i, w] = starts[i].ends[i + w].

    Entries past the end are zero. Some rows at a time, so that nothing of size L x L is made. The products of a row
    begin a column later than those of the row before; padded and read with a row length one larger, they line up.
    """
    length = starts.shape[-2]
    ends = nn.functional.pad(ends, (0, 0, 0, width - 1))
    blocks = []
    for begin in range(0, length, rows):
        count = min(rows, length - begin)
        products = starts[..., begin : begin + count, :] @ ends[..., begin : begin + count + width - 1, :].mT
        products = nn.functional.pad(products.flatten(-2), (0, count))  # [..., count * (count + W)]
        blocks.append(products.unflatten(-1, (count, count + width))[..., :width])
    return torch.cat(blocks, -2)


def band_of_columns(x: Tensor) -> Tensor:
    """Look ahead by as many rows as the column says: [..., L, W] -> [..., L, W] with out[i, w] = x[i + w, w].

    Entries past the end are zero.
    """
    length, width = x.shape[-2:]
    x = nn.functional.pad(x.transpose(-1, -2), (0, width)).flatten(-2)  # [..., W * (L + W)]
    x = nn.functional.pad(x, (0, width)).unflatten(-1, (width, length + width + 1))  # row w starts at x[w, w]
    return x[..., :length].transpose(-1, -2)


def past_the_end(length: int, width: int, device: torch.device) -> Tensor:
    """True where the span of tokens i..i+w leaves the window: [L, W]."""
    positions = torch.arange(length, device=device)[:, None] + torch.arange(width, device=device)[None]
    return positions >= length


class SpanParts:
    """The vectors that every span of a batch is the sum of, and the inverse norm of each sum.

    Made once per batch of text; scores against any number of types follow from it.

    Args:
        starts: u, one vector per start token, [B, L, D], float32.
        ends: v, one vector per end token, [B, L, D], float32.
        widths: w, one vector per width, [W, D], float32; None where the model has no width embedding.
        width: W, the number of widths to score.
    """

    def __init__(self, starts: Tensor, ends: Tensor, widths: Tensor | None, width: int) -> None:
        self.starts, self.ends, self.widths, self.width = starts, ends, widths, width
        squared = starts.square().sum(-1)[..., None] + shifted(ends.square().sum(-1), width)  # [B, L, W]
        squared = squared + 2 * band_of_products(starts, ends, width)
        if widths is not None:
            cross = starts @ widths.T + band_of_columns(ends @ widths.T)  # [B, L, W]
            squared = squared + widths.square().sum(-1) + 2 * cross
        self.inverse_norm = squared.clamp_min(1e-12).rsqrt()  # [B, L, W]

    def cosine(self, types: Tensor) -> Tensor:
        """Cosine of every span with every type.

        Args:
            types: unit vectors, [T, D], or of each window its own [B, T, D]; float32.

        Returns:
            [B, T, L, W]; entries past the end of the window hold no span and are meaningless.
        """
        dots = (types @ self.starts.transpose(-1, -2))[..., None]  # [B, T, L, 1]
        dots = dots + shifted(types @ self.ends.transpose(-1, -2), self.width)  # [B, T, L, W]
        if self.widths is not None:
            dots = dots + (types @ self.widths.T)[..., None, :]  # [T, 1, W] or [B, T, 1, W]
        return dots * self.inverse_norm[:, None]

    def above_threshold(
        self, types: Tensor, window: Tensor, first: Tensor, offset: Tensor, at_once: int
    ) -> Iterator[tuple[slice, Tensor]]:
        """How much nearer some spans are to each type than the [CLS] of their window is: the dynamic threshold.

        A cosine is gathered from numbers: for each type one per start token, end token and width. Up to a thousand
        types that is cheaper than a vector for each span. As in `cosine`, where u and v nearly cancel digits are lost.

        Args:
            types: unit vectors, [T, D], float32; multiplied by a scale they give scores in place of cosines.
            window, first, offset: [N], the spans of tokens first..first+offset of a window.
            at_once: numbers to hold at a time.

        Yields:
            A slice of the spans, n of them, and the differences of cosines, [n, T].
        """
        starts, ends = (vectors.flatten(0, 1) @ types.T for vectors in (self.starts, self.ends))  # [B * L, T]
        widths = None if self.widths is None else self.widths @ types.T  # [W, T]
        inverse_norm = self.inverse_norm.flatten()
        length = self.starts.shape[1]

        # index_select copies whole rows, several times as fast as indexing with brackets.
        def gathered(window: Tensor, first: Tensor, offset: Tensor) -> Tensor:
            token = window * length + first
            dots = starts.index_select(0, token).add_(ends.index_select(0, token + offset))
            if widths is not None:
                dots.add_(widths.index_select(0, offset))
            return dots.mul_(inverse_norm.index_select(0, token * self.width + offset)[:, None])

        every = torch.arange(len(self.starts), device=types.device)
        zero = torch.zeros_like(every)
        thresholds = gathered(every, zero, zero)  # [B, T]
        rows = max(1, at_once // len(types))
        for begin in range(0, len(window), rows):
            some = slice(begin, begin + rows)
            cosines = gathered(window[some], first[some], offset[some])
            yield some, cosines.sub_(thresholds.index_select(0, window[some]))
