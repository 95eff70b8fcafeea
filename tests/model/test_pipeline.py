"""Tests of the pipeline: inputs, arguments, exact offsets, long texts, and broad and narrow types."""

import copy
import itertools
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import torch
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import normalizers
from transformers import pipeline
from transformers.pipelines.pt_utils import KeyDataset

from modeling_binder import BinderNerPipeline
from tests.tiny import TYPES, assert_same_entities, build_model, build_pipeline, build_tokenizer, keys

TEXTS = ["IL-2 gene promoter", "", "cells of the gene", "   ", "x", "The IL-2-mediated effect, in 2 cells."]


PIPE = build_pipeline()


@pytest.fixture
def pipe():
    return copy.copy(PIPE)


def test_entities_have_the_documented_keys_and_order(pipe):
    text = TEXTS[-1]
    entities = pipe(text)
    assert entities
    for entity in entities:
        assert set(entity) == {"entity_group", "score", "word", "start", "end"}
        assert text[entity["start"] : entity["end"]] == entity["word"]
        assert entity["entity_group"] in TYPES and 0.5 < entity["score"] <= 1
    assert [(e["start"], -e["end"]) for e in entities] == sorted((e["start"], -e["end"]) for e in entities)


def test_all_kinds_of_inputs_give_the_same_results(pipe):
    single = [pipe(text) for text in TEXTS]
    for batch_size in (1, 2, 4):
        for inputs in (
            TEXTS,
            tuple(TEXTS),
            (text for text in TEXTS),
            KeyDataset(Dataset.from_dict({"text": TEXTS}), "text"),
        ):
            found = list(pipe(inputs, batch_size=batch_size))
            assert len(found) == len(TEXTS)
            for one, two in zip(found, single, strict=True):
                assert_same_entities(one, two)


def test_empty_inputs_have_empty_results(pipe):
    assert pipe([]) == []
    assert pipe("") == [] and pipe(" \n\t") == []
    assert pipe(["", ""]) == [[], []]
    assert_same_entities(pipe(TEXTS[:1] * 2)[0], pipe(TEXTS[0]))


@given(st.text(alphabet=st.sampled_from("abIL2-. \n\r東京é\u0301👩\u200d🔬😀"), max_size=60))
@settings(deadline=None, max_examples=60)
def test_offsets_are_exact(text):
    for entity in PIPE(text, threshold=0.2):
        assert text[entity["start"] : entity["end"]] == entity["word"] and entity["word"].strip()


def test_flat_decoding_returns_a_non_overlapping_subset_of_nested_decoding(pipe):
    text = "the IL-2 gene promoter of cells in the cell"
    nested, flat = pipe(text), pipe(text, decoding="flat")
    assert set(keys(flat)) <= set(keys(nested)) and 0 < len(flat) < len(nested)
    assert all(a["end"] <= b["start"] for a, b in itertools.pairwise(flat))


def test_joint_inference_finds_a_subset_of_the_entities_of_span_inference(pipe):
    text = "the IL-2 gene promoter of cells in the cell"
    span, joint = keys(pipe(text)), keys(pipe(text, inference="joint"))
    assert set(joint) < set(span)
    assert keys(build_pipeline(inference="joint")(text)) == joint


def test_entity_types_can_be_given_at_call_time(pipe):
    text = "the IL-2 gene promoter of cells"
    own = pipe(text)
    assert keys(pipe(text, entity_types=["Cell"])) == [k for k in keys(own) if k[0] == "Cell"]
    renamed = pipe(text, entity_types={"Zelle": TYPES["Cell"]})
    assert [k[1:] for k in keys(renamed)] == [k[1:] for k in keys(own) if k[0] == "Cell"]
    more = pipe(text, entity_types={**TYPES, "Drug": "A chemical that heals."})
    assert_same_entities(
        [e for e in more if e["entity_group"] != "Drug"], own
    )  # an added type does not change the entities of the other types
    assert pipe(text) == own  # the arguments of one call do not affect the next call


