"""Which split a file, a folder or a split of a dataset is, by the words of its name."""

import re
from collections.abc import Iterable

SPLIT_NAMES = {
    "train": ("train", "training", "trainset"),
    "dev": ("dev", "devel", "development", "devset", "valid", "validation", "val", "eval", "testa"),
    "test": ("test", "testb", "testing", "testset"),
}
_SPLIT_OF = {name: split for split, names in SPLIT_NAMES.items() for name in names}
_LETTERS = re.compile(r"[A-Za-z]+")
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")


def splits_in(name: str) -> list[str]:
    """Return the splits that the words of a name stand for, each once.

    Words end where letters end and where a capital begins one: "no_x-ud-train", "train_en" and "TrainingSet" are train,
    "eng.testa" is dev, "trainer" is nothing.

    >>> splits_in("no_x-ud-dev.conllu"), splits_in("genes"), splits_in("test_of_train")
    (['dev'], [], ['test', 'train'])
    """
    words: list[str] = []
    for letters in _LETTERS.findall(name):  # "testA" is one word, "TrainingSet" two
        words += [letters] if letters.lower() in _SPLIT_OF else _WORD.findall(letters)
    return list(dict.fromkeys(_SPLIT_OF[word.lower()] for word in words if word.lower() in _SPLIT_OF))


def split_of(names: str | Iterable[str]) -> str | None:
    """Return the split that a name, or the parts of a path, stand for: "train", "dev", "test", or None.

    Parts that name two different splits give None: nothing tells which of them is meant.
    """
    found = {split for name in ([names] if isinstance(names, str) else names) for split in splits_in(name)}
    return found.pop() if len(found) == 1 else None
