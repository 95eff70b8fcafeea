"""Extension of griffe, which reads the docstrings for the API reference: habits of ours that it does not know.

- "a, b: text" describes two arguments. griffe gets one entry for each.
- The `Args:` of a configuration are its fields, since transformers makes the constructor. griffe gets `Attributes:`.
- "Example:" is a section of examples, as "Examples:" is.
- "Arguments of `pipeline(...)`:" is followed by arguments, as "Args:" is, but it is a paragraph for griffe. Its
  arguments become a list.
"""

import re
import textwrap
from typing import Any

import griffe

# An entry with several names, and its text: the rest of the line, and the lines that are indented further.
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
    """Return the entries as a Markdown list: an entry begins with the indentation of the first one."""
    entries = textwrap.dedent(match["entries"])
    items = re.sub(r"^(\w+):", r"- `\1`:", entries, flags=re.MULTILINE)
    return f"{match['title']}\n\n{items}"
