"""Check a corpus in which each text lists the entity types that it was annotated for, and count its mentions."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from hub_cards.markdown import table
from modeling_binder.finetuning import Corpus, Document
from modeling_binder.finetuning.metrics import nested_flags
from modeling_binder.finetuning.splits import SPLIT_NAMES
from modeling_binder.words_binder import split_words


def find_problems(corpus: Corpus) -> list[str]:
    """Return the problems of a corpus, as one sentence for each problem.

    `load_corpus` already rejects malformed files. This function finds further problems:

    - a mention begins or ends with white space or inside a word, or ends with a comma
    - a text does not list the types that it was annotated for (`types`)
    - a text mentions a type, but also lists this type as absent, in another spelling
    - no text was annotated for a type of types.json, or a type has no description
    - two types have the same description
    - a text or an id occurs twice, in the same split or in two splits
    """
    documents = [document for split in SPLIT_NAMES for document in getattr(corpus, split)]
    return [
        *(problem for document in documents for problem in _of_document(document)),
        *_of_types(corpus, documents),
        *_twice(((document.id, document.id) for document in documents), "the id"),
        *_twice(((_letters(document.text), document.id) for document in documents), "the text"),
    ]


def _of_document(document: Document) -> Iterator[str]:
    text, where = document.text, f"document {document.id!r}"
    words = split_words(text)
    starts, ends = {start for start, _ in words}, {end for _, end in words}
    for mention in document.entities:
        span = text[mention.start : mention.end]
        if span != span.strip():
            yield f"{where}: the mention {span!r} ({mention.label}) begins or ends with a blank."
        elif mention.start not in starts or mention.end not in ends:
            yield f"{where}: the mention {span!r} ({mention.label}) begins or ends inside a word."
        elif span.endswith(","):
            yield f"{where}: the mention {span!r} ({mention.label}) ends with a comma."
    if document.types is None:
        yield f"{where} does not list the types that it was annotated for; add 'types'."
        return
    present = {mention.label for mention in document.entities}
    spellings = {_letters(name): name for name in present}
    for name in document.types:
        other = spellings.get(_letters(name))
        if name not in present and other is not None:
            yield f"{where}: {other!r} is marked, but {name!r}, the same type in another spelling, is listed as absent."


def _of_types(corpus: Corpus, documents: Iterable[Document]) -> Iterator[str]:
    described = {entity_type.name for entity_type in corpus.types}
    used = {name for document in documents for name in document.types or (m.label for m in document.entities)}
    for name in sorted(described - used):
        yield f"the type {name!r} is described, but no text uses it; remove it from types.json."
    for name in sorted(used - described):
        yield f"the type {name!r} has no description; add it to types.json."
    owners: dict[str, str] = {}
    for entity_type in corpus.types:
        for text in entity_type.phrasings:
            owner = owners.setdefault(_letters(text), entity_type.name)
            if owner != entity_type.name:
                yield f"the types {owner!r} and {entity_type.name!r} have the same description {text!r}."


def _twice(keyed: Iterable[tuple[str, str]], what: str) -> Iterator[str]:
    groups: dict[str, list[str]] = defaultdict(list)
    for key, identifier in keyed:
        groups[key].append(identifier)
    for identifiers in groups.values():
        if len(identifiers) > 1:
            yield f"{what} of document {identifiers[0]!r} occurs {len(identifiers)} times ({', '.join(identifiers)})."


def _letters(text: str) -> str:
    """Return a text in lower case and without punctuation, to compare spellings."""
    return " ".join(re.findall(r"\w+", text.casefold()))


def count(documents: Sequence[Document], seen: set[str]) -> dict[str, Any]:
    """Count the texts, mentions and types of a split.

    Args:
        documents: the documents of the split.
        seen: the types that the training set is annotated for.
    """
    present = [{mention.label for mention in document.entities} for document in documents]
    absent = [set(document.types or ()) - found for document, found in zip(documents, present, strict=True)]
    types = set().union(*present, *absent)
    mentions = [mention for document in documents for mention in document.entities]
    nested = sum(sum(nested_flags(document.entities)) for document in documents)
    return {
        "texts": len(documents),
        "texts without mentions": sum(not document.entities for document in documents),
        "words": sum(len(split_words(document.text)) for document in documents),
        "mentions": len(mentions),
        "mentions that lie inside or around another mention, or share its span": nested,
        "types": len(types),
        "types that the training set lacks": len(types - seen),
        "present types per text": round(sum(map(len, present)) / max(len(documents), 1), 1),
        "absent types per text": round(sum(map(len, absent)) / max(len(documents), 1), 1),
    }


def counts_table(corpus: Corpus) -> str:
    """Return the counts of the splits as a Markdown table."""
    seen = {name for document in corpus.train for name in document.types or ()}
    columns = {split: count(getattr(corpus, split), seen) for split in SPLIT_NAMES if getattr(corpus, split)}
    everything = [document for split in columns for document in getattr(corpus, split)]
    columns["all"] = {**count(everything, seen), "types that the training set lacks": ""}
    rows = [
        [name, *(f"{values[name]:,}" if values[name] != "" else "" for values in columns.values())]
        for name in columns["all"]
    ]
    phrasings = sum(len(entity_type.phrasings) for entity_type in corpus.types)
    rows.append(["phrasings of types", *[""] * (len(columns) - 1), f"{phrasings:,}"])
    return table(["", *columns], rows, numbers=len(columns))
