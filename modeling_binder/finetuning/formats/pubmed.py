"""PubMed's XML as raw text: title and abstract of each article, without mentions."""

import re
from pathlib import Path
from xml.etree import ElementTree

from ..data import Document
from ..errors import DataError
from ..files import open_bytes
from ..offsets import distinct_ids

_ARTICLES = ("PubmedArticle", "PubmedBookArticle", "MedlineCitation")


def read_pubmed(path: str | Path) -> list[Document]:
    """Read the articles of PubMed's XML (`PubmedArticleSet`, also compressed) as `title + " " + abstract`.

    The id is the PMID. Sections of a structured abstract are joined by blanks, each with its label; an article without
    an abstract consists of its title. Markup such as <i> is removed.

    Raises:
        DataError: the file is not XML, or has no article.
    """
    documents: list[Document] = []
    try:
        with open_bytes(path) as file:
            depth = 0  # a MedlineCitation inside a PubmedArticle is no article of its own
            for event, element in ElementTree.iterparse(file, events=("start", "end")):
                if element.tag not in _ARTICLES:
                    continue
                depth += 1 if event == "start" else -1
                if event == "end" and depth == 0:
                    documents.append(_document(element, len(documents) + 1))
                    element.clear()
    except ElementTree.ParseError as error:
        raise DataError(f"{path}: not valid XML ({error}).") from None
    if not documents:
        raise DataError(f"{path}: there is no article in it; expected {', '.join(_ARTICLES)}.")
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
    # Line ends and indentation come from how the XML is laid out
    return re.sub(r"[ \t\r\n]+", " ", "".join(element.itertext())).strip(" ")
