"""Read datasets with columns of tokens and tags, from the Hub or a folder, with the package `datasets`."""

from collections.abc import Sequence
from typing import Any

from ..data import Document
from ..errors import DataError
from ..iob import documents_from_words


def read_hub_dataset(
    name: str, config: str | None = None, token_column: str = "tokens", tag_column: str = "ner_tags"
) -> dict[str, list[Document]]:
    """Read the splits of a dataset: name of each split in the dataset -> its documents.

    Args:
        name: id of the dataset on the Hub, or a folder.
        config: name of the configuration. It is required if the dataset has several configurations.
        token_column, tag_column: names of the columns with the tokens and with their tags.

    Raises:
        DataError: the dataset cannot be loaded, `config` is missing, a column is missing, or a tag is a number without
            a class name.
        ModuleNotFoundError: datasets is not installed.
    """
    try:
        from datasets import load_dataset
    except ModuleNotFoundError:
        raise ModuleNotFoundError("the package datasets is not installed: pip install datasets") from None
    try:
        loaded = load_dataset(name, config)
    except Exception as error:  # the errors of datasets, huggingface_hub and pyarrow have many classes
        several = "Config name is missing" in str(error)
        advice = " Choose one with config=... (--config)." if several or "BuilderConfig" in str(error) else ""
        raise DataError(f"{name}: the dataset cannot be loaded: {str(error).strip():.600}{advice}") from None
    splits = {}
    for split, rows in loaded.items():
        missing = [column for column in (token_column, tag_column) if column not in rows.column_names]
        if missing:
            raise DataError(
                f"{name}: the split {split} has no column {missing[0]!r}; its columns are "
                f"{', '.join(rows.column_names)}. Choose the columns of tokens and tags with "
                "--token-column and --tag-column."
            )
        names = getattr(getattr(rows.features[tag_column], "feature", None), "names", None)
        tags = [_names(row, names, f"{name}: {split}, row {number}") for number, row in enumerate(rows[tag_column])]
        try:
            splits[str(split)] = documents_from_words([row or [] for row in rows[token_column]], tags)
        except DataError as error:
            raise DataError(f"{name}: {split}, {error}") from None
    return splits


def _names(tags: Sequence[Any] | None, names: Sequence[str] | None, where: str) -> list[Any]:
    """Convert class numbers into the names of tags. If the dataset has no class names, return the tags unchanged."""
    if names is None:
        return list(tags or [])
    for tag in tags or []:
        if not isinstance(tag, int) or not 0 <= tag < len(names):
            raise DataError(f"{where}: {tag!r} is not the number of a tag; expected 0 to {len(names) - 1}.")
    return [names[tag] for tag in tags or []]
