"""Extension of griffe, which reads the docstrings for the API reference: two habits of ours that it does not know.

- "a, b: text" describes two arguments. griffe gets one entry for each.
- The `Args:` of a configuration are its fields, since transformers makes the constructor. griffe gets `Attributes:`.
"""

import re
from typing import Any

import griffe

# An entry with several names, and its text: the rest of the line, and the lines that are indented further.
_SHARED = re.compile(r"^(?P<indent> +)(?P<names>\w+(?:, \w+)+):(?P<text>.*(?:\n(?P=indent) +.*)*)$", re.MULTILINE)


class Docstrings(griffe.Extension):
    def on_object(self, *, obj: griffe.Object, loader: Any, **kwargs: Any) -> None:
        if obj.docstring is None:
            return
        value = _SHARED.sub(_split, obj.docstring.value)
        if isinstance(obj, griffe.Class) and not obj.parameters:
            value = re.sub(r"^Args:$", "Attributes:", value, flags=re.MULTILINE)
        obj.docstring.value = value


def _split(match: re.Match[str]) -> str:
    indent, names, text = match["indent"], match["names"].split(", "), match["text"]
    return "\n".join(f"{indent}{name}:{text}" for name in names)
