"""Read the recipes of mixes.

A recipe lists the corpora to train on, their entity types, and how often each corpus is sampled. The module also writes
and reads prepared mixes. A prepared mix is a folder with the tokenised texts of a recipe.
"""

import gzip
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from modeling_binder.finetuning import Corpus, DataError, load_corpus
from modeling_binder.finetuning.counts import aligned_table
from modeling_binder.finetuning.data import (
    EntityType,
    parse_entity_types,
    read_jsonl,
    write_json,
)
from modeling_binder.finetuning.mix import (
    PARTIAL_NEGATIVE_RATE,
    Mix,
    MixPart,
    MixSettings,
    TypedDocuments,
    choose_types,
    restrict,
)
from modeling_binder.finetuning.packed import PackedMix
from modeling_binder.finetuning.type_table import TypeTable
from modeling_binder.finetuning.windows import Loss
from training.arguments import expand

_PART = {
    "corpus", "name", "types", "exclude", "parents", "weight", "share", "named", "partial", "negative_rate", "license",
    "source", "max_documents",
}  # fmt: skip
_DEV = {"corpus", "name", "types", "exclude", "split", "named", "ask", "max_documents"}
ASK = ("name", "description")
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
_HUB = re.compile(rf"hf://datasets/(?P<repository>{_REPOSITORY.pattern})(?:/(?P<configuration>[\w.-]+))?")


@dataclass(frozen=True)
class Folders:
    """Finds the folders of corpora.

    Args:
        data: a folder with the corpora, or the id of a dataset repository on the Hub. The repository must have a folder
            for each corpus, as `hub.push_dataset` writes it. The default is the environment variable BINDER_DATA.
    """

    data: str | None = None

    def find(self, corpus: str) -> Path:
        """Return the folder of a corpus.

        Args:
            corpus: a path relative to `data` or to the current folder. If neither folder exists, only the last
                component of the path is searched for in `data`. For a corpus on the Hub, pass `hf://datasets/user/name`
                or `hf://datasets/user/name/configuration`.

        Raises:
            DataError: no folder was found; the message lists the folders that do not exist.
        """
        if match := _HUB.fullmatch(corpus):
            return self._download(match["repository"], match["configuration"] or "")
        root = expand(self.data) if self.data else os.environ.get("BINDER_DATA")
        own = Path(expand(corpus))
        places = [own]
        if root and not own.is_absolute():
            places = [Path(root) / own, own, Path(root) / own.name]
        found = next((place for place in places if place.is_dir()), None)
        if found is not None:
            return found
        if root and not Path(root).is_dir() and _REPOSITORY.fullmatch(root):
            return self._download(root, own.name)
        raise DataError(
            f"there is no corpus {corpus!r}; none of these folders exists: {', '.join(map(str, places))}. Pass the "
            "folder that contains the corpora, or their dataset repository on the Hub, as --data or as the environment "
            "variable BINDER_DATA."
        )

    def _download(self, repository: str, configuration: str) -> Path:
        """Download the folder `configuration` of a dataset repository. "" means the whole repository."""
        pattern = f"{configuration}/*" if configuration else "*"
        try:
            folder = Path(snapshot_download(repository, repo_type="dataset", allow_patterns=[pattern]))
        except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
            raise DataError(f"{repository}: the dataset repository cannot be downloaded: {error}") from None
        if not (folder / configuration / "types.json").is_file():
            place = f"folder {configuration!r} with types.json" if configuration else "types.json"
            raise DataError(f"{repository}: the dataset repository on the Hub has no {place}.")
        return folder / configuration


