"""Read and write spaCy's format DocBin (.spacy)."""

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from ..data import Document
from ..errors import DataError
from ..files import read_bytes, stem_of, written_whole
from ..offsets import RawDocument, RawMention, align, distinct_ids, trim
from .found import Found, found_documents

_INSTALL = "a DocBin is read and written with spaCy, which is not installed: pip install spacy"


def read_docbin(path: str | Path, groups: Sequence[str] | None = None) -> list[Document]:
    """Read the documents of a spaCy DocBin. Mentions are the entities (`doc.ents`) and the spans in `doc.spans`.

    The id of a document is `doc.user_data["id"]`, which `write_docbin` writes. If the file does not have this value,
    the id consists of the name of the file and the number of the document.

    Args:
        path: the file.
        groups: keys of `doc.spans` to read. None means all keys.

    Raises:
        DataError: the file is not a DocBin, one of the groups occurs in no document, or a span has no label. Spans that
            are not entities, such as those of coreference clusters, have no labels.
        ModuleNotFoundError: spaCy is not installed.
    """
    try:
        import spacy
        from spacy.tokens import DocBin
    except ModuleNotFoundError:
        raise ModuleNotFoundError(_INSTALL) from None
    content = read_bytes(path)
    try:
        docs = list(DocBin().from_bytes(content).get_docs(spacy.blank("xx").vocab))
    except Exception as error:  # the errors come from zlib, msgpack or numpy
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
        identifier = doc.user_data.get("id")
        if not isinstance(identifier, (str, int)):
            identifier = f"{stem_of(path)}-{number}"
        document = RawDocument(str(identifier), doc.text, where=where)
        document.words = tuple((token.idx, token.idx + len(token)) for token in doc if not token.is_space)
        spans = [("doc.ents", doc.ents)]
        spans += [(name, group) for name, group in doc.spans.items() if groups is None or name in groups]
        document.mentions = [mention for name, group in spans for mention in _mentions(name, group, where)]
        documents.append(document)
    return distinct_ids(align(documents))


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


def write_docbin(
    documents: Iterable[Document | Mapping[str, Any]], path: str | Path, group: str = "sc", language: str = "xx"
) -> None:
    """Write a DocBin, for example to train or evaluate a spaCy pipeline.

    The mentions are written into `doc.spans[group]`, and their scores into `doc.spans[group].attrs["scores"]`. If there
    are no overlapping mentions in any document, the mentions are also written into `doc.ents`. Ids are written into
    `doc.user_data["id"]`.

    Args:
        documents: documents, or texts with predicted entities (see `found_documents`).
        path: the file to write.
        group: key of `doc.spans`. The default is the key of spaCy's span categoriser.
        language: code of the language, such as "en". Its tokenizer splits the documents whose `words` is None. A
            token is also split where a mention starts or ends inside it.

    Raises:
        DataError: the language is unknown to spaCy, its tokenizer needs a package that is not installed, or a mention
            contains only white space.
        ModuleNotFoundError: spaCy is not installed.
    """
    try:
        import spacy
        from spacy.tokens import DocBin
    except ModuleNotFoundError:
        raise ModuleNotFoundError(_INSTALL) from None
    try:
        nlp = spacy.blank(language)
    except ImportError as error:  # the message of spaCy contains the missing package
        raise DataError(f"language={language!r}: {' '.join(str(error).split())}") from None
    found = found_documents(documents)
    flat = not any(_overlap(each.document) for each in found)
    docs = DocBin(store_user_data=True)
    for each in found:
        docs.add(_doc(each, nlp, group, flat))
    with written_whole(path) as file:
        file.buffer.write(docs.to_bytes())


def _overlap(document: Document) -> bool:
    spans = sorted((mention.start, mention.end) for mention in document.entities)
    return any(end > start for (_, end), (start, _) in pairwise(spans))


def _doc(found: Found, nlp: Any, group: str, flat: bool) -> Any:
    """Return a `Doc` with the mentions of a document. Its tokens are split at the starts and ends of the mentions."""
    from spacy.tokens import Doc, SpanGroup

    document, scores = found
    text, words = document.text, document.words
    for mention in document.entities:
        if not text[mention.start : mention.end].strip():
            raise DataError(f"document {document.id!r}: the mention {mention} contains only blanks; remove it.")
    if words is None:
        words = tuple((token.idx, token.idx + len(token)) for token in nlp.make_doc(text))
    mentions = [trim(text, mention.start, mention.end) for mention in document.entities]
    blanks = (match.span() for match in re.finditer(r"\s+", text))
    edges = sorted({0, len(text), *(edge for span in (*words, *mentions, *blanks) for edge in span)})
    tokens: list[str] = []
    spaces: list[bool] = []
    for start, end in pairwise(edges):
        piece = text[start:end]
        if piece[0] == " " and tokens and not tokens[-1].isspace() and not spaces[-1]:
            spaces[-1], piece = True, piece[1:]
        if piece:
            tokens.append(piece)
            spaces.append(False)
    doc = Doc(nlp.vocab, words=tokens, spaces=spaces, user_data={"id": document.id})
    labels = (mention.label for mention in document.entities)
    spans = [doc.char_span(start, end, label) for (start, end), label in zip(mentions, labels, strict=True)]
    attributes = {"scores": list(scores)} if any(score is not None for score in scores) else {}
    doc.spans[group] = SpanGroup(doc, name=group, spans=spans, attrs=attributes)
    if flat:
        doc.ents = spans
    return doc
