"""Tests of splitting texts into words, tokens and windows, and of tokenising descriptions."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from modeling_binder import BinderWindower, split_words
from modeling_binder.processing_binder import _pieces
from tests.tiny import build_byte_tokenizer, build_model, build_tokenizer

TOKENIZER = build_tokenizer()


def words(text):
    return [text[start:end] for start, end in split_words(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" \t\n", []),
        ("IL-2-mediated", ["IL", "-", "2", "-", "mediated"]),
        ("a_b", ["a", "_", "b"]),
        ("Dr. O'Neil\r\nleft", ["Dr", ".", "O", "'", "Neil", "left"]),
        ("東京へ行く", ["東", "京", "へ", "行", "く"]),
        ("서울에서", ["서", "울", "에", "서"]),
        ("cafe\u0301s", ["cafe\u0301s"]),  # a combining mark inside a word
        ("नमस्ते दुनिया", ["नमस्ते", "दुनिया"]),  # vowel signs are marks
        ("กินข้าว", ["กิ", "น", "ข้", "า", "ว"]),
        ("👩‍🔬👍🏽!", ["👩‍🔬", "👍🏽", "!"]),
        ("❤️ok", ["❤️", "ok"]),
        ("infor\u00admation", ["infor\u00admation"]),
        ("TGF-β1+", ["TGF", "-", "β1", "+"]),
        ("\u1100\u1161\u11a8\u1112\u1161", ["\u1100\u1161\u11a8", "\u1112\u1161"]),  # decomposed hangul
        ("ﾄﾖﾀﾉｶﾞ", ["ﾄ", "ﾖ", "ﾀ", "ﾉ", "ｶﾞ"]),  # half-width kana
        ("🇳🇴🇸🇪🇫", ["🇳🇴", "🇸🇪", "🇫"]),
        ("\U0001f3f4\U000e0067\U000e0062\U000e007f!", ["\U0001f3f4\U000e0067\U000e0062\U000e007f", "!"]),
        ("\ua997\ua9ae", ["\ua997", "\ua9ae"]),  # Javanese
    ],
)
def test_split_words(text, expected):
    assert words(text) == expected


@given(st.text())
@settings(deadline=None)
def test_words_are_ordered_and_disjoint_and_cover_everything_but_white_space(text):
    spans = split_words(text)
    position = 0
    for start, end in spans:
        assert position <= start < end
        assert not text[position:start].strip()
        position = end
    assert not text[position:].strip()


TEXTS = st.text(alphabet=st.sampled_from("abIL2-_. ,\n\r\té\u0301東京👩\u200d🔬😀\u00a0\u2028ß"), max_size=80)


@given(text=TEXTS, max_length=st.integers(5, 24), data=st.data())
@example("il 2 " * 20, 5, None)
@settings(deadline=None, max_examples=300)
def test_windows_cover_the_text_and_one_window_predicts_each_span(text, max_length, data):
    check_windows(text, max_length, 0 if data is None else data.draw(st.integers(0, max_length - 3)))


def test_every_window_has_new_tokens():
    check_windows("_222_22", 7, 2)


def check_windows(text, max_length, stride):
    """Check that the windows of a text cover its tokens, and that one window predicts each span."""
    windower = BinderWindower(TOKENIZER, max_length, stride)
    encoded = windower.encode(text)
    windows = windower.windows(encoded)
    spans = split_words(text)
    word_starts, word_ends = {start for start, _ in spans}, {end for _, end in spans}
    assert {offset for offset in encoded.starts if offset >= 0} <= word_starts
    assert {offset for offset in encoded.ends if offset >= 0} <= word_ends
    # Every token is in a window, the windows are in order, and none is too long.
    assert windows[0].begin == 0 and windows[-1].stop == len(encoded.input_ids)
    for before, after in itertools.pairwise(windows):
        assert before.begin < after.begin <= before.stop < after.stop
    for window in windows:
        assert len(window.input_ids) <= max_length
        assert len(window.starts) == len(window.ends) == len(window.input_ids)
        assert window.input_ids[1:-1] == encoded.input_ids[window.begin : window.stop]
        assert window.starts[0] == window.ends[0] == window.starts[-1] == -1
    # If a span lies in one or more windows, exactly one of these windows predicts the span.
    count = len(encoded.input_ids)
    for first in range(count):
        for last in range(first, min(count, first + max_length)):
            holders = [w for w in windows if w.begin <= first and last < w.stop]
            owners = [w for w in windows if w.owned[0] < first + last - 2 * (w.begin - 1) <= w.owned[1]]
            if holders:
                assert len(owners) == 1 and owners[0] in holders


@given(text=TEXTS, piece=st.integers(1, 30), split=st.booleans())
@example("the il 2 " * 30, 8, False)
@settings(deadline=None, max_examples=300)
def test_a_text_tokenised_in_pieces_has_the_same_windows(text, piece, split):
    windower = BinderWindower(TOKENIZER, 12, 4)
    given = split_words(text) if split else None
    whole = windower.windows(windower.encode(text, given))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("modeling_binder.processing_binder.MIN_PIECE_CHARACTERS", piece)
        pieces = list(windower.read(text, given))
        parts = list(_pieces(text, given))
    assert "".join(part for _, part, _ in parts) == text
    assert all(len(part) <= max(3 * piece, 2 * piece + 20) for _, part, _ in parts)
    if all(part[:1].isspace() or not begin for begin, part, _ in parts):
        assert pieces == whole
    elif all(end - start < 2 * piece for start, end in split_words(text)):
        # A piece ends where the text has no white space, so the windows may differ. But each word still starts where
        # a word of `split_words` starts.
        assert {w.starts[i] for w in pieces for i in range(len(w.starts))} <= {s for s, _ in split_words(text)} | {-1}


@pytest.mark.parametrize(
    ("text", "spans"),
    [
        ("gene🎉 ➤cell", [(0, 4), (4, 5), (6, 7), (7, 11)]),  # symbols that are not in the vocabulary
        ("cell✓🎉x", [(0, 4), (4, 6), (6, 7)]),
        ("gene🎉🎉", [(0, 4)]),
        ("genใe", [(0, 3), (3, 4), (4, 5)]),
    ],
)
def test_words_next_to_unknown_symbols_have_their_own_tokens(text, spans):
    located = BinderWindower(TOKENIZER).encode(text).locate(spans)
    assert None not in located
    assert all(last < first for (_, last), (first, _) in itertools.pairwise(located))


def test_symbols_without_words_stay_one_token():
    assert len(BinderWindower(TOKENIZER).encode("🎉✓ gene").input_ids) == 2


@pytest.mark.parametrize("space", ["\x0b", "\x0c", "\x1c", "\x1f", "\x85"])
def test_control_characters_that_are_white_space_separate_words(space):
    """BERT's tokenizer deletes control characters, and so would join the words around them."""
    windower = BinderWindower(TOKENIZER)
    assert windower.encode(f"cell{space}gene") == windower.encode("cell gene")
    types = windower.encode_types([f"cell{space}gene", "cell gene"])["type_input_ids"]
    assert torch.equal(types[0], types[1])