def chosen_sets(dev: Mapping[str, TypedDocuments], entries: Sequence[Any]) -> dict[str, TypedDocuments]:
    """Return the prepared development sets that a recipe lists.

    Args:
        dev: all prepared development sets, by name.
        entries: the `dev` list of the recipe.

    Raises:
        DataError: a set in the list was not prepared.
    """
    wanted = [_name(_entry(raw, {}, _DEV, f"dev[{index}]")) for index, raw in enumerate(entries)]
    missing = [name for name in wanted if name not in dev]
    if missing:
        raise DataError(
            f"the development set {missing[0]!r} was not prepared (prepared sets: {', '.join(dev)}); prepare the mix "
            "again."
        )
    return {name: dev[name] for name in wanted}


def _name(entry: Mapping[str, Any]) -> str:
    return str(entry.get("name") or Path(entry["corpus"]).name)


def read_mix(
    entries: Any, defaults: Mapping[str, Any], settings: MixSettings, folders: Folders, source: str = "mix"
) -> Mix:
    """Build a mix from the `mix` list of a recipe.

    Args:
        entries: a list of mappings `{"corpus": folder, ...}` with the keys that `_part` describes. A string is an
            abbreviation of a mapping with only the key `corpus`.
        defaults: values for the keys that an entry leaves out.
        settings: how batches are sampled.
        folders: finds the folders of the corpora.
        source: name of the recipe, for error messages.

    Raises:
        DataError: an entry is malformed, or a corpus cannot be used; the message lists all problems.
    """
    if not isinstance(entries, list) or not entries:
        raise DataError(f"{source}: 'mix' must be a list of corpora, such as - {{corpus: my_corpus, weight: 2}}.")
    parts: list[MixPart] = []
    problems: list[str] = []
    for index, entry in enumerate(entries):
        try:
            parts.append(_part(_entry(entry, defaults, _PART, f"{source}: mix[{index}]"), folders))
        except DataError as error:
            problems += error.problems or (str(error),)
    if problems:
        raise DataError.of(problems)
    return Mix(parts, settings)


