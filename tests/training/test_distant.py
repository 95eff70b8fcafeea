"""Distant supervision: a dictionary labels raw text, and training ignores undecided spans."""

import gzip
import json
import tracemalloc

import pytest
import torch

from modeling_binder.finetuning import DataError, Document, Mention, read_jsonl
from modeling_binder.losses_binder import binder_losses
from training.distant import Entry, Labeler, main, read_dictionary, read_texts


def labels(text, *entries, words=None, **options):
    """Return the text and the label of each mention that these dictionary entries give."""
    labeler = Labeler([Entry(*entry) for entry in entries], **options)
    document = labeler.label(Document("1", text, words=words))
    return [(text[m.start : m.end], m.label) for m in document.entities]


GENES = (("IL-2", "Protein"), ("IL-2 gene", "Gene"), ("gene", "Gene"), ("kidney", "Organ"))


def test_only_the_longest_of_overlapping_names_is_labelled_unless_nested_is_set():
    text = "The IL-2 gene, a gene."
    assert labels(text, *GENES) == [("IL-2 gene", "Gene"), ("gene", "Gene")]
    nested = labels(text, *GENES, nested=True)
    assert nested == [("IL-2", "Protein"), ("IL-2 gene", "Gene"), ("gene", "Gene"), ("gene", "Gene")]


def test_names_are_found_at_word_boundaries():
    assert labels("kidneys kidneybean kidney-like", ("kidney", "Organ")) == [("kidneys", "Organ"), ("kidney", "Organ")]
    # If the document has `words`, names are found only at the boundaries of these words.
    assert labels("kidney-like", ("kidney", "Organ"), words=((0, 11),)) == []


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("Acute Kidney Injury", "acute kidney injury", True),
        ("ALL", "they all have it", False),
        ("ALL", "they have ALL now", True),
        ("mRNA", "the MRNA", False),
        ("K", "a k is no K", True),
        ("Pain", "it is pain", True),
    ],
)
def test_case_matters_for_abbreviations(name, text, found):
    spans = labels(text, (name, "X"))
    assert bool(spans) is found and all(span == name or span.casefold() == name.casefold() for span, _ in spans)
    if name == "K":
        assert len(spans) == 1
    assert bool(labels(text, (name, "X"), case="insensitive"))


def test_plurals_of_names_are_found():
    entries = (("antibody", "X"), ("virus", "X"), ("reflex", "X"), ("boy", "X"), ("T cell", "X"))
    text = "antibodies viruss reflexes boys T cells"
    assert [span for span, _ in labels(text, *entries)] == ["antibodies", "reflexes", "boys", "T cells"]
    assert labels(text, *entries, plurals=False) == []


def test_names_with_an_ambiguous_or_unknown_type_are_undecided():
    labeler = Labeler(
        [Entry("lead", "Chemical"), Entry("lead", "Disease"), Entry("growth factor", ""), Entry("zinc", "Chemical")]
    )
    document = labeler.label(Document("1", "lead, zinc and growth factor"))
    assert document.entities == (Mention(6, 10, "Chemical"),)
    assert document.undecided == ((0, 4), (15, 28))
    assert labeler.ambiguous == {"lead": ["Chemical", "Disease"]}
    assert Document.from_dict(document.to_dict()) == document
    labeler.undecided = False
    assert labeler.label(document).undecided == ()


def test_names_inside_a_name_of_unknown_type_are_not_labelled():
    entries = (("growth", "X"), ("growth factor", ""))
    assert labels("growth factor and growth", *entries) == [("growth", "X")]


def test_the_case_of_ignored_names_does_not_matter():
    assert labels("a cold cell", ("cold", "Disease"), ("cell", "X"), ignore=["Cold"]) == [("cell", "X")]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("d.json", '{"Gene": ["IL-2", "CD8"], "Cell": ["monocyte"]}'),
        ("d.json", '[{"name": "IL-2", "synonyms": ["CD8"], "type": "Gene"}, {"name": "monocyte", "type": "Cell"}]'),
        ("d.tsv", "name\tsynonym\ttype\nIL-2\tCD8\tGene\nmonocyte\t\tCell\n"),
        ("d.txt", "Gene\tIL-2\nGene\tCD8\n\nCell\tmonocyte\n"),
    ],
)
def test_dictionary_formats_give_the_same_entries(name, content, tmp_path):
    (tmp_path / name).write_text(content)
    assert set(read_dictionary(tmp_path / name)) == {("IL-2", "Gene"), ("CD8", "Gene"), ("monocyte", "Cell")}


def test_swapped_columns_raise_an_error(tmp_path):
    rows = [f"name {number}\t{'Gene' if number % 2 else 'Cell'}" for number in range(30)]
    path = tmp_path / "d.tsv"
    path.write_text("\n".join(rows))
    with pytest.raises(DataError, match=r"there are 30 types for 2 names\. .*add the header 'name<TAB>type'"):
        list(read_dictionary(path))
    path.write_text("\n".join(["name\ttype", *rows]))
    assert next(read_dictionary(path)) == ("name 0", "Cell")


