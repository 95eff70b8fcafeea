"""Files of Label Studio.

JSON and JSON-MIN are read, with plain text, HTML and dialogues. Predictions are written. A task is a text, and a region
is a mention in a task.
"""

import json

import pytest

from modeling_binder.finetuning import DataError, Document, Mention, read_documents
from modeling_binder.finetuning.formats import read_label_studio, write_label_studio
from modeling_binder.finetuning.formats.html_text import HtmlText
from tests.finetuning.formats.helpers import found


def region(start, end, text=None, label="X", key="labels", **value):
    """Return a region. `text` is the text of the region in the file, if it is not None."""
    stated = {} if text is None else {"text": text}
    return {"id": f"r{start}", "type": key, "value": {"start": start, "end": end, **stated, key: [label], **value}}


def task(text, *results, **fields):
    """Return an annotated task with these results, which are usually regions."""
    return {"id": 7, "data": {"text": text}, "annotations": [{"id": 1, "result": list(results)}], **fields}


def read(tmp_path, *tasks, **options):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(list(tasks)))
    if not options:
        assert read_documents(path) == read_label_studio(path)
    return read_label_studio(path, **options)


def test_annotated_tasks_are_read_and_tasks_without_annotation_are_left_out(tmp_path):
    first, second = read(
        tmp_path,
        task("IL-2 gene", region(0, 4, "IL-2", "Protein"), region(0, 9, "IL-2 gene", "Gene")),
        {"id": 8, "data": {"text": "Skipped"}, "annotations": [{"was_cancelled": True, "result": []}]},
        {"id": 9, "data": {"text": "Rated"}, "annotations": [{"result": [{"value": {"choices": ["good"]}}]}]},
        {"id": 10, "data": {"text": "Not annotated yet"}, "annotations": []},
        {"id": 11, "data": {"text": "Imported"}},
    )
    assert first.id == "7" and found(first) == [("IL-2", "Protein"), ("IL-2 gene", "Gene")]
    assert second.id == "9" and not second.entities


@pytest.mark.parametrize(
    ("text", "start", "end", "stated", "expected"),
    [
        ("Great news 🎉 from Oslo", 19, 23, "Oslo", "Oslo"),  # UTF-16 units
        ("Great news 🎉 from Oslo", 18, 22, "Oslo", "Oslo"),  # code points, as in newer versions
        ("a\r\nb\r\nOslo", 4, 8, "Oslo", "Oslo"),  # \r\n counts as one character, as in a browser
        ("🎉🎉\r\nOslo", 5, 9, "Oslo", "Oslo"),
        ("New\nYork", 0, 8, "New\\nYork", "New\nYork"),  # the editor writes line ends as \n
        ("in Oslo .", 2, 8, " Oslo ", "Oslo"),  # the span includes blanks
        ("in\u00a0Oslo", 2, 7, " Oslo", "Oslo"),
        ("Great news 🎉 from Oslo", 19, 23, None, "Oslo"),  # the file does not contain the text of the region
    ],
)
def test_offsets_in_all_units_are_converted(tmp_path, text, start, end, stated, expected):
    (document,) = read(tmp_path, task(text, region(start, end, stated)))
    assert found(document) == [(expected, "X")] and document.text == text
    row = {"id": 1, "text": text, "label": [{**region(start, end, stated)["value"]}], "annotator": 1}
    (minimal,) = read(tmp_path, row)
    assert found(minimal) == [(expected, "X")]


def test_regions_of_html_are_read(tmp_path):
    """A region has global offsets or the paths of HTML nodes. Each block of the page becomes a line of the text."""
    html = "<div><h1>Report</h1><p>Anna &amp; <b>Ben</b> met<br>in 🎉 Oslo.</p><p>Then<!-- x --> Rome</p></div>"
    page = HtmlText(html)
    assert page.text == "ReportAnna & Ben met\nin 🎉 Oslo.Then Rome"
    start = page.text.index("Oslo")
    results = [
        region("/div[1]/p[1]/text()[1]", "/div[1]/p[1]/b[1]/text()[1]", "Anna & Ben", startOffset=0, endOffset=3),
        region(
            "/somewhere",
            "/else",
            "Oslo",
            startOffset=0,
            endOffset=1,
            globalOffsets={"start": start, "end": start + 4},
            key="hypertextlabels",
        ),
        region(
            "/div[1]/p[2]/text()[2]", "/div[1]/p[2]/text()[2]", "Rome", startOffset=1, endOffset=5, key="htmllabels"
        ),
    ]
    (document,) = read(tmp_path, task(html, *results))
    assert document.text == "Report\nAnna & Ben met\nin 🎉 Oslo.\nThen Rome"
    assert [words for words, _ in found(document)] == ["Anna & Ben", "Oslo", "Rome"]
    # If the global offsets are wrong, the reader uses the paths. The text may be in a field with another name.
    wrong = [{**results[0], "value": {**results[0]["value"], "globalOffsets": {"start": 0, "end": 3}}}]
    other = {"id": 1, "data": {"html": html, "title": "x"}, "annotations": [{"result": wrong}]}
    assert found(read(tmp_path, other)[0]) == [("Anna & Ben", "X")]
    plain = region("/text()[1]", "/text()[1]", "Oslo", startOffset=3, endOffset=7, key="hypertextlabels")
    assert found(read(tmp_path, task("In Oslo", plain))[0]) == [("Oslo", "X")]


