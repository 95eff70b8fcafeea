"""Tests of drawings of entities in HTML."""

import itertools
import re
from html.parser import HTMLParser
from urllib.parse import unquote
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeling_binder.drawing.colors import PALETTE
from modeling_binder.drawing.html import draw_html, margin, pieces
from modeling_binder.drawing.lanes import groups

TEXT = "IL-2 gene <b>promoter</b>\nof  T cells 東京"


def entity(start, end, label="Gene", score=0.9):
    return {"start": start, "end": end, "entity_group": label, "score": score, "word": TEXT[start:end]}


SPANS = st.lists(
    st.tuples(st.integers(0, len(TEXT) - 1), st.integers(1, 12), st.sampled_from(["A", "B<i>"])).filter(
        lambda span: not TEXT[span[0]].isspace() and not TEXT[min(span[0] + span[1], len(TEXT)) - 1].isspace()
    ),
    max_size=7,
)


def entities_of(spans):
    """Return entities for generated spans (start, width, label), each span once."""
    return [entity(*span) for span in {(s, min(s + width, len(TEXT)), label) for s, width, label in spans}]


def bars_in(entities):
    return [bar for group in groups(entities) for bar in group]


def pieces_in(entities):
    return [piece for group in groups(entities) for piece in pieces(group)]


@given(SPANS)
@settings(deadline=None)
def test_overlapping_entities_have_different_lanes_and_longer_entities_lie_below(spans):
    found = entities_of(spans)
    placed = bars_in(found)
    assert len(placed) == len(found)
    for a in placed:
        for b in placed:
            if a is not b and a.start < b.end and b.start < a.end:
                assert a.lane != b.lane
                if a.end - a.start > b.end - b.start:
                    assert a.lane > b.lane


@given(SPANS)
@settings(deadline=None)
def test_pieces_cover_their_entities_and_never_cross(spans):
    placed = bars_in(entities_of(spans))
    cut = pieces_in(entities_of(spans))
    for one in placed:
        own = sorted((piece.start, piece.end) for piece in cut if piece.bar == one)
        assert own[0][0] == one.start and own[-1][1] == one.end
        assert all(before[1] == after[0] for before, after in itertools.pairwise(own))
    for a, b in itertools.combinations(cut, 2):
        nested = (a.start <= b.start and b.end <= a.end) or (b.start <= a.start and a.end <= b.end)
        assert nested or a.end <= b.start or b.end <= a.start
    assert len(cut) == len(placed) or any(a.start < b.start < a.end < b.end for a in placed for b in placed), (
        "only crossing entities are cut"
    )


class Drawing(HTMLParser):
    """A parser that extracts the visible text and the pieces of the bars from a drawing."""

    def __init__(self, drawn):
        super().__init__()
        self.text, self.open, self.spans, self.inside = "", [], set(), False
        self.feed(drawn)
        self.close()

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.inside = self.inside or attributes.get("class") == "bn-text"
        if tag == "span":
            self.open.append((attributes["data-span"], len(self.text)))

    def handle_endtag(self, tag):
        if tag == "span":
            name, start = self.open.pop()
            self.spans.add((name, start, len(self.text)))
        self.inside = self.inside and tag != "div"

    def handle_data(self, data):
        self.text += data if self.inside else ""


@given(SPANS)
@settings(deadline=None)
def test_the_text_of_a_drawing_is_unchanged(spans):
    found = entities_of(spans)
    drawn = draw_html(TEXT, found, ["A", "B<i>"])
    parsed = Drawing(drawn)
    assert parsed.text == TEXT and not parsed.open
    assert "<b>" not in drawn and "<i>" not in drawn
    expected = {(f"{p.bar.start}-{p.bar.end}-{p.bar.lane}", p.start, p.end) for p in pieces_in(found)}
    assert parsed.spans == expected
    assert drawn.count('tabindex="0"') == len(found)


def bars_of(drawn):
    """Return the SVG images of the bars in a drawing."""
    return [unquote(image) for image in re.findall(r"url\(data:image/svg\+xml,([^)]*)\)", drawn)]


def test_a_drawing_has_labels_scores_and_descriptions():
    drawn = draw_html("IL-2 gene", [entity(0, 9), entity(0, 4, "Protein", 0.98)], ["Gene", "Protein"])
    description = "IL-2, Protein, score 0.98, +3.9 over its threshold, characters 0 to 4, inside IL-2 gene"
    assert f'aria-label="{description}"' in drawn and f'title="{description}"' in drawn
    assert [re.search(r">(\w*)</div>", bar)[1] for bar in bars_of(drawn)] == ["Gene", "Protein"]
    assert "Protein (1)" in drawn
    assert "Nothing was found" in draw_html("a", [], ["Gene"])
    assert margin(0.5) == 0 and margin(1) == float("inf") and margin(0) == -float("inf")


def test_the_longest_piece_of_a_crossing_entity_has_the_label():
    drawn = draw_html("ab cdef gh", [entity(0, 7, "A"), entity(5, 10, "B")], ["A", "B"])
    shown = [re.search(r">(\w*)</div>", bar)[1] for bar in bars_of(drawn)]
    assert shown == ["A", "", "B"], "B is cut where A ends, and its second piece is longer"


@pytest.mark.parametrize("label", ["<script>alert(1)</script>", "a\x00b", "half \ud83d", "', url(x)", "]]>&lt;"])
def test_a_bar_is_valid_xml_for_every_label(label):
    (bar,) = bars_of(draw_html("IL-2", [entity(0, 4, label)], [label]))
    tree = ElementTree.fromstring(bar)
    assert (
        len(list(tree.iter())) == 3
        and "url(" not in draw_html("IL-2", [entity(0, 4, label)], [label]).split("url(", 2)[0]
    )
    shown = "".join(tree.itertext())
    assert shown == "".join(c if c.isprintable() else " " for c in label)


def luminance(color):
    """Return the relative luminance of a colour, as defined by WCAG."""
    color = color.lstrip("#")
    color = "".join(2 * c for c in color) if len(color) == 3 else color
    parts = [int(color[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize(("background", "ink"), PALETTE)
def test_labels_have_enough_contrast_on_every_colour(background, ink):
    dark, light = sorted([luminance(background), luminance(ink)])
    assert (light + 0.05) / (dark + 0.05) >= 4.5


def test_entities_of_a_corpus_have_a_label_and_no_score():
    drawn = draw_html("IL-2 gene", [{"start": 0, "end": 4, "label": "Protein"}])
    assert 'title="IL-2, Protein, characters 0 to 4"' in drawn and "Protein (1)" in drawn


def test_labels_outside_the_list_follow_the_listed_labels():
    found = [entity(0, 4, "B"), entity(5, 9, "C"), entity(0, 9, "A")]
    drawn = draw_html("IL-2 gene", found, ["C"])
    assert re.findall(r"(\w) \(1\)</li>", drawn) == ["C", "A", "B"]
    assert f'background:{PALETTE[0][0]};color:{PALETTE[0][1]}">C (1)' in drawn


def test_only_overlapping_entities_are_in_one_group():
    """Entities are compared only within a group. So the time to draw grows linearly with the length of the text."""
    text = "IL-2 gene " * 5000
    found = [entity(start, start + size) for start in range(0, len(text), 10) for size in (4, 9)]
    compared = []
    for group in groups(found):
        compared.append(len(group))
    assert compared == [2] * 5000