def test_a_call_accepts_a_thousand_types(pipe):
    found = pipe("IL-2 gene", entity_types={f"T{i}": f"description {i}" for i in range(1000)}, threshold=0.99)
    assert {e["entity_group"] for e in found} <= {f"T{i}" for i in range(1000)}


def test_scoring_types_in_blocks_does_not_change_the_entities(pipe, monkeypatch):
    types = {**TYPES, **{f"T{i}": f"description {i}" for i in range(20)}}
    whole = [pipe(TEXTS, entity_types=types, batch_size=3, inference=inference) for inference in ("span", "joint")]
    monkeypatch.setattr("modeling_binder.modeling_binder.CPU_BLOCK_SCORES", 50)
    monkeypatch.setattr("modeling_binder.modeling_binder.MAX_TYPES_PER_BLOCK", 7)
    monkeypatch.setattr("modeling_binder.modeling_binder.MAX_TOKEN_PRODUCTS", 500)
    parts = [pipe(TEXTS, entity_types=types, batch_size=3, inference=inference) for inference in ("span", "joint")]
    for one, two in zip(whole, parts, strict=True):
        for a, b in zip(one, two, strict=True):
            assert_same_entities(a, b)


def test_the_threshold_can_be_given_at_call_time(pipe):
    text = "the IL-2 gene promoter of cells"
    default = pipe(text)
    assert pipe(text, threshold=0.5) == default
    strict = pipe(text, threshold=0.8)
    assert_same_entities(strict, [e for e in default if e["score"] > 0.8])
    assert pipe(text, threshold=1) == []
    assert len(pipe(text, threshold=0)) > len(default)
    cells = pipe(text, threshold={"Gene": 1.0, "Place": 1.0})
    assert cells == [e for e in default if e["entity_group"] == "Cell"]


@pytest.mark.parametrize(
    "number", [np.float32(0.75), np.float64(0.75), np.array(0.75), torch.tensor(0.75), Fraction(3, 4), Decimal("0.75")]
)
def test_a_threshold_may_be_a_number_of_any_kind(pipe, number):
    text = "the IL-2 gene promoter of cells"
    expected = pipe(text, threshold=0.75)
    assert pipe(text, threshold=number) == expected and 0 < len(expected) < len(pipe(text))
    assert pipe(text, threshold=dict.fromkeys(TYPES, number)) == expected
    assert pipe(text, threshold=np.int64(1)) == []


@pytest.mark.parametrize("text", ["the \ud800 gene", "\udc00", "cells\ud83d of \ude00the\udfff gene", "\ud83d\ude00"])
def test_lone_surrogates_do_not_shift_offsets(pipe, text):
    found = pipe(text, threshold=0.3)
    assert bool(found) == ("gene" in text)  # surrogates become U+FFFD, which BERT's tokenizer drops
    assert all(text[e["start"] : e["end"]] == e["word"] for e in found)
    replaced = "".join("\ufffd" if "\ud800" <= character <= "\udfff" else character for character in text)
    assert_same_entities(found, pipe(replaced, threshold=0.3))
    assert_same_entities(pipe(["a", text, "a"], threshold=0.3)[1], found)


def test_lone_surrogates_in_words_and_descriptions_are_replaced(pipe):
    assert pipe(["the", "\ud800", "gene"], is_split_into_words=True)
    types = {"T": "a \udc00 gene"}
    assert_same_entities(
        pipe("the gene", entity_types=types, threshold=0.2),
        pipe("the gene", entity_types={"T": "a \ufffd gene"}, threshold=0.2),
    )


