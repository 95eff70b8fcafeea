"""Writing and reading files of predictions for the documents of a corpus."""

import json

import pytest

from modeling_binder.finetuning import DataError, Document, Mention, read_jsonl, write_format
from modeling_binder.finetuning.prediction_files import read_predictions, write_predictions

DOCUMENTS = [
    Document("a", "the IL-2 gene", (Mention(4, 13, "Gene"),), undecided=((0, 3),)),
    Document("b", "T cells", (Mention(0, 7, "Cell"),), types=("Cell",)),
]
PREDICTIONS = [[{"start": 4, "end": 8, "label": "Protein", "score": 0.75}], [{"start": 0, "end": 7, "label": "Cell"}]]


def test_predictions_are_the_same_after_writing_and_reading(tmp_path):
    for name in ("found.jsonl", "found.jsonl.gz"):
        write_predictions(tmp_path / name, DOCUMENTS, PREDICTIONS)
        assert read_predictions(tmp_path / name, DOCUMENTS) == PREDICTIONS
    first, second = map(json.loads, (tmp_path / "found.jsonl").read_text().splitlines())
    assert first == {"id": "a", "text": "the IL-2 gene", "entities": [{**PREDICTIONS[0][0], "word": "IL-2"}]}
    assert second["types"] == ["Cell"] and "score" not in second["entities"][0]
    assert [document.id for document in read_jsonl(tmp_path / "found.jsonl")] == ["a", "b"]


def test_predictions_are_assigned_to_documents_by_order_or_by_id(tmp_path):
    path = tmp_path / "found.jsonl"
    write_predictions(path, DOCUMENTS[::-1], PREDICTIONS[::-1])
    assert read_predictions(path, DOCUMENTS) == PREDICTIONS
    rows = [{"text": d.text, "entities": entities} for d, entities in zip(DOCUMENTS, PREDICTIONS, strict=True)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    without_scores = [[{"start": 4, "end": 8, "label": "Protein"}], PREDICTIONS[1]]
    assert read_predictions(path, DOCUMENTS) == without_scores, "scores are assigned by id, and these rows have no ids"
    write_format(
        [{"id": d.id, "text": d.text, "entities": e} for d, e in zip(DOCUMENTS, PREDICTIONS, strict=True)],
        tmp_path / "found.json",
        "label-studio",
    )
    assert [
        [entity["label"] for entity in entities] for entities in read_predictions(tmp_path / "found.json", DOCUMENTS)
    ] == [["Protein"], ["Cell"]]


@pytest.mark.parametrize(
    "rows",
    [
        [{"entities": [{"start_offset": 4, "end_offset": 8, "label": "Protein", "score": 0.4}], "relations": []}],
        [{"entities": [[4, 8, "Protein"]]}],
        [{"label": [[4, 8, "Protein"]]}],
        [{"_input_hash": 1, "answer": "accept", "spans": [{"start": 4, "end": 8, "label": "Protein"}]}],
    ],
    ids=["doccano with relations", "lists", "doccano", "prodigy"],
)
def test_predictions_in_other_jsonl_formats_are_read_without_scores(tmp_path, rows):
    path = tmp_path / "found.jsonl"
    path.write_text("".join(json.dumps({"id": "a", "text": "the IL-2 gene", **row}) + "\n" for row in rows))
    assert read_predictions(path, DOCUMENTS[:1]) == [[{"start": 4, "end": 8, "label": "Protein"}]]


@pytest.mark.parametrize("name", ["found.jsonl", "found.json"])
def test_output_of_the_pipeline_is_read(tmp_path, name):
    """The pipeline returns the label of an entity as "entity_group". The file is JSONL or one JSON list."""
    path = tmp_path / name
    rows = [
        {"id": d.id, "text": d.text, "entities": [{"entity_group": e.pop("label"), **e} for e in entities]}
        for d, entities in zip(DOCUMENTS, json.loads(json.dumps(PREDICTIONS)), strict=True)
    ]
    path.write_text(json.dumps(rows) if name == "found.json" else "".join(json.dumps(row) + "\n" for row in rows))
    assert read_predictions(path, DOCUMENTS) == PREDICTIONS
    for key, value, message in (
        ("score", [1], "'score' must be a number"),
        ("end", 99, r"'entities\[0\]' spans 4..99"),
    ):
        rows[0]["entities"][0][key] = value
        path.write_text(json.dumps(rows))
        with pytest.raises(DataError, match=f"{name}: document 1: {message}"):
            read_predictions(path, DOCUMENTS)


@pytest.mark.parametrize("content", ['[{"text"', '{"text": "a"}\n[1]\n', "[1, 2]", '{"text": "a", "entities": [3]}'])
def test_a_malformed_file_raises_an_error_with_the_name_of_the_file(tmp_path, content):
    path = tmp_path / "found.jsonl"
    path.write_text(content)
    with pytest.raises(DataError, match=r"found\.jsonl"):
        read_predictions(path, DOCUMENTS)


def test_predictions_of_types_that_a_document_is_not_annotated_for_are_ignored(tmp_path):
    rows = [
        {"id": "a", "text": "the IL-2 gene", "entities": []},
        {"id": "b", "text": "T cells", "entities": [{"start": 0, "end": 7, "label": "Gene"}]},
    ]
    path = tmp_path / "found.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert read_predictions(path, DOCUMENTS) == [[], []]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("a", "the IL-2 gene")], "the file lacks the document 'b'; expected predictions for the same 2 documents"),
        ([("a", "the IL-2 gene"), ("b", "T cells"), ("c", "x")], "also contains the document 'c'"),
        ([("a", "the IL-2 gene"), ("b", "B cells")], "the text of document 'b' differs"),
        ([(str(number), "x") for number in range(9)], "lacks the document 'a', 'b';"),
    ],
)
def test_a_file_with_other_documents_raises_an_error(tmp_path, rows, message):
    path = tmp_path / "found.jsonl"
    path.write_text("".join(json.dumps({"id": i, "text": text, "entities": []}) + "\n" for i, text in rows))
    with pytest.raises(DataError, match=message):
        read_predictions(path, DOCUMENTS)
