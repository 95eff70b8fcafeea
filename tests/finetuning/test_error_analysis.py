"""The analysis of errors by kind, and the HTML page that shows the errors."""

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeling_binder.finetuning import Document, Mention, compute_scheme_metrics
from modeling_binder.finetuning.error_analysis import ErrorKind, analyse_errors
from modeling_binder.finetuning.error_page import write_error_page

TEXT = "The IL-2 gene promoter is active in T cells of Berlin."
GOLD = Document(
    "a",
    TEXT,
    tuple(Mention(*span) for span in [(4, 22, "DNA"), (4, 8, "Protein"), (36, 43, "Cell"), (47, 53, "Place")]),
)
PREDICTED = [
    {"start": 4, "end": 22, "label": "DNA", "score": 0.99},  # correct
    {"start": 4, "end": 8, "label": "Gene", "score": 0.75},  # wrong type
    {"start": 38, "end": 43, "label": "Cell", "score": 0.5},  # wrong boundaries
    {"start": 26, "end": 32, "label": "Cell"},  # spurious
]
MENTIONS = st.lists(
    st.tuples(st.integers(0, 20), st.integers(1, 8), st.sampled_from("AB")).map(lambda t: (t[0], t[0] + t[1], t[2])),
    max_size=6,
)


def test_each_error_has_the_right_kind():
    analysis = analyse_errors([GOLD], [PREDICTED])
    assert analysis.correct == 1
    assert [(error.kind, error.gold, error.predicted) for error in analysis.errors] == [
        (ErrorKind.TYPE, (4, 8, "Protein"), (4, 8, "Gene")),
        (ErrorKind.SPURIOUS, None, (26, 32, "Cell")),
        (ErrorKind.BOUNDARY, (36, 43, "Cell"), (38, 43, "Cell")),
        (ErrorKind.MISSED, (47, 53, "Place"), None),
    ]
    assert analysis.confusion == {
        ("DNA", "DNA"): 1,
        ("Protein", "Gene"): 1,
        ("Cell", "Cell"): 1,
        (None, "Cell"): 1,
        ("Place", None): 1,
    }
    written = analysis.to_dict()
    assert json.loads(json.dumps(written)) == written
    assert written["errors"] == {"type": 1, "boundary": 1, "type and boundary": 0, "missed": 1, "spurious": 1}
    assert written["mentions"][0] == {
        "kind": "type",
        "document": "a",
        "gold": {"start": 4, "end": 8, "label": "Protein", "text": "IL-2"},
        "predicted": {"start": 4, "end": 8, "label": "Gene", "text": "IL-2", "score": 0.75},
    }
    assert written["mentions"][1]["gold"] is None and written["mentions"][1]["predicted"]["score"] is None


@settings(max_examples=50, deadline=None)
@given(MENTIONS, MENTIONS)
def test_the_numbers_of_errors_agree_with_the_scores(gold, predicted):
    document = Document("a", "x" * 40, tuple(Mention(*span) for span in gold))
    analysis = analyse_errors([document], [predicted])
    metrics = compute_scheme_metrics([document], [predicted])
    counts, outcomes = analysis.counts(), metrics.boundary.outcomes
    assert analysis.correct == metrics.strict.outcomes.correct
    assert counts[ErrorKind.TYPE] == outcomes.correct - analysis.correct
    assert counts[ErrorKind.BOUNDARY] + counts[ErrorKind.BOTH] == outcomes.incorrect
    assert (counts[ErrorKind.MISSED], counts[ErrorKind.SPURIOUS]) == (outcomes.missed, outcomes.spurious)
    assert sum(analysis.confusion.values()) == analysis.correct + len(analysis.errors)


def test_predictions_that_do_not_match_the_documents_raise_an_error():
    with pytest.raises(ValueError, match="1 documents with gold mentions and 2 with predictions"):
        analyse_errors([GOLD], [[], []])
    with pytest.raises(ValueError, match=r"ends after the text of document 'a', which has 54 characters"):
        analyse_errors([GOLD], [[(50, 60, "Cell")]])


def page_of(tmp_path, analysis, **options):
    write_error_page(tmp_path / "errors.html", analysis, **options)
    return (tmp_path / "errors.html").read_text(encoding="utf-8")


