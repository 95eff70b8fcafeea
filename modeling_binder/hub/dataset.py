"""Corpora on the Hub: the files and the card of a dataset repository."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import CommitInfo

import hub_cards

from ..finetuning.counts import count_documents
from ..finetuning.data import as_mapping, write_json, write_jsonl
from .repository import check_access, hub_api, push_files


def push_dataset(
    corpus: Any,
    repo_id: str,
    *,
    language: str | Sequence[str] | None = None,
    license: str | None = None,
    description: str = "",
    private: bool | None = None,
    token: str | bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    commit_message: str | None = None,
    commit_description: str | None = None,
) -> CommitInfo:
    """Push a corpus with its types and a card in one commit; `datasets.load_dataset(repo_id)` reads it.

    Args:
        corpus: a `finetuning.Corpus`; splits without documents are left out.
        repo_id: "user/name" of the dataset, created if it does not exist.
        language, license, description: shown on the card.
        private, token, revision, create_pr, commit_message, commit_description: as in `push_model`.

    Raises:
        PushError: nothing was changed on the Hub; the message gives the reason and the remedy.
        ValueError: the corpus has no documents.
    """
    splits = {name: getattr(corpus, name) for name in ("train", "dev", "test") if getattr(corpus, name)}
    if not splits:
        raise ValueError("the corpus has no documents: there is nothing to push.")
    counts = {name: count_documents(documents, corpus.entity_types) for name, documents in splits.items()}
    repo_id = check_access(repo_id, token, write=not create_pr)
    with tempfile.TemporaryDirectory() as folder:
        for name, documents in splits.items():
            write_jsonl(Path(folder, f"{name}.jsonl"), documents)
        write_json(Path(folder, "types.json"), as_mapping(corpus.types))
        own_types = any(document.types is not None for documents in splits.values() for document in documents)
        card = hub_cards.dataset_card(
            repo_id, corpus.entity_types, counts, language, license, description, own_types=own_types
        )
        Path(folder, "README.md").write_text(str(card), encoding="utf-8")
        return push_files(
            folder,
            repo_id,
            api=hub_api(token),
            repo_type="dataset",
            private=private,
            revision=revision,
            create_pr=create_pr,
            commit_message=commit_message or "Upload corpus",
            commit_description=commit_description,
        )
