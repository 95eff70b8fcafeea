"""The package's drawing code. A Space, where the package is missing, has a copy of it, which `demo.deploy` makes."""

from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING or find_spec("modeling_binder") is not None:
    from modeling_binder.drawing.colors import colors_of
    from modeling_binder.drawing.html import CSS, draw_html
else:
    from .drawing_copy.colors import colors_of
    from .drawing_copy.html import CSS, draw_html

__all__ = ["CSS", "colors_of", "draw_html"]
