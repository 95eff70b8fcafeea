"""LoRA adapters of PEFT in Python: training, loading, switching and merging, and the cache of type vectors."""

import json
import os
import stat
import warnings
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModel, pipeline

from modeling_binder import BinderModel, BinderNerPipeline
from modeling_binder.adapters_binder import ADAPTER_SETTINGS
from modeling_binder.backends import export
from modeling_binder.cli import main as cli
from modeling_binder.finetuning import evaluate, lora_config, write_jsonl
from modeling_binder.hub import rewrite_card
from modeling_binder.loading import load_tokenizer
from tests.tiny import (
    TYPES,
    assert_same_entities,
    build_model,
    build_trainer,
    build_two_tokenizer_model,
    corpus,
    small_model,
)
from training.finetune import main as finetune

pytestmark = pytest.mark.filterwarnings("ignore:Already found a `peft_config` attribute:UserWarning")
DEV = corpus(1)
TEXT = "the IL-2 gene promoter in cells of the gene"
ADAPTER_FILES = {"adapter_config.json", "adapter_model.safetensors", ADAPTER_SETTINGS}


def train_adapter(model, tokenizer, folder, documents, **arguments):
    """Train an adapter, save it in `folder`, and return the trainer."""
    adapted = get_peft_model(model, lora_config(model, r=4))
    trainer = build_trainer(adapted, tokenizer, folder, documents, DEV, **arguments)
    trainer.train()
    trainer.save_model()
    return trainer


def found(model, tokenizer, **options):
    """Return the entities that a pipeline finds in TEXT."""
    return BinderNerPipeline(model=model, tokenizer=tokenizer)(TEXT, **options)


# ---- the configuration ----


def test_the_default_configuration_adapts_the_encoders_and_trains_all_weights_of_the_heads():
    model = small_model()
    adapted = get_peft_model(model, lora_config(model, r=4))
    trained = {name.removeprefix("base_model.model.") for name, p in adapted.named_parameters() if p.requires_grad}
    assert {name.partition(".")[0] for name in trained} == {
        *("text_encoder", "type_encoder", "start_head", "end_head", "span_head")
    }
    assert all(("lora_" in name) == ("_encoder" in name) for name in trained)
    assert {
        "span_head.modules_to_save.default.width_embedding.weight",
        "end_head.modules_to_save.default.scale",
    } <= trained
    layer = "text_encoder.encoder.layer.0."
    assert {f"{layer}{part}.lora_A.default.weight" for part in ("attention.self.query", "output.dense")} <= trained


def test_frozen_parts_of_the_model_get_no_adapters_and_targets_can_be_chosen():
    model = small_model()
    adapted = get_peft_model(model, lora_config(model, 2, target=["query", "value"], freeze=["type_encoder", "heads"]))
    trained = {name for name, p in adapted.named_parameters() if p.requires_grad}
    assert len(trained) == 2 * 2 * 2
    assert all(".text_encoder." in name and (".query." in name or ".value." in name) for name in trained)


def test_a_shared_encoder_gets_adapters():
    model = small_model(share_encoders=True)
    assert lora_config(model).target_modules == {"query", "key", "value", "dense"}
    with pytest.raises(ValueError, match=r"encoders that are trained \(none\)"):
        lora_config(model, freeze=["type_encoder"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "q_proj"}, "the target q_proj matches no linear layer .* are dense, key, query, value"),
        ({"r": 0}, "r >= 1"),
        ({"dropout": 1.0}, "dropout < 1"),
        ({"freeze": ["decoder"]}, "freeze accepts the parts"),
    ],
)
def test_invalid_settings_raise_an_error(options, message):
    with pytest.raises(ValueError, match=message):
        lora_config(small_model(), **options)


def test_lora_on_all_linear_layers_trains_adapters_in_the_heads(tokenizer):
    """This configuration trains adapters in the heads instead of all weights of the heads."""
    model = small_model(initializer_range=0.5)
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear"))
    trainer = build_trainer(adapted, tokenizer, "unused", corpus(1))
    batch = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    optimizer = torch.optim.AdamW([p for p in adapted.parameters() if p.requires_grad], lr=5e-3)
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        loss = trainer.compute_loss(adapted, dict(batch))
        loss.backward()
        losses.append(loss.item())
        optimizer.step()
    assert losses[-1] < losses[0]
    of_heads = [p for name, p in adapted.named_parameters() if p.requires_grad and "_head." in name]
    assert len(of_heads) == 3 * 2 * 2 and all(p.grad.abs().max() > 0 for p in of_heads)
    before = found(adapted.eval(), tokenizer)
    merged = adapted.merge_and_unload()
    assert type(merged.span_head.text_projection) is nn.Linear
    assert_same_entities(found(merged, tokenizer), before, tolerance=1e-4)


