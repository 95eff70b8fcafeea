"""Labels from a dictionary."""

import json
import tracemalloc

import pytest
import torch

from modeling_binder.finetuning import Document, Mention, read_jsonl
from modeling_binder.losses_binder import binder_losses
from training.distant import Entry, Labeler, main, read_dictionary, read_texts


def labels(text, *entries, words=None, **options):
    labeler = Labeler([Entry(*entry) for entry in entries], **options)
    document = labeler.label(Document("1", text, words=words))
    return [(text[m.start : m.end], m.label) for m in document.entities]


GENES = (("IL-2", "Protein"), ("IL-2 gene", "Gene"), ("gene", "Gene"), ("kidney", "Organ"))


def test_the_longest_name_wins_unless_nested_ones_are_asked_for():
    text = "The IL-2 gene, a gene."
    assert labels(text, *GENES) == [("IL-2 gene", "Gene"), ("gene", "Gene")]
    nested = labels(text, *GENES, nested=True)
    assert nested == [("IL-2", "Protein"), ("IL-2 gene", "Gene"), ("gene", "Gene"), ("gene", "Gene")]


def test_names_are_whole_words():
    assert labels("kidneys kidneybean kidney-like", ("kidney", "Organ")) == [("kidneys", "Organ"), ("kidney", "Organ")]
    # of a text with words of its own, they are the boundaries
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
def test_case(name, text, found):
    spans = labels(text, (name, "X"))
    assert bool(spans) is found and all(span == name or span.casefold() == name.casefold() for span, _ in spans)
    if name == "K":
        assert len(spans) == 1
    assert bool(labels(text, (name, "X"), case="insensitive"))


def test_plurals():
    entries = (("antibody", "X"), ("virus", "X"), ("reflex", "X"), ("boy", "X"), ("T cell", "X"))
    text = "antibodies viruss reflexes boys T cells"
    assert [span for span, _ in labels(text, *entries)] == ["antibodies", "reflexes", "boys", "T cells"]
    assert labels(text, *entries, plurals=False) == []


def test_what_cannot_be_decided_is_undecided():
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


def test_a_name_of_unknown_type_keeps_shorter_names_from_being_taken():
    entries = (("growth", "X"), ("growth factor", ""))
    assert labels("growth factor and growth", *entries) == [("growth", "X")]


def test_ignored_names():
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
def test_dictionaries(name, content, tmp_path):
    (tmp_path / name).write_text(content)
    assert set(read_dictionary(tmp_path / name)) == {("IL-2", "Gene"), ("CD8", "Gene"), ("monocyte", "Cell")}


def test_names_alone_have_no_type(tmp_path):
    (tmp_path / "d.txt").write_text('"quoted name\nplain\n')
    assert list(read_dictionary(tmp_path / "d.txt")) == [('"quoted name', ""), ("plain", "")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [("d.tsv", "Gene\t\n", "d.tsv:1: expected a type and a name"), ("d.json", '["x"]', 'expected {"Type"')],
)
def test_broken_dictionaries(name, content, message, tmp_path):
    (tmp_path / name).write_text(content)
    (tmp_path / "text.txt").write_text("x\n")
    with pytest.raises(SystemExit, match=message):
        main([str(tmp_path / name), str(tmp_path / "text.txt"), str(tmp_path / "out.jsonl")])
    assert not (tmp_path / "out.jsonl").exists()


def test_texts(tmp_path):
    (tmp_path / "lines.txt").write_text("One sentence.\n\nAnother one.\n")
    assert [document.text for document in read_texts(tmp_path / "lines.txt")] == ["One sentence.", "Another one."]
    (tmp_path / "words.txt").write_text("Naloxone\nreverses\n\nit\n.\n")
    first, second = read_texts(tmp_path / "words.txt")
    assert first.text == "Naloxone reverses" and first.words == ((0, 8), (9, 17)) and second.text == "it ."


def test_the_command(tmp_path, capsys):
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


def test_a_large_dictionary_and_a_long_text():
    """A hundred thousand names in some hundred megabytes, many mentions in one text."""
    tracemalloc.start()
    labeler = Labeler((Entry(f"substance {number} acid", "Chemical") for number in range(100_000)), plurals=False)
    assert tracemalloc.get_traced_memory()[1] < 200e6
    tracemalloc.stop()
    document = labeler.label(Document("1", " ".join(f"substance {number} acid and" for number in range(50_000))))
    assert len(document.entities) == 50_000


# ---- what training does with it ----


def test_an_undecided_span_is_neither_mention_nor_negative():
    torch.manual_seed(0)
    words = torch.tensor([[0, 1, 1, 1, 0]])
    scores = [torch.randn(1, 2, 5, requires_grad=True), torch.randn(1, 2, 5, requires_grad=True)]
    spans = torch.randn(1, 2, 5, 3, requires_grad=True)
    losses = binder_losses(*scores, spans, words, words, torch.tensor([[[0, 1, 1], [-1, 2, 3]]]))
    sum(losses).backward()
    assert scores[0].grad[0, :, 2].abs().max() == scores[1].grad[0, :, 3].abs().max() == 0
    assert spans.grad[0, :, 2, 1].abs().max() == 0, "the span itself, for every type"
    assert spans.grad[0, :, 2, 0].abs().min() > 0, "its first word alone is a negative as before"
    alone = binder_losses(*scores, spans, words, words, torch.tensor([[[0, 1, 1], [-100, -100, -100]]]))
    assert sum(losses) < sum(alone)