def test_thresholds_of_the_configuration_are_defaults():
    text = "the IL-2 gene promoter of cells"
    pipe = build_pipeline(thresholds={"Gene": 0.9, "Place": 1.0})
    plain = PIPE(text)
    expected = [e for e in plain if e["entity_group"] == "Cell" or (e["entity_group"] == "Gene" and e["score"] > 0.9)]
    assert 0 < len(expected) < len(plain)
    assert_same_entities(pipe(text), expected)
    assert_same_entities(pipe(text, threshold=0.5), plain)  # a number replaces the thresholds of all types
    named = pipe(text, threshold={"Place": 0.5})  # the other types keep their defaults
    assert {e["entity_group"] for e in named} == {"Gene", "Cell", "Place"}
    assert_same_entities([e for e in named if e["entity_group"] != "Place"], expected)
    assert len(pipe(text, entity_types=["gene"])) == sum(e["entity_group"] == "Gene" for e in expected)
    other = {"Gene": "A chemical that heals."}  # the threshold was tuned for another description
    assert_same_entities(pipe(text, entity_types=other), PIPE(text, entity_types=other))


# ---- narrow and broad types ----

FAMILY = {
    "Cell": None,
    "Gene": {"description": TYPES["Gene"], "parent": "Cell"},
    "Place": {"parent": "Gene"},
}


def spans(entities, label):
    """Return the spans of the entities with this label."""
    return {(e["start"], e["end"]) for e in entities if e["entity_group"] == label}


def test_flat_decoding_keeps_the_narrowest_type_of_a_span(pipe):
    text = "the IL-2 gene promoter of cells in the cell"
    order = ("Cell", "Gene", "Place")
    nested = pipe(text, entity_types=FAMILY, threshold=0.2)
    assert nested == pipe(text, entity_types=list(FAMILY), threshold=0.2), "nested decoding keeps all types"
    plain = pipe(text, entity_types=list(FAMILY), threshold=0.2, decoding="flat")
    with_parents = pipe(text, entity_types=FAMILY, threshold=0.2, decoding="flat")
    for broad, narrow in itertools.combinations(order, 2):
        assert spans(nested, broad) & spans(nested, narrow)
        assert not spans(with_parents, broad) & spans(nested, narrow)
    assert any(spans(plain, broad) & spans(nested, "Place") for broad in order[:2]), (
        "without parents the margin decides"
    )
    assert all(a["end"] <= b["start"] for a, b in itertools.pairwise(with_parents))
    in_a_list = [{"name": label, **(fields or {})} for label, fields in FAMILY.items()]
    assert pipe(text, entity_types=in_a_list, threshold=0.2, decoding="flat") == with_parents


def test_parents_in_the_configuration_have_the_effect_of_parents_in_a_call():
    text = "the IL-2 gene promoter of cells in the cell"
    own = [{"name": label, "description": TYPES[label]} for label in FAMILY]
    own[1]["parent"], own[2]["parent"] = "Cell", "Gene"
    pipe = build_pipeline(entity_types=own, decoding="flat")
    expected = PIPE(text, entity_types=FAMILY, decoding="flat", threshold=0.2)
    assert_same_entities(pipe(text, threshold=0.2), expected)
    # Cell is the parent of Gene, which is the parent of Place. If Gene is left out, Cell is still broader than Place.
    some = pipe(text, entity_types=["Place", "Cell"], threshold=0.2)
    nested = pipe(text, entity_types=["Place", "Cell"], threshold=0.2, decoding="nested")
    assert not spans(some, "Cell") & spans(nested, "Place")


