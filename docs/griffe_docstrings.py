"""Extension of griffe, the program that reads the docstrings for the API reference.

The extension rewrites docstrings of this project that griffe does not understand:

- "a, b: text" describes two arguments. It becomes one entry for each argument.
- "Args:" in a configuration class becomes "Attributes:", because transformers generates the constructor.
- "Example:" becomes "Examples:".
- The arguments after "Arguments of `pipeline(...)`:" become a Markdown list.
"""

import re
import textwrap
from typing import Any

import griffe

# An entry with several names. Its text is the rest of the line and all following lines with a larger indentation.
_SHARED = re.compile(r"^(?P<indent> +)(?P<names>\w+(?:, \w+)+):(?P<text>.*(?:\n(?P=indent) +.*)*)$", re.MULTILINE)
_NAMED = re.compile(r"^(?P<title>Arguments of .*:)\n+(?P<entries>(?: +.*(?:\n|$))+)", re.MULTILINE)


class Docstrings(griffe.Extension):
    def on_object(self, *, obj: griffe.Object, loader: Any, **kwargs: Any) -> None:
        if obj.docstring is None:
            return
        value = _NAMED.sub(_list, _SHARED.sub(_split, obj.docstring.value))
        value = re.sub(r"^Example:$", "Examples:", value, flags=re.MULTILINE)
        if isinstance(obj, griffe.Class) and not obj.parameters:
            value = re.sub(r"^Args:$", "Attributes:", value, flags=re.MULTILINE)
        obj.docstring.value = value


def _split(match: re.Match[str]) -> str:
    indent, names, text = match["indent"], match["names"].split(", "), match["text"]
    return "\n".join(f"{indent}{name}:{text}" for name in names)


def _list(match: re.Match[str]) -> str:
    """Return the entries as a Markdown list. A line with the indentation of the first line begins an entry."""
    entries = textwrap.dedent(match["entries"])
    items = re.sub(r"^(\w+):", r"- `\1`:", entries, flags=re.MULTILINE)
    return f"{match['title']}\n\n{items}"
