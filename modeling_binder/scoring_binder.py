"""Compute the exact span scores of BINDER without a vector per span.

In the paper, the vector of the span of tokens i..j is ``z_ij = Linear([h_i ; h_j ; e_(j-i+1)])``. Here h_i is the
hidden state of token i, and e_(j-i+1) is the embedding of the width of the span. The score is the cosine of z_ij and
the unit vector t of an entity type, times a learned scale.

The layer is linear. So ``z_ij = u_i + v_j + w_(j-i)``, with one vector u per start token, one vector v per end token
and one vector w per width. The numerator of the cosine and the square of its denominator are sums of small products:

    t.z_ij   = t.u_i + t.v_j + t.w
    |z_ij|^2 = |u_i|^2 + |v_j|^2 + |w|^2 + 2 (u_i.v_j + u_i.w + v_j.w)

So no tensor of size L x L x D is needed. Training computes the scores of all spans (`SpanParts.cosine`). Inference
computes only the scores of spans of whole words, in blocks (`SpanParts.above_threshold`).

Dimensions: B windows, T entity types, L tokens, W span widths, D projection size.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn


def shifted(x: Tensor, width: int) -> Tensor:
    """Return shifted copies along the last dimension: [..., L] -> [..., L, W] with out[..., i, w] = x[..., i + w].

    Entries past the end are zero.
    """
    return nn.functional.pad(x, (0, width - 1)).unfold(-1, width, 1)


def band_of_products(starts: Tensor, ends: Tensor, width: int, rows: int = 64) -> Tensor:
    """Return the products of each start vector with the next W end vectors: out[i, w] = starts[i].ends[i + w].

    The rows are computed in blocks, so no tensor of size L x L is needed. In a block, the needed products of a row
    begin one column later than in the row above. So the block is flattened, padded, and split into rows that are longer
    by one. In the new rows, the needed products begin in column 0.

    Args:
        starts, ends: [..., L, D].
        width: W.
        rows: number of rows in a block.

    Returns:
        [..., L, W]. Entries past the end are zero.
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
    """Shift each column w up by w rows: [..., L, W] -> [..., L, W] with out[i, w] = x[i + w, w].

    Entries past the end are zero.
    """
    length, width = x.shape[-2:]
    x = nn.functional.pad(x.transpose(-1, -2), (0, width)).flatten(-2)  # [..., W * (L + W)]
    x = nn.functional.pad(x, (0, width)).unflatten(-1, (width, length + width + 1))  # row w starts at x[w, w]
    return x[..., :length].transpose(-1, -2)


def past_the_end(length: int, width: int, device: torch.device) -> Tensor:
    """Return a mask [L, W]. Entry (i, w) is true if the span of the tokens i..i+w ends after the end of the window."""
    positions = torch.arange(length, device=device)[:, None] + torch.arange(width, device=device)[None]
    return positions >= length


class SpanParts:
    """The start, end and width vectors of a batch, and the inverse norms of all span vectors.

    The vector of a span is the sum of its start, end and width vectors. These vectors are computed once per batch, and
    can be compared with any number of entity types.

    Args:
        starts: vectors u of start tokens, [B, L, D], float32.
        ends: vectors v of end tokens, [B, L, D], float32.
        widths: vectors w of widths, [W, D], float32. None if the model has no width embedding.
        width: W, the maximum width of a span in tokens.
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
        """Return the cosine of every span with every type.

        Args:
            types: unit vectors of the types in float32, [T, D], or [B, T, D] with different types for each window.

        Returns:
            [B, T, L, W]. Entries past the end of the window have no meaning.
        """
        dots = (types @ self.starts.transpose(-1, -2))[..., None]  # [B, T, L, 1]
        dots = dots + shifted(types @ self.ends.transpose(-1, -2), self.width)  # [B, T, L, W]
        if self.widths is not None:
            dots = dots + (types @ self.widths.T)[..., None, :]  # [T, 1, W] or [B, T, 1, W]
        return dots * self.inverse_norm[:, None]

    def above_threshold(
        self, types: Tensor, window: Tensor, first: Tensor, offset: Tensor, at_once: int
    ) -> Iterator[tuple[slice, Tensor]]:
        """Compute the cosines of some spans minus the cosine of [CLS], which is the dynamic threshold.

        The dot product of a span and a type is a sum of three numbers: for the start token, for the end token and for
        the width. With up to a thousand types, adding these numbers is faster than computing a vector per span. As in
        `cosine`, precision is lost if the sum of u and v is close to zero.

        Args:
            types: unit vectors of the types, [T, D], float32. Multiply them by the scale to get scores, not cosines.
            window, first, offset: [N], the window of each span, its first token, and its width minus 1.
            at_once: maximum number of differences that are computed at once.

        Yields:
            A slice of n spans, and the differences of these spans, [n, T].
        """
        starts, ends = (vectors.flatten(0, 1) @ types.T for vectors in (self.starts, self.ends))  # [B * L, T]
        widths = None if self.widths is None else self.widths @ types.T  # [W, T]
        inverse_norm = self.inverse_norm.flatten()
        length = self.starts.shape[1]

        # index_select copies whole rows. This is several times as fast as starts[token].
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
