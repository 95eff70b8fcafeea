"""Find out which entity types are broader than others, from their parents or from the estimate of a small network.

If a span is above the thresholds of several types, flat decoding keeps the narrowest of these types for the span. For
example, a "politician" is also a "person", and "person" may have the larger margin. See
`decoding_binder.drop_broader`.

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

    The network is trained so that sigmoid(breadth(a) - breadth(b)) is the probability that type a is broader than type
    b. It is trained separately: the loss of `BinderModel.forward` does not depend on it.

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
    parents: Mapping[str, str | None],
    breadths: Tensor | None = None,
    margin: float = 0.0,
    tolerance: float | None = None,
) -> Tensor | None:
    """Return which types are broader than others, and the largest lead with which the narrower type is still preferred.

    If a span is above the thresholds of two types, the lead of a type is its margin minus the margin of the other type.
    Parents come from the user, so a descendant is preferred to its ancestor with any lead. Breadths are estimates, and
    may also differ for unrelated types. So if breadths decide, `tolerance` limits the lead of the broader type.

    A type is broader than its descendants. Two types are compared as follows: If both types have a parent or a child,
    only the parents decide which one is broader. If at least one of them has no parent and no child, their breadths
    decide.

    Args:
        parents: label -> label of its parent or None, for T types in order. Each parent must be one of the types, and
            no type may be its own ancestor.
        breadths: [T], from `BreadthNetwork`. `None` means that types are compared only by their parents.
        margin: a type counts as broader than another type if its breadth is larger by more than this number, which is
            at least 0.
        tolerance: if breadths decide, the narrower type is preferred only if the lead of the broader type is at most
            this number. `None` means no limit.

    Returns:
        [T, T], float64, on the CPU. If type i is broader than type j, entry [i, j] is the largest lead of i over j with
        which j is still preferred; otherwise it is -inf. The relation has no cycles. None is returned if no type is
        broader than another type.

    Raises:
        ValueError: a parent is not one of the types, or a type is its own ancestor.
    """
    labels = {label: type_id for type_id, label in enumerate(parents)}
    broader = torch.zeros(len(labels), len(labels), dtype=torch.bool)
    by_breadth = torch.zeros_like(broader)
    for label, type_id in labels.items():
        for ancestor in ancestors(label, parents):
            broader[labels[ancestor], type_id] = True
    if breadths is not None:
        breadth = breadths.detach().float().cpu()
        if broader.any():
            # The network may estimate that a type is broader than its ancestor, which could lead to a cycle. So the
            # breadth of each ancestor is raised to the largest breadth of its descendants.
            as_broad = broader | torch.eye(len(labels), dtype=torch.bool)
            breadth = breadth.expand_as(broader).masked_fill(~as_broad, float("-inf")).amax(1)
        alone = ~(broader.any(0) | broader.any(1))
        comparable = alone[:, None] | alone[None]
        by_breadth = comparable & (breadth[:, None] - breadth[None] > margin)
    leads = torch.full(broader.shape, -torch.inf, dtype=torch.float64)
    leads[by_breadth] = torch.inf if tolerance is None else tolerance
    leads[broader] = torch.inf
    return leads if bool((broader | by_breadth).any()) else None