@pytest.mark.parametrize("html", ["<table><tr><td>Ann</td></tr></table>", "<table><tbody><tr><td>Ann</table>"])
def test_a_path_has_the_table_body_that_a_browser_inserts(tmp_path, html):
    place = "/table[1]/tbody[1]/tr[1]/td[1]/text()[1]"
    results = [region(place, place, "Ann", startOffset=0, endOffset=3, key="hypertextlabels")]
    assert found(read(tmp_path, task(html, *results))[0]) == [("Ann", "X")]


def test_regions_of_dialogues_are_read(tmp_path):
    turns = [{"author": "A", "text": "I met 🎉 Anna."}, {"author": "B", "text": "In Oslo?"}]
    value = {"startOffset": 9, "endOffset": 13, "text": "Anna", "paragraphlabels": ["Person"]}
    results = [
        {"id": "a", "type": "paragraphlabels", "value": {"start": "0", "end": "0", **value}},
        region(1, 1, "Oslo", startOffset=3, endOffset=7, key="paragraphlabels"),
        region("0", "1", "Anna.\nIn", startOffset=9, endOffset=2, key="paragraphlabels"),
    ]
    data = {"dialogue": turns, "tags": ["x"]}
    (document,) = read(tmp_path, {"id": 1, "data": data, "annotations": [{"result": results}]})
    assert document.text == "I met 🎉 Anna.\nIn Oslo?"
    assert found(document) == [("Anna", "Person"), ("Oslo", "X"), ("Anna.\nIn", "X")]
    (minimal,) = read(tmp_path, {"id": 1, "dialogue": turns, "label": [result["value"] for result in results]})
    assert found(minimal) == found(document)
    named = {"id": 1, "data": {"chat": [{"name": "A", "line": "In Oslo"}]}, "annotations": [{"result": []}]}
    assert read(tmp_path, named)[0].text == read(tmp_path, named, text_field="chat")[0].text == "In Oslo"


def test_predictions_and_completions_of_old_versions_are_read(tmp_path):
    text = "Дружеская ссылка 🎉 из Осло"
    start = text.index("Осло")
    old = {
        "id": 1,
        "data": {"text": text},
        "completions": [{"id": 5, "result": [region(start + 1, start + 5, "Осло")]}],
    }
    skipped = {"id": 2, "data": {"text": text}, "completions": [{"skipped": True, "result": []}]}
    assert [found(document) for document in read(tmp_path, old, skipped)] == [[("Осло", "X")]]
    predicted = {"data": {"id": "a", "text": "In Oslo"}, "predictions": [{"result": [region(3, 7, "Oslo")]}]}
    (document,) = read(tmp_path, predicted)
    assert document.id == "a" and found(document) == [("Oslo", "X")]


def test_each_annotation_of_a_task_becomes_a_document(tmp_path, caplog):
    two = [{"id": 4, "result": [region(0, 4, "Oslo")]}, {"id": 5, "result": []}]
    first, second = read(tmp_path, {"id": 1, "data": {"text": "Oslo"}, "annotations": two})
    assert (first.id, second.id) == ("1-4", "1-5") and found(first) and not found(second)
    assert "2 annotations of 1 tasks" in caplog.text
    two[1]["ground_truth"] = True
    (document,) = read(tmp_path, {"id": 1, "data": {"text": "Oslo"}, "annotations": two})
    assert document.id == "1" and not found(document)
    rows = [{"id": 1, "text": "Oslo", "annotator": 1, "annotation_id": number} for number in (8, 9)]
    assert [document.id for document in read(tmp_path, *rows)] == ["1-8", "1-9"]
    rows = [{"id": 1, "text": "Oslo", "annotator": number} for number in (1, 2)]
    assert len({document.id for document in read(tmp_path, *rows)}) == 2


def test_cancelled_annotations_and_lists_of_numbers_are_ignored(tmp_path):
    annotated = task("In Oslo", region(3, 7, "Oslo"))
    annotated["annotations"].append({"id": 9, "was_cancelled": True})
    assert len(read(tmp_path, annotated)) == 1
    region_of_min = {"start": 3, "end": 7, "text": "Oslo", "labels": ["X"]}
    (document,) = read(tmp_path, {"text": "In Oslo", "label": [region_of_min], "entities": [[10, 20, 30], [0, 1, "a"]]})
    assert found(document) == [("Oslo", "X")]


def test_results_without_regions_are_ignored(tmp_path):
    results = [
        region(0, 4, "Oslo"),
        {"id": "r0", "type": "choices", "value": {"start": 0, "end": 4, "text": "Oslo", "choices": ["sure"]}},
        {"type": "relation", "from_id": "r0", "to_id": "r0", "direction": "right"},
        {"id": "t", "type": "textarea", "value": {"text": ["a note"]}},
    ]
    (document,) = read(tmp_path, task("Oslo", *results))
    assert found(document) == [("Oslo", "X")]