@given(st.text(alphabet="ab🎉✓é\u0301 \x0b\x1f\u2028กที-", max_size=20))
@settings(deadline=None)
def test_every_word_of_letters_can_be_found(text):
    encoded = BinderWindower(TOKENIZER).encode(text)
    spans = [(start, end) for start, end in split_words(text) if text[start].isalnum()]
    assert None not in encoded.locate(spans)
    offsets = [offset for offset in (*encoded.starts, *encoded.ends) if offset >= 0]
    assert set(offsets) <= {offset for span in split_words(text) for offset in span}


def test_windows_begin_between_words_if_possible():
    windower = BinderWindower(TOKENIZER, 12, 4)
    encoded = windower.encode("promoter genes cells promoting " * 4)
    windows = windower.windows(encoded)
    assert len(windows) > 2
    assert all(encoded.breakable[window.begin] for window in windows)


def test_a_word_may_be_longer_than_a_window():
    windower = BinderWindower(TOKENIZER, 12, 4)
    windows = windower.windows(
        windower.encode("x" * 90)
    )  # WordPiece replaces words of more than 100 characters by [UNK]
    assert len(windows) > 8
    assert [sum(w.word_start_mask) for w in windows] == [1] + [0] * (len(windows) - 1)
    assert [sum(w.word_end_mask) for w in windows] == [0] * (len(windows) - 1) + [1]


def test_an_empty_text_has_one_window():
    windower = BinderWindower(TOKENIZER, 12, 4)
    (window,) = windower.windows(windower.encode(""))
    assert window.input_ids == [2, 3] and not any(window.word_start_mask)


def test_locate_returns_the_first_and_last_token_of_a_span():
    windower = BinderWindower(TOKENIZER)
    encoded = windower.encode("the IL-2 gene")
    assert [encoded.starts[first] for first, _ in encoded.locate([(4, 8)])] == [4]
    assert [encoded.ends[last] for _, last in encoded.locate([(4, 6), (4, 13)])] == [6, 13]
    assert encoded.locate([(5, 8)]) == [None]  # begins inside a word
    assert encoded.locate([(8, 4)]) == [None]


def test_given_words_replace_the_words_of_split_words():
    windower = BinderWindower(TOKENIZER)
    encoded = windower.encode("IL-2 gene", [(0, 4), (5, 9)])
    assert [offset for offset in encoded.starts if offset >= 0] == [0, 5]
    assert [offset for offset in encoded.ends if offset >= 0] == [4, 9]
    assert encoded.locate([(0, 2)]) == [None]


def test_a_stride_that_is_too_large_for_max_length_is_rejected():
    with pytest.raises(ValueError, match=r"stride=30 and max_length=32\. Try stride=4"):
        BinderWindower(TOKENIZER, 32, 30)


