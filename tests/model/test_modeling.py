"""Tests of the model: encoders, outputs, padding, precision, saving, loading and span proposals."""

import os
import stat

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import (
    AutoModel,
    CLIPConfig,
    DebertaV2Config,
    DistilBertConfig,
    ElectraConfig,
    GPT2Config,
    LlamaConfig,
    ModernBertConfig,
    MPNetConfig,
    RobertaConfig,
    T5Config,
    ViTConfig,
)

from modeling_binder import BinderConfig, BinderModel, BinderNerPipeline, encoders_binder
from modeling_binder.decoding_binder import propose_spans, required_margin
from modeling_binder.encoders_binder import attention_kernels
from tests.tiny import build_model, tiny_encoder_config

SIZES = {
    "vocab_size": 256,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 66,
    "pad_token_id": 0,
}
ENCODERS = {
    "bert": tiny_encoder_config(),
    "roberta": RobertaConfig(**SIZES, type_vocab_size=1),
    "distilbert": DistilBertConfig(
        vocab_size=256, dim=32, n_layers=2, n_heads=4, hidden_dim=64, max_position_embeddings=66
    ),
    "deberta-v2": DebertaV2Config(
        **SIZES, type_vocab_size=0, relative_attention=True, pos_att_type=["c2p", "p2c"], position_buckets=8
    ),
    "modernbert": ModernBertConfig(
        **SIZES, global_attn_every_n_layers=2, local_attention=16, cls_token_id=2, sep_token_id=3, bos_token_id=2,
        eos_token_id=3,
    ),
    "electra": ElectraConfig(**SIZES, embedding_size=16),
    "mpnet": MPNetConfig(**{**SIZES, "pad_token_id": 1}),
}  # fmt: skip


def batch(length=12, windows=2, types=3):
    """Return random inputs with gold mentions."""
    torch.manual_seed(3)
    words = torch.ones(windows, length, dtype=torch.long)
    words[:, 0] = words[:, -1] = 0
    return {
        "input_ids": torch.randint(5, 250, (windows, length)),
        "attention_mask": torch.ones(windows, length, dtype=torch.long),
        "type_input_ids": torch.randint(5, 250, (types, 6)),
        "type_attention_mask": torch.ones(types, 6, dtype=torch.long),
        "word_start_mask": words,
        "word_end_mask": words,
        "labels": torch.tensor([[[0, 1, 2], [2, 1, 4]], [[1, 5, 5], [-100, -100, -100]]])[:windows],
    }


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("share", [False, True])
def test_a_model_with_each_encoder_is_built_trained_saved_and_loaded(name, share, tmp_path):
    ENCODERS[name].save_pretrained(tmp_path / "config")
    torch.manual_seed(0)
    AutoModel.from_config(ENCODERS[name]).save_pretrained(tmp_path / "encoder")
    model = BinderModel.from_encoders(
        str(tmp_path / "encoder"), share_encoders=share, projection_size=8, max_span_width=6, max_length=64, stride=8
    )
    reference = AutoModel.from_pretrained(tmp_path / "encoder")
    mine, theirs = model.text_encoder.state_dict(), reference.state_dict()
    assert all(torch.equal(tensor, theirs[key]) for key, tensor in mine.items())
    first = {"roberta": 1, "mpnet": 2}.get(name, 0)  # RoBERTa and MPNet reserve the positions up to padding_idx
    assert model.max_positions == ENCODERS[name].max_position_embeddings - first

    inputs = batch()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    model.train()
    losses = []
    for _ in range(12):
        output = model(**inputs)
        optimizer.zero_grad()
        output.loss.backward()
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters() if p.requires_grad)
        optimizer.step()
        losses.append(output.loss.item())
    assert losses[-1] < losses[0]

    model.eval().save_pretrained(tmp_path / "saved")
    loaded = AutoModel.from_pretrained(tmp_path / "saved").eval()
    assert type(loaded) is BinderModel
    with torch.no_grad():
        torch.testing.assert_close(loaded(**inputs).span_scores, model(**inputs).span_scores, rtol=1e-5, atol=1e-5)


def test_new_scales_are_the_inverse_temperature():
    model = build_model(init_temperature=0.07)
    for head in (model.start_head, model.end_head, model.span_head):
        assert head.scale.exp().item() == pytest.approx(1 / 0.07, rel=1e-5)


