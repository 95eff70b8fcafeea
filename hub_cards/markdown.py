"""Build Markdown from untrusted text. The text is escaped, so a page shows it literally and does not run any markup."""

import html
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

_MARKUP = re.compile(r"([\\`*_\[\]|~$])")


def escape(text: Any) -> str:
    """Return one line of Markdown that displays the text literally, also inside a table.

    >>> escape("<b>a|b</b>")
    '&lt;b&gt;a\\\\|b&lt;/b&gt;'
    """
    return _MARKUP.sub(r"\\\1", html.escape(" ".join(str(text).split()), quote=False))


def fence(code: str, language: str = "") -> str:
    """Return a code block. Its fence is longer than every run of backticks in the code, so the code cannot end it.

    >>> fence("x", "python")
    '```python\\nx\\n```'
    """
    longest = max((len(run) for run in re.findall(r"`+", code)), default=0)
    ticks = "`" * max(3, longest + 1)
    return f"{ticks}{language}\n{code}\n{ticks}"


def table(header: Sequence[str], rows: Sequence[Sequence[Any]], numbers: int = 0) -> str:
    """Return a Markdown table with escaped cells. The last `numbers` columns are aligned to the right.

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
    """Return a Jinja environment with the templates of this folder and the helpers `escape`, `fence` and `table`.

    An undefined name in a template raises an error.
    """
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # the output is Markdown; `escape` and `table` escape it
    )
    templates.filters.update(escape=escape, fence=fence)
    templates.globals.update(table=table)
    return templates
