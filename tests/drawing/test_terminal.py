"""Tests of drawings of entities in the terminal."""

from modeling_binder.drawing.colors import PALETTE
from modeling_binder.drawing.terminal import draw_entities


def entity(text, word, label):
    start = text.index(word)
    return {"entity_group": label, "start": start, "end": start + len(word), "word": word, "score": 0.9}


def draw(text, *entities, width=60):
    drawing = draw_entities(text, [entity(text, *e) for e in entities], width).plain
    return [line.rstrip() for line in drawing.rstrip("\n").split("\n")]


def test_inner_entities_are_closest_to_the_text():
    assert draw("the IL-2 gene here", ("IL-2 gene", "Gene"), ("IL-2", "Protein")) == [
        "the IL-2 gene here",
        "    └──┘ Protein",
        "    └───────┘ Gene",
    ]


def test_a_label_does_not_overlap_the_next_bar():
    assert draw("Oslo, Lyon", ("Oslo", "Location"), ("Lyon", "Location")) == [
        "Oslo, Lyon",
        "└──┘ Location",
        "      └──┘ Location",
    ]


def test_long_lines_are_wrapped_and_bars_continue_on_the_next_line():
    text, organization = "we saw the university of oslo today", ("university of oslo", "Org")
    assert draw(text, organization, width=25) == [
        "we saw the",
        "university of oslo",
        "└────────────────┘ Org",
        "today",
    ]
    assert draw(text, organization, width=19) == [
        "we saw the",
        "university of",
        "└────────────╌",
        "oslo today",
        "╌──┘ Org",
    ]


def test_single_characters_wide_characters_and_empty_texts_can_be_drawn():
    assert draw("a b", ("b", "X")) == ["a b", "  ┴ X"]
    assert draw("東京 a", ("a", "X")) == ["東京 a", "     ┴ X"]
    assert draw("") == [""]


def test_unlisted_labels_are_drawn_and_follow_the_listed_labels():
    text = "the IL-2 gene"
    found = [{"label": "Gene", "start": 4, "end": 13}, {"label": "Protein", "start": 4, "end": 8}]
    drawn = draw_entities(text, found, labels=["Protein"])
    assert [line.rstrip() for line in drawn.plain.splitlines()] == [
        "the IL-2 gene",
        "    └──┘ Protein",
        "    └───────┘ Gene",
    ]
    assert [str(span.style) for span in drawn.spans][1:] == [PALETTE[0][0], PALETTE[1][0]]
