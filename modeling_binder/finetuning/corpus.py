"""A corpus as a folder: types.json, and train, dev and test in any of the formats."""

from dataclasses import dataclass
from pathlib import Path

from .data import DataError, Document, EntityType, check_labels, read_entity_types
from .files import is_hidden, stem_of, suffix_of
from .formats import SUFFIXES, read_documents
from .splits import SPLIT_NAMES, splits_in


@dataclass(frozen=True)
class Corpus:
    """A corpus: its types and its splits. `dev` and `test` may be empty.

    Args:
        entity_types: name -> description.
        train, dev, test: documents.
        types: the same types with all their phrasings and their parents; made of `entity_types` where not given.
    """

    entity_types: dict[str, str]
    train: list[Document]
    dev: list[Document]
    test: list[Document]
    types: tuple[EntityType, ...] = ()

    def __post_init__(self) -> None:
        if tuple(entity_type.name for entity_type in self.types) != tuple(self.entity_types):
            types = tuple(EntityType(name, (text,)) for name, text in self.entity_types.items())
            object.__setattr__(self, "types", types)


def split_files(folder: str | Path) -> dict[str, Path]:
    """Return the file of each split of a corpus folder, by the words of the file names: dev, valid, corpus-dev.

    A file whose whole name is a split comes before one whose name has more words (train before train_extra), and JSONL
    comes before columns.

    Raises:
        DataError: a name stands for two splits, or two files of one format stand for the same split.
    """
    files = [path for path in sorted(Path(folder).iterdir()) if path.is_file() and not is_hidden(path.name)]
    # "eng.train" has its split in the place of a suffix
    files = [path for path in files if suffix_of(path) in SUFFIXES or splits_in(suffix_of(path))]
    found: dict[str, Path] = {}
    for split, names in SPLIT_NAMES.items():
        candidates = [path for path in files if split in splits_in(path.name)]
        candidates = [path for path in candidates if stem_of(path).lower() in names] or candidates
        if not candidates:
            continue
        first = min(map(_rank, candidates))
        chosen = [path for path in candidates if _rank(path) == first]
        if len(chosen) > 1:
            raise DataError(
                f"{folder}: {' and '.join(path.name for path in chosen)} all stand for {split}; keep one of them, or "
                "join them."
            )
        if len(splits := splits_in(chosen[0].name)) > 1:
            raise DataError(
                f"{chosen[0]}: the name stands for {' and for '.join(splits)}; rename the file, for example to "
                f"{splits[0]}{chosen[0].suffix}."
            )
        found[split] = chosen[0]
    return found


def _rank(path: Path) -> int:
    suffix = suffix_of(path)
    return SUFFIXES.index(suffix) if suffix in SUFFIXES else len(SUFFIXES)


def load_corpus(folder: str | Path) -> Corpus:
    """Read FOLDER/types.json and the files of its splits in any of the formats that `read_documents` reads.

    `split_files` tells which file is which split. Dev and test may be missing.

    Raises:
        DataError: a file is missing or malformed, or a label has no description.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder; expected train.jsonl and types.json in it.")
    types = read_entity_types(folder / "types.json")
    descriptions = {entity_type.name: entity_type.description for entity_type in types}
    files = split_files(folder)
    splits: dict[str, list[Document]] = {}
    for split in SPLIT_NAMES:
        found = files.get(split)
        splits[split] = read_documents(found) if found else []
        check_labels(splits[split], descriptions, found or folder)
        if split == "train" and found is None:
            raise DataError(f"{folder}: there is no train.jsonl, nor train with {', '.join(SUFFIXES[1:])}.")
    return Corpus(entity_types=descriptions, types=tuple(types), **splits)