def test_slow_tokenizers_and_tokenizers_without_cls_are_rejected():
    class Slow:
        is_fast = False

    with pytest.raises(ValueError, match="Slow is not a fast tokenizer"):
        BinderWindower(Slow())
    bare = build_tokenizer()
    from tokenizers import processors

    bare.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A [SEP]", pair="$A $B [SEP]", special_tokens=[("[SEP]", 3)]
    )
    with pytest.raises(ValueError, match=r"adds no \[CLS\]"):
        BinderWindower(bare)


def test_long_descriptions_are_rejected_and_not_truncated():
    windower = BinderWindower(TOKENIZER)
    inputs = windower.encode_types(["gene", "the cell of the gene"])
    assert inputs["type_input_ids"].shape == inputs["type_attention_mask"].shape
    assert inputs["type_attention_mask"].sum(1).tolist() == [3, 7]
    with pytest.raises(ValueError, match="has 102 tokens, more than the 50"):
        windower.encode_types(["gene " * 100], max_length=50)


def test_a_character_of_several_byte_level_tokens_is_one_word():
    """A byte-level tokenizer splits an emoji into several tokens. All of them have the offsets of the emoji."""
    windower = BinderWindower(build_byte_tokenizer())
    text = "a 👩‍🔬 é."
    encoded = windower.encode(text)
    starts = [offset for offset in encoded.starts if offset >= 0]
    ends = [offset for offset in encoded.ends if offset >= 0]
    assert [text[start:end] for start, end in zip(starts, ends, strict=True)] == ["a", "👩‍🔬", "é", "."]


SURROGATES = ["a \ud800 gene", "\udc00", "x\ud83d\ude00y", "東\udfff京"]


@pytest.mark.parametrize("text", SURROGATES)
def test_lone_surrogates_are_replaced_before_tokenising(text):
    windower = BinderWindower(TOKENIZER)
    replaced = "".join("\ufffd" if "\ud800" <= character <= "\udfff" else character for character in text)
    assert windower.encode(text) == windower.encode(replaced)
    assert list(windower.read(text)) == list(windower.read(replaced))
    (one, two) = (windower.encode_types([description])["type_input_ids"] for description in (text, replaced))
    assert one.tolist() == two.tolist()


def test_the_configured_stride_is_used():
    for stride in (0, 16, 40):
        windower = BinderWindower.for_model(build_model(stride=stride), TOKENIZER)
        assert (windower.max_length, windower.stride) == (64, stride)


def test_a_default_stride_is_scaled_only_for_a_shorter_max_length():
    model = build_model(stride=16)  # its max_length is 64
    for max_length, stride in ((32, 8), (33, 8), (64, 16), (100, 16)):
        windower = BinderWindower.for_model(model, TOKENIZER, max_length)
        assert (windower.max_length, windower.stride) == (max_length, stride)
    assert BinderWindower.for_model(model, TOKENIZER, 32, 20).stride == 20
    with pytest.raises(ValueError, match="stride=16 and max_length=16"):
        BinderWindower.for_model(model, TOKENIZER, 16, 16)


@pytest.mark.parametrize("stride", [61, 60, 50, 0])
@pytest.mark.parametrize("max_length", [40, 10, 5, 4, 3])
def test_a_scaled_default_stride_is_valid_for_every_max_length(stride, max_length):
    windower = BinderWindower.for_model(build_model(stride=stride), TOKENIZER, max_length)
    assert windower.stride == min(stride * max_length // 64, max_length - 3)


@pytest.mark.parametrize("bad", ["64", 64.0, 1.5, True])
@pytest.mark.parametrize("name", ["max_length", "stride"])
def test_lengths_that_are_not_integers_are_rejected(name, bad):
    with pytest.raises(ValueError, match=f"{name} must be a whole number, got {bad!r}"):
        BinderWindower.for_model(build_model(), TOKENIZER, **{name: bad})
    windower = BinderWindower.for_model(build_model(), TOKENIZER, np.int64(40), torch.tensor(5))
    assert (windower.max_length, windower.stride) == (40, 5)


@given(st.integers(0, 20), st.integers(24, 40), st.integers(30, 120))
@settings(deadline=None, max_examples=50)
def test_spans_of_up_to_stride_plus_one_tokens_lie_in_some_window(stride, max_length, words):
    windower = BinderWindower(TOKENIZER, max_length, stride)
    windows = windower.windows(windower.encode("x " * words))  # one token per word
    for width in (1, stride + 1):
        for first in range(words - width + 1):
            assert any(window.begin <= first and first + width <= window.stop for window in windows)
    if len(windows) > 1:
        first = windows[1].begin - 1
        assert not any(window.begin <= first and first + stride + 2 <= window.stop for window in windows)


def test_importing_the_old_name_of_the_windower_gives_a_warning():
    with pytest.warns(FutureWarning, match="BinderProcessor is now BinderWindower"):
        from modeling_binder import BinderProcessor
    with pytest.warns(FutureWarning, match="BinderProcessor is now BinderWindower"):
        from modeling_binder.processing_binder import BinderProcessor as same
    assert BinderProcessor is same is BinderWindower
