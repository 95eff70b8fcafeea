"""Read the splits of a corpus in any format, from a folder, a file, or a dataset on the Hub."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from ..data import Document
from ..errors import DataError
from ..files import stem_of, suffix_of, visible_files
from ..offsets import distinct_ids
from ..splits import SPLIT_NAMES, split_of, splits_in
from .brat import read_brat
from .hub_dataset import read_hub_dataset
from .registry import check_options, format_named, read_documents

logger = logging.getLogger(__name__)

Splits = dict[str, list[Document]]

_CORPUS_FILES = ("types.json", "report.json")  # files of a corpus folder that contain no documents


class _Part(NamedTuple):
    """A part of a corpus that belongs to one split. It is a file, a folder (brat), or a split of a dataset on the Hub.

    Args:
        name: the path of the file or folder, or the name of the split in the dataset.
        names: the components of this path. They determine the split, see `split_of`.
        read: function that reads the documents. It is called only for parts that belong to a split.
    """

    name: str
    names: tuple[str, ...]
    read: Callable[[], list[Document]]


def read_splits(
    source: str | Path, format: str, splits: Mapping[str, Sequence[str]] | None = None, **options: Any
) -> Splits:
    """Read the splits of a corpus in one of the `FORMATS`, or of a dataset on the Hub.

    The words in the name of a file, folder or dataset split determine its split ("train", "dev" or "test"), see
    `split_of`. If no name of a file or folder contains such a word, all documents are training data.

    Args:
        source: a folder (including its sub-folders), or a file. For "hub", the id of a dataset.
        format: the name of the format, or "hub" for a dataset on the Hub.
        splits: split -> names of its files, folders or dataset splits. Other files, folders and dataset splits are
            skipped. `None` means that the words in the names determine the splits.
        options: options of the reader of the format.

    Raises:
        DataError: a file is malformed, its name does not determine a split, or the corpus has no training split.
    """
    if format == "hub":
        check_options(format, read_hub_dataset, options)
        named = read_hub_dataset(str(source), **options)
        parts = [_Part(name, (name,), partial(list, documents)) for name, documents in named.items()]
    elif format_named(format)[0] == "brat":
        check_options("brat", read_brat, options)
        parts = _brat_parts(Path(source), **options)
    else:
        parts = _file_parts(Path(source), format, is_chosen=splits is not None, **options)
    for split in splits or ():
        if split not in SPLIT_NAMES:
            raise DataError(f"there is no split {split!r}; expected {', '.join(SPLIT_NAMES)}.")
    placed = _chosen(source, parts, splits) if splits else _placed(source, parts, is_hub=format == "hub")
    if "train" not in placed:
        raise DataError(
            f"{source}: there is no training split, only {', '.join(placed)} (from "
            f"{_listed(part.name for part in parts)}); choose the training data, for example with "
            f"--split train={parts[0].name}."
        )
    if format != "hub" and (reader := format_named(format)[1].reader) and Path(source).is_dir():
        files = {part.name: Path(source, part.name) for chosen in placed.values() for part in chosen}
        read = reader(Path(source), files.values(), **options)
        placed = {
            split: [part._replace(read=partial(read, files[part.name])) for part in chosen]
            for split, chosen in placed.items()
        }
    return {split: _with_distinct_ids(placed[split]) for split in SPLIT_NAMES if split in placed}


def _file_parts(source: Path, format: str, is_chosen: bool, **options: Any) -> list[_Part]:
    """Return the files of a source.

    Args:
        source: a file or a folder.
        format: the name of the format.
        is_chosen: whether the user has chosen files by name. Files may then have any suffix.
        options: options of the reader of the format.

    Raises:
        DataError: there is no file in the format, or all files of a split have suffixes that the format does not use.
    """
    name, chosen = format_named(format)
    suffixes = chosen.suffixes
    check_options(name, chosen.read, options)
    if source.is_file():
        return [_Part(source.name, (source.name,), partial(read_documents, source, format, **options))]
    if not source.is_dir():
        raise DataError(f"{source}: there is no such file or folder.")
    paths, others = [], []
    for path in visible_files(source):
        if path.name in _CORPUS_FILES and not is_chosen:
            continue
        # The suffix may also be the name of a split, as in "eng.train".
        if is_chosen or suffix_of(path) in suffixes or splits_in(suffix_of(path)):
            paths.append(path)
        else:
            others.append(path.relative_to(source))
    parts = [
        _Part(name.as_posix(), name.parts, partial(read_documents, path, format, **options))
        for path, name in ((path, path.relative_to(source)) for path in paths)
    ]
    placed = {split_of(part.names) for part in parts}
    left_out = [name.as_posix() for name in others if (split := split_of(name.parts)) and split not in placed]
    if left_out and (parts or any(split_of(name.parts) == "train" for name in others)):
        raise DataError(
            f"{source}: {_listed(left_out)} would be left out, because the suffixes of the format {format} are "
            f"{', '.join(suffixes)}. Choose the files, for example with --split "
            f"{split_of(PurePosixPath(left_out[0]).parts)}={left_out[0]}."
        )
    if parts and others:
        logger.warning(
            "%s: the suffixes of the format %s are %s, so these files are left out: %s.",
            source,
            format,
            ", ".join(suffixes),
            _listed(name.as_posix() for name in others),
        )
    if not parts:
        raise DataError(f"{source}: there is no file with one of the suffixes {', '.join(suffixes)}.")
    return parts


def _brat_parts(source: Path, **options: Any) -> list[_Part]:
    """Group documents by folder. If only the names of files determine splits, group the documents by file."""
    documents = read_brat(source, **options)
    paths = {stem: PurePosixPath(stem) for stem in documents}
    by_folder = {stem: (path.parent.as_posix(), path.parent.parts) for stem, path in paths.items()}
    by_file = {stem: (stem, path.parts) for stem, path in paths.items()}
    in_folders = any(split_of(names) for _, names in by_folder.values())
    places = by_file if not in_folders and all(split_of(names) for _, names in by_file.values()) else by_folder
    parts: dict[str, tuple[tuple[str, ...], list[Document]]] = {}
    for stem, document in documents.items():
        name, names = places[stem]
        parts.setdefault(name, (tuple(names), []))[1].append(document)
    return [_Part(name, names, partial(list, documents)) for name, (names, documents) in parts.items()]


def _placed(source: str | Path, parts: Sequence[_Part], is_hub: bool) -> dict[str, list[_Part]]:
    if not is_hub and not any(splits_in(name) for part in parts for name in part.names):
        return {"train": list(parts)}
    splits = [split_of(part.names) for part in parts]
    if not all(splits):
        # A folder that contains all files does not determine a split. Example: test_corpus/train.jsonl and
        # test_corpus/dev.jsonl.
        folders = [part.names[:-1] for part in parts]
        common = next((n for n in range(min(map(len, folders)), 0, -1) if len({f[:n] for f in folders}) == 1), 0)
        inner = [split_of(part.names[common:]) for part in parts]
        splits = inner if all(inner) else splits
    unplaced = [part.name for part, split in zip(parts, splits, strict=True) if split is None]
    if unplaced:
        raise DataError(
            f"{source}: cannot tell the split of {_listed(unplaced)}: the names in a path must contain words of "
            f"exactly one split ({', '.join(name for names in SPLIT_NAMES.values() for name in names)}). Choose the "
            f"files, for example with --split train={unplaced[0]}."
        )
    placed: dict[str, list[_Part]] = {}
    for part, split in zip(parts, splits, strict=True):
        placed.setdefault(str(split), []).append(part)
    for split, chosen in placed.items():
        if is_hub and len(chosen) > 1:
            names = [part.name for part in chosen]
            raise DataError(
                f"{source}: {_listed(names)} would all belong to the split {split}; choose one of them, for example "
                f"with --split {split}={names[0]}, or all of them with --split {split}={','.join(names)}."
            )
    return placed


def _chosen(source: str | Path, parts: Sequence[_Part], splits: Mapping[str, Sequence[str]]) -> dict[str, list[_Part]]:
    placed: dict[str, list[_Part]] = {}
    for split, wanted in splits.items():
        for name in wanted:
            found = [part for part in parts if _is_named(part, name)]
            if not found:
                raise DataError(
                    f"{source}: nothing is named {name!r}; the names are {_listed(part.name for part in parts)}."
                )
            placed.setdefault(split, []).extend(part for part in found if part not in placed.get(split, []))
    return placed


def _is_named(part: _Part, name: str) -> bool:
    """Return whether a name identifies a part.

    The name may be the path of the part, its file name, or the path of a folder around it. The path and the file name
    may be without the suffix.
    """
    path = PurePosixPath(part.name)
    wanted = PurePosixPath(name)
    stem = stem_of(path.name)
    own = (path, path.with_name(stem), PurePosixPath(path.name), PurePosixPath(stem))
    return wanted in own or (wanted in path.parents and wanted != PurePosixPath("."))


def _listed(names: Iterable[str]) -> str:
    listed = list(names)
    more = f" and {len(listed) - 5} more" if len(listed) > 5 else ""
    return ", ".join(map(repr, listed[:5])) + more


def _with_distinct_ids(parts: Sequence[_Part]) -> list[Document]:
    """Return the documents of all parts. If an id occurs in several parts, add the path of the part as a prefix."""
    read = [(part, part.read()) for part in parts]
    counts = Counter(identifier for _, items in read for identifier in {document.id for document in items})
    documents = []
    for part, items in read:
        folder = PurePosixPath(*part.names[:-1]).as_posix()
        prefix = stem_of(part.name) if folder == "." else folder
        documents += [
            replace(document, id=f"{prefix}/{document.id}") if counts[document.id] > 1 else document
            for document in items
        ]
    return distinct_ids(documents)
