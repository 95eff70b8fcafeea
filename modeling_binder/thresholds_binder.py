"""Thresholds and temperatures of entity types: the values in a checkpoint, and the thresholds of a call.

A temperature calibrates the scores of a type: score = sigmoid(margin / temperature), where the margin is the span score
minus the dynamic threshold. A temperature is positive, so a score is above 0.5 exactly if the margin is positive,
whatever the temperature. Thresholds are probabilities on the scale of these scores.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .decoding_binder import required_margin
from .numbers_binder import as_number
from .types_binder import EntityType


def type_thresholds(config: Any, types: Sequence[EntityType], threshold: Any = None) -> list[float]:
    """Return the threshold of each type as a probability.

    Args:
        config: `BinderConfig` of the model. Its `thresholds` apply to types with an `own_label`, and its
            `default_threshold` to all other types.
        types: the T types of a call.
        threshold: a probability for all types, or a dictionary name -> probability for some of them. It replaces the
            thresholds of the configuration.

    Raises:
        ValueError: `threshold` names a type that is not in the call.
    """
    labels = [entity_type.label for entity_type in types]
    tuned = config.thresholds or {}
    thresholds: list[Any] = [tuned.get(entity_type.own_label, config.default_threshold) for entity_type in types]
    if isinstance(threshold, Mapping):
        unknown = [name for name in threshold if name not in labels]
        if unknown:
            raise ValueError(
                f"threshold has keys that are not among the entity types: {unknown}. The entity types are {labels}."
            )
        thresholds = [threshold.get(label, value) for label, value in zip(labels, thresholds, strict=True)]
    elif threshold is not None:
        thresholds = [threshold] * len(labels)
    return [as_number(value) for value in thresholds]


def type_temperatures(config: Any, types: Sequence[EntityType]) -> Tensor | None:
    """Return the temperature of each type, [T], float64; None if the scores of the model are not calibrated."""
    if not config.temperatures and config.default_temperature == 1:
        return None
    own = config.temperatures or {}
    values = [own.get(entity_type.own_label, config.default_temperature) for entity_type in types]
    return torch.tensor(values, dtype=torch.float64)


def required_margins(config: Any, types: Sequence[EntityType], threshold: Any = None) -> Tensor:
    """Return the margin that a span of each type must exceed, [T], float64.

    Arguments and errors are those of `type_thresholds`; also, ValueError is raised if a threshold is not a probability.
    """
    required = required_margin(type_thresholds(config, types, threshold), len(types))
    temperatures = type_temperatures(config, types)
    return required if temperatures is None else required * temperatures
