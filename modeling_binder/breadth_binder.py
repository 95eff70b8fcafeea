"""Which entity types are broader than others: stated by their parents, or estimated by a small network.

In flat decoding the finest of the types that claim the same span wins: a "politician" is a "person" as well, and the
person's margin may be the larger one. See `decoding_binder.drop_broader`.

Dimensions: T types, H hidden size of the type encoder.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from .configuration_binder import ancestors
from .heads_binder import project, without_autocast

BREADTH_HIDDEN_SIZE = 64


class BreadthNetwork(nn.Module):
    """Estimates the breadth of entity types from their pooled states: larger for "person" than for "politician".

    Trained so that sigmoid(breadth(one) - breadth(two)) is the probability that the first type is broader than the
    second, and apart from the rest of the model: the loss of `BinderModel.forward` does not depend on it.

    Args:
        type_size: hidden size of the type encoder.
    """

    def __init__(self, type_size: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(type_size, BREADTH_HIDDEN_SIZE)
        self.output = nn.Linear(BREADTH_HIDDEN_SIZE, 1)

    def forward(self, type_states: Tensor) -> Tensor:
        """Return the breadth of each type: [T, H] from `BinderModel.encode_type_states` -> [T], float32."""
        with without_autocast(type_states.device):
            hidden = nn.functional.gelu(project(self.hidden, type_states))
            return project(self.output, hidden).squeeze(-1)


def broader_types(
    parents: Mapping[str, str | None], breadths: Tensor | None = None, margin: float = 0.0
) -> Tensor | None:
    """Compare types: which are broader than which.

    A type is broader than its descendants. Types that have neither a parent nor a child are compared with all others by
    their breadth, the others only by their parents.

    Args:
        parents: label -> label of its parent or None, of T types in order. Parents are types as well, and no type is
            its own ancestor.
        breadths: [T], from `BreadthNetwork`; None to compare by parents only.
        margin: the difference of breadth from which on a type counts as broader, at least 0.

    Returns:
        [T, T], bool, on the CPU: true where the type of the row is broader than the type of the column, without cycles.
        None if no type is broader than another one.

    Raises:
        ValueError: a parent is not one of the types, or a type is its own ancestor.
    """
    labels = {label: type_id for type_id, label in enumerate(parents)}
    broader = torch.zeros(len(labels), len(labels), dtype=torch.bool)
    for label, type_id in labels.items():
        for ancestor in ancestors(label, parents):
            broader[labels[ancestor], type_id] = True
    if breadths is not None:
        breadth = breadths.detach().float().cpu()
        if broader.any():
            # An ancestor is at least as broad as its descendants, whatever the network says, so that no cycle arises.
            as_broad = broader | torch.eye(len(labels), dtype=torch.bool)
            breadth = breadth.expand_as(broader).masked_fill(~as_broad, float("-inf")).amax(1)
        alone = ~(broader.any(0) | broader.any(1))
        comparable = alone[:, None] | alone[None]
        broader |= comparable & (breadth[:, None] - breadth[None] > margin)
    return broader if bool(broader.any()) else None
