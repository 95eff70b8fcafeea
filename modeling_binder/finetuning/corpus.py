"""A corpus in a folder: types.json with the entity types, and the files of the splits train, dev and test.

The files of the splits can have any format that `read_documents` reads.
"""

from dataclasses import dataclass
from pathlib import Path

from .data import DataError, Document, EntityType, check_labels, read_entity_types
from .files import is_hidden, stem_of, suffix_of
from .formats import SUFFIXES, read_documents
from .splits import SPLIT_NAMES, splits_in


@dataclass(frozen=True)
class Corpus:
    """A corpus: its entity types and its splits. `dev` and `test` may be empty.

    Args:
        entity_types: name of each entity type -> its description.
        train, dev, test: the documents of each split.
        types: the same entity types as objects, with all their descriptions and their parents. By default, they are
            made from `entity_types`.
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
    """Return the file of each split of a corpus folder: split ("train", "dev" or "test") -> path.

    A word in the name of a file determines its split: dev.jsonl, valid.tsv and corpus-dev.conll belong to "dev". If
    several files belong to a split, two rules select a file:

    1. A file whose name is only this word is preferred: train.tsv, not train_extra.jsonl.
    2. Among the remaining files, the file whose suffix comes first in `SUFFIXES` is preferred (.jsonl comes first).

    Raises:
        DataError: the name of a file contains words for two splits; several files remain for one split; or the only
            candidate for a split is a folder (dev/) or a file in an unknown format (dev.bmes).
    """
    visible = [path for path in sorted(Path(folder).iterdir()) if not is_hidden(path.name)]
    files = [path for path in visible if path.is_file()]
    # The suffix may also be the name of a split, as in "eng.train".
    files = [path for path in files if suffix_of(path) in SUFFIXES or splits_in(suffix_of(path))]
    found: dict[str, Path] = {}
    for split, names in SPLIT_NAMES.items():
        candidates = [path for path in files if split in splits_in(path.name)]
        candidates = [path for path in candidates if stem_of(path).lower() in names] or candidates
        if not candidates:
            others = [path for path in visible if (stem_of(path).lower() if path.is_file() else path.name) in names]
            if others:
                raise DataError(
                    f"{others[0]}: this {'file' if others[0].is_file() else 'folder'} is named like the split {split}, "
                    f"but it cannot be read; expected a file with one of the suffixes {', '.join(SUFFIXES)}. Convert "
                    "or rename it."
                )
            continue
        first = min(map(_rank, candidates))
        chosen = [path for path in candidates if _rank(path) == first]
        if len(chosen) > 1:
            raise DataError(
                f"{folder}: {' and '.join(path.name for path in chosen)} are all files of the split {split}; keep "
                "one of them, or join them."
            )
        if len(splits := splits_in(chosen[0].name)) > 1:
            raise DataError(
                f"{chosen[0]}: the name contains words for the splits {' and '.join(splits)}; rename the file, for "
                f"example to {splits[0]}{chosen[0].suffix}."
            )
        found[split] = chosen[0]
    return found


def _rank(path: Path) -> int:
    suffix = suffix_of(path)
    return SUFFIXES.index(suffix) if suffix in SUFFIXES else len(SUFFIXES)


def load_corpus(folder: str | Path) -> Corpus:
    """Read a corpus from a folder with types.json and one file for each split.

    The files can have any format that `read_documents` reads. Their names determine their splits, see `split_files`.
    The files of "dev" and "test" may be missing.

    Raises:
        DataError: the folder, types.json or the training file is missing; a file is malformed; or the label of a
            mention has no description in types.json.
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
            raise DataError(
                f"{folder}: there is no train.jsonl or other training file (suffixes: {', '.join(SUFFIXES[1:])})."
            )
    return Corpus(entity_types=descriptions, types=tuple(types), **splits)
