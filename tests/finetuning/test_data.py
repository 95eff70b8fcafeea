"""Documents in JSONL files, and the entity types of a corpus.

Writing and reading leaves documents unchanged. Errors contain the file, the line and the field.
"""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeling_binder.finetuning import (
    DataError,
    Document,
    Mention,
    load_corpus,
    read_documents,
    read_jsonl,
    read_types,
    write_jsonl,
)
from modeling_binder.finetuning.data import as_documents, check_labels


def write(path, *lines):
    path.write_bytes("\n".join(lines).encode())
    return path


def line(**fields):
    """Return a valid document as a line of JSON. The keyword arguments replace or add fields."""
    return json.dumps({"id": "a", "text": "IL-2 gene", "entities": [], **fields})


@st.composite
def documents(draw):
    text = draw(st.text(alphabet=st.sampled_from("ab \r\n\u2028\u0085é\u0301👩\u200d🔬東"), min_size=1, max_size=20))
    spans = draw(st.lists(st.tuples(st.integers(0, len(text) - 1), st.integers(1, len(text))), max_size=4))
    mentions = dict.fromkeys(Mention(s, e, "A") for s, e in spans if s < e)
    return text, tuple(mentions)


@given(st.lists(documents(), min_size=1, max_size=4))
@settings(deadline=None, max_examples=50)
def test_documents_are_unchanged_by_writing_and_reading(tmp_path_factory, items):
    path = tmp_path_factory.mktemp("data") / "deep" / "file.jsonl"
    original = [Document(str(index), text, mentions) for index, (text, mentions) in enumerate(items)]
    write_jsonl(path, original)
    assert read_jsonl(path) == original
    assert [entry.name for entry in path.parent.iterdir()] == ["file.jsonl"]


def test_duplicates_blank_lines_and_missing_fields_are_accepted(tmp_path):
    path = tmp_path / "file.jsonl"
    path.write_bytes(
        b"\xef\xbb\xbf"
        + line(id=7, entities=[{"start": 0, "end": 4, "label": "G"}] * 2, extra=1).encode()
        + b'\r\n\r\n{"text": "x", "entities": null, "words": null}\r\n'
        + line(words=[[0, 4], [5, 9]]).encode()
    )
    first, second, third = read_jsonl(path)
    assert (first.id, first.entities) == ("7", (Mention(0, 4, "G"),))
    assert (second.id, second.entities, second.words) == ("file-3", (), None)
    assert third.words == ((0, 4), (5, 9))


