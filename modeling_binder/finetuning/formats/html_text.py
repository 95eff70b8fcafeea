"""Extract the text of HTML as a browser does, for annotations with offsets in the nodes of the DOM."""

import re
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from html.parser import HTMLParser
from itertools import pairwise

_VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
_TRANSPARENT = {"html", "head", "body"}  # a browser removes these tags when it inserts HTML into an element
_BLOCKS = {
    *("address", "article", "aside", "blockquote", "br", "caption", "dd", "details", "div", "dl", "dt", "fieldset"),
    *(
        "figcaption",
        "figure",
        "footer",
        "form",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "header",
        "hr",
        "li",
        "main",
        "nav",
    ),
    *("ol", "p", "pre", "section", "summary", "table", "tbody", "td", "tfoot", "th", "thead", "title", "tr", "ul"),
}
# Element whose end tag is optional -> elements whose start tags close the element
_ENDED_BY = {
    "p": _BLOCKS - {"br", "caption", "dd", "dt", "tbody", "td", "tfoot", "th", "thead", "title", "tr"},
    "li": {"li"},
    "dt": {"dt", "dd"},
    "dd": {"dt", "dd"},
    "tr": {"tr"},
    "td": {"td", "th", "tr"},
    "th": {"td", "th", "tr"},
    "option": {"option"},
}
_STEP = re.compile(r"([\w:.-]+|text\(\))(?:\[(\d+)\])?")


@dataclass
class _Node:
    """A node of the DOM (an element, a text or a comment), and its start in the text."""

    name: str
    start: int = 0
    children: list["_Node"] = field(default_factory=list)


class HtmlText(HTMLParser):
    """Parses HTML and extracts its text.

    Args:
        html: the HTML.

    Attributes:
        text: all text nodes, concatenated. The tag <br> becomes a line end.
    """

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.text = ""
        self._root = _Node("")
        self._open = [self._root]
        self._breaks: list[int] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _TRANSPARENT:
            return
        if tag in _ENDED_BY.get(self._open[-1].name, ()):
            self.handle_endtag(self._open[-1].name)
        self._break(tag)
        node = _Node(tag, len(self.text))
        self._open[-1].children.append(node)
        if tag == "br":
            self.text += "\n"
        elif tag not in _VOID:
            self._open.append(node)

    def handle_endtag(self, tag: str) -> None:
        names = [node.name for node in self._open]
        if tag in names[1:]:
            del self._open[len(names) - 1 - names[::-1].index(tag) :]
        self._break(tag)

    def handle_comment(self, data: str) -> None:
        # A comment splits a text into two text nodes, so it must be a node too.
        self._open[-1].children.append(_Node("comment()", len(self.text)))

    def handle_data(self, data: str) -> None:
        siblings = self._open[-1].children
        if not siblings or siblings[-1].name != "text()":
            siblings.append(_Node("text()", len(self.text)))
        self.text += data

    def _break(self, tag: str) -> None:
        if tag in _BLOCKS and tag != "br":
            self._breaks.append(len(self.text))

    def start_of(self, path: str) -> int | None:
        """Return the offset of a node in the text, or None if the node does not exist.

        Args:
            path: path of the node, such as "/div[1]/p[2]/text()[1]".
        """
        node = self._root
        for step in filter(None, path.split("/")):
            match = _STEP.fullmatch(step)
            if step == "tbody[1]" and node.name == "table" and all(child.name != "tbody" for child in node.children):
                continue  # a browser inserts <tbody> around the rows of a table
            named = [child for child in node.children if match and child.name == match[1].lower()]
            index = int(match[2] or 1) - 1 if match else 0
            if not 0 <= index < len(named):
                return None
            node = named[index]
        return node.start

    def with_line_ends(self) -> tuple[str, "LineEnds"]:
        """Return the text with line ends between adjacent blocks, and an object that converts offsets.

        The object converts offsets in `text` into offsets in the returned text.
        """
        places = [
            place
            for place in sorted(set(self._breaks))
            if 0 < place < len(self.text) and not self.text[place - 1].isspace() and not self.text[place].isspace()
        ]
        edges = [0, *places, len(self.text)]
        return "\n".join(self.text[a:b] for a, b in pairwise(edges)), LineEnds(places)


class LineEnds:
    """Converts offsets in a text into offsets in the same text with inserted line ends.

    Args:
        places: sorted offsets in the original text where line ends were inserted.
    """

    def __init__(self, places: list[int]) -> None:
        self.places = places

    def start(self, offset: int) -> int:
        """Convert the start of a mention. A line end inserted at this offset comes before the mention."""
        return offset + bisect_right(self.places, offset)

    def end(self, offset: int) -> int:
        """Convert the end of a mention. A line end inserted at this offset comes after the mention."""
        return offset + bisect_left(self.places, offset)
