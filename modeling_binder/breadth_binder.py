"""Find out which entity types are broader than others, from their parents or from the estimates of a small network.

Flat decoding needs this. If a span is above the thresholds of several types, flat decoding keeps the narrowest type.
For example, a "politician" is also a "person", and the score for "person" may be higher. See
`decoding_binder.drop_broader`.

Dimensions: T entity types, H hidden size of the type encoder.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from .configuration_binder import ancestors
from .heads_binder import project, without_autocast

BREADTH_HIDDEN_SIZE = 64


class BreadthNetwork(nn.Module):
    """Estimates the breadth of an entity type from its encoded description. "person" is broader than "politician".

    sigmoid(breadth(a) - breadth(b)) is the probability that type a is broader than type b. The network is trained
    separately, so the loss of `BinderModel.forward` does not depend on it.

    Args:
        type_size: hidden size of the type encoder.
    """

    def __init__(self, type_size: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(type_size, BREADTH_HIDDEN_SIZE)
        self.output = nn.Linear(BREADTH_HIDDEN_SIZE, 1)

    def forward(self, type_states: Tensor) -> Tensor:
        """Return the breadths [T] in float32 of types with states [T, H] from `BinderModel.encode_type_states`."""
        with without_autocast(type_states.device):
            hidden = nn.functional.gelu(project(self.hidden, type_states))
            return project(self.output, hidden).squeeze(-1)


def broader_types(
    parents: Mapping[str, str | None],
    breadths: Tensor | None = None,
    margin: float = 0.0,
    tolerance: float | None = None,
) -> Tensor | None:
    """Return which types are broader than others, and a limit for each pair of a broader and a narrower type.

    The margin of a span for a type is its score minus the threshold of the type. If a span is above the thresholds of
    both types, the narrower type is preferred, with one exception: the broader type is kept if its margin exceeds the
    margin of the narrower type by more than the limit.

    An ancestor and its descendant have no limit: the descendant is always preferred, because the user has set the
    parents. `tolerance` is the limit for types that differ in breadth, because breadths are estimates, and may also
    differ for unrelated types.

    An ancestor is broader than its descendants. Breadths are compared only if at least one of the two types has no
    parent and no child.

    Args:
        parents: label -> label of its parent or None, for T types in order. Each parent must be one of the types, and
            no type may be its own ancestor.
        breadths: [T], from `BreadthNetwork`. `None` means that only the parents are compared.
        margin: minimum difference of breadths, at least 0; not the margin of a span. A type is broader than another
            type if its breadth is larger by more than `margin`.
        tolerance: the limit for types that differ in breadth. `None` means no limit.

    Returns:
        [T, T], float64, on the CPU. Entry [i, j] is -inf if type i is not broader than type j. Otherwise it is the
        limit, and inf means no limit. The relation has no cycles. The result is None if no type is broader than another
        type.

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
            # The network may estimate a larger breadth for a type than for its ancestor. This could lead to a cycle. So
            # the breadth of each ancestor is raised to the largest breadth of its descendants.
            as_broad = broader | torch.eye(len(labels), dtype=torch.bool)
            breadth = breadth.expand_as(broader).masked_fill(~as_broad, float("-inf")).amax(1)
        alone = ~(broader.any(0) | broader.any(1))
        comparable = alone[:, None] | alone[None]
        by_breadth = comparable & (breadth[:, None] - breadth[None] > margin)
    leads = torch.full(broader.shape, -torch.inf, dtype=torch.float64)
    leads[by_breadth] = torch.inf if tolerance is None else tolerance
    leads[broader] = torch.inf
    return leads if bool((broader | by_breadth).any()) else None