def test_breadths_decide_which_types_are_broader_if_there_are_no_parents():
    text = "the IL-2 gene promoter of cells in the cell"
    pipe = build_pipeline(use_breadth=True, breadth_margin=0.0, decoding="flat")
    breadths = pipe.model.encode_descriptions(pipe.tokenizer, list(TYPES.values())).breadths
    order = [list(TYPES)[index] for index in breadths.argsort(descending=True)]
    nested, flat = pipe(text, threshold=0.2, decoding="nested"), pipe(text, threshold=0.2)
    for broad, narrow in itertools.combinations(order, 2):
        assert spans(nested, broad) & spans(nested, narrow)
        assert not spans(flat, broad) & spans(nested, narrow)
    pipe.model.breadth.output.weight.data.neg_()  # reverses the order of the breadths
    pipe.model.breadth.output.bias.data.neg_()
    reversed_order = pipe(text, threshold=0.2)
    for broad, narrow in itertools.combinations(order[::-1], 2):
        assert not spans(reversed_order, broad) & spans(nested, narrow)
    pipe.model.config.breadth_margin = 1e6
    by_margins = pipe(text, threshold=0.2)
    pipe.model.config.use_breadth = False
    assert pipe(text, threshold=0.2) == by_margins != reversed_order


def test_long_texts_are_split_into_windows_and_not_truncated(pipe):
    sentence = "the IL-2 gene promoter of cells. "
    text = sentence * 40
    entities = pipe(text)
    assert all(text[e["start"] : e["end"]] == e["word"] for e in entities)
    assert len(set(keys(entities))) == len(entities)
    assert max(e["end"] for e in entities) > len(text) - 40
    for batch_size in (3, 8):
        assert_same_entities(pipe(text, batch_size=batch_size), entities)
    assert_same_entities(pipe([text, "", text], batch_size=5)[2], entities)


def test_entities_can_start_and_end_at_every_word_of_a_long_text(pipe):
    text = "a " * 600  # several windows
    found = pipe(text, threshold=0, entity_types=["Gene"], batch_size=4)
    assert {e["start"] for e in found} == set(range(0, 1200, 2))
    assert {e["end"] for e in found} == set(range(1, 1200, 2))
    words = pipe(["ab"] * 600, is_split_into_words=True, threshold=0, entity_types=["Gene"])
    assert {e["end"] for e in words} == set(range(2, 1800, 3))


def test_window_size_does_not_matter_for_a_short_text(pipe):
    text = "the IL-2 gene promoter of cells"
    assert_same_entities(pipe(text, max_length=40), pipe(text, max_length=128))
    assert_same_entities(pipe(text, stride=0), pipe(text, stride=30))


def test_offsets_in_a_text_of_a_hundred_thousand_characters_are_exact(pipe):
    text = "gene cells. " * 8500
    found = pipe(text, batch_size=32, entity_types=["Gene"], threshold=0.9)
    assert all(text[e["start"] : e["end"]] == e["word"] for e in found)


def test_a_text_can_be_given_as_a_list_of_words(pipe):
    words = ["the", "IL-2", "gene", "", "promoter"]
    found = pipe(words, is_split_into_words=True, threshold=0.3)
    text = " ".join(words)
    edges = {0, 3, 4, 8, 9, 13, 15, 23}
    assert found and all(e["start"] in edges and e["end"] in edges for e in found)
    assert all(text[e["start"] : e["end"]] == e["word"] for e in found)
    many = pipe([words, ["cells"], []], is_split_into_words=True, threshold=0.3, batch_size=2)
    assert_same_entities(many[0], found)
    assert many[2] == []


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"threshold": 2}, ValueError, "between 0 and 1, got 2"),
        ({"threshold": {"Gene": -1}}, ValueError, "between 0 and 1"),
        ({"threshold": {"Drug": 0.5}}, ValueError, r"not among the entity types: \['Drug'\]"),
        ({"decoding": "deep"}, ValueError, "decoding must be one of 'nested', 'flat'"),
        ({"inference": "both"}, ValueError, "inference must be one of 'span', 'joint'"),
        ({"entity_types": []}, ValueError, "there are no entity types"),
        ({"entity_types": {"A": ""}}, ValueError, "must not be blank"),
        ({"entity_types": {"A": {"parent": "B"}}}, ValueError, "the parent of 'A' is 'B', which is not an entity type"),
        ({"entity_types": [{"name": "A", "parent": "A"}]}, ValueError, "'A' is its own ancestor: A -> A"),
        ({"max_length": 4096}, ValueError, "more than the 128 tokens"),
        ({"max_length": 16, "stride": 16}, ValueError, "stride=16 and max_length=16"),
        ({"flat": True}, TypeError, "unknown arguments: flat. A call accepts entity_types, threshold, .*batch_size"),
        ({"compile": True}, TypeError, r"arguments: compile.*pipeline\(...\) also accepts backend, compile, type_"),
        ({"threshold": float("nan")}, ValueError, "between 0 and 1, got nan"),
        ({"threshold": "0.5"}, ValueError, "between 0 and 1, got '0.5'"),
        ({"threshold": True}, ValueError, "between 0 and 1, got True"),
        ({"threshold": 10**400}, ValueError, "between 0 and 1, got 1000"),
        ({"max_length": "32"}, ValueError, "max_length must be a whole number, got '32'"),
        ({"stride": 1.5}, ValueError, "stride must be a whole number, got 1.5"),
        ({"batch_size": 2.0}, ValueError, "batch_size must be a whole number, got 2.0"),
        ({"is_split_into_words": "no"}, ValueError, "is_split_into_words must be True or False, got 'no'"),
    ],
)
def test_invalid_arguments_raise_an_error(pipe, arguments, error, message):
    with pytest.raises(error, match=message):
        pipe("IL-2 gene", **arguments)