def test_shapes_of_the_output_and_sum_of_the_losses(model):
    inputs = batch()
    with torch.no_grad():
        output = model(**inputs)
        values = model(**inputs, return_dict=False)
    assert output.start_scores.shape == output.end_scores.shape == (2, 3, 12)
    assert output.span_scores.shape == (2, 3, 12, 12)
    assert torch.isneginf(output.span_scores[:, :, -1, 1:]).all()
    assert len(values) == 10 and torch.equal(values[0], output.loss)
    config = model.config
    heads = (config.start_loss_weight, config.end_loss_weight, config.span_loss_weight)
    expected = config.mention_loss_weight * sum(
        w * output[f"{h}_loss"] for w, h in zip(heads, ("start", "end", "span"), strict=True)
    ) + config.threshold_loss_weight * sum(
        w * output[f"{h}_threshold_loss"] for w, h in zip(heads, ("start", "end", "span"), strict=True)
    )
    torch.testing.assert_close(output.loss, expected)


def test_type_vectors_can_replace_descriptions(model):
    inputs = {name: value for name, value in batch().items() if name != "labels"}
    types = {name: inputs.pop(name) for name in ("type_input_ids", "type_attention_mask")}
    with torch.no_grad():
        vectors = model.encode_types(**types)
        assert vectors.shape == (3, 3, 16)
        torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(3, 3))
        torch.testing.assert_close(
            model(**inputs, type_vectors=vectors).span_scores, model(**inputs, **types).span_scores
        )


def test_scores_of_a_single_type_keep_the_type_dimension(model):
    with torch.no_grad():
        output = model(**{**batch(types=1), "labels": None})
    assert output.span_scores.shape[1] == output.start_scores.shape[1] == 1


def test_padding_does_not_change_scores_and_losses(model):
    inputs = batch(length=9)
    padded = {
        name: torch.nn.functional.pad(inputs[name], (0, 7))
        for name in ("input_ids", "attention_mask", "word_start_mask", "word_end_mask")
    }
    with torch.no_grad():
        whole, wide = model(**inputs), model(**{**inputs, **padded})
    torch.testing.assert_close(wide.loss, whole.loss)
    torch.testing.assert_close(wide.start_scores[..., :9], whole.start_scores)
    inside = torch.isfinite(whole.span_scores)
    torch.testing.assert_close(wide.span_scores[:, :, :9, :9][inside], whole.span_scores[inside])


def test_mentions_wider_than_max_span_width_add_nothing_to_the_mention_losses():
    model = build_model(max_span_width=3)
    inputs = batch()
    wide = {**inputs, "labels": torch.tensor([[[0, 1, 8]], [[-100, -100, -100]]])}
    with torch.no_grad():
        output = model(**wide)
    assert output.span_loss == output.start_loss == output.end_loss == 0
    assert torch.isfinite(output.loss)


def test_the_error_names_the_missing_inputs(model):
    inputs = batch()
    with pytest.raises(ValueError, match="needs entity types"):
        model(input_ids=inputs["input_ids"])
    with pytest.raises(ValueError, match="word_start_mask and word_end_mask"):
        model(**{**inputs, "word_start_mask": None})


def test_scores_are_float32_in_bf16_and_with_autocast(model):
    inputs = {**batch(), "labels": None}
    with torch.no_grad():
        exact = model(**inputs).span_scores
        with torch.autocast("cpu", torch.bfloat16):
            mixed = model(**inputs).span_scores
        half = model.to(torch.bfloat16)(**inputs).span_scores
    inside = torch.isfinite(exact)
    for scores in (mixed, half):
        assert scores.dtype == torch.float32
        assert (scores[inside] - exact[inside]).abs().mean() < 0.3