def test_the_page_shows_each_error_in_its_section(tmp_path):
    page = page_of(tmp_path, analyse_errors([GOLD], [PREDICTED]), title="Errors of mine", labels=["Place", "Cell"])
    assert "<h1>Errors of mine</h1>" in page and page.count("<article>") == 4
    sections = dict(re.findall(r'<section id="([^"]+)">(.*?)</section>', page, re.DOTALL))
    assert list(sections) == ["type", "boundary", "type-and-boundary", "missed", "spurious"]
    assert [section.count("<article>") for section in sections.values()] == [1, 1, 0, 1, 1]
    words = {name: re.sub(r"<[^>]*>", "", section) for name, section in sections.items()}
    assert "gold Protein “IL-2” → predicted Gene “IL-2” (0.75)" in words["type"]
    assert "gold Cell “T cells” → predicted Cell “cells” (0.50)" in words["boundary"]
    assert "document a, characters 47 to 53" in words["missed"] and "gold Place “Berlin”" in words["missed"]
    assert "predicted Cell “active”" in words["spurious"]
    assert page.index('<th scope="row">Place</th>') < page.index('<th scope="row">Cell</th>') < page.index(">DNA</th>")
    assert 'data-span="4-22-' in page, "the drawing contains a bar for the mention"


def test_the_page_escapes_all_texts_and_loads_no_other_files(tmp_path):
    evil = "<script>alert(1)</script> & \"quoted\" 'text'"
    gold = Document(evil, evil, (Mention(0, 8, evil),))
    page = page_of(tmp_path, analyse_errors([gold], [[(0, 6, "<b>")]]), title=evil)
    assert "<script" not in page and "<b>" not in page
    assert "&lt;script&gt;" in page
    assert not re.search(r"(?:src|href)=\"(?!#)", page) and not re.search(r"url\((?!data:)", page)
    assert "@import" not in page


def test_the_page_limits_the_errors_of_each_kind(tmp_path):
    documents = [Document(str(index), f"word {index}", (Mention(0, 4, "A"),)) for index in range(60)]
    analysis = analyse_errors(documents, [[]] * 60)
    page = page_of(tmp_path, analysis, max_errors=6)
    assert "6 of 60 are shown." in page and page.count("<article>") == 6
    assert re.findall(r"document (\d+),", page) == ["0", "10", "20", "30", "40", "50"]
    with pytest.raises(ValueError, match="max_errors must be at least 1"):
        write_error_page(tmp_path / "errors.html", analysis, max_errors=0)


def test_long_documents_and_mentions_are_shortened(tmp_path):
    text = "before " * 300 + "the mention " + "after " * 300
    start = text.index("the mention")
    around = (Mention(start, start + 11, "A"), Mention(0, len(text), "Whole"))
    page = page_of(tmp_path, analyse_errors([Document("long", text, around)], [[]]))
    missed = page[page.index('id="missed"') :]
    assert missed.count("…") >= 4 and len(page) < 60_000
    assert f"characters {start} to {start + 11}" in missed and f"characters 0 to {len(text)}" in missed


def test_a_page_is_written_for_a_corpus_without_mentions_or_documents(tmp_path):
    assert "0 documents" in page_of(tmp_path, analyse_errors([], []))
    one = analyse_errors([Document("a", "word", (Mention(0, 4, "A"),))], [[]])
    assert "<p>1 document, 1 gold mention, 0 predictions, " in page_of(tmp_path, one)
    assert "Number of errors: 0." in page_of(tmp_path, analyse_errors([Document("a", "text")], [[]]))


def test_the_confusion_matrix_shows_the_types_with_the_most_errors(tmp_path):
    labels = [f"type {number}" for number in range(50)]
    documents = [Document(label, "word", (Mention(0, 4, label),)) for label in labels]
    predicted = [[(0, 4, labels[min(number + 1, 49)] if number > 40 else label)] for number, label in enumerate(labels)]
    page = page_of(tmp_path, analyse_errors(documents, predicted), labels=labels)
    matrix = page[page.index('class="confusion"') : page.index("<section")]
    assert "The 30 types with the most errors of 50 types are shown." in page
    assert ">type 42</th>" in matrix and ">type 30</th>" not in matrix
