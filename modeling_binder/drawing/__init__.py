"""Draw the entities of a text as labelled bars under the text: in a terminal, in a notebook and on a web page.

`demo.deploy` copies these modules, except `terminal`, into a Hugging Face Space. The rest of modeling_binder is missing
there, so these modules import only each other, `rich` and the standard library.
"""

from .notebook import Drawing, draw

__all__ = ["Drawing", "draw"]
