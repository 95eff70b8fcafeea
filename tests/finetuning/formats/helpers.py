"""Write the files that the tests of formats read, and show the mentions that were read."""


def write(folder, name, content):
    """Write a file of text or bytes, and return its path."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def found(document):
    """Return the text and the label of each mention."""
    return [(document.text[m.start : m.end], m.label) for m in document.entities]
