"""Determine the split (train, dev or test) of a file or folder from the words in its name."""

import re
from collections.abc import Iterable

SPLIT_NAMES = {
    "train": ("train", "training", "trainset"),
    "dev": ("dev", "devel", "development", "devset", "valid", "validation", "val", "eval", "testa"),
    "test": ("test", "testb", "testing", "testset"),
}
_SPLIT_OF = {name: split for split, names in SPLIT_NAMES.items() for name in names}
_LETTERS = re.compile(r"[A-Za-z]+")
_TEST_PART = re.compile(r"(?<![A-Za-z])(test)[_.\- ]([ab])(?![A-Za-z])", re.IGNORECASE)
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")


def splits_in(name: str) -> list[str]:
    """Return the splits whose words occur in a name, without duplicates. `SPLIT_NAMES` lists the words.

    A word ends before a character that is not a letter, or before a capital letter. So "no_x-ud-train", "train_en" and
    "TrainingSet" contain a word of "train". "eng.testa" contains a word of "dev". "trainer" contains no word of a
    split.

    "test_a" and "test-b" count as "testa" and "testb".

    >>> splits_in("no_x-ud-dev.conllu"), splits_in("genes"), splits_in("test_of_train")
    (['dev'], [], ['test', 'train'])
    """
    words: list[str] = []
    for letters in _LETTERS.findall(_TEST_PART.sub(r"\1\2", name)):  # "testA" is one word, "TrainingSet" is two words
        words += [letters] if letters.lower() in _SPLIT_OF else _WORD.findall(letters)
    return list(dict.fromkeys(_SPLIT_OF[word.lower()] for word in words if word.lower() in _SPLIT_OF))


def split_of(names: str | Iterable[str]) -> str | None:
    """Return the split of a name, or of the names in a path: "train", "dev", "test", or None.

    The result is None if the names contain no word of a split, or words of different splits.
    """
    found = {split for name in ([names] if isinstance(names, str) else names) for split in splits_in(name)}
    return found.pop() if len(found) == 1 else None