# ---- saving and loading ----


def test_a_trained_adapter_is_loaded_from_its_folder_with_its_types(base, tokenizer, tmp_path):
    model = AutoModel.from_pretrained(base)
    model.config.entity_types = [{"name": "Gene", "description": "A gene."}, {"name": "Cell", "description": "Cells."}]
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    trainer = train_adapter(model, tokenizer, tmp_path / "run", corpus(2), max_steps=4, learning_rate=0.01)
    expected = trainer.evaluate()
    folder = tmp_path / "run"
    assert {path.name for path in folder.iterdir()} >= {*ADAPTER_FILES, "README.md", "tokenizer.json"}
    assert not (folder / "config.json").exists() and not (folder / "model.safetensors").exists()
    assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == str(base)
    ner = pipeline("binder-ner", model=str(folder))
    assert list(ner.model.config.type_descriptions) == ["Gene", "Cell"]
    state = ner.model.state_dict()
    for name, tensor in before.items():  # the base model is unchanged
        kept = name.replace("_head.", "_head.original_module.")
        assert torch.equal(state.get(kept, state.get(kept.replace(".weight", ".base_layer.weight"), tensor)), tensor)
    assert_same_entities(ner(TEXT), found(trainer.model, tokenizer))
    assert evaluate(folder, corpus(1))[0].micro.f1 == expected["eval_f1"]
    assert "alice" not in (folder / "README.md").read_text() and "base" in (folder / "model_card.json").read_text()
    rewrite_card(folder, "alice/tiny", license="mit")
    assert "license: mit" in (folder / "README.md").read_text()


@pytest.mark.skipif(os.name != "posix", reason="only POSIX systems have file modes")
@pytest.mark.parametrize("umask", [0o002, 0o022, 0o077], ids=oct)
def test_all_files_of_an_adapter_have_the_default_file_mode(umask, make_adapter, tmp_path):
    """Another user of a shared folder must be able to read the adapter.

    safetensors writes files that only their owner can read, so `save_pretrained` changes the file mode.
    """
    before = os.umask(umask)
    try:
        folder = make_adapter("adapter")
        AutoModel.from_pretrained(folder).save_pretrained(tmp_path / "again")
    finally:
        os.umask(before)
    for saved in (folder, tmp_path / "again"):
        modes = {name: stat.S_IMODE((saved / name).stat().st_mode) for name in ADAPTER_FILES}
        assert set(modes.values()) == {0o666 & ~umask}, modes


def test_an_adapter_is_unchanged_by_loading_and_saving(make_adapter, tokenizer, tmp_path):
    adapter = make_adapter("first", decoding="flat")
    model = AutoModel.from_pretrained(adapter)
    assert model.config.decoding == "flat"
    model.save_pretrained(tmp_path / "second")
    assert {path.name for path in (tmp_path / "second").iterdir()} == ADAPTER_FILES
    again = BinderModel.from_pretrained(tmp_path / "second")
    assert_same_entities(found(again, tokenizer), found(model, tokenizer))
    assert again.config.decoding == "flat"


def test_an_adapter_without_a_tokenizer_uses_the_tokenizer_of_its_base(make_adapter, tokenizer, tmp_path):
    AutoModel.from_pretrained(make_adapter("first")).save_pretrained(tmp_path / "second")
    assert {path.name for path in (tmp_path / "second").iterdir()} == ADAPTER_FILES
    assert load_tokenizer(tmp_path / "second").get_vocab() == tokenizer.get_vocab()
    write_jsonl(tmp_path / "dev.jsonl", DEV)
    assert evaluate(tmp_path / "second", DEV)[0].micro.gold
    tune = ["tune-thresholds", str(tmp_path / "second"), str(tmp_path / "dev.jsonl"), "--output", str(tmp_path / "t")]
    assert cli(tune) == 0
    assert cli(["export", "frozen", str(tmp_path / "second"), str(tmp_path / "frozen")]) == 0
    assert load_tokenizer(tmp_path / "frozen").get_vocab() == tokenizer.get_vocab()


def test_an_adapter_without_settings_uses_the_types_of_its_base(make_adapter, caplog):
    adapter = make_adapter("a", entity_types=[{"name": "Gene", "description": "A gene."}])
    (adapter / ADAPTER_SETTINGS).unlink()
    assert AutoModel.from_pretrained(adapter).config.type_descriptions == TYPES


