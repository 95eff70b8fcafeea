"""Draw the entities of a text as labelled bars under the text: in a terminal, in a notebook and on a web page.

`demo.deploy` copies these modules, except `terminal`, to a Hugging Face Space. The Space does not have the rest of
modeling_binder. So these modules import only each other, `rich` and the standard library.
"""

from .notebook import Drawing, draw

__all__ = ["Drawing", "draw"]