def test_entries_of_a_file_that_has_only_names_have_no_type(tmp_path):
    (tmp_path / "d.txt").write_text('"quoted name\nplain\n')
    assert list(read_dictionary(tmp_path / "d.txt")) == [('"quoted name', ""), ("plain", "")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("d.tsv", "Gene\t\n", "d.tsv:1: expected a type and a name"),
        ("d.tsv", "\tIL-2\n", "d.tsv:1: expected a type and a name"),
        ("d.tsv", "Gene\tIL-2\nCell\n", r"d\.tsv:2: expected a type and a name, got \['Cell'\]"),
        ("d.tsv", "IL-2\nGene\tCD8\n", r"d\.tsv:2: expected a name, got"),
        ("d.tsv", "name\ttype\nIL-2\n", r"d\.tsv:2: expected a type and a name"),
        ("d.tsv", "name\ttype\nIL-2\tGene\tx\n", r"d\.tsv:2: expected 2 columns as in the header"),
        ("d.tsv", "Gène\tIL-2\n".encode("latin-1"), r"d\.tsv:1: not UTF-8: byte 1 is 0xe8"),
        ("d.csv", 'name,type\n"IL-2,Gene\n', r"d\.csv:2: unexpected end of data"),
        ("d.json", '["x"]', 'expected {"Type"'),
        ("d.json", '{"Gene": "IL-2"}', 'expected {"Type"'),  # a string must not be read as a list of letters
        ("d.json", '{"Gene": ["IL-2", 3]}', r"d\.json: 'Gene': expected .*, got 3 as a type or a name"),
        ("d.json", '[{"name": "IL-2", "type": null}]', "entry 1: expected .*, got None as a type or a name"),
        ("d.json", '[{"name": "IL-2", "type": "Gene", "synonyms": "x"}]', 'expected {"Type"'),
        ("d.json", "{", r"d\.json: not valid JSON"),
    ],
)
def test_malformed_dictionaries_raise_an_error(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    (tmp_path / "text.txt").write_text("x\n")
    with pytest.raises(SystemExit, match=message):
        main([str(tmp_path / name), str(tmp_path / "text.txt"), str(tmp_path / "out.jsonl")])
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("d.tsv", "\ufeffname\ttype\nIL-2\tGene\n"),  # a byte order mark before the header
        ("d.tsv", "\ufeffGene\tIL-2\r\n"),
        ("d.json", '\ufeff{"Gene": ["IL-2"]}'),
        ("d.csv", 'name,type\n"IL-2","Gene"\n'),
    ],
)
def test_dictionaries_with_a_byte_order_mark_or_commas_are_read(name, content, tmp_path):
    (tmp_path / name).write_bytes(content.encode())
    assert list(read_dictionary(tmp_path / name)) == [("IL-2", "Gene")]


def test_names_can_contain_line_separators_and_commas(tmp_path):
    (tmp_path / "d.tsv").write_text("Gene\ta\u2028b\nGene\tc\x85\x0bd\n")
    assert [entry.name for entry in read_dictionary(tmp_path / "d.tsv")] == ["a\u2028b", "c\x85\x0bd"]
    (tmp_path / "d.csv").write_text('name,type\n"2,4-D\nacid",Chemical\n')
    assert list(read_dictionary(tmp_path / "d.csv")) == [("2,4-D\nacid", "Chemical")]
    (tmp_path / "d.tsv.gz").write_bytes(gzip.compress(b"Gene\tIL-2\n"))
    assert list(read_dictionary(tmp_path / "d.tsv.gz")) == [("IL-2", "Gene")]


def test_each_line_of_raw_text_is_a_document_or_a_word(tmp_path):
    (tmp_path / "lines.txt").write_text("One sentence.\n\nAnother one.\n")
    assert [document.text for document in read_texts(tmp_path / "lines.txt")] == ["One sentence.", "Another one."]
    (tmp_path / "words.txt").write_text("Naloxone\nreverses\n\nit\n.\n")
    first, second = read_texts(tmp_path / "words.txt")
    assert first.text == "Naloxone reverses" and first.words == ((0, 8), (9, 17)) and second.text == "it ."


