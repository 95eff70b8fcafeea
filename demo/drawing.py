"""The drawing code of modeling_binder. A Space does not have this package, so `demo.deploy` copies the code into it."""

from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING or find_spec("modeling_binder") is not None:
    from modeling_binder.drawing.colors import colors_of
    from modeling_binder.drawing.html import CSS, draw_html
else:
    from .drawing_copy.colors import colors_of
    from .drawing_copy.html import CSS, draw_html

__all__ = ["CSS", "colors_of", "draw_html"]