def test_a_write_that_fails_does_not_change_the_old_file(tmp_path):
    path = tmp_path / "file.jsonl"
    write_jsonl(path, [Document("a", "x")])

    def broken():
        yield Document("b", "y")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_jsonl(path, broken())
    assert read_jsonl(path) == [Document("a", "x")]
    assert [entry.name for entry in tmp_path.iterdir()] == ["file.jsonl"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"file\.jsonl:2: not valid JSON \(Expecting property name .* at column 2\)"),
        ("[" * 100_000, r"file\.jsonl:2: not valid JSON"),
        ("[]", r"file\.jsonl:2: expected an object .* got list"),
        ('{"id": "b", "entities": []}', r"file\.jsonl:2: 'text' must be a string, got None"),
        (line(text=3), r"file\.jsonl:2: 'text' must be a string, got 3"),
        (line(text="ab\ud83d"), r"file\.jsonl:2: 'text' contains a lone surrogate .* at offset 2"),
        ('{"text": "a", "spans": []}', r"file\.jsonl:2: 'entities' is missing \(the keys are 'text', 'spans'\)"),
        (line(id=[1]), r"file\.jsonl:2: 'id' must be a string, got \[1\]"),
        (line(id=True), r"file\.jsonl:2: 'id' must be a string, got True"),
        (line(entities={}), r"file\.jsonl:2: 'entities' must be a list"),
        (line(entities=["x"]), r"file\.jsonl:2: 'entities\[0\]' must be"),
        (line(entities=[{"start": "0", "end": 4, "label": "G"}]), r"2: 'entities\[0\]\.start' must be an integer"),
        (line(entities=[{"start": True, "end": 4, "label": "G"}]), r"2: 'entities\[0\]\.start' must be an integer"),
        (line(entities=[{"start": 0, "label": "G"}]), r"2: 'entities\[0\]\.end' must be an integer, got None"),
        (line(entities=[{"start": 0, "end": 4.0, "label": "G"}]), r"2: 'entities\[0\]\.end' must be an integer"),
        (line(entities=[{"start": 0, "end": 4}]), r"2: 'entities\[0\]\.label' must be the name"),
        (line(entities=[{"start": 0, "end": 4, "label": 1}]), r"2: 'entities\[0\]\.label' must be the name"),
        (line(entities=[{"start": 0, "end": 4, "label": " "}]), r"2: 'entities\[0\]\.label' must be the name"),
        (line(entities=[{"start": 0, "end": 10, "label": "G"}]), r"spans 0\.\.10 in a text of 9 characters"),
        (line(entities=[{"start": 4, "end": 4, "label": "G"}]), r"spans 4\.\.4 .* 0 <= start < end <= 9"),
        (line(entities=[{"start": -1, "end": 4, "label": "G"}]), r"spans -1\.\.4"),
        (line(words=[[0, 4], [3, 9]]), r"'words\[1\]' spans 3\.\.9; words must be sorted"),
        (line(words=[[5, 9], [0, 4]]), r"'words\[1\]' spans 0\.\.4; words must be sorted"),
        (line(words=[[2, 2]]), r"'words\[0\]' spans 2\.\.2; words must be .* not be empty"),
        (line(words=[[0, True]]), r"'words\[0\]' must be \[start, end\]"),
        (line(words=[[0, 40]]), r"'words\[0\]' spans 0\.\.40"),
        (line(words=[3]), r"'words\[0\]' must be \[start, end\]"),
        (line(words="IL"), r"'words' must be a list"),
        (line(id="first"), r"2: the id 'first' is also the id of line 1"),
    ],
)
def test_errors_contain_the_file_the_line_and_the_field(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        read_jsonl(write(tmp_path / "file.jsonl", line(id="first"), content))


def test_an_error_shows_five_problems_and_the_number_of_all_problems(tmp_path):
    with pytest.raises(DataError) as caught:
        read_jsonl(write(tmp_path / "file.jsonl", *["{"] * 20))
    assert str(caught.value).count("not valid JSON") == 5
    assert str(caught.value).endswith("... and 15 more (20 problems in total)")
    assert len(caught.value.problems) == 20


def test_an_error_contains_every_problem_of_a_line(tmp_path):
    entities = [{"start": 0, "end": 99, "label": "G"}, {"start": "0", "end": 4}, {"start": 0, "end": 4, "label": "G"}]
    with pytest.raises(DataError) as caught:
        read_jsonl(write(tmp_path / "file.jsonl", line(entities=entities, words=[3])))
    fields = ["entities[0]", "entities[1].start", "entities[1].label", "words[0]"]
    assert len(caught.value.problems) == len(fields) and "(4 problems in total)" in str(caught.value)
    for field, problem in zip(fields, caught.value.problems, strict=True):
        assert problem.startswith(f"{tmp_path / 'file.jsonl'}:1: '{field}'")


@pytest.mark.parametrize("content", [b"", b" \n\n"])
def test_empty_files_raise_an_error(tmp_path, content):
    (tmp_path / "file.jsonl").write_bytes(content)
    with pytest.raises(DataError, match="the file is empty"):
        read_jsonl(tmp_path / "file.jsonl")


def test_a_missing_file_a_folder_and_another_encoding_raise_an_error(tmp_path):
    with pytest.raises(DataError, match="there is no such file"):
        read_jsonl(tmp_path / "none.jsonl")
    with pytest.raises(DataError, match="this is a folder"):
        read_jsonl(tmp_path)
    (tmp_path / "latin.jsonl").write_bytes(b"{}\n{\xe9}")
    with pytest.raises(DataError, match=r"latin\.jsonl:2: not UTF-8"):
        read_jsonl(tmp_path / "latin.jsonl")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "the file is empty; expected entity types"),
        ("{}", "there are no entity types"),
        ("[1]", "expected an object name -> description, got list"),
        ("{", "not valid JSON"),
        ('{"A": ""}', "the type 'A' needs a description"),
        ('{"A": 3}', "the type 'A' needs a description"),
        ('{"A": null}', "the type 'A' needs a description"),
        ('{" ": "x"}', "blank name"),
        ('{"A": "x", "A": "y"}', "the type 'A' occurs twice"),
    ],
)
def test_malformed_types_raise_an_error(tmp_path, content, message):
    with pytest.raises(DataError, match=r"types\.json: .*" + message):
        read_types(write(tmp_path / "types.json", content))


