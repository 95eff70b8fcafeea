"""A table of the entity types of all corpora in a mix, with their phrasings (names and descriptions).

The types of the first corpus come first, then the types of the second corpus, and so on.
"""

import re
from collections.abc import Iterable, Sequence

import numpy as np

from .entity_types import EntityType

STOP_WORDS = {"a", "an", "and", "by", "for", "in", "of", "on", "or", "other", "the", "to", "with"}


class TypeTable:
    """Numbers the G entity types of all corpora in a mix, and their P different phrasings.

    Args:
        parts: for each corpus, a pair: its types, and whether their descriptions begin with the name of the type and a
            colon.

    Attributes:
        begin: for each corpus, the number of its first type. The last item is G.
        names: [G], names of the types.
        texts: [P], all phrasings without duplicates.
        phrasings: indices into `texts`, type by type. The first phrasing of a type is its name. "name: description"
            follows for each description, and then the descriptions without the name.
        first: [G + 1], the position of the first phrasing of each type in `phrasings`. The last item is the length of
            `phrasings`.
        word_ids: ids of the words in the names of the types, type by type, without stop words.
        word_first: [G + 1], the position of the first word of each type in `word_ids`. The last item is the length of
            `word_ids`.
        word_count: number of different words, at least 1.
    """

    def __init__(self, parts: Iterable[tuple[Sequence[EntityType], bool]]) -> None:
        numbers: dict[str, int] = {}
        phrasings: list[int] = []
        first, self.begin = [0], [0]
        self.names: list[str] = []
        for types, named in parts:
            for entity_type in types:
                name, descriptions = _wording(entity_type, named)
                texts = [name, *(f"{name}: {text}" for text in descriptions), *descriptions]
                phrasings += [numbers.setdefault(text, len(numbers)) for text in texts]
                first.append(len(phrasings))
                self.names.append(name)
            self.begin.append(len(self.names))
        self.texts = list(numbers)
        self.first, self.phrasings = np.array(first), np.array(phrasings)
        vocabulary: dict[str, int] = {}
        words = [[vocabulary.setdefault(word, len(vocabulary)) for word in sorted(_words(name))] for name in self.names]
        self.word_count = max(len(vocabulary), 1)
        self.word_first = np.concatenate([[0], np.cumsum([len(ids) for ids in words])]).astype(np.int64)
        self.word_ids = np.array([index for ids in words for index in ids], np.int64)

    def __len__(self) -> int:
        return len(self.names)


def _wording(entity_type: EntityType, named: bool) -> tuple[str, list[str]]:
    """Return the name of a type, and its descriptions without this name at the beginning.

    If `named` is true, the name is the text before the colon in the first description ("film: a movie"). Otherwise, it
    is the label.
    """
    name, descriptions = entity_type.name, list(entity_type.phrasings)
    if named and ":" in descriptions[0]:
        name = descriptions[0].partition(":")[0].strip()
        descriptions = [text.removeprefix(f"{name}:").strip() or name for text in descriptions]
    return name, [text for text in descriptions if text != name]


def _words(name: str) -> set[str]:
    words = set(re.findall(r"\w+", name.casefold())) - STOP_WORDS
    return {word.removesuffix("s") for word in words}
