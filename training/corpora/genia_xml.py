"""Read nested terms from the original XML of GENIAcorpus3.02. Their classes are reduced to the usual five types."""

from pathlib import Path
from xml.etree import ElementTree

from modeling_binder.finetuning import DataError, Document, Mention
from modeling_binder.finetuning.files import open_bytes
from modeling_binder.finetuning.offsets import distinct_ids

TYPES = ("DNA", "RNA", "protein", "cell_line", "cell_type")


def read_genia_xml(path: str | Path) -> list[Document]:
    """Read GENIAcorpus3.02.xml. Each sentence becomes a document, in the order of the corpus.

    The class of a term begins with its type: `<cons sem="G#DNA_domain_or_region">` has the type DNA. A term is skipped
    if its class does not begin with one of the five types. A coordinated term is also skipped if its parts have
    different types. Terms inside a skipped term are kept if they have a type. White space around a sentence is removed.

    Raises:
        DataError: the file is not valid XML, or has no sentence.
    """
    path = Path(path)
    documents: list[Document] = []
    try:
        with open_bytes(path) as file:
            for _, article in ElementTree.iterparse(file):
                if article.tag != "article":
                    continue
                identifier = (article.findtext(".//bibliomisc") or f"article-{len(documents)}").strip()
                for number, sentence in enumerate(article.iter("sentence"), 1):
                    documents.append(_sentence(sentence, f"{identifier}-{number}"))
                article.clear()
    except ElementTree.ParseError as error:
        raise DataError(f"{path}: not valid XML ({error}).") from None
    if not documents:
        raise DataError(f"{path}: this file has no <article> with a <sentence> in it.")
    return distinct_ids(documents)


def _sentence(element: ElementTree.Element, identifier: str) -> Document:
    parts: list[str] = []
    mentions: list[Mention] = []

    def walk(node: ElementTree.Element) -> None:
        start = sum(map(len, parts))
        parts.append(node.text or "")
        for child in node:
            walk(child)
            parts.append(child.tail or "")
        label = _type(node.get("sem")) if node.tag == "cons" else None
        covered = "".join(parts)[start:]
        if label is not None and covered.strip():
            begin = start + len(covered) - len(covered.lstrip())
            mentions.append(Mention(begin, start + len(covered.rstrip()), label))

    walk(element)
    text = "".join(parts)
    before = len(text) - len(text.lstrip())
    shifted = sorted({Mention(m.start - before, m.end - before, m.label) for m in mentions})
    return Document(identifier, text.strip(), tuple(shifted))


def _type(classes: str | None) -> str | None:
    """Return the type of a class, such as "G#DNA_domain_or_region" or "(AND G#protein_molecule G#protein_molecule)".

    None means that the class does not begin with one of the five types, or that its parts have different types.
    """
    names = [name.removeprefix("G#") for name in (classes or "").strip("()").split() if name.startswith("G#")]
    found = {next((label for label in TYPES if name == label or name.startswith(f"{label}_")), None) for name in names}
    return found.pop() if len(found) == 1 else None
