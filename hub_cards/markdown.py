"""Text of others inside our Markdown: escaped, so that it is shown and never interpreted."""

import html
import re
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

_MARKUP = re.compile(r"([\\`*_\[\]|~$])")


def escape(text: Any) -> str:
    """A text as one line of Markdown that reads as it is written, also inside a table.

    >>> escape("<b>a|b</b>")
    '&lt;b&gt;a\\\\|b&lt;/b&gt;'
    """
    return _MARKUP.sub(r"\\\1", html.escape(" ".join(str(text).split()), quote=False))


def fence(code: str, language: str = "") -> str:
    """A block of code, whatever the code holds: the fence is longer than any run of backticks in it.

    >>> fence("x", "python")
    '```python\\nx\\n```'
    """
    longest = max((len(run) for run in re.findall(r"`+", code)), default=0)
    ticks = "`" * max(3, longest + 1)
    return f"{ticks}{language}\n{code}\n{ticks}"


def table(header: list[str], rows: list[list[Any]], numbers: int = 0) -> str:
    """A Markdown table; cells are escaped, the last `numbers` columns stand to the right.

    >>> print(table(["type", "F1"], [["Gene", "90.00"]], numbers=1))
    | type | F1 |
    |---|---:|
    | Gene | 90.00 |
    """
    rules = ["---"] * (len(header) - numbers) + ["---:"] * numbers
    lines = [header, *rows]
    cells = ["| " + " | ".join(escape(cell) for cell in line) + " |" for line in lines]
    return "\n".join([cells[0], f"|{'|'.join(rules)}|", *cells[1:]])


def environment() -> Environment:
    """The templates of this folder, with `escape`, `fence` and `table`; a name that is not there is an error."""
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # Markdown, not HTML: `escape` and `table` do it
    )
    templates.filters.update(escape=escape, fence=fence)
    templates.globals.update(table=table)
    return templates
