"""Results of the pipeline for notebooks, tables and datasets.

This file is copied to the Hub with a checkpoint. Code for drawings and for other libraries is in the package
modeling_binder, which is optional here. So the package is imported only when a method needs it.
"""

from collections.abc import Iterable, Sequence
from typing import Any


class Entities(list[dict[str, Any]]):
    """The entities of a text: a list of dictionaries, which a notebook shows as a drawing.

    This list is equal to a plain list with the same entities, and `json` writes it as a list. Copies and pickled copies
    are plain lists.

    Args:
        text: the text.
        labels: names of all entity types of the call, whose order determines the colours.
        entities: the entities.
    """

    __slots__ = ("labels", "text")

    def __init__(self, text: str, labels: Sequence[str], entities: Iterable[dict[str, Any]] = ()) -> None:
        super().__init__(entities)
        self.text, self.labels = text, labels

    def __reduce__(self) -> tuple[Any, ...]:
        # Pickle a plain list, because in another process the module of this class may be missing or have another name.
        return list, (list(self),)

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return self.__reduce__()

    def _repr_html_(self) -> str | None:
        """Return a drawing for notebooks. Without the package, return None, and the notebook prints the list."""
        try:
            from modeling_binder.drawing.notebook import draw
        except ImportError:
            return None
        return draw(self)._repr_html_()


class ResultFormats:
    """Methods of the pipeline that return results as tables of other libraries."""

    def to_frame(self, texts: Iterable[Any], library: str | None = None, **arguments: Any) -> Any:
        """Find the entities of texts, and return a pandas or polars data frame with one row per entity.

        Example:
            >>> found = ner.to_frame(frame["text"])  # doctest: +SKIP
            >>> frame.merge(found, left_index=True, right_on="text_id", how="left")  # doctest: +SKIP

        Args:
            texts: an iterable of texts: a list, a generator, a pandas or polars Series. A missing text (None, NaN or
                NA) has no entities.
            library: "pandas" or "polars". Defaults to the library of the Series `texts`, otherwise to "pandas".
            arguments: arguments of a call, see the class of the pipeline.

        Returns:
            A data frame with the columns `text_id`, `start`, `end`, `word`, `label` and `score`. `text_id` is the
            position of the text, from 0. For a pandas Series, it is the index label of the text. Texts without entities
            have no rows. The left join in the example keeps these texts.

        Raises:
            ImportError: the library, or the package binder-ner, is not installed.
            ValueError: an input or an argument is invalid.
        """
        try:
            from modeling_binder.integrations.frames import to_frame
        except ImportError as error:
            raise _missing("to_frame", error) from None
        return to_frame(self, texts, library, **arguments)

    def as_map(self, text_column: str = "text", entities_column: str = "entities", **arguments: Any) -> Any:
        """Return a function for `Dataset.map` of Hugging Face datasets, which adds a column of entities.

        Example:
            >>> dataset = dataset.map(ner.as_map("text"), batched=True)  # doctest: +SKIP

        Args:
            text_column: name of the column of texts.
            entities_column: name of the new column, with lists of `{"start", "end", "label", "score", "word"}`, as
                `binder-ner annotate` writes them. If a text is null, its entities are null.
            arguments: arguments of a call, see the class of the pipeline.

        Raises:
            ImportError: the library datasets, or the package binder-ner, is not installed.
            ValueError: an argument is invalid.
        """
        try:
            from modeling_binder.integrations.dataset_map import EntityMap
        except ImportError as error:
            raise _missing("as_map", error) from None
        return EntityMap(self, text_column, entities_column, arguments)


def _missing(method: str, error: ImportError) -> ImportError:
    if (error.name or "").partition(".")[0] == "modeling_binder":  # the package is not installed
        return ImportError(f"{method} needs the package: pip install git+https://github.com/binder-ner/binder-ner")
    library = "datasets" if method == "as_map" else error.name  # datasets also installs pyarrow, which as_map needs
    return ImportError(f"{method} needs {library}, which is not installed: pip install {library}")