# transformers 5.21 deprecated this name of the method. Earlier versions have no other name.
@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable` is deprecated:FutureWarning")
def test_gradient_checkpointing_gives_the_same_gradients(model):
    inputs = batch()
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    plain = torch.autograd.grad(model(**inputs).loss, model.text_encoder.embeddings.word_embeddings.weight)[0]
    model.gradient_checkpointing_enable()
    assert any(getattr(module, "gradient_checkpointing", False) for module in model.text_encoder.modules())
    saved = torch.autograd.grad(model(**inputs).loss, model.text_encoder.embeddings.word_embeddings.weight)[0]
    torch.testing.assert_close(saved, plain)


def test_a_saved_configuration_contains_no_local_path(tmp_path):
    AutoModel.from_config(ENCODERS["bert"]).save_pretrained(tmp_path / "encoder")
    model = BinderModel.from_encoders(str(tmp_path / "encoder"))
    model.save_pretrained(tmp_path / "saved")
    assert str(tmp_path) not in (tmp_path / "saved" / "config.json").read_text()
    model.config.text_config._name_or_path = "google-bert/bert-base-uncased"
    assert model.config.to_dict()["text_config"]["_name_or_path"] == "google-bert/bert-base-uncased"


def test_a_checkpoint_contains_the_code_and_no_pickle(checkpoint):
    names = {path.name for path in checkpoint.iterdir()}
    code = {
        f"{part}_binder.py"
        for part in ("configuration", "modeling", "scoring", "losses", "processing", "decoding", "pipeline")
    }
    assert code | {"config.json", "model.safetensors", "tokenizer.json"} <= names
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pkl"))]


def test_an_encoder_of_an_unknown_model_type_is_rejected(tmp_path):
    BinderConfig(text_config=tiny_encoder_config().to_dict()).save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "wav2vec2_conformer_nonsense"}')
    with pytest.raises(ValueError, match="wav2vec2_conformer_nonsense"):
        BinderModel.from_encoders(str(tmp_path))


def test_from_encoders_still_accepts_the_old_keywords(tmp_path):
    for name in ("one", "two"):
        AutoModel.from_config(tiny_encoder_config()).save_pretrained(tmp_path / name)
    with pytest.warns(FutureWarning, match=r"\((text|type)=\.\.\.\) is now from_encoders\((text|type)_encoder="):
        old = BinderModel.from_encoders(text=str(tmp_path / "one"), type=str(tmp_path / "two"))
    new = BinderModel.from_encoders(text_encoder=str(tmp_path / "one"), type_encoder=str(tmp_path / "two"))
    for encoder in ("text_encoder", "type_encoder"):
        one, two = (getattr(model, encoder).state_dict() for model in (old, new))
        assert all(torch.equal(one[key], two[key]) for key in two)
    assert not torch.equal(
        new.text_encoder.embeddings.word_embeddings.weight, new.type_encoder.embeddings.word_embeddings.weight
    )
    with pytest.raises(TypeError, match="both text_encoder and text"):
        BinderModel.from_encoders(str(tmp_path / "one"), text=str(tmp_path / "one"))
    with pytest.raises(TypeError, match="needs a text_encoder"):
        BinderModel.from_encoders()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (GPT2Config(vocab_size=256, n_embd=32, n_layer=2, n_head=4, n_positions=64), "reads texts from left to right"),
        (LlamaConfig(**SIZES), "reads texts from left to right"),
        (tiny_encoder_config(is_decoder=True), "reads texts from left to right"),
        (T5Config(vocab_size=256, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4), "which also has a decoder"),
        (ViTConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64), "encode tokens"),
    ],
)
def test_from_encoders_rejects_unsuitable_encoders(config, message, tmp_path):
    AutoModel.from_config(config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=rf"{message}.* bidirectional encoder that starts with a \[CLS\]"):
        BinderModel.from_encoders(str(tmp_path))


@pytest.mark.parametrize("share", [False, True])
def test_resizing_token_embeddings_changes_both_encoders(share, tokenizer, tmp_path):
    model = build_model(share_encoders=share)
    tokenizer.add_tokens([f"[T{index}]" for index in range(300 - len(tokenizer))])
    assert len(tokenizer) == 300
    assert model.resize_token_embeddings(300).num_embeddings == 300
    model.save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path).eval()
    encoders = [loaded.text_encoder] if share else [loaded.text_encoder, loaded.type_encoder]
    assert [encoder.get_input_embeddings().num_embeddings for encoder in encoders] == [300] * len(encoders)
    pipe = BinderNerPipeline(model=loaded, tokenizer=tokenizer)
    assert pipe("the [T9] gene", entity_types={"Marker": "Written as [T9]."}, threshold=0)


def test_a_type_encoder_with_a_separate_tokenizer_is_not_resized():
    model = build_model(type_config=tiny_encoder_config(vocab_size=200).to_dict(), type_tokenizer=True)
    model.resize_token_embeddings(260, pad_to_multiple_of=8)
    assert (model.config.text_config.vocab_size, model.config.type_config.vocab_size) == (264, 200)
    assert model.type_encoder.get_input_embeddings().num_embeddings == 200
    assert model.resize_token_embeddings() is model.text_encoder.get_input_embeddings()


def test_scores_on_the_meta_device_have_the_usual_shapes():
    inputs = {name: value.to("meta") for name, value in batch().items() if name.endswith("input_ids")}
    with torch.device("meta"):
        output = build_model()(**inputs)
    assert output.span_scores.shape == (2, 3, 12, 12) and output.span_scores.is_meta


@pytest.mark.skipif(os.name != "posix", reason="only POSIX systems have a umask")
@pytest.mark.parametrize("mask", [0o022, 0o027, 0o002])
def test_all_files_of_a_checkpoint_have_the_same_permissions(mask, model, tmp_path):
    before = os.umask(mask)
    try:
        model.save_pretrained(tmp_path / "whole")
        model.save_pretrained(tmp_path / "shards", max_shard_size="100KB")
    finally:
        os.umask(before)
    for folder in ("whole", "shards"):
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / folder).iterdir()}
        assert set(modes.values()) == {0o666 & ~mask}, modes
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1


@given(st.integers(0, 10**6), st.booleans(), st.booleans(), st.sampled_from([0.1, 0.5, 0.9]))
@settings(deadline=None, max_examples=60)
def test_find_spans_equals_score_followed_by_propose_spans(seed, joint, with_widths, threshold):
    random = torch.Generator().manual_seed(seed)

    def mask(*shape):
        return torch.rand(*shape, generator=random) < 0.6

    model = build_model(use_span_width_embedding=with_widths)
    windows, length, types = torch.randint(1, 9, (3,), generator=random).tolist()
    hidden = torch.randn(windows, length, 32, generator=random)
    vectors = torch.nn.functional.normalize(torch.randn(types, 3, 16, generator=random), dim=-1)
    starts, ends = mask(windows, length), mask(windows, length)
    low = torch.randint(-1, length, (windows,), generator=random)
    owned = torch.stack([low, low + length], 1)
    required = required_margin(threshold, types)
    start, end, span = model.score(hidden, vectors, model.span_parts(hidden))
    expected = propose_spans(
        span, starts, ends, required, start if joint else None, end if joint else None, owned=owned
    )
    found = model.find_spans(hidden, vectors, starts, ends, required, joint, owned)
    assert found.margin.requires_grad is False
    for one, two in zip(found[:4], expected[:4], strict=True):
        assert one.tolist() == two.tolist()
    torch.testing.assert_close(found.margin, expected.margin.detach(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        (GPT2Config(n_embd=32, n_layer=1, n_head=4), "a 'gpt2' model. It reads texts from left to right"),
        (tiny_encoder_config(is_decoder=True), "a 'bert' model. It reads texts from left to right"),
        (T5Config(d_model=32, num_layers=1, num_heads=4, d_kv=8, d_ff=64), "a 't5' model, which also has a decoder"),
        (ViTConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=4), "'vit' model, which does not encode"),
        (CLIPConfig(), "a 'clip' model, which has no hidden_size"),
    ],
    ids=["gpt2", "decoder", "t5", "vit", "clip"],
)
@pytest.mark.parametrize("part", ["text_config", "type_config"])
def test_a_configuration_with_an_unsuitable_encoder_is_rejected(part, encoder, message):
    with pytest.raises(ValueError, match=message):
        build_model(**{part: encoder.to_dict()})


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_descriptions_in_blocks_of_similar_length_have_the_same_states(pooling, monkeypatch):
    model = build_model(type_pooling=pooling).eval()
    lengths = torch.tensor([3, 9, 4, 9, 1, 6, 2])
    mask = (torch.arange(9) < lengths[:, None]).long()
    ids = torch.randint(5, 250, (7, 9)) * mask
    expected = model.encode_type_states(ids, mask, torch.zeros_like(ids))
    seen = []
    encode = encoders_binder.encode
    monkeypatch.setattr(encoders_binder, "encode", lambda *block: seen.append(tuple(block[1].shape)) or encode(*block))
    monkeypatch.setattr(encoders_binder, "DESCRIPTIONS_PER_BLOCK", 3)
    torch.testing.assert_close(model.encode_type_states(ids, mask, torch.zeros_like(ids)), expected)
    assert seen == [(3, 3), (3, 9), (1, 9)]


def test_attention_on_a_gpu_does_not_use_cudnn():
    assert torch.backends.cuda.cudnn_sdp_enabled()
    with attention_kernels(torch.device("cuda")):
        assert not torch.backends.cuda.cudnn_sdp_enabled() and torch.backends.cuda.mem_efficient_sdp_enabled()
    with attention_kernels(torch.device("cpu")):
        assert torch.backends.cuda.cudnn_sdp_enabled()
    with sdpa_kernel([SDPBackend.MATH, SDPBackend.CUDNN_ATTENTION]), attention_kernels(torch.device("cuda")):
        assert not torch.backends.cuda.cudnn_sdp_enabled()
        assert not torch.backends.cuda.flash_sdp_enabled() and torch.backends.cuda.math_sdp_enabled()
    with sdpa_kernel([SDPBackend.CUDNN_ATTENTION]), attention_kernels(torch.device("cuda")):
        assert torch.backends.cuda.cudnn_sdp_enabled()
