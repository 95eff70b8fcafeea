"""Push corpora to the Hub: write the files and the card of a dataset repository."""

import json
import logging
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import CommitInfo

from hub_cards.dataset_card import CorpusEntry, collection_card, dataset_card
from hub_cards.licenses import license_ids

from ..finetuning.corpus import Corpus
from ..finetuning.counts import count_documents
from ..finetuning.data import Document, as_mapping, write_json, written_whole
from ..finetuning.mix import Mix
from ..finetuning.splits import SPLIT_NAMES
from .repository import check_access, hub_api, push_files

logger = logging.getLogger(__name__)

# Patterns for files of an earlier push. A new push replaces or removes these files.
_STALE_FILES = [
    f"{folder}{name}"
    for folder in ("", "*/")
    for name in ("types.json", *(f"{split}.jsonl{gz}" for split in SPLIT_NAMES for gz in ("", ".gz")))
]

CHANGES = (
    "converted to JSON lines with character offsets; the descriptions of the entity types were written for this copy."
)


def push_dataset(
    corpus: Corpus | Mix | Mapping[str, Corpus],
    repo_id: str,
    *,
    language: str | Sequence[str] | None = None,
    license: str | None = None,
    description: str = "",
    origins: Mapping[str, Mapping[str, str]] | None = None,
    private: bool | None = None,
    token: str | bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    commit_message: str | None = None,
    commit_description: str | None = None,
) -> CommitInfo:
    """Push one or more corpora, with entity types and a card, in one commit.

    `datasets.load_dataset(repo_id)` loads a single corpus. If you push a mix or a dictionary of corpora, each corpus
    becomes a configuration of the dataset, and `load_dataset(repo_id, name)` loads it. If the licence of one of these
    corpora does not clearly allow a published copy, the corpus is not pushed. The card lists the missing corpora.

    Args:
        corpus: a corpus, a mix of corpora, or a dictionary name -> corpus. Of a mix, only the training documents are
            pushed. Splits without documents are left out.
        repo_id: "user/name" of the dataset. The repository is created if it does not exist.
        language: language for the card, or a list of languages.
        license: licence for the card of a single corpus.
        description: text for the card.
        origins: facts about several corpora for the card, name -> {"license", "source", "changes"}. For a mix, licence
            and source default to the facts in the mix.
        private, token, revision, create_pr, commit_message, commit_description: see `push_model`.

    Raises:
        PushError: the push failed, and nothing was changed on the Hub.
        ValueError: there are no documents, no licence allows the publication, or a corpus has a name that cannot be
            the name of a folder.
    """
    if isinstance(corpus, Mix):
        stated = {part.name: {"license": part.license or "", "source": part.source or ""} for part in corpus.parts}
        origins = {name: {**origin, **(origins or {}).get(name, {})} for name, origin in stated.items()}
        corpus = {part.name: _corpus_of(part) for part in corpus.parts}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if isinstance(corpus, Mapping):
            entries, left_out = _split_by_license(corpus, origins or {})
            repo_id = check_access(repo_id, token, write=not create_pr)
            for name in entries:
                _write(corpus[name], folder / name, ".jsonl.gz")
            card = collection_card(repo_id, entries, left_out, language, description)
        else:
            entry = _entry(corpus, {})
            repo_id = check_access(repo_id, token, write=not create_pr)
            _write(corpus, folder, ".jsonl")
            card = dataset_card(
                repo_id, entry.entity_types, entry.counts, language, license, description, entry.own_types
            )
        (folder / "README.md").write_text(str(card), encoding="utf-8")
        return push_files(
            folder,
            repo_id,
            api=hub_api(token),
            repo_type="dataset",
            stale=_STALE_FILES,
            private=private,
            revision=revision,
            create_pr=create_pr,
            commit_message=commit_message or "Upload corpus",
            commit_description=commit_description,
        )


def _corpus_of(part: Any) -> Corpus:
    types = {entity_type.name: entity_type.description for entity_type in part.types}
    return Corpus(entity_types=types, train=list(part.documents), dev=[], test=[], types=part.types)


def _split_by_license(
    corpora: Mapping[str, Corpus], origins: Mapping[str, Mapping[str, str]]
) -> tuple[dict[str, CorpusEntry], list[list[str]]]:
    """Return the corpora that may be published, and the name, licence and source of each other corpus."""
    entries: dict[str, CorpusEntry] = {}
    left_out: list[list[str]] = []
    for name, corpus in corpora.items():
        origin = origins.get(name, {})
        if not re.fullmatch(r"\w[\w.-]*", name):
            raise ValueError(f"the corpus {name!r} needs another name: letters, digits, '_', '-' and '.' only.")
        if license_ids(origin.get("license")):
            entries[name] = _entry(corpus, origin)
        else:
            left_out.append([name, origin.get("license") or "not stated", origin.get("source") or "not stated"])
    if left_out:
        logger.warning(
            "These corpora are left out, because their licences do not clearly allow a published copy: %s. If the "
            "licence of a corpus allows a copy, pass the licence as in origins={%r: {'license': 'CC BY 4.0'}}.",
            ", ".join(name for name, *_ in left_out),
            left_out[0][0],
        )
    if not entries:
        raise ValueError(
            "no corpus has a licence that allows a published copy: pass the licences, as in "
            "origins={'news': {'license': 'CC BY 4.0', 'source': 'https://...'}}."
        )
    return entries, left_out


def _entry(corpus: Corpus, origin: Mapping[str, str]) -> CorpusEntry:
    splits = _splits(corpus)
    if not splits:
        raise ValueError("the corpus has no documents: there is nothing to push.")
    return CorpusEntry(
        entity_types=corpus.entity_types,
        counts={name: count_documents(documents, corpus.entity_types) for name, documents in splits.items()},
        own_types=any(document.types is not None for documents in splits.values() for document in documents),
        license=origin.get("license"),
        source=origin.get("source"),
        changes=origin.get("changes", CHANGES),
    )


def _splits(corpus: Corpus) -> dict[str, list[Document]]:
    return {name: getattr(corpus, name) for name in SPLIT_NAMES if getattr(corpus, name)}


def _write(corpus: Corpus, folder: Path, suffix: str) -> None:
    """Write the splits and the entity types of a corpus.

    `load_dataset` expects the same keys in all lines. So if one document has an optional key, all lines get this key.
    """
    splits = {name: [document.to_dict() for document in documents] for name, documents in _splits(corpus).items()}
    keys = list(dict.fromkeys(key for lines in splits.values() for line in lines for key in line))
    for name, lines in splits.items():
        with written_whole(folder / f"{name}{suffix}") as file:
            for line in lines:
                file.write(json.dumps({key: line.get(key) for key in keys}, ensure_ascii=False) + "\n")
    write_json(folder / "types.json", as_mapping(corpus.types))