def test_entity_types_keep_their_order_in_the_file(tmp_path):
    assert list(read_types(write(tmp_path / "types.json", '{"B": "b", "A": "a"}'))) == ["B", "A"]


def test_unknown_labels_are_counted_and_a_similar_label_is_suggested():
    data = [Document("d1", "IL-2", (Mention(0, 4, "Protien"),)), Document("d2", "IL-2", (Mention(0, 4, "Protien"),))]
    with pytest.raises(DataError, match=r"'Protien' \(2 mentions, first in document 'd1'\).*Did you mean 'Protein'\?"):
        check_labels(data, ["Protein"], "train.jsonl")
    check_labels(data, {"Protien": "as it is written"}, "train.jsonl")


def test_the_suggested_line_for_an_unknown_label_is_json():
    data = [Document("d1", "IL-2", (Mention(0, 4, 'GENE "x"'), Mention(0, 4, "GENE"), Mention(0, 2, "東")))]
    with pytest.raises(DataError) as caught:
        check_labels(data, iter(["Gene", "Cell"]), "train.jsonl")
    quoted, capitals, distant = caught.value.problems
    assert quoted.startswith("train.jsonl: ") and r'"GENE \"x\"": "One sentence' in quoted
    assert "Did you mean 'Gene'?" in capitals and "Did you mean" not in distant


def test_load_corpus_reads_splits_in_different_formats(tmp_path):
    write(tmp_path / "types.json", '{"G": "a gene"}')
    write(tmp_path / "train.jsonl", line())
    write(tmp_path / "devel.tsv", "IL-2\tB-G", "gene\tI-G", "", "x\tO")
    corpus = load_corpus(tmp_path)
    assert (len(corpus.train), len(corpus.dev), len(corpus.test)) == (1, 2, 0)
    assert corpus.dev[0].entities == (Mention(0, 9, "G"),)
    assert read_documents(tmp_path / "train.jsonl") == corpus.train
    with pytest.raises(DataError, match="there is no such folder"):
        load_corpus(tmp_path / "none")
    write(tmp_path / "test.jsonl", line(entities=[{"start": 0, "end": 4, "label": "Gen"}]))
    with pytest.raises(DataError, match=r"test\.jsonl: the label 'Gen'"):
        load_corpus(tmp_path)
    (tmp_path / "train.jsonl").unlink()
    with pytest.raises(DataError, match=r"there is no train\.jsonl"):
        load_corpus(tmp_path)


@pytest.mark.parametrize("name", ["dev", "devel", "valid", "validation"])
@pytest.mark.parametrize("suffix", [".tsv", ".txt", ".conll", ".iob", ".iob2", ".bio"])
def test_load_corpus_accepts_all_suffixes_of_column_files(tmp_path, name, suffix):
    write(tmp_path / "types.json", '{"G": "a gene"}')
    for stem in ("train", name):
        write(tmp_path / f"{stem}{suffix}", "IL-2\tB-G", "gene\tI-G")
    corpus = load_corpus(tmp_path)
    assert len(corpus.train) == len(corpus.dev) == 1 and corpus.test == []


def test_as_documents_accepts_dictionaries_and_errors_contain_the_row():
    assert as_documents([{"text": "a"}, Document("x", "b")]) == [Document("0", "a"), Document("x", "b")]
    with pytest.raises(DataError, match=r"row 1: expected a Document or a dictionary, got str"):
        as_documents([{"text": "a"}, "b"])
    with pytest.raises(DataError, match=r"row 1: 'text' must be a string, got None"):
        as_documents([{"text": "a"}, {}])
    mention = Mention(0, 1, "G")
    (document,) = as_documents(iter([{"id": 3, "text": "ab", "entities": [mention, mention], "words": [(0, 2)]}]))
    assert document == Document("3", "ab", (mention,), ((0, 2),))


def test_as_documents_accepts_a_dataset():
    datasets = pytest.importorskip("datasets")
    rows = [
        {"id": "a", "text": "IL-2", "entities": [{"start": 0, "end": 4, "label": "G"}], "words": None},
        {"id": "b", "text": "", "entities": [], "words": None},
    ]
    assert as_documents(datasets.Dataset.from_list(rows)) == [
        Document("a", "IL-2", (Mention(0, 4, "G"),)),
        Document("b", ""),
    ]