def rates(entries: Sequence[Any], defaults: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the settings of each corpus of a recipe, by the name of the corpus, for `PackedMix.configure`."""
    keys: dict[str, dict[str, Any]] = {}
    for index, raw in enumerate(entries):
        entry = _entry(raw, defaults, _PART, f"mix[{index}]")
        if entry.get("partial"):
            entry.setdefault("negative_rate", PARTIAL_NEGATIVE_RATE)
        keys[_name(entry)] = {"weight": 1.0, "share": None, **entry}
    return keys


def with_shares(entries: Sequence[Any], shares: Mapping[str, float]) -> list[dict[str, Any]]:
    """Return the entries of `mix`, with other shares for some corpora.

    Args:
        entries: the value of `mix` in a recipe.
        shares: name of a corpus -> its share of the texts, see `MixPart`.

    Raises:
        DataError: an entry of `mix` is malformed.
        ValueError: `shares` is no mapping, or no entry has the name of a corpus in `shares`.
    """
    if not isinstance(shares, Mapping):
        raise ValueError(f"'shares' must be a mapping from names of corpora to shares, got {shares!r:.60}.")
    mix = [_entry(raw, {}, _PART, f"mix[{index}]") for index, raw in enumerate(entries)]
    if unknown := sorted(set(shares) - set(map(_name, mix))):
        raise ValueError(f"'shares' names {unknown[0]!r}, which is not a corpus of the mix.")
    return [{**entry, "share": shares[_name(entry)]} if _name(entry) in shares else entry for entry in mix]


def _entry(entry: Any, defaults: Mapping[str, Any], known: set[str], where: str) -> dict[str, Any]:
    entry = {"corpus": entry} if isinstance(entry, str) else entry
    if not isinstance(entry, Mapping) or not isinstance(entry.get("corpus"), str):
        raise DataError(f"{where} must be a folder, or a mapping with 'corpus', got {entry!r:.80}.")
    unknown = sorted(set(entry) - known)
    if unknown:
        raise DataError(f"{where} has the unknown key {unknown[0]!r}; the known keys are {', '.join(sorted(known))}.")
    return {**{key: value for key, value in defaults.items() if key in known}, **entry}


def _part(entry: dict[str, Any], folders: Folders) -> MixPart:
    """Load a corpus of a mix.

    Keys of an entry:
        corpus: folder of the corpus.
        name: defaults to the name of the folder.
        types: the labels to train, as a list or as a mapping label -> description. These descriptions replace the
            descriptions in the corpus.
        exclude: labels that are not trained.
        parents: mapping label -> label of its parent.
        max_documents: maximum number of documents of each split.
        weight, share, named, partial, negative_rate, license, source: see `MixPart`.
    """
    name, corpus = _load(entry, folders)
    types, exclude, parents = entry.pop("types", None), entry.pop("exclude", ()), entry.pop("parents", {})
    labels = types if types is None else list(types)
    return MixPart.of(name, corpus, types=labels, exclude=exclude, parents=parents, **entry)


def _load(entry: dict[str, Any], folders: Folders) -> tuple[str, Corpus]:
    name, folder = _name(entry), folders.find(entry.pop("corpus"))
    entry.pop("name", None)
    corpus = _cut(load_corpus(folder), entry.pop("max_documents", None))
    if isinstance(entry.get("types"), Mapping):
        known = {entity_type.name: entity_type for entity_type in corpus.types}
        unknown = [label for label in entry["types"] if label not in known]
        if unknown:
            raise DataError(f"{name}: 'types' lists {unknown[0]!r}, which is not a type of this corpus.")
        described = {label: {"description": list(kind.phrasings)} for label, kind in known.items()}
        described |= {label: {"description": text} for label, text in entry["types"].items()}
        types = tuple(parse_entity_types(described, f"{name}: types"))
        types = tuple(replace(kind, parent=known[kind.name].parent) for kind in types)
        corpus = replace(corpus, entity_types={kind.name: kind.description for kind in types}, types=types)
    return name, corpus


def _cut(corpus: Corpus, most: int | None) -> Corpus:
    if most is None:
        return corpus
    # Files are often sorted by source. So keep every n-th document instead of the first documents.
    splits = {}
    for split in ("train", "dev", "test"):
        documents = getattr(corpus, split)
        step = max(1, -(-len(documents) // most))
        splits[split] = documents[::step]
    return replace(corpus, **splits)


def read_dev(
    entries: Sequence[Any], defaults: Mapping[str, Any], folders: Folders, source: str = "dev"
) -> dict[str, TypedDocuments]:
    """Read the development sets of a recipe. Each set has its own entity types.

    Keys of an entry:
        corpus, name, types, exclude, max_documents: as in a mix, see `_part`.
        named: whether the first phrasing of each type begins with its name, see `MixPart`.
        split: the split to evaluate on. The default is "dev".
        ask: which text describes a type to the model: "name" (the default) or "description".

    Raises:
        DataError: an entry is malformed, or a corpus cannot be used.
    """
    sets: dict[str, TypedDocuments] = {}
    for index, raw in enumerate(entries):
        entry = _entry(raw, defaults, _DEV, f"{source}: dev[{index}]")
        split, ask, named = entry.pop("split", "dev"), entry.pop("ask", "name"), entry.pop("named", False)
        name, corpus = _load(entry, folders)
        labels = entry.get("types")
        types = choose_types(
            name, corpus.types, labels if labels is None else list(labels), entry.get("exclude", ()), {}
        )
        documents = getattr(corpus, split, None)
        if not documents:
            raise DataError(
                f"{name}: the corpus has no documents in the split {split!r}; 'split' can be train, dev or test."
            )
        if ask not in ASK:
            raise DataError(f"{name}: ask must be {' or '.join(ASK)}, got {ask!r}.")
        if name in sets:
            raise DataError(f"'dev' lists two sets with the name {name!r}; give one of them another 'name'.")
        documents = restrict(documents, types)
        if all(document.types is not None for document in documents):
            asked = {label for document in documents for label in document.types or ()}
            types = tuple(replace(kind, parent=None) for kind in types if kind.name in asked)
        sets[name] = TypedDocuments(documents, as_asked(types, named, ask))
    return sets


def as_asked(types: Sequence[EntityType], named: bool, ask: str) -> tuple[EntityType, ...]:
    """Return the types with one phrasing each, which is the text for the model.

    Args:
        types: the types, with all their phrasings.
        named: whether the phrasings begin with the name of the type, see `MixPart`.
        ask: "name" selects the name, and "description" selects a description without the name. If several types have
            the same name, "name" selects "name: description" for these types, to distinguish them.
    """
    table = TypeTable([(types, named)])
    asked = []
    for index, entity_type in enumerate(types):
        texts = [table.texts[phrasing] for phrasing in table.phrasings[table.first[index] : table.first[index + 1]]]
        if ask == "description":
            text = texts[1 + len(texts) // 2] if len(texts) > 1 else texts[0]
        else:
            text = texts[0] if table.names.count(texts[0]) == 1 else texts[1]
        asked.append(replace(entity_type, phrasings=(text,)))
    return tuple(asked)


def save_prepared(folder: Path, mix: PackedMix, dev: Mapping[str, TypedDocuments]) -> None:
    """Write a tokenised mix and its development sets into a folder. Training from it does not need the corpora."""
    (folder / "dev.json").unlink(missing_ok=True)  # written last, when everything is complete
    mix.save(folder)
    for name, documents in dev.items():
        path = folder / "dev" / name
        path.mkdir(parents=True, exist_ok=True)
        lines = "".join(json.dumps(d.to_dict(), ensure_ascii=False) + "\n" for d in documents.documents)
        (path / "dev.jsonl.gz").write_bytes(gzip.compress(lines.encode(), mtime=0))
        write_json(path / "types.json", [[kind.name, list(kind.phrasings), kind.parent] for kind in documents.types])
    write_json(folder / "dev.json", list(dev))


def load_prepared(folder: Path) -> tuple[PackedMix, dict[str, TypedDocuments]]:
    """Read the mix and the development sets that `save_prepared` wrote."""
    mix = PackedMix.load(folder)
    if not (folder / "dev.json").is_file():
        raise DataError(f"{folder}: the development sets are incomplete (no dev.json); prepare the mix again.")
    dev: dict[str, TypedDocuments] = {}
    for name in json.loads((folder / "dev.json").read_text(encoding="utf-8")):
        path = folder / "dev" / name
        rows = json.loads((path / "types.json").read_text(encoding="utf-8"))
        types = tuple(EntityType(label, tuple(phrasings), parent) for label, phrasings, parent in rows)
        dev[name] = TypedDocuments(read_jsonl(path / "dev.jsonl.gz"), types)
    return mix, dev


def report_table(mix: PackedMix) -> str:
    """Return a table of the corpora in a mix, for the terminal.

    The columns are the sizes of each corpus, its share of the sampled windows, and the numbers of mentions that cannot
    be trained. These mentions are wider than the maximum span width ("too wide"), or they are lost for another reason
    ("other lost").
    """
    report = mix.report()
    rows = [["corpus", "documents", "windows", "mentions", "types", "drawn", "too wide", "other lost"]]
    for part in report:
        lost = part.get("lost", {})
        wide = lost.get(Loss.SPAN_WIDTH.value, 0)
        counts = [part["documents"], part["windows"], part["mentions"], part["types"]]
        other = sum(lost.values()) - wide
        rows.append([part["name"], *(f"{n:,}" for n in counts), f"{part['drawn']:.1%}", f"{wide:,}", f"{other:,}"])
    total = [sum(part[key] for part in report) for key in ("documents", "windows", "mentions", "types")]
    rows.append(["all", *(f"{n:,}" for n in total), "", "", ""])
    return aligned_table(rows)
