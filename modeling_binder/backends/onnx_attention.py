"""Rewrite the attention of an exported encoder so that it accepts hidden states that are not split into heads.

The attention operator of ONNX accepts inputs of two shapes, for B windows, L tokens and hidden size H:

- [B, heads, L, H / heads], which the exporter writes. It needs four transpositions per layer. They take a twelfth of
  the time of an int8 encoder on a CPU.
- [B, L, H], with the number of heads as an attribute. It needs no transpositions.
"""

from typing import Any

import onnx_ir as ir
from onnxscript.rewriter import pattern


def _on_heads(
    op: Any, query: Any, key: Any, value: Any, mask: Any, of_query: Any, of_key: Any, of_value: Any, joined_shape: Any
) -> Any:
    heads = (
        op.Transpose(op.Reshape(states, shape), perm=[0, 2, 1, 3])
        for states, shape in ((query, of_query), (key, of_key), (value, of_value))
    )
    attended = op.Attention(*heads, mask, _allow_other_attributes=True, _outputs=["attended"])
    return op.Reshape(op.Transpose(attended, perm=[0, 2, 1, 3]), joined_shape, _outputs=["joined"])


def _is_known(context: Any, query: ir.Value, attended: ir.Value, joined: ir.Value, **_: Any) -> bool:
    ranks = [None if value.shape is None else value.shape.rank() for value in (query, joined)]
    return ranks == [3, 3] and None not in _heads(attended)


def _on_hidden_states(
    op: Any, query: ir.Value, key: ir.Value, value: ir.Value, mask: ir.Value, attended: ir.Value, **_: Any
) -> Any:
    heads, heads_of_keys = _heads(attended)
    node = attended.producer()
    others = {} if node is None else node.attributes
    return op.Attention(query, key, value, mask, q_num_heads=heads, kv_num_heads=heads_of_keys, **others)


def _heads(attended: ir.Value) -> list[int | None]:
    """Return the number of heads of the queries and of the keys. An unknown number is None."""
    node = attended.producer()
    inputs = [] if node is None else node.inputs[:2]
    shapes = [None if value is None else value.shape for value in inputs]
    return [shape[1] if shape is not None and isinstance(shape[1], int) else None for shape in shapes]


# The pattern does not match some encoders, so they are not rewritten: those that change queries and keys after
# splitting them into heads. Rotary position embeddings do so.
ATTENTION_ON_HIDDEN_STATES = pattern.RewriteRule(_on_heads, _on_hidden_states, _is_known)
