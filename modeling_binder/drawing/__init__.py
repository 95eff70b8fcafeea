"""Draw the entities of a text as labelled bars under the text: in a terminal, in a notebook and on a web page.

`demo.deploy` copies the modules that make HTML into a Space, where the package is missing. So they import only each
other and the standard library.
"""
