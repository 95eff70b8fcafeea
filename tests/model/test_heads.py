"""Tests of the heads if their layers are replaced or wrapped: precision, hooks, quantisation and offloading."""

import copy

import pytest
import torch
from torch import nn
from transformers import AutoModel, pipeline

from modeling_binder import BinderConfig, BinderNerPipeline
from modeling_binder.heads_binder import SpanHead
from tests.tiny import build_model, tiny_encoder_config

TEXT = "the IL-2 gene promoter of cells in oslo"
NEW_TYPE = {"Drug": "A chemical that heals."}


def batch():
    """Return random inputs of two windows and three types, with gold mentions."""
    torch.manual_seed(3)
    words = torch.ones(2, 12, dtype=torch.long)
    words[:, 0] = words[:, -1] = 0
    return {
        "input_ids": torch.randint(5, 250, (2, 12)),
        "attention_mask": torch.ones(2, 12, dtype=torch.long),
        "type_input_ids": torch.randint(5, 250, (3, 6)),
        "type_attention_mask": torch.ones(3, 6, dtype=torch.long),
        "word_start_mask": words,
        "word_end_mask": words,
        "labels": torch.tensor([[[0, 1, 2], [2, 1, 4]], [[1, 5, 5], [-100, -100, -100]]]),
    }


def found(pipe, **options):
    """Return the label, start, end and score of each entity in `TEXT`, with a low threshold."""
    return [(e["entity_group"], e["start"], e["end"], e["score"]) for e in pipe(TEXT, threshold=0.05, **options)]


def assert_same_rows(one, two, tolerance=1e-5):
    """Check that two results of `found` are equal, with the same scores up to `tolerance`."""
    assert one
    assert [row[:3] for row in one] == [row[:3] for row in two]
    assert [row[3] for row in one] == pytest.approx([row[3] for row in two], abs=tolerance)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_models_of_all_precisions_find_the_same_entities(model, tokenizer, dtype):
    expected = found(BinderNerPipeline(model=copy.deepcopy(model), tokenizer=tokenizer, device="cpu"))
    pipe = BinderNerPipeline(model=model.to(dtype), tokenizer=tokenizer, device="cpu")
    scores = {row[:3]: row[3] for row in found(pipe)}
    assert [scores[row[:3]] for row in expected] == pytest.approx([row[3] for row in expected], abs=0.05)


def test_a_layer_without_bias_and_a_global_hook_do_not_change_the_entities(model, tokenizer):
    pipe, called = BinderNerPipeline(model=model, tokenizer=tokenizer, device="cpu"), []
    layer = nn.Linear(model.span_head.text_projection.in_features, 16, bias=False)
    layer.weight.data.copy_(model.span_head.text_projection.weight)
    model.span_head.text_projection.bias.data.zero_()
    expected = found(pipe)
    model.span_head.text_projection = layer
    assert_same_rows(found(pipe), expected)
    hook = nn.modules.module.register_module_forward_hook(lambda module, args, output: called.append(module))
    try:
        assert_same_rows(found(pipe), expected)
    finally:
        hook.remove()
    assert layer in called


@pytest.mark.parametrize("with_widths", [True, False])
@pytest.mark.parametrize("size", [32, 384])
def test_span_vectors_are_the_same_if_the_head_calls_the_layer(with_widths, size):
    """The head multiplies by the weight of `text_projection`. If this layer has a hook, the head calls the layer."""
    torch.manual_seed(0)
    encoder = tiny_encoder_config(hidden_size=size).to_dict()
    head = SpanHead(size, size, BinderConfig(text_config=encoder, use_span_width_embedding=with_widths)).eval()
    hidden = torch.randn(3, 20, size)
    read = head.parts(hidden)
    calls = []
    head.text_projection.register_forward_hook(lambda *_: calls.append(1))
    called = head.parts(hidden)
    assert calls, "a hook on the layer runs"
    for name in ("starts", "ends", "inverse_norm", *(["widths"] if with_widths else [])):
        torch.testing.assert_close(getattr(called, name), getattr(read, name), rtol=0, atol=1e-6)


def test_gradients_are_the_same_if_the_head_calls_the_layer():
    """The hook makes the span head call `text_projection` instead of multiplying by its weight."""
    model = build_model(projection_dropout=0.0)
    expected = torch.autograd.grad(model(**batch()).loss, model.span_head.parameters())
    model.span_head.text_projection.register_forward_pre_hook(lambda *_: None)
    called = torch.autograd.grad(model(**batch()).loss, model.span_head.parameters())
    for one, two in zip(called, expected, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-6)


@pytest.mark.filterwarnings("ignore:torch.ao.quantization is deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
def test_a_dynamically_quantised_model_computes_similar_margins(model, tokenizer):
    expected = BinderNerPipeline(model=model, tokenizer=tokenizer).margins(TEXT)[1]
    quantised = torch.ao.quantization.quantize_dynamic(copy.deepcopy(model), {nn.Linear}, dtype=torch.qint8)
    assert type(quantised.span_head.text_projection) is not nn.Linear
    pipe = BinderNerPipeline(model=quantised, tokenizer=tokenizer)
    margins = pipe.margins(TEXT)[1]
    inside = {label: ~torch.isnan(matrix) for label, matrix in expected.items()}
    one, two = (
        torch.cat([rows[label][inside[label]] for label in expected]) for rows in (expected, margins)
    )  # fmt: skip
    assert torch.corrcoef(torch.stack([one, two]))[0, 1] > 0.95
    assert pipe(TEXT, entity_types=NEW_TYPE, threshold=0.1)


HEADS = ("start_head", "end_head", "span_head")
ON_DISK = {
    "auto": "auto",
    "heads": {"text_encoder": "cpu", "type_encoder": "cpu", **dict.fromkeys(HEADS, "disk")},
    "encoders": {"text_encoder.embeddings": "cpu", "text_encoder.encoder": "disk", "type_encoder": "disk"}
    | dict.fromkeys(HEADS, "cpu"),
}


@pytest.mark.parametrize("where", ON_DISK)
def test_a_model_with_weights_on_disk_finds_the_same_entities(checkpoint, tmp_path, where):
    expected = pipeline("binder-ner", model=str(checkpoint))
    options = {"device_map": ON_DISK[where], "offload_folder": str(tmp_path / "offload")}
    if where == "auto":
        options["max_memory"] = {"cpu": 200_000}  # bytes: less than the 252,620 of the model
    model = AutoModel.from_pretrained(checkpoint, **options).eval()
    assert "disk" in model.hf_device_map.values()
    assert any(parameter.is_meta for parameter in model.parameters())
    pipe = pipeline("binder-ner", model=model, tokenizer=expected.tokenizer)
    assert_same_rows(found(pipe), found(expected))
    assert_same_rows(found(pipe, entity_types=NEW_TYPE), found(expected, entity_types=NEW_TYPE))
    assert len(found(pipe, inference="joint")) == len(found(expected, inference="joint"))
    with torch.no_grad():
        one, two = (each(**{**batch(), "labels": None}) for each in (model, expected.model))
    for scores in ("start_scores", "end_scores", "span_scores"):
        torch.testing.assert_close(one[scores], two[scores])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_heads_are_loaded_in_float32(checkpoint, dtype):
    model = AutoModel.from_pretrained(checkpoint, dtype=dtype)
    assert model.text_encoder.dtype == model.type_encoder.dtype == dtype
    for head in (model.start_head, model.end_head, model.span_head):
        assert {parameter.dtype for parameter in head.parameters()} == {torch.float32}
    with torch.no_grad():
        assert model(**{**batch(), "labels": None}).span_scores.dtype == torch.float32