def test_an_adapter_of_a_model_with_two_tokenizers_is_loaded(tokenizer, tmp_path):
    base = tmp_path / "base"
    build_two_tokenizer_model().save_pretrained(base)
    tokenizer.save_pretrained(base)
    model = AutoModel.from_pretrained(base)
    trainer = train_adapter(model, tokenizer, tmp_path / "run", corpus(1), max_steps=3, learning_rate=0.05)
    for loaded in (AutoModel.from_pretrained(tmp_path / "run"), BinderModel.from_pretrained(tmp_path / "run")):
        assert loaded.type_tokenizer is not None
        assert_same_entities(found(loaded, tokenizer), found(trainer.model, tokenizer))


def test_a_bfloat16_model_keeps_the_trained_heads_in_float32(make_adapter, tokenizer):
    model = AutoModel.from_pretrained(make_adapter("a"), dtype=torch.bfloat16)
    assert model.text_encoder.dtype == torch.bfloat16
    assert {p.dtype for p in model.span_head.parameters()} == {torch.float32}
    assert found(model, tokenizer)


def test_training_in_bfloat16_mixed_precision_reduces_the_loss(tokenizer, tmp_path):
    model = small_model()
    adapted = get_peft_model(model, lora_config(model, r=4))
    trainer = build_trainer(adapted, tokenizer, tmp_path, corpus(2), DEV, max_steps=8, learning_rate=0.02, bf16=True)
    first = trainer.evaluate()["eval_loss"]
    trainer.train()
    assert trainer.evaluate()["eval_loss"] < first
    assert {p.dtype for p in adapted.parameters()} == {torch.float32}


# ---- several adapters ----


def test_switching_adapters_switches_types_settings_and_cached_vectors(make_adapter, base, tokenizer):
    genes = [{"name": "Gene", "description": "A gene."}]
    one = make_adapter("one", 1, max_length=32, stride=4, thresholds={"Gene": 0.6})
    two = make_adapter("two", 2, entity_types=genes)
    expected = {name: pipeline("binder-ner", model=str(name)) for name in (one, two, base)}
    model = AutoModel.from_pretrained(base)
    ner = BinderNerPipeline(model=model, tokenizer=tokenizer)
    same = {"Gene": "A gene.", "Place": "A city or a country."}  # every adapter encodes these descriptions

    def check(folder):
        other = expected[folder]
        assert model.config.type_descriptions == other.model.config.type_descriptions
        assert (model.config.max_length, model.config.thresholds) == (
            other.model.config.max_length,
            other.model.config.thresholds,
        )
        text = f"{TEXT}. " * 9
        assert_same_entities(ner(text), other(text))
        assert torch.allclose(ner.type_vectors(same), other.type_vectors(same), atol=1e-5)

    check(base)
    model.load_adapter(one, "one")
    check(one)
    model.load_adapter(two, "two")
    check(two)
    model.set_adapter("one")
    check(one)
    model.disable_adapters()
    check(base)
    model.enable_adapters()
    check(one)
    model.set_adapter("two")
    check(two)


def test_a_second_adapter_is_loaded_without_warnings_about_the_first_adapter(make_adapter, base, capfd):
    one, two = make_adapter("one", 1), make_adapter("two", 2)
    model = AutoModel.from_pretrained(base)
    model.load_adapter(one, "one")
    capfd.readouterr()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert model.load_adapter(two, "two") is None
        assert not caught and "MISSING" not in (reported := "".join(capfd.readouterr())) and "REPORT" not in reported
    _, info = AutoModel.from_pretrained(one, output_loading_info=True)
    assert not info["missing_keys"]


def test_missing_and_unused_weights_of_the_second_adapter_are_reported(make_adapter, base, monkeypatch):
    one, two = make_adapter("one", 1), make_adapter("two", 2)
    weights = load_file(two / "adapter_model.safetensors")
    removed = next(name for name in weights if "lora_B" in name)
    changed = {name: tensor for name, tensor in weights.items() if name != removed}
    changed["base_model.model.other.lora_A.weight"] = torch.zeros(4, 32)
    save_file(changed, two / "adapter_model.safetensors")
    messages = []
    monkeypatch.setattr(
        "modeling_binder.adapters_binder.logger.warning", lambda text, *values: messages.append(text % values)
    )
    model = AutoModel.from_pretrained(base)
    model.load_adapter(one, "one")
    assert not messages
    model.load_adapter(two, "two")
    message, unused = messages
    assert "are not used" in unused and "other.lora_A" in unused
    assert message.startswith("The adapter two has no weights for 1 of its tensors") and "lora_B.two" in message


def test_loading_an_adapter_that_does_not_exist_raises_an_error(base, tmp_path, hub):
    model = AutoModel.from_pretrained(base)
    with pytest.raises(
        OSError, match=r"^cannot load the adapter '.*nope': there is no such folder, and loading from .*"
    ):
        model.load_adapter(str(tmp_path / "nope"), "third")
    assert not model.has_adapters


