"""Tests of `to_frame`, which returns the entities as a data frame of pandas or polars."""

import sys

import numpy as np
import pandas as pd
import polars as pl
import pytest

from tests.tiny import build_pipeline

TEXTS = ["the IL-2 gene", "", "cells of the gene", "of"]
COLUMNS = ["text_id", "start", "end", "word", "label", "score"]


@pytest.fixture(scope="module")
def ner():
    return build_pipeline()


def expected_rows(ner, texts, ids, **arguments):
    """Return the rows that the data frame must have."""
    return [
        (id, entity["start"], entity["end"], entity["word"], entity["entity_group"], entity["score"])
        for id, text in zip(ids, texts, strict=True)
        for entity in ner(text, **arguments)
    ]


def rows_of(frame):
    """Return the rows of a data frame. Their scores are compared up to rounding."""
    rows = frame.itertuples(index=False, name=None) if isinstance(frame, pd.DataFrame) else frame.iter_rows()
    return [(*row[:5], pytest.approx(row[5], abs=1e-5)) for row in rows]


@pytest.mark.parametrize(
    "texts", [TEXTS, tuple(TEXTS), np.array(TEXTS), iter(TEXTS)], ids=lambda texts: type(texts).__name__
)
def test_the_frame_has_a_row_for_each_entity(ner, texts):
    frame = ner.to_frame(texts, threshold=0.7)
    assert isinstance(frame, pd.DataFrame) and list(frame.columns) == COLUMNS
    rows = expected_rows(ner, TEXTS, range(4), threshold=0.7)
    assert rows == rows_of(frame) and rows and {row[0] for row in rows} < {0, 1, 2, 3}
    assert frame["start"].dtype == frame["end"].dtype == frame["text_id"].dtype == "int64"
    assert pd.api.types.is_string_dtype(frame["word"]) and frame["score"].dtype == "float64"


def test_the_index_of_a_pandas_series_is_kept_and_a_left_join_keeps_every_text(ner):
    table = pd.DataFrame({"body": TEXTS, "year": [1, 2, 3, 4]}, index=["a", "b", "c", "d"])
    found = ner.to_frame(table["body"])
    assert rows_of(found) == expected_rows(ner, TEXTS, "abcd")
    joined = table.merge(found, left_index=True, right_on="text_id", how="left")
    assert set(joined["year"]) == {1, 2, 3, 4}
    assert joined.loc[joined["year"] == 2, "label"].isna().all()


@pytest.mark.parametrize(
    "index",
    [pd.MultiIndex.from_tuples([("x", 1), ("x", 2), ("y", 1), ("y", 2)]), pd.date_range("2026-01-01", periods=4)],
    ids=["MultiIndex", "DatetimeIndex"],
)
def test_multi_indexes_and_date_indexes_are_kept(ner, index):
    found = ner.to_frame(pd.Series(TEXTS, index=index))
    assert [row[:4] for row in rows_of(found)] == [row[:4] for row in expected_rows(ner, TEXTS, index)]


def test_a_polars_series_gives_a_polars_frame_with_row_numbers(ner):
    table = pl.DataFrame({"body": TEXTS})
    found = ner.to_frame(table["body"])
    assert isinstance(found, pl.DataFrame) and found.columns == COLUMNS
    assert rows_of(found) == expected_rows(ner, TEXTS, range(4))
    joined = table.with_row_index("text_id").join(found, on="text_id", how="left")
    assert set(joined["body"]) == set(TEXTS) and joined.filter(pl.col("body") == "")["label"].to_list() == [None]


def test_the_library_of_the_frame_can_be_chosen(ner):
    expected = expected_rows(ner, TEXTS, range(4))
    assert rows_of(ner.to_frame(TEXTS, library="polars")) == expected
    assert rows_of(ner.to_frame(pl.Series(TEXTS), library="pandas")) == expected
    by_name = ner.to_frame(pd.Series(TEXTS, index=list("abcd")), library="polars")
    assert rows_of(by_name) == expected_rows(ner, TEXTS, "abcd")


@pytest.mark.parametrize("missing", [None, float("nan"), pd.NA, np.nan, pd.NaT], ids=repr)
def test_missing_texts_have_no_rows_in_the_frame(ner, missing):
    frame = ner.to_frame([missing, "the gene", missing, "cells"])
    assert rows_of(frame) == expected_rows(ner, ["the gene", "cells"], [1, 3])
    nullable = ner.to_frame(pd.Series(["the gene", None], dtype="string"))
    assert rows_of(nullable) == expected_rows(ner, ["the gene"], [0])


@pytest.mark.parametrize(
    "texts", [[], ["of"], pd.Series(["of"], index=["a"]), pl.Series(["of"]), pl.Series([], dtype=pl.String)]
)
def test_an_empty_frame_has_the_same_columns_and_types(ner, texts):
    empty = ner.to_frame(texts, threshold=1)
    full = ner.to_frame(pl.Series(TEXTS) if isinstance(texts, pl.Series) else TEXTS)
    assert len(empty) == 0 and len(full) > 0 and list(empty.columns) == COLUMNS
    types = [dict(frame.schema) if isinstance(frame, pl.DataFrame) else dict(frame.dtypes) for frame in (empty, full)]
    if isinstance(texts, pd.Series):
        assert types[0].pop("text_id") == texts.index.dtype
        types[1].pop("text_id")
    assert types[0] == types[1]


@pytest.mark.parametrize(
    ("texts", "arguments", "message"),
    [
        (
            pd.DataFrame({"text": TEXTS}),
            {},
            r"expected texts, got a DataFrame: pass a column, as in to_frame\(df\['text'\]\)",
        ),
        (pl.DataFrame({"text": TEXTS}).lazy(), {}, "expected texts, got a LazyFrame"),
        ("the gene", {}, r"to_frame needs several texts, got one: 'the gene'. Pass a list"),
        (None, {}, r"to_frame needs several texts, got None. Pass a list, as in to_frame\(\[text\]\)"),
        (3, {}, "to_frame needs several texts, got 3"),
        (
            pd.Series(TEXTS, index=[0, 1, 1, 2]),
            {},
            r"index of the Series has the value 1 more than once.*df.reset_index\(drop=True\)",
        ),
        (TEXTS, {"library": "arrow"}, "library must be one of 'pandas', 'polars', got 'arrow'"),
        ([3], {}, r"expected a text \(str\), got int"),
        (TEXTS, {"threshold": {"Nothing": 0.5}}, "threshold has keys that are not among the entity types"),
    ],
)
def test_invalid_input_raises_an_error(ner, texts, arguments, message):
    with pytest.raises(ValueError, match=message):
        ner.to_frame(texts, **arguments)


def test_the_error_names_a_missing_library(ner, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(
        ImportError, match=r"^to_frame needs pandas, which is not installed: pip install pandas, or use"
    ):
        ner.to_frame(TEXTS)
    assert rows_of(ner.to_frame(pl.Series(TEXTS))) == expected_rows(ner, TEXTS, range(4)), "polars works without pandas"
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(ImportError, match=r"^to_frame needs polars, which is not installed: pip install polars\.$"):
        ner.to_frame(TEXTS, library="polars")


def test_the_error_without_the_package_has_the_command_to_install_it(ner, monkeypatch):
    for name in ("modeling_binder.integrations.frames", "modeling_binder.integrations.dataset_map"):
        monkeypatch.setitem(sys.modules, name, None)
    for method, arguments in (("to_frame", [TEXTS]), ("as_map", [])):
        with pytest.raises(ImportError, match=rf"^{method} needs the package: pip install git\+https"):
            getattr(ner, method)(*arguments)