def test_a_text_instead_of_words_is_rejected(pipe):
    with pytest.raises(ValueError, match="must be a list of words"):
        pipe("IL-2 gene", is_split_into_words=True)


@pytest.mark.parametrize(
    "words", [iter, tuple, lambda words: map(str, words), lambda words: dict.fromkeys(words).keys()]
)
def test_words_may_come_from_any_ordered_iterable(pipe, words):
    split = ["IL-2", "gene", "promoter"]
    (found,) = pipe([words(split)], is_split_into_words=True)
    assert_same_entities(found, pipe(split, is_split_into_words=True))


@pytest.mark.parametrize("bad", [{"IL-2", "gene"}, {"IL-2": 1}, None, 3, [b"gene"]])
def test_unordered_words_and_other_invalid_words_are_rejected(pipe, bad):
    with pytest.raises(ValueError, match="with is_split_into_words=True each input must be a list of words, got"):
        pipe([bad], is_split_into_words=True)


def test_changes_of_settings_and_of_the_tokenizer_take_effect():
    pipe, text = build_pipeline(), "the IL-2 gene of cells " * 20
    pipe(text)
    pipe.model.config.max_length, pipe.model.config.stride = 20, 1
    assert_same_entities(pipe(text), build_pipeline(max_length=20, stride=1)(text))
    pipe.tokenizer = build_tokenizer()
    pipe.tokenizer.backend_tokenizer.normalizer = normalizers.Replace("gene", "cell")
    fresh = BinderNerPipeline(model=pipe.model, tokenizer=pipe.tokenizer, device="cpu")
    assert_same_entities(pipe(text), fresh(text))


def test_frozen_types_keep_their_vectors():
    pipe, text = build_pipeline(), "the IL-2 gene of cells"
    expected = pipe(text)
    config = pipe.model.freeze_types(pipe.tokenizer).config
    types = config.entity_types
    for changed in (types[::-1], types[1:], [*types, {"name": "Drug", "description": "A drug."}]):
        with pytest.raises(ValueError, match="entity_types cannot change, because the checkpoint contains the vectors"):
            config.entity_types = changed
        assert_same_entities(pipe(text), expected)
    config.entity_types = [{**entity_type, "name": entity_type["name"].upper()} for entity_type in types]
    assert keys(pipe(text)) == [(label.upper(), start, end) for label, start, end in keys(expected)]
    pipe.model.frozen_type_vectors.neg_()
    torch.testing.assert_close(pipe.type_vectors(), pipe.model.frozen_type_vectors)


