"""Tests of drawings in notebooks, and of the function `draw`."""

import copy
import json
import pickle
import re
import sys

import pytest

from modeling_binder import draw
from modeling_binder.drawing.notebook import MAX_CHARACTERS, MAX_TEXTS
from modeling_binder.results_binder import Entities
from tests.fresh_process import ROOT
from tests.tiny import TYPES, build_pipeline, keys

TEXT = "the IL-2 gene promoter"


@pytest.fixture(scope="module")
def ner():
    return build_pipeline()


def bars_in(drawn):
    """Return the start and the end of each bar. A bar may consist of several elements, but is returned once."""
    return sorted({(int(start), int(end)) for start, end in re.findall(r'data-span="(\d+)-(\d+)-\d+"', drawn)})


def test_a_result_is_a_list_that_a_notebook_draws(ner):
    found = ner(TEXT, threshold=0.8)
    assert found and isinstance(found, list) and found == list(found) and list(found) == found
    assert json.loads(json.dumps(found)) == found and repr(found) == repr(list(found))
    drawn = found._repr_html_()
    assert drawn.startswith("<style>") and bars_in(drawn) == sorted({(start, end) for _, start, end in keys(found)})
    for result in ([ner([TEXT])[0]], ner(iter([TEXT]))):
        assert next(iter(result)).text == TEXT
    assert found.text == TEXT and found.labels == list(TYPES)
    assert "Nothing was found" in ner("", threshold=1)._repr_html_()
    assert ner(["the", "gene"], is_split_into_words=True).text == "the gene"


def test_copies_are_plain_lists(ner):
    """A process that loads a pickled result may lack the class `Entities`, so the pickle must not contain the class."""
    found = ner(TEXT)
    copies = [copy.copy(found), copy.deepcopy(found), found[:], [*found]]
    copies += [pickle.loads(pickle.dumps(found, protocol)) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)]
    assert all(type(other) is list and other == found for other in copies)
    assert b"Entities" not in pickle.dumps(found)


def test_a_result_has_no_drawing_without_the_package(ner, monkeypatch):
    found = ner(TEXT)
    monkeypatch.setitem(sys.modules, "modeling_binder.drawing.notebook", None)
    assert found._repr_html_() is None


def test_types_have_the_same_colours_in_all_drawings(ner):
    colours = [
        dict(re.findall(r'background:(#\w+);color:#\w+">(\w+) \(', ner(text)._repr_html_()))
        for text in (TEXT, "cells of the gene in oslo", "of the in")
    ]
    labels = [{label: colour for colour, label in found.items()} for found in colours]
    for one in labels:
        for other in labels:
            assert all(one[label] == other[label] for label in one.keys() & other.keys())


def test_draw_accepts_one_result_several_results_and_selections_of_entities(ner):
    texts = [TEXT, "", "cells of the gene"]
    results = ner(texts)
    assert bars_in(draw(results[0])._repr_html_()) == bars_in(results[0]._repr_html_())
    drawn = draw(results)
    assert drawn._repr_html_().count('class="bn-text"') == 3 and drawn._repr_html_().count("<style>") == 1
    again = draw([list(result) for result in results], texts, labels=list(TYPES))
    assert again._repr_html_() == drawn._repr_html_()
    assert draw(iter(results)).texts == texts
    selected = [entity for entity in results[0] if entity["entity_group"] == "Gene"]
    assert bars_in(draw(selected, TEXT)._repr_html_()) == sorted((e["start"], e["end"]) for e in selected) != []
    assert draw([], []).texts == [] and draw([], "the").texts == ["the"]


def test_a_drawing_can_be_printed_and_saved(ner, tmp_path):
    text = "the <b> gene \ud83d"
    found = [{"label": "Gene", "start": 8, "end": 12}]
    drawn = draw(found, text)
    assert [line.rstrip() for line in str(drawn).splitlines()] == [text, "        └──┘ Gene"] and repr(drawn) == str(
        drawn
    )
    drawn.save(tmp_path / "new" / "folder" / "found.html")
    page = (tmp_path / "new" / "folder" / "found.html").read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>") and "&lt;b&gt;" in page and bars_in(page) == [(8, 12)]


def test_all_html_pages_have_a_doctype():
    """Browsers show a page without a doctype in quirks mode, in which bars cover the next line."""
    folders = (ROOT / name for name in ("modeling_binder", "demo", "training"))
    paths = [path for folder in folders for path in folder.rglob("*") if path.suffix in (".py", ".html")]
    pages = {path.name: path.read_text(encoding="utf-8") for path in paths}
    pages = {name: source for name, source in pages.items() if re.search("<html", source, re.IGNORECASE)}
    assert {"notebook.py", "error_page.py"} <= pages.keys()
    for name, source in pages.items():
        tags = re.findall(r"(<!DOCTYPE html>(?:\\n|\s)*)?<html\b", source, re.IGNORECASE)
        assert all(tags), name


@pytest.mark.parametrize("name", ["found.xyz", "found", "found.html.gz"])
def test_only_files_with_the_suffix_html_or_htm_can_be_saved(tmp_path, name):
    with pytest.raises(ValueError, match=f"expected a name that ends in .html, got '.*{re.escape(name)}'"):
        draw([], "gene").save(tmp_path / name)
    draw([], "gene").save(str(tmp_path / "found.HTM"))
    assert [path.name for path in tmp_path.iterdir()] == ["found.HTM"]


def test_a_drawing_in_a_notebook_is_limited_in_size(ner, tmp_path):
    text = "gene " * MAX_CHARACTERS
    found = [{"label": "Gene", "start": start, "end": start + 4} for start in (0, MAX_CHARACTERS - 2, len(text) - 5)]
    drawn = draw(found, text)
    assert bars_in(drawn._repr_html_()) == [(0, 4)]
    assert f"The first {MAX_CHARACTERS:,} of {len(text):,} characters are shown." in drawn._repr_html_()
    drawn.save(tmp_path / "found.html")
    assert len(bars_in((tmp_path / "found.html").read_text())) == 3, "the saved page has the whole text"
    many = draw([[]] * (MAX_TEXTS + 1), ["a"] * (MAX_TEXTS + 1))._repr_html_()
    assert many.count('class="bn-text"') == MAX_TEXTS and f"The first {MAX_TEXTS} of {MAX_TEXTS + 1} texts" in many


@pytest.mark.parametrize(
    ("results", "texts", "message"),
    [
        (
            [[{"label": "a", "start": 0, "end": 1}]],
            None,
            "these entities is unknown: pass the text too, as in draw",
        ),
        ([[], []], ["a"], "there are 2 results and 1 texts"),
        ([{"label": "a", "start": 0, "end": 9}], "gene", "the text 'gene' does not contain the entity '' from 0 to 9"),
        ([{"label": "a", "start": 0, "end": 4, "word": "cell"}], "gene", "not contain the entity 'cell' from 0 to 4"),
    ],
)
def test_invalid_input_raises_an_error(results, texts, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        draw(results, texts)


def test_the_pipeline_returns_entities_for_a_text_and_a_list_for_several_texts(ner):
    assert type(ner(TEXT)) is Entities and type(ner([TEXT])) is list