def test_cached_vectors_follow_the_adapter_of_a_peft_model(tokenizer):
    """Switching the adapter changes no tensor, so the cache must check which adapter is active."""
    model = build_model()
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules=["query", "value"], init_lora_weights=False), "one")
    adapted.add_adapter("two", LoraConfig(r=4, target_modules=["query", "value"], init_lora_weights=False))
    adapted.eval()
    ner = pipeline("binder-ner", model=adapted, tokenizer=tokenizer)
    vectors = {}
    for name in ("one", "two", "one"):
        adapted.set_adapter(name)
        vectors.setdefault(name, []).append(ner.type_vectors())
    assert torch.equal(*vectors["one"])
    assert not torch.allclose(vectors["one"][0], vectors["two"][0], atol=1e-3)
    with adapted.disable_adapter():
        assert torch.allclose(ner.type_vectors(), type_vectors_without_adapter(tokenizer), atol=1e-6)
    layer = next(module for module in model.type_encoder.modules() if hasattr(module, "lora_A"))
    layer.set_scale("one", 5.0)
    assert not torch.allclose(ner.type_vectors(), vectors["one"][0], atol=1e-4)


def type_vectors_without_adapter(tokenizer):
    return BinderNerPipeline(model=build_model(), tokenizer=tokenizer).type_vectors()


def test_evaluation_after_a_switch_does_not_use_cached_states_of_another_adapter(
    make_adapter, base, tokenizer, tmp_path
):
    one, two = make_adapter("one", 1), make_adapter("two", 2)
    model = AutoModel.from_pretrained(one, adapter_name="one").requires_grad_(False)
    model.load_adapter(two, "two")
    trainer = build_trainer(model.requires_grad_(False), tokenizer, tmp_path / "x", dev=DEV)
    losses = []
    for name in ("two", "one", "two"):
        model.set_adapter(name)
        model.requires_grad_(False)
        losses.append(trainer.evaluate()["eval_loss"])
    assert losses[0] == losses[2] != losses[1]
    fresh = build_trainer(AutoModel.from_pretrained(one).requires_grad_(False), tokenizer, tmp_path / "y", dev=DEV)
    assert losses[1] == pytest.approx(fresh.evaluate()["eval_loss"], abs=1e-5)


# ---- merging ----


@pytest.mark.parametrize("way", ["BinderModel", "PeftModel"])
def test_a_merged_model_is_a_complete_checkpoint_with_equal_outputs(way, make_adapter, base, tokenizer, tmp_path):
    adapter = make_adapter("a", entity_types=[{"name": "Gene", "description": "A gene."}])
    expected = pipeline("binder-ner", model=str(adapter))(TEXT)
    if way == "BinderModel":
        merged = BinderModel.from_pretrained(adapter).merge_and_unload()
    else:
        model = AutoModel.from_pretrained(base)
        model.config.entity_types = [{"name": "Gene", "description": "A gene."}]
        peft_model = get_peft_model(model, lora_config(model, r=4))
        peft_model.load_adapter(adapter, "default")
        merged = peft_model.merge_and_unload()
    assert not merged.has_adapters
    merged.save_pretrained(tmp_path / "merged")
    tokenizer.save_pretrained(tmp_path / "merged")
    assert (tmp_path / "merged" / "pipeline_binder.py").exists()
    assert not {"adapter_config.json", ADAPTER_SETTINGS} & {path.name for path in (tmp_path / "merged").iterdir()}
    again = pipeline("binder-ner", model=str(tmp_path / "merged"))
    assert not any("lora" in name or "modules_to_save" in name for name in again.model.state_dict())
    assert_same_entities(again(TEXT), expected, tolerance=1e-4)


def test_an_adapter_and_a_complete_model_are_not_saved_in_one_folder(make_adapter, model):
    adapter = make_adapter("a")
    with pytest.raises(ValueError, match=r"contains an adapter .* delete adapter_config\.json"):
        model.save_pretrained(adapter)
    loaded = AutoModel.from_pretrained(adapter)
    with pytest.raises(ValueError, match=r"contains a complete model .* delete config\.json"):
        loaded.save_pretrained(Path(loaded.name_or_path))


def test_export_and_finetuning_merge_an_adapter_into_its_base(make_adapter, tokenizer, recipe, tmp_path):
    adapter = make_adapter("a")
    tokenizer.save_pretrained(adapter)
    export(str(adapter), tmp_path / "frozen", backend="torch")
    assert_same_entities(
        pipeline("binder-ner", model=str(tmp_path / "frozen"))(TEXT),
        pipeline("binder-ner", model=str(adapter))(TEXT),
        1e-4,
    )
    finetune([str(recipe), "--output_dir", str(tmp_path / "run"), "--init_from", str(adapter), "--max_steps", "1"])
    assert (tmp_path / "run" / "model.safetensors").exists()