def test_the_field_of_the_text_can_be_chosen(tmp_path):
    body = {"id": 1, "data": {"body": "In Oslo", "title": "x"}, "annotations": [{"result": [region(3, 7, "Oslo")]}]}
    with pytest.raises(
        DataError, match=r"task 1: expected a string in 'text', but the fields are 'body', .*text-field"
    ):
        read(tmp_path, body, text_field=None)
    assert found(read(tmp_path, body, text_field="body")[0]) == [("Oslo", "X")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[", r"a\.json:1: not valid JSON"),
        ("[]", "there is no task in this file"),
        ("{}", "expected a string in 'text'"),
        ("[3]", "task 1: expected an object"),
        ('[{"data": {"image": "x.png"}, "annotations": [{"result": []}]}]', r"task 1: .*the fields are 'image'"),
        ('[{"data": {"text": "a"}, "annotations": [3]}]', "expected a list of objects in 'annotations', got 3"),
        ('[{"data": 3}]', "task 1: 'data' must be an object, got 3"),
        ('[{"data": {"text": "a"}, "annotations": []}]', "none of the 1 tasks is annotated"),
        ('[{"data": {"text": "a"}, "annotations": {"a": 1}}]', "task 1: 'annotations' must be a list"),
        (json.dumps([task("ab", region(0, 9, "ab"))]), r"task 1: spans 0\.\.9 in a text of 2"),
        (json.dumps([task("ab", region(0, 1, "b"))]), r"task 1: the text at 0\.\.1 is 'a', not 'b'"),
        (json.dumps([task("ab", region(0, None, "b"))]), r"task 1: 'end' must be an integer, got None"),
        (json.dumps([task("ab", region("0", "1", "b"))]), r"task 1: 'start' must be an integer, got '0'"),
        (json.dumps([task(" a", region(0, 1, " "))]), r"task 1: the mention at 0\.\.1 contains only blanks"),
        (json.dumps([task("ab", region(0, 1, "a", ""))]), "task 1: expected the name of an entity type, got ''"),
        (
            json.dumps([task("ab", region(0, 1, "a", key="brushlabels"))]),
            r"region 'r0' has 'brushlabels', which is not",
        ),
        (
            json.dumps([task("ab", {"id": "r", "value": {"start": 0, "end": 1, "text": "a"}})]),
            r"'r' has no label \(its",
        ),
        (json.dumps([task("ab", {"id": "r", "value": {"start": 0, "end": 1, "labels": []}})]), "'r' has no label"),
        (json.dumps([task("ab", {"id": "r"})]), "expected a result with a 'value', got {'id': 'r'}"),
        (json.dumps([task("ab", 3)]), "expected a result with a 'value', got 3"),
        (json.dumps([task("<p>ab</p>", region("/p[2]", "/p[2]", "a", startOffset=0, endOffset=1))]), "has no node '/p"),
        (json.dumps([task("a\ud83d")]), "task 1: the text contains a lone surrogate .* at offset 1"),
    ],
)
def test_malformed_files_raise_an_error(content, message, tmp_path):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(DataError, match=message):
        read_label_studio(tmp_path / "a.json")


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>one<p>two<ul><li>a<li>b</ul>", "one\ntwo\na\nb"),
        ("<table><tr><td>a<td>b<tr><td>c</table>", "a\nb\nc"),
        ("a < b & c <img src='x'> d</i>", "a < b & c  d"),
        ("<html><body><p> one </p>\n<p>two</p></body></html>", " one \ntwo"),
        ("", ""),
    ],
)
def test_html_is_converted_to_text_with_one_line_per_block(html, text):
    assert HtmlText(html).with_line_ends()[0] == text


def test_predictions_are_written_with_scores(tmp_path):
    """The written offsets count UTF-16 units, and \\r\\n counts as one unit."""
    text = "A 🎉\r\nin Oslo"
    mention = {"start": 8, "end": 12, "entity_group": "Place", "score": 0.9, "word": "Oslo"}
    low = {"start": 0, "end": 1, "entity_group": "Letter", "score": 0.6, "word": "A"}
    write_label_studio([{"id": "d", "text": text, "entities": [mention, low]}, Document("e", "")], tmp_path / "a.json")
    first, second = json.loads((tmp_path / "a.json").read_text())
    assert first["data"] == {"id": "d", "text": text} and second["predictions"][0]["result"] == []
    (prediction,) = first["predictions"]
    assert prediction["score"] == 0.6 and prediction["model_version"] == "binder-ner"
    assert prediction["result"][0] == {
        "id": "m1",
        "from_name": "label",
        "to_name": "text",
        "type": "labels",
        "value": {"start": 8, "end": 12, "text": "Oslo", "labels": ["Place"]},
        "score": 0.9,
    }
    documents = read_documents(tmp_path / "a.json")
    assert documents[0] == Document("d", text, (Mention(8, 12, "Place"), Mention(0, 1, "Letter")))
