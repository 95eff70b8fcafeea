"""Read PubMed XML: the title and the abstract of each article become a document without mentions."""

import re
from pathlib import Path
from xml.etree import ElementTree

from ..data import Document
from ..errors import DataError
from ..files import open_bytes, xml_errors
from ..offsets import distinct_ids

_ARTICLES = ("PubmedArticle", "PubmedBookArticle", "MedlineCitation")


def read_pubmed(path: str | Path) -> list[Document]:
    """Read the articles of a PubMed XML file (`PubmedArticleSet`). The text of an article is `title + " " + abstract`.

    The id of a document is the PMID. The sections of a structured abstract are joined by spaces, and each section
    begins with its label. If an article has no abstract, its text is the title. Markup such as <i> is removed.

    Args:
        path: the file, which may be compressed with gzip.

    Raises:
        DataError: the file is not XML, or contains no article.
    """
    documents: list[Document] = []
    with open_bytes(path) as file, xml_errors(path):
        depth = 0  # number of open elements: a MedlineCitation inside a PubmedArticle must not count as another article
        for event, element in ElementTree.iterparse(file, events=("start", "end")):
            if element.tag not in _ARTICLES:
                continue
            depth += 1 if event == "start" else -1
            if event == "end" and depth == 0:
                documents.append(_document(element, len(documents) + 1))
                element.clear()
    if not documents:
        raise DataError(f"{path}: the file contains no article; expected {', '.join(_ARTICLES)}.")
    return distinct_ids(documents)


def _document(article: ElementTree.Element, number: int) -> Document:
    identifier = (article.findtext(".//PMID") or "").strip() or str(number)
    titles = [element for name in ("ArticleTitle", "BookTitle") if (element := article.find(f".//{name}")) is not None]
    parts = [_text(titles[0])] if titles else []
    for section in article.iterfind(".//Abstract/AbstractText"):
        label = (section.get("Label") or "").strip()
        words = _text(section)
        parts.append(f"{label}: {words}" if label and words else words)
    return Document(identifier, " ".join(part for part in parts if part))


def _text(element: ElementTree.Element) -> str:
    # The XML is indented, so line ends and sequences of spaces are not part of the text.
    return re.sub(r"[ \t\r\n]+", " ", "".join(element.itertext())).strip(" ")