def test_margins_accept_an_iterator_of_types(pipe):
    spans, margins = pipe.margins("IL-2 gene", iter(["Gene", "Cell"]))
    assert list(margins) == ["Gene", "Cell"] and len(spans) == 4


def test_a_model_without_types_requires_entity_types():
    bare = build_pipeline(entity_types=None)
    with pytest.raises(ValueError, match="there are no entity types"):
        bare("IL-2 gene")
    assert isinstance(bare("IL-2 gene", entity_types=["Gene"]), list)


def test_arguments_of_the_constructor_are_defaults_of_calls():
    pipe = pipeline(
        "binder-ner", model=build_model(), tokenizer=build_tokenizer(), entity_types=["Cell"], threshold=0.6
    )
    assert all(e["entity_group"] == "Cell" and e["score"] > 0.6 for e in pipe("the cells of the gene"))


def test_a_tokenizer_that_pads_on_the_left_does_not_change_the_results():
    tokenizer = build_tokenizer()
    tokenizer.padding_side = "left"
    pipe = pipeline("binder-ner", model=build_model(), tokenizer=tokenizer)
    for one, text in zip(pipe(TEXTS, batch_size=6), TEXTS, strict=True):
        assert_same_entities(one, PIPE(text))


def test_scores_of_a_half_precision_model_are_probabilities():
    pipe = pipeline("binder-ner", model=build_model().to(torch.bfloat16), tokenizer=build_tokenizer())
    assert all(0.5 < e["score"] <= 1 for e in pipe("the IL-2 gene promoter of cells"))


@pytest.mark.parametrize("text", ["the IL-2 gene promoter of cells", "cells. " * 80])
def test_margins_agree_with_the_scores(pipe, text):
    for position in (0, len(text) - 2):
        words, margins = pipe.margins(text, position=position, words=12)
        assert list(margins) == list(TYPES) and len(words) <= 12
        assert words[0][0] <= position < words[-1][1]
        found = {(e["entity_group"], e["start"], e["end"]): e["score"] for e in pipe(text, threshold=0)}
        for label, matrix in margins.items():
            assert matrix.shape == (len(words), len(words)) and matrix.tril(-1).isnan().sum() >= len(words) - 1
            for i, j in itertools.combinations_with_replacement(range(len(words)), 2):
                if not matrix[i, j].isnan() and len(text) < 50:  # a text of one window: `pipe` returns all its spans
                    score = found[label, words[i][0], words[j][1]]
                    assert torch.sigmoid(matrix[i, j]).item() == pytest.approx(score, abs=1e-4)


def test_margins_of_an_empty_text_are_empty(pipe):
    for text in ("", "  "):
        words, margins = pipe.margins(text, ["Cell"])
        assert words == [] and margins["Cell"].shape == (0, 0)


@given(st.text(alphabet=st.sampled_from("abIL2-. genecells"), max_size=60), st.integers(0, 9))
@settings(deadline=None, max_examples=40)
def test_the_stride_does_not_matter_if_the_text_fits_into_one_window(text, stride):
    assert_same_entities(PIPE(text, max_length=128, stride=stride), PIPE(text, max_length=100))


@pytest.mark.slow
def test_a_compiled_encoder_uses_one_graph_for_all_lengths():
    torch._dynamo.reset()
    graphs = []

    def count(graph, inputs):
        graphs.append(graph)
        return graph.forward

    compiled = pipeline(
        "binder-ner",
        model=build_model(),
        tokenizer=build_tokenizer(),
        compile={"backend": count, "fullgraph": True},
        batch_size=2,
    )
    texts = ["the gene of cells " * count for count in range(1, 12)]
    for one, two in zip(compiled(texts), PIPE(texts), strict=True):
        assert_same_entities(one, two)
    assert len(graphs) <= 2, "one graph, and a second one for batches with a single window"
    assert not any("_orig_mod" in name for name in compiled.model.state_dict())
    torch._dynamo.reset()
