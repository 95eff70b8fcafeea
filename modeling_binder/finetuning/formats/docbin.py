"""spaCy: read files in the format DocBin (.spacy)."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ..data import Document
from ..errors import DataError
from ..files import read_bytes, stem_of
from ..offsets import RawDocument, RawMention, align


def read_docbin(path: str | Path, groups: Sequence[str] | None = None) -> list[Document]:
    """Read the documents of a spaCy DocBin. Mentions are the entities (`doc.ents`) and the spans in `doc.spans`.

    Args:
        path: the file.
        groups: keys of `doc.spans` to read; None means all keys.

    Raises:
        DataError: the file is not a DocBin, one of the groups occurs in no document, or a span has no label, as in
            groups that do not contain entities, such as coreference clusters.
        ModuleNotFoundError: spaCy is not installed.
    """
    try:
        import spacy
        from spacy.tokens import DocBin
    except ModuleNotFoundError:
        raise ModuleNotFoundError("a DocBin is read with spaCy, which is not installed: pip install spacy") from None
    content = read_bytes(path)
    try:
        docs = list(DocBin().from_bytes(content).get_docs(spacy.blank("xx").vocab))
    except Exception as error:  # spaCy raises errors of zlib, msgpack and numpy
        raise DataError(
            f"{path}: this is not a DocBin that spaCy {spacy.__version__} can read ({error!r:.100})."
        ) from None
    if not docs:
        raise DataError(f"{path}: the file contains no document.")
    named = {name for doc in docs for name in doc.spans}
    if groups is not None and (missing := [name for name in groups if name not in named]):
        present = (
            f"the groups in this file are: {', '.join(sorted(named))}" if named else "this file has no span groups"
        )
        raise DataError(f"{path}: no document has a span group {missing[0]!r}; {present}.")
    documents = []
    for number, doc in enumerate(docs, 1):
        where = f"{path}: document {number}"
        document = RawDocument(f"{stem_of(path)}-{number}", doc.text, where=where)
        document.words = tuple((token.idx, token.idx + len(token)) for token in doc if not token.is_space)
        spans = [("doc.ents", doc.ents)]
        spans += [(name, group) for name, group in doc.spans.items() if groups is None or name in groups]
        document.mentions = [mention for name, group in spans for mention in _mentions(name, group, where)]
        documents.append(document)
    return align(documents)


def _mentions(name: str, spans: Iterable[Any], where: str) -> list[RawMention]:
    mentions = []
    for span in spans:
        if not span.label_.strip():
            raise DataError(
                f"{where}: the span {span.text!r:.60} of {name!r} has no label; add labels to the spans, or name the "
                "groups that contain entities: groups=[...] (--spans)."
            )
        mentions.append(RawMention(((span.start_char, span.end_char),), span.label_, span.text, where))
    return mentions
