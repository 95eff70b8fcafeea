"""Return the thresholds and temperatures of entity types, from the configuration and from the arguments of a call.

The margin of a span is its raw score minus the dynamic threshold. The score that users see is
sigmoid(margin / temperature). A temperature calibrates the scores of a type. It is positive, so it does not change
which scores are above 0.5. The thresholds here are probabilities: an entity is returned if its score is higher.
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
        config: `BinderConfig` of the model, with the default thresholds. Its `thresholds` contain values for the
            model's types (see `EntityType.own_label`). `default_threshold` is the threshold of all other types.
        types: the T entity types of a call.
        threshold: a probability for all types, or a dictionary name -> probability for some types. It replaces the
            thresholds of the configuration.

    Raises:
        ValueError: `threshold` has a key that is not a type of the call.
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
    """Return the temperature of each type, [T], float64, or None if the scores of the model are not calibrated."""
    if not config.temperatures and config.default_temperature == 1:
        return None
    own = config.temperatures or {}
    values = [own.get(entity_type.own_label, config.default_temperature) for entity_type in types]
    return torch.tensor(values, dtype=torch.float64)


def required_margins(config: Any, types: Sequence[EntityType], threshold: Any = None) -> Tensor:
    """Return the required margin of each type, [T], float64. A span is found if its margin exceeds the required margin.

    Args:
        config, types, threshold: see `type_thresholds`.

    Raises:
        ValueError: `threshold` has a key that is not a type of the call, or a threshold is not a probability.
    """
    required = required_margin(type_thresholds(config, types, threshold), len(types))
    temperatures = type_temperatures(config, types)
    return required if temperatures is None else required * temperatures
