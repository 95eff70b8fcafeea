"""Convert numbers of other libraries, such as numpy, to Python numbers."""

import contextlib
import operator
from typing import Any


def as_number(value: Any) -> Any:
    """Convert a number of any kind, such as `numpy.float32`, a 0-d tensor or `Decimal`, to float.

    Other values are returned unchanged. Booleans are returned unchanged too, because a threshold of `True` is a mistake
    and does not mean 1.
    """
    is_truth = isinstance(value, bool) or str(getattr(value, "dtype", "")) in ("bool", "torch.bool")
    if is_truth or getattr(value, "ndim", None) or not hasattr(value, "__float__"):
        return value
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):  # for example, an integer that is too large
        return value


def whole_number(name: str, value: Any) -> int:
    """Convert an integer of any kind, such as `numpy.int64`, to int.

    Raises:
        ValueError: the value is not an integer, or it is a boolean.
    """
    if not isinstance(value, bool):
        with contextlib.suppress(TypeError):
            return operator.index(value)
    raise ValueError(f"{name} must be a whole number, got {value!r:.80}.")