def test_text_files_of_other_formats_are_recognised(tmp_path):
    """A .txt file in PubTator format or with columns is not read as raw text. Only \\n and \\r\\n end a line."""
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfone\xe2\x80\xa8still one\r\ntwo\rstill two\n")
    assert [document.text for document in read_texts(tmp_path / "a.txt")] == ["one\u2028still one", "two\rstill two"]
    (tmp_path / "b.txt").write_text("1|t|In Oslo\n1|a|More.\n")
    assert [document.text for document in read_texts(tmp_path / "b.txt")] == ["In Oslo More."]
    (tmp_path / "c.txt").write_text("Naloxone\tB-X\nreverses\tO\n\nit\tO\n")
    assert [document.text for document in read_texts(tmp_path / "c.txt")] == ["Naloxone reverses", "it"]
    (tmp_path / "d.txt.gz").write_bytes(gzip.compress(b"One.\nTwo.\n"))
    assert [document.id for document in read_texts(tmp_path / "d.txt.gz")] == ["d-1", "d-2"]
    (tmp_path / "e.txt").write_bytes("Café.\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"e\.txt:1: not UTF-8: byte 3"):
        list(read_texts(tmp_path / "e.txt"))


def test_the_command_raises_an_error_if_no_name_is_found_or_an_input_would_be_overwritten(tmp_path):
    (tmp_path / "d.tsv").write_text("Gene\tIL-2\n")
    (tmp_path / "text.txt").write_text("No name here.\n")
    (tmp_path / "empty.txt").write_text("\n")
    paths = {name: str(tmp_path / name) for name in ("d.tsv", "text.txt", "empty.txt", "out.jsonl")}
    arguments = [paths["d.tsv"], paths["text.txt"], paths["out.jsonl"]]
    with pytest.raises(SystemExit, match=r"none of 1 names was found in 1 documents; .*--allow-no-mentions"):
        main(arguments)
    with pytest.raises(SystemExit, match=r"empty\.txt: this file has no text"):
        main([paths["d.tsv"], paths["empty.txt"], paths["out.jsonl"]])
    with pytest.raises(SystemExit, match=r"text\.txt: the output is an input; choose another output"):
        main([paths["d.tsv"], paths["text.txt"], paths["text.txt"]])
    assert not (tmp_path / "out.jsonl").exists()
    main([*arguments, "--allow-no-mentions"])
    assert read_jsonl(tmp_path / "out.jsonl") == [Document("text-1", "No name here.")]


def test_the_command_writes_labels_scores_and_a_report(tmp_path, capsys):
    (tmp_path / "d.tsv").write_text("Gene\tIL-2\nGene\tlead\nCell\tlead\nPlace\tRome\n")
    (tmp_path / "types.json").write_text('{"Gene": "A gene.", "Cell": "A cell."}')
    gold = Document("1", "IL-2 and lead in Rome", (Mention(0, 4, "Gene"), Mention(9, 13, "Gene")))
    (tmp_path / "text.jsonl").write_text(json.dumps(gold.to_dict()) + "\n")
    arguments = [str(tmp_path / name) for name in ("d.tsv", "text.jsonl", "out.jsonl")]
    report = ["--report", str(tmp_path / "report.json")]
    facts = main([*arguments, "--types", str(tmp_path / "types.json"), "--score", *report])
    (document,) = read_jsonl(tmp_path / "out.jsonl")
    assert document.entities == (Mention(0, 4, "Gene"),) and document.undecided == ((9, 13),)
    assert facts["metrics"]["test"]["micro"]["precision"] == 1 and facts["metrics"]["test"]["micro"]["recall"] == 0.5
    assert json.loads((tmp_path / "report.json").read_text())["ambiguous"] == {"lead": ["Cell", "Gene"]}
    assert "1 names are ambiguous, for example lead (Cell, Gene)" in capsys.readouterr().out


def test_a_large_dictionary_needs_little_memory_and_labels_a_long_text():
    """100,000 names need less than 200 megabytes. All 50,000 mentions in one text are found."""
    tracemalloc.start()
    labeler = Labeler((Entry(f"substance {number} acid", "Chemical") for number in range(100_000)), plurals=False)
    assert tracemalloc.get_traced_memory()[1] < 200e6
    tracemalloc.stop()
    document = labeler.label(Document("1", " ".join(f"substance {number} acid and" for number in range(50_000))))
    assert len(document.entities) == 50_000


# ---- undecided spans in training ----


def test_undecided_spans_are_neither_mentions_nor_negatives():
    torch.manual_seed(0)
    words = torch.tensor([[0, 1, 1, 1, 0]])
    scores = [torch.randn(1, 2, 5, requires_grad=True), torch.randn(1, 2, 5, requires_grad=True)]
    spans = torch.randn(1, 2, 5, 3, requires_grad=True)
    losses = binder_losses(*scores, spans, words, words, torch.tensor([[[0, 1, 1], [-1, 2, 3]]]))
    sum(losses).backward()
    assert scores[0].grad[0, :, 2].abs().max() == scores[1].grad[0, :, 3].abs().max() == 0
    assert spans.grad[0, :, 2, 1].abs().max() == 0, "the scores of the undecided span have no gradient, for any type"
    assert spans.grad[0, :, 2, 0].abs().min() > 0, "the span of the first word alone is still a negative"
    alone = binder_losses(*scores, spans, words, words, torch.tensor([[[0, 1, 1], [-100, -100, -100]]]))
    assert sum(losses) < sum(alone)
