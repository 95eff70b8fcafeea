"""A corpus as a folder: types.json, and train, dev and test in JSONL or in columns."""

from dataclasses import dataclass
from pathlib import Path

from .data import DataError, Document, check_labels, read_jsonl, read_types
from .iob import read_iob


@dataclass(frozen=True)
class Corpus:
    """A corpus: its types and its splits. `dev` and `test` may be empty."""

    entity_types: dict[str, str]
    train: list[Document]
    dev: list[Document]
    test: list[Document]


_SPLITS = {"train": ("train",), "dev": ("dev", "devel", "valid", "validation"), "test": ("test",)}
_SUFFIXES = (".jsonl", ".json", ".tsv", ".txt", ".conll", ".iob", ".iob2", ".bio")


def read_documents(path: str | Path) -> list[Document]:
    """Documents from a file: JSONL by its suffix (.jsonl, .json), columns with tags otherwise.

    Raises:
        DataError: see `read_jsonl` and `iob.read_iob`.
    """
    return read_jsonl(path) if Path(path).suffix.lower() in (".jsonl", ".json") else read_iob(path)


def load_corpus(folder: str | Path) -> Corpus:
    """Read FOLDER/types.json and FOLDER/{train,dev,test} in any of the formats that `read_documents` knows.

    Dev may be called devel, valid or validation; dev and test may be missing. Of several files for one split, JSONL
    comes before columns.

    Raises:
        DataError: a file is missing or malformed, or a label has no description.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder; expected train.jsonl and types.json in it.")
    types = read_types(folder / "types.json")
    splits: dict[str, list[Document]] = {}
    for split, names in _SPLITS.items():
        files = [folder / (name + suffix) for name in names for suffix in _SUFFIXES]
        found = next((file for file in files if file.exists()), None)
        splits[split] = read_documents(found) if found else []
        check_labels(splits[split], types, found or folder)
        if split == "train" and found is None:
            raise DataError(f"{folder}: there is no train.jsonl, nor train with {', '.join(_SUFFIXES[1:])}.")
    return Corpus(entity_types=types, **splits)
