"""The dataset card: a corpus in our JSONL format, with its types, as the Hub and `load_dataset` read it."""

from collections.abc import Mapping, Sequence
from typing import Any

from huggingface_hub import DatasetCard, DatasetCardData

from .markdown import environment

# The Hub's names of our splits
SPLITS = {"train": "train", "dev": "validation", "test": "test"}
MAX_TYPES_SHOWN = 100
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def dataset_card(
    repo_id: str,
    entity_types: Mapping[str, str],
    counts: Mapping[str, Mapping[str, Any]],
    language: str | Sequence[str] | None = None,
    license: str | None = None,
    description: str = "",
    own_types: bool = False,
) -> DatasetCard:
    """The README.md of a dataset repository.

    Args:
        repo_id: "user/name".
        entity_types: name -> description.
        counts: split ("train", "dev", "test") -> {"documents", "nested", "mentions": {type: count}}; splits that the
            repository holds, in order.
        language, license: what the author says of the corpus; left out where nothing was said.
        description: a paragraph on where the corpus is from.
        own_types: whether documents name the types that were looked for in them.
    """
    documents = sum(split["documents"] for split in counts.values())
    data = DatasetCardData(
        language=[language] if isinstance(language, str) else list(language) if language else None,
        license=license or None,
        task_categories=["token-classification"],
        task_ids=["named-entity-recognition"],
        pretty_name=repo_id.split("/")[-1],
        size_categories=[next((name for size, name in _SIZES if documents < size), "n>1M")],
        tags=["binder-ner"],
        configs=[
            {
                "config_name": "default",
                "data_files": [{"split": SPLITS[split], "path": f"{split}.jsonl"} for split in counts],
            }
        ],
    )
    rows = [["documents", *(f"{split['documents']:,}" for split in counts.values())]]
    rows.append(["mentions", *(f"{sum(split['mentions'].values()):,}" for split in counts.values())])
    shown = _most_frequent(entity_types, counts)
    rows += [[f"– {label}", *(f"{split['mentions'][label]:,}" for split in counts.values())] for label in shown]
    rows.append(["nested mentions", *(f"{split['nested']:,}" for split in counts.values())])
    page = (
        environment()
        .get_template("dataset_card.md")
        .render(
            metadata=data.to_yaml().strip(),
            repo_id=repo_id,
            types=[(label, entity_types[label]) for label in shown],
            hidden=len(entity_types) - len(shown),
            own_types=own_types,
            splits=[SPLITS[split] for split in counts],
            rows=rows,
            license=license,
            description=description,
        )
    )
    return DatasetCard(page)


def _most_frequent(entity_types: Mapping[str, str], counts: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The types that the card shows: all, or those with most mentions if they are too many for a page."""
    if len(entity_types) <= MAX_TYPES_SHOWN:
        return list(entity_types)
    totals = {label: sum(split["mentions"][label] for split in counts.values()) for label in entity_types}
    return sorted(totals, key=lambda label: (-totals[label], label))[:MAX_TYPES_SHOWN]
