"""Tests of entity types in a call: names, descriptions, parents, and the cache of type vectors."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from tokenizers import normalizers

from modeling_binder import BinderNerPipeline
from modeling_binder.types_binder import EntityType, resolve_entity_types
from tests.tiny import TYPES, assert_same_entities, build_model, build_pipeline, build_tokenizer

OWN = [
    {"name": "person", "description": "A person."},
    {"name": "politician", "description": "A person in politics.", "parent": "person"},
    {"name": "minister", "description": "A member of a government.", "parent": "politician"},
    {"name": "Gene", "description": "A gene."},
]
TEXT = "the IL-2 gene promoter of cells"
PIPE = build_pipeline()


def resolved(entity_types):
    """Return the resolved entity types as tuples (name, description, parent, own label)."""
    return [tuple(entity_type) for entity_type in resolve_entity_types(entity_types, OWN)]


# ---- names and descriptions ----


def test_a_call_without_entity_types_uses_the_models_own_types():
    assert resolve_entity_types(None, OWN)[1] == EntityType(
        "politician", "A person in politics.", "person", "politician"
    )
    assert [label for label, *_ in resolved(None)] == ["person", "politician", "minister", "Gene"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("Gene", [("Gene", "A gene.", None, "Gene")]),
        (["Gene", "Drug"], [("Gene", "A gene.", None, "Gene"), ("Drug", "Drug", None, None)]),
        ({"Drug": "A drug.", "Gene": None}, [("Drug", "A drug.", None, None), ("Gene", "A gene.", None, "Gene")]),
        ([{"name": "Drug", "description": "A drug."}], [("Drug", "A drug.", None, None)]),
        ({"Drug": {"description": "A drug."}}, [("Drug", "A drug.", None, None)]),
        ({"Gene": "Something else."}, [("Gene", "Something else.", None, None)]),
        ({"Gene": "A gene."}, [("Gene", "A gene.", None, "Gene")]),
        (("gene", "PERSON"), [("gene", "A gene.", None, "Gene"), ("PERSON", "A person.", None, "person")]),
        ({"gene": None}, [("gene", "A gene.", None, "Gene")]),
    ],
)
def test_entity_types_of_a_call_are_resolved(given, expected):
    assert resolved(given) == expected


def test_an_exact_name_has_priority_and_an_ambiguous_name_is_used_as_a_description():
    own = [{"name": "US", "description": "A country."}, {"name": "us", "description": "A pronoun."}]
    assert [text for _, text, *_ in resolve_entity_types(["us", "US", "Us"], own)] == ["A pronoun.", "A country.", "Us"]


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        ([], ValueError, "there are no entity types"),
        ({}, ValueError, "there are no entity types"),
        ([""], ValueError, "must not be blank, got ''"),
        ({"A": " "}, ValueError, "must not be blank, got 'A': ' '"),
        ({"A": 3}, ValueError, "must not be blank, got 'A': 3"),
        ([3], ValueError, "must not be blank, got 3"),
        (["A", "A"], ValueError, "the entity type 'A' appears twice"),
        ([{"name": "A"}, "A"], ValueError, "the entity type 'A' appears twice"),
        ([{"description": "A drug."}], ValueError, "needs a 'name'"),
        ({"A": {"describtion": "A drug."}}, ValueError, r"'A' has unknown keys \['describtion'\]"),
        ([("A", "A drug.")], ValueError, r"must be texts and must not be blank, got \('A', 'A drug.'\)"),
        ([["A", "A drug."]], ValueError, r"must be texts and must not be blank, got \['A', 'A drug.'\]"),
        ([{"name": ["A"]}], ValueError, r"must be texts and must not be blank, got \['A'\]"),
        (5, TypeError, "must be names, or a dictionary name -> description, got 5"),
        (b"A", TypeError, "must be names, or a dictionary name -> description, got b'A'"),
        (np.array([["A"]]), TypeError, "must be names, or a dictionary name -> description, got array"),
    ],
)
def test_invalid_entity_types_are_rejected(bad, error, message):
    with pytest.raises(error, match=message):
        resolve_entity_types(bad, [])


@pytest.mark.parametrize("name", ["cell line", " Cell  Line ", "CELL\u00a0LINE", "\uff23ell line", "cell line\u200b"])
def test_case_white_space_and_unicode_forms_of_a_name_do_not_matter(name):
    own = [{"name": "Cell line", "description": "A line of cells."}]
    assert resolve_entity_types([name], own) == [EntityType(name, "A line of cells.", None, "Cell line")]


def test_composed_and_decomposed_letters_of_a_name_are_the_same():
    own = [{"name": "G\u00e8ne", "description": "A gene."}]
    assert resolve_entity_types(["ge\u0300ne"], own)[0].own_label == "G\u00e8ne"


@pytest.mark.parametrize("names", [["gene", "Gene"], ["Gene ", "GENE"], [{"name": "Gene"}, "gene"]])
def test_two_names_of_the_same_own_type_are_rejected(names):
    with pytest.raises(ValueError, match="are both the model's entity type 'Gene': leave out one of them"):
        resolve_entity_types(names, OWN)
    assert len(resolve_entity_types({"gene": "A gene of mice.", "Gene": None}, OWN)) == 2


def test_the_pipeline_logs_once_that_a_name_is_treated_as_an_own_type(monkeypatch):
    pipe, messages = build_pipeline(), []
    monkeypatch.setattr(
        "modeling_binder.pipeline_binder.logger.warning", lambda text, *parts: messages.append(text % parts)
    )
    for _ in range(2):
        found = pipe(TEXT, entity_types=["cell", "Gene"])
    assert messages == ["The entity type 'cell' is treated as the model's entity type 'Cell'."]
    expected = pipe(TEXT, entity_types=["Cell", "Gene"])
    renamed = [{**e, "entity_group": {"Cell": "cell"}.get(e["entity_group"], e["entity_group"])} for e in expected]
    assert_same_entities(found, renamed)


# ---- parents ----


def parents(entity_types):
    """Return the parent of each resolved entity type."""
    return {label: parent for label, _, parent, _ in resolved(entity_types)}


def test_the_parent_of_an_own_type_is_its_nearest_ancestor_in_the_call():
    assert parents(None) == {"person": None, "politician": "person", "minister": "politician", "Gene": None}
    assert parents(["minister", "person"]) == {"minister": "person", "person": None}
    assert parents(["minister"]) == {"minister": None}
    assert parents({"Minister": None, "PERSON": None}) == {"Minister": "PERSON", "PERSON": None}
    assert parents({"minister": "A priest.", "person": None}) == {"minister": None, "person": None}


def test_parents_in_the_call_replace_parents_of_own_types():
    assert parents({"poet": {"description": "A poet.", "parent": "person"}, "person": None})["poet"] == "person"
    assert parents([{"name": "poet", "parent": "Gene"}, "Gene"]) == {"poet": "Gene", "Gene": None}
    assert parents([{"name": "politician", "parent": None}, "person"])["politician"] is None
    assert parents([{"name": "politician", "parent": "Gene"}, "person", "Gene"])["politician"] == "Gene"


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (
            {"poet": {"description": "A poet.", "parent": "person"}},
            "the parent of 'poet' is 'person', which is not an entity type; add it",
        ),
        ([{"name": "poet", "parent": 3}, "person"], "the parent of 'poet' is 3"),
        ([{"name": "poet", "parent": ["person"]}, "person"], r"the parent of 'poet' is \['person'\]"),
        ([{"name": "a", "parent": "a"}], "'a' is its own ancestor: a -> a"),
        ([{"name": "a", "parent": "b"}, {"name": "b", "parent": "a"}], "'a' is its own ancestor: a -> b -> a"),
        ([{"name": "person", "parent": "minister"}, "politician", "minister"], "its own ancestor: person -> minister"),
    ],
)
def test_invalid_parents_are_rejected(bad, message):
    with pytest.raises(ValueError, match=message):
        resolve_entity_types(bad, OWN)


# ---- vectors ----


def count_encodings(pipe, monkeypatch):
    """Return a list to which the pipeline adds each description that it encodes."""
    encode, encoded = pipe._encode_types, []

    def counting(descriptions):
        encoded.extend(descriptions)
        return encode(descriptions)

    monkeypatch.setattr(pipe, "_encode_types", counting)
    return encoded


def test_each_description_is_encoded_once(monkeypatch):
    pipe = build_pipeline()
    encoded = count_encodings(pipe, monkeypatch)
    pipe(TEXT)
    pipe([TEXT, TEXT], entity_types=["Cell", "Gene"])
    pipe(TEXT, entity_types={"Zelle": TYPES["Cell"], "Drug": "A chemical.", "Substance": "A chemical."})
    pipe.margins(TEXT, ["Place"])
    assert sorted(encoded) == sorted([*TYPES.values(), "A chemical."])


CHANGES = {
    "in place": lambda model: model.span_head.type_projection.weight.data.mul_(-1),
    "a new tensor": lambda model: setattr(
        model.type_encoder.embeddings.word_embeddings.weight, "data", torch.randn(256, 32)
    ),
    "an encoder layer in place": lambda model: model.type_encoder.encoder.layer[1].output.dense.weight.data.add_(1),
    "an optimizer": lambda model: step(model),
    "other weights loaded": lambda model: model.load_state_dict(build_model(initializer_range=0.3).state_dict()),
    "a new module": lambda model: setattr(model.start_head, "type_projection", torch.nn.Linear(32, 16)),
    "one row": lambda model: model.type_encoder.encoder.layer[0].output.dense.weight.data[5].fill_(3),
    "the last columns": lambda model: model.type_encoder.encoder.layer[0].output.dense.weight.data[:, 20:].mul_(-2),
    "the end of a bias, through numpy": lambda model: numpy_view(model.span_head.type_projection.bias)[9:].fill(2),
    "a hook": lambda model: model.start_head.type_projection.register_forward_hook(lambda module, args, out: out + 1),
    "a setting of a layer": lambda model: setattr(model.type_encoder.embeddings.LayerNorm, "eps", 9.0),
    "the pooling": lambda model: setattr(model.config, "type_pooling", "mean"),
}


def numpy_view(parameter):
    return parameter.detach().numpy()


def step(model):
    """Change the weights by one step of an optimizer."""
    optimizer = torch.optim.SGD(model.parameters(), lr=10.0)
    ids = torch.tensor([[2, 8, 9, 3]])
    model(ids, torch.ones_like(ids), type_input_ids=ids).span_scores[..., :1].sum().backward()
    optimizer.step()
    optimizer.zero_grad()


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_vectors_are_computed_again_after_a_change_of_weights(change):
    pipe = build_pipeline()
    before = pipe.type_vectors(TYPES)
    torch.manual_seed(3)
    change(pipe.model)
    fresh = BinderNerPipeline(model=pipe.model, tokenizer=pipe.tokenizer, device="cpu")
    after = pipe.type_vectors(TYPES)
    assert not torch.equal(after, before)
    torch.testing.assert_close(after, fresh.type_vectors(TYPES))


def other_tokenizer(pipe):
    pipe.tokenizer = build_tokenizer()
    pipe.tokenizer.backend_tokenizer.normalizer = normalizers.Replace("protein", "cell")


TOKENIZER_CHANGES = {
    "another tokenizer": other_tokenizer,
    "more tokens": lambda pipe: pipe.tokenizer.add_tokens(["protein", "city", "type"]),
    "another normaliser": lambda pipe: setattr(
        pipe.tokenizer.backend_tokenizer, "normalizer", normalizers.Replace("a", "b")
    ),
}


@pytest.mark.parametrize("change", TOKENIZER_CHANGES.values(), ids=TOKENIZER_CHANGES)
def test_vectors_are_computed_again_after_a_change_of_the_tokenizer(change):
    pipe = build_pipeline()
    before = pipe.type_vectors(TYPES)
    change(pipe)
    fresh = BinderNerPipeline(model=pipe.model, tokenizer=pipe.tokenizer, device="cpu")
    after = pipe.type_vectors(TYPES)
    assert not torch.equal(after, before)
    torch.testing.assert_close(after, fresh.type_vectors(TYPES))


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # peft uses it
def test_vectors_are_computed_again_after_a_change_of_adapters():
    config = LoraConfig(r=2, target_modules=["query", "type_projection"], init_lora_weights=False)
    pipe = build_pipeline()
    adapted = get_peft_model(pipe.model, config)
    adapted.add_adapter("second", config)
    adapted.eval()
    seen = [pipe.type_vectors(TYPES)]

    def scale():
        for module in pipe.model.modules():
            if isinstance(getattr(module, "scaling", None), dict):  # PEFT layers; in attention, scaling is a number
                module.scaling["second"] *= 3

    for change in (lambda: adapted.set_adapter("second"), scale, adapted.base_model.disable_adapter_layers):
        change()
        fresh = BinderNerPipeline(model=pipe.model, tokenizer=pipe.tokenizer, device="cpu")
        vectors = pipe.type_vectors(TYPES)
        torch.testing.assert_close(vectors, fresh.type_vectors(TYPES))
        assert all((vectors - earlier).abs().max() > 1e-4 for earlier in seen)
        seen.append(vectors)


def test_a_change_of_the_text_encoder_does_not_clear_the_cache(monkeypatch):
    pipe = build_pipeline()
    pipe(TEXT)
    encoded = count_encodings(pipe, monkeypatch)
    pipe.model.text_encoder.encoder.layer[0].output.dense.weight.data.add_(1)
    pipe(TEXT)
    assert encoded == []


def test_vectors_are_not_cached_in_training_mode(monkeypatch):
    pipe = build_pipeline()
    expected = pipe.type_vectors(TYPES)
    pipe.model.train()
    torch.manual_seed(0)
    first, second = pipe.type_vectors(TYPES), pipe.type_vectors(TYPES)
    assert not torch.equal(first, second), "dropout makes the vectors random"
    pipe.model.eval()
    assert torch.equal(pipe.type_vectors(TYPES), expected)


def test_a_copied_pipeline_uses_its_new_model():
    pipe = build_pipeline()
    before = pipe.type_vectors(TYPES)
    other = copy.copy(pipe)
    other.model = build_model(projection_size=8)
    assert other.type_vectors(TYPES).shape == (3, 3, 8)
    assert torch.equal(pipe.type_vectors(TYPES), before)


def test_the_number_of_cached_vectors_is_limited(monkeypatch):
    monkeypatch.setattr("modeling_binder.types_binder.MAX_CACHED_TYPES", 4)
    pipe = build_pipeline()
    many = {f"T{index}": f"description {index}" for index in range(9)}
    assert pipe.type_vectors(many).shape == (9, 3, 16) and len(pipe._type_cache._kept) == 4
    torch.testing.assert_close(pipe.type_vectors(many)[0], pipe.type_vectors({"T0": many["T0"]})[0])


@pytest.mark.parametrize("value", [True, False, "vectors.safetensors"])
def test_type_cache_is_deprecated_and_does_nothing(value, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.warns(FutureWarning, match="type_cache is ignored"):
        pipe = build_pipeline({"type_cache": value})
    assert pipe(TEXT) and not list(tmp_path.iterdir())


# ---- batches of descriptions ----


@given(st.lists(st.text(alphabet="gencl 2-東", max_size=40), min_size=1, max_size=12))
@settings(deadline=None, max_examples=25)
def test_a_description_has_the_same_vector_alone_and_in_a_batch(descriptions):
    model, tokenizer = PIPE.model, PIPE.tokenizer
    together = model.encode_descriptions(tokenizer, descriptions).vectors
    alone = torch.stack([model.encode_type(tokenizer, text) for text in descriptions])
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=0)


def test_a_batch_has_descriptions_of_one_length_and_limited_tokens(monkeypatch):
    model, tokenizer = build_model(), PIPE.tokenizer
    monkeypatch.setattr("modeling_binder.types_binder.MAX_BATCH_TOKENS", 12)
    encode, batches = model.encode_type_states, []

    def recording(type_input_ids, type_attention_mask):
        assert type_attention_mask.all(), "no padding"
        batches.append(tuple(type_input_ids.shape))
        return encode(type_input_ids, type_attention_mask)

    monkeypatch.setattr(model, "encode_type_states", recording)
    vectors, _ = model.encode_descriptions(tokenizer, ["gene", "cell", "of the gene", "the", "gene " * 20, "in"])
    assert vectors.shape == (6, 3, 16) and sorted(batches) == [(1, 5), (1, 22), (4, 3)]


def test_the_error_quotes_a_description_that_is_too_long():
    with pytest.raises(ValueError, match=r"a description has 202 tokens, more than the 128 .*Shorten it: 'gene gene"):
        PIPE(TEXT, entity_types={"Gene": "gene " * 200})
