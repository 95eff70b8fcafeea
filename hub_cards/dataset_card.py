"""Build dataset cards: metadata from which the Hub and `load_dataset` read the corpora, and a page for readers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from huggingface_hub import DatasetCard, DatasetCardData

from .counts import HUB_SPLITS, count_rows, shown_types
from .licenses import license_ids
from .markdown import environment

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


@dataclass(frozen=True)
class CorpusEntry:
    """A corpus on a dataset card.

    Args:
        entity_types: the name and the description of each entity type.
        counts: a mapping from each split ("train", "dev", "test", in this order) to its counts: "documents", "nested"
            (number of nested mentions) and "mentions" (label -> number of mentions).
        own_types: whether documents list the types for which they were annotated.
        license: the licence as stated by the source. `None` means that the licence is unknown.
        source: the origin of the corpus, such as an address.
        changes: the changes that were made to the original corpus.
    """

    entity_types: Mapping[str, str]
    counts: Mapping[str, Mapping[str, Any]]
    own_types: bool = False
    license: str | None = None
    source: str | None = None
    changes: str | None = None

    @property
    def documents(self) -> int:
        """Number of documents in all splits."""
        return sum(split["documents"] for split in self.counts.values())

    @property
    def mentions(self) -> int:
        """Number of mentions in all splits."""
        return sum(sum(split["mentions"].values()) for split in self.counts.values())

    def data_files(self, folder: str = "", suffix: str = ".jsonl") -> list[dict[str, str]]:
        """Return the files of the splits in the format of the metadata of a dataset card."""
        prefix = f"{folder}/" if folder else ""
        return [{"split": HUB_SPLITS[split], "path": f"{prefix}{split}{suffix}"} for split in self.counts]


def dataset_card(
    repo_id: str,
    entity_types: Mapping[str, str],
    counts: Mapping[str, Mapping[str, Any]],
    language: str | Sequence[str] | None = None,
    license: str | None = None,
    description: str = "",
    own_types: bool = False,
) -> DatasetCard:
    """Return the README.md of a dataset repository that contains one corpus.

    Args:
        repo_id: "user/name".
        entity_types, counts, own_types: see `CorpusEntry`.
        language, license: language codes and licence as stated by the author. With `None`, the card omits them.
        description: a paragraph about the origin of the corpus.
    """
    corpus = CorpusEntry(entity_types, counts, own_types)
    configs = [{"config_name": "default", "data_files": corpus.data_files()}]
    shown = shown_types(list(entity_types), counts)
    return _card(
        "dataset_card.md",
        _metadata(repo_id, corpus.documents, configs, language, license),
        repo_id=repo_id,
        types=[(label, entity_types[label]) for label in shown],
        hidden=len(entity_types) - len(shown),
        own_types=own_types,
        splits=[HUB_SPLITS[split] for split in counts],
        rows=count_rows(counts, shown),
        license=license,
        description=description,
    )


def collection_card(
    repo_id: str,
    corpora: Mapping[str, CorpusEntry],
    left_out: Sequence[Sequence[str]] = (),
    language: str | Sequence[str] | None = None,
    description: str = "",
) -> DatasetCard:
    """Return the README.md of a dataset repository that contains several corpora, each as a separate configuration.

    Args:
        repo_id: "user/name".
        corpora: a mapping from the name of each corpus to its entry; the name is also the folder with its files.
        left_out: name, licence and source of each corpus that may not be published.
        language: language codes as stated by the author. With `None`, the card omits the language.
        description: a paragraph about the collection.
    """
    configs = [
        {"config_name": name, "data_files": corpus.data_files(name, ".jsonl.gz")} for name, corpus in corpora.items()
    ]
    licenses = list(dict.fromkeys(id for corpus in corpora.values() for id in license_ids(corpus.license)))
    documents = sum(corpus.documents for corpus in corpora.values())
    rows = [
        [name, f"{corpus.documents:,}", f"{corpus.mentions:,}", f"{len(corpus.entity_types):,}", corpus.license or ""]
        for name, corpus in corpora.items()
    ]
    return _card(
        "collection_card.md",
        _metadata(repo_id, documents, configs, language, licenses),
        repo_id=repo_id,
        first=next(iter(corpora)),
        corpora=list(corpora.items()),
        rows=rows,
        left_out=list(left_out),
        own_types=any(corpus.own_types for corpus in corpora.values()),
        description=description,
    )


def _metadata(
    repo_id: str, documents: int, configs: list[dict[str, Any]], language: str | Sequence[str] | None, license: Any
) -> DatasetCardData:
    return DatasetCardData(
        language=[language] if isinstance(language, str) else list(language) if language else None,
        license=license or None,
        task_categories=["token-classification"],
        task_ids=["named-entity-recognition"],
        pretty_name=repo_id.split("/")[-1],
        size_categories=[next((name for size, name in _SIZES if documents < size), "n>1M")],
        tags=["binder-ner"],
        configs=configs,
    )


def _card(template: str, metadata: DatasetCardData, **values: Any) -> DatasetCard:
    page = environment().get_template(template).render(metadata=metadata.to_yaml().strip(), **values)
    return DatasetCard(page)
