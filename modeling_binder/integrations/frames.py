"""Return entities as a data frame of pandas or polars. Users call the method `to_frame` of the pipeline."""

import importlib.util
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

LIBRARIES = ("pandas", "polars")


def to_frame(ner: Any, texts: Iterable[Any], library: str | None = None, **arguments: Any) -> Any:
    """Find the entities of texts, and return a data frame with one row per entity.

    Args:
        ner: a `BinderNerPipeline`.
        texts, library, arguments: see `to_frame` of the pipeline.

    Raises:
        ImportError: the library is not installed.
        ValueError: an input or an argument is invalid, or the index of a pandas Series has duplicates.
    """
    source = _library_of(texts)
    library = library or source or "pandas"
    if library not in LIBRARIES:
        raise ValueError(f"library must be one of {', '.join(map(repr, LIBRARIES))}, got {library!r}.")
    module = _imported(library)
    if isinstance(texts, str):
        raise ValueError(f"to_frame needs several texts, got one: {texts!r:.80}. Pass a list, as in to_frame([text]).")
    if not isinstance(texts, Iterable):
        raise ValueError(f"to_frame needs several texts, got {texts!r:.80}. Pass a list, as in to_frame([text]).")
    if source == "pandas" and not texts.index.is_unique:  # type: ignore[attr-defined]
        value = texts.index[texts.index.duplicated()].tolist()[0]  # type: ignore[attr-defined]
        raise ValueError(
            f"the index of the Series has the value {value!r:.80} more than once, so text_id would be ambiguous: "
            "call df = df.reset_index(drop=True) first."
        )
    positions: list[int] = []
    present = _present(texts, positions)
    rows: list[int] = []
    columns: dict[str, list[Any]] = {name: [] for name in ("start", "end", "word", "entity_group", "score")}
    # The pipeline reads texts ahead. So `positions` may have more entries than there are results so far.
    for number, entities in enumerate(ner(present, **arguments)):
        rows += [positions[number]] * len(entities)
        for name, values in columns.items():
            values += [entity[name] for entity in entities]
    columns = {"label" if name == "entity_group" else name: values for name, values in columns.items()}
    index = texts.index if source == "pandas" else None  # type: ignore[attr-defined]
    return (_to_pandas if library == "pandas" else _to_polars)(module, rows, index, columns)


def _library_of(texts: Any) -> str | None:
    """Return the library of a Series, or None for other iterables.

    Raises:
        ValueError: `texts` is a whole table.
    """
    for library in LIBRARIES:
        module = sys.modules.get(library)
        if module is None:
            continue
        tables = [getattr(module, name) for name in ("DataFrame", "LazyFrame") if hasattr(module, name)]
        if isinstance(texts, tuple(tables)):
            raise ValueError(
                f"expected texts, got a {type(texts).__name__}: pass a column, as in to_frame(df['text'])."
            )
        if isinstance(texts, module.Series):
            return library
    return None


def _imported(library: str) -> Any:
    try:
        return importlib.import_module(library)
    except ImportError:
        other = "polars" if library == "pandas" else "pandas"
        hint = f", or use to_frame(texts, library={other!r})" if importlib.util.find_spec(other) else ""
        raise ImportError(f"to_frame needs {library}, which is not installed: pip install {library}{hint}.") from None


def _present(texts: Iterable[Any], positions: list[int]) -> Iterator[Any]:
    """Yield the texts that are not missing, and append the position of each yielded text to `positions`."""
    for position, text in enumerate(texts):
        if not _is_missing(text):
            positions.append(position)
            yield text


def _is_missing(value: Any) -> bool:
    """Return whether a value is None, NaN, NaT or NA."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, float) and value != value  # only NaN is not equal to itself


def _to_pandas(pandas: Any, rows: list[int], index: Any, columns: dict[str, list[Any]]) -> Any:
    positions = np.array(rows, dtype=np.int64)
    ids = pandas.Series(positions if index is None else index.take(positions).to_flat_index())
    dtypes = {"start": "int64", "end": "int64", "word": "str", "label": "str", "score": "float64"}
    series = {name: pandas.Series(values, dtype=dtypes[name]) for name, values in columns.items()}
    return pandas.DataFrame({"text_id": ids, **series})


def _to_polars(polars: Any, rows: list[int], index: Any, columns: dict[str, list[Any]]) -> Any:
    if index is None:  # use the type of DataFrame.with_row_index, because polars joins only columns of equal types
        ids = polars.Series("text_id", rows, dtype=polars.get_index_type())
    else:
        ids = polars.Series("text_id", index.take(np.array(rows, dtype=np.int64)).to_list())
    types = {"start": polars.Int64, "end": polars.Int64, "word": polars.String}
    types |= {"label": polars.String, "score": polars.Float64}
    return polars.DataFrame([ids, *(polars.Series(name, columns[name], dtype=types[name]) for name in columns)])
