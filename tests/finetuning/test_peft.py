"""Adapters of PEFT (LoRA): training, loading, switching, merging, pushing and resuming, and the cache of types."""

import json
import os
import shutil
import stat
import sys
import warnings
from pathlib import Path

import pytest
import torch
import yaml
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModel, BertModel, TrainingArguments, pipeline

from modeling_binder import BinderModel, BinderNerPipeline
from modeling_binder.adapters_binder import ADAPTER_SETTINGS, base_of_adapter
from modeling_binder.backends import export
from modeling_binder.cli import main as cli
from modeling_binder.finetuning import BinderTrainer, evaluate, lora_config, write_jsonl
from modeling_binder.hub import push_model, rewrite_card
from modeling_binder.loading import load_pipeline, load_tokenizer
from tests.tiny import (
    TYPES,
    assert_same_entities,
    build_model,
    build_two_tokenizer_model,
    corpus,
    small_model,
    tiny_encoder_config,
)
from training.evaluate import main as evaluate_command
from training.finetune import main as finetune

pytestmark = pytest.mark.filterwarnings("ignore:Already found a `peft_config` attribute:UserWarning")
DEV = corpus(1)
TEXT = "the IL-2 gene promoter in cells of the gene"
ADAPTER_FILES = {"adapter_config.json", "adapter_model.safetensors", ADAPTER_SETTINGS}


@pytest.fixture
def base(checkpoint):
    return checkpoint


@pytest.fixture
def make_adapter(base, tokenizer, tmp_path):
    """Return a function that saves an adapter of the tiny model with random weights, and returns its folder."""

    def make(name, seed=1, **config):
        model = AutoModel.from_pretrained(base)
        for field, value in config.items():
            setattr(model.config, field, value)
        torch.manual_seed(seed)
        adapted = get_peft_model(model, lora_config(model, r=4))
        with torch.no_grad():
            for weight in adapted.parameters():
                if weight.requires_grad:
                    weight.add_(0.3 * torch.randn_like(weight))
        make_trainer(adapted, tokenizer, tmp_path / name, dev=None).save_model()
        return tmp_path / name

    return make


def make_trainer(model, tokenizer, folder, train=None, dev=DEV, **arguments):
    settings = {"report_to": "none", "use_cpu": True, "disable_tqdm": True, **arguments}
    return BinderTrainer(model, TrainingArguments(str(folder), **settings), train, dev, processing_class=tokenizer)


def found(model, tokenizer, **options):
    return BinderNerPipeline(model=model, tokenizer=tokenizer)(TEXT, **options)


# ---- the configuration ----


def test_the_default_adapts_the_encoders_and_trains_the_heads_in_full():
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


def test_frozen_parts_get_no_adapters_and_targets_can_be_chosen():
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
def test_invalid_settings_raise_errors(options, message):
    with pytest.raises(ValueError, match=message):
        lora_config(small_model(), **options)


def test_lora_on_all_linear_layers_trains_the_heads(tokenizer):
    """Here, adapters in the heads are trained, and not the heads in full."""
    model = small_model(initializer_range=0.5)
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear"))
    trainer = make_trainer(adapted, tokenizer, "unused", corpus(1))
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


def test_a_trained_adapter_is_loaded_by_folder_with_its_own_types(base, tokenizer, tmp_path):
    model = AutoModel.from_pretrained(base)
    model.config.entity_types = [{"name": "Gene", "description": "A gene."}, {"name": "Cell", "description": "Cells."}]
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    trainer = make_trainer(
        get_peft_model(model, lora_config(model, r=4)),
        tokenizer,
        tmp_path / "run",
        corpus(2),
        max_steps=4,
        learning_rate=0.01,
    )
    trainer.train()
    trainer.save_model()
    expected = trainer.evaluate()
    folder = tmp_path / "run"
    assert {path.name for path in folder.iterdir()} >= {*ADAPTER_FILES, "README.md", "tokenizer.json"}
    assert not (folder / "config.json").exists() and not (folder / "model.safetensors").exists()
    assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == str(base)
    ner = pipeline("binder-ner", model=str(folder))
    assert list(ner.model.config.type_descriptions) == ["Gene", "Cell"]
    state = ner.model.state_dict()
    for name, tensor in before.items():  # the base is unchanged
        kept = name.replace("_head.", "_head.original_module.")
        assert torch.equal(state.get(kept, state.get(kept.replace(".weight", ".base_layer.weight"), tensor)), tensor)
    assert_same_entities(ner(TEXT), found(trainer.model, tokenizer))
    assert evaluate(folder, corpus(1))[0].micro.f1 == expected["eval_f1"]
    assert "alice" not in (folder / "README.md").read_text() and "base" in (folder / "model_card.json").read_text()
    rewrite_card(folder, "alice/tiny", license="mit")
    assert "license: mit" in (folder / "README.md").read_text()


@pytest.mark.skipif(os.name != "posix", reason="only POSIX systems have modes of files")
@pytest.mark.parametrize("umask", [0o002, 0o022, 0o077], ids=oct)
def test_all_files_of_an_adapter_have_the_mode_of_its_configuration(umask, make_adapter, tmp_path):
    """A second user of a shared folder can read the adapter, although safetensors writes files for one user only."""
    before = os.umask(umask)
    try:
        folder = make_adapter("adapter")
        AutoModel.from_pretrained(folder).save_pretrained(tmp_path / "again")
    finally:
        os.umask(before)
    for saved in (folder, tmp_path / "again"):
        modes = {name: stat.S_IMODE((saved / name).stat().st_mode) for name in ADAPTER_FILES}
        assert set(modes.values()) == {0o666 & ~umask}, modes


def test_loading_and_saving_an_adapter_again_keeps_it(make_adapter, tokenizer, tmp_path):
    adapter = make_adapter("first", decoding="flat")
    model = AutoModel.from_pretrained(adapter)
    assert model.config.decoding == "flat"
    model.save_pretrained(tmp_path / "second")
    assert {path.name for path in (tmp_path / "second").iterdir()} == ADAPTER_FILES
    again = BinderModel.from_pretrained(tmp_path / "second")
    assert_same_entities(found(again, tokenizer), found(model, tokenizer))
    assert again.config.decoding == "flat"


def test_a_folder_of_an_adapter_needs_no_tokenizer(make_adapter, tokenizer, tmp_path):
    AutoModel.from_pretrained(make_adapter("first")).save_pretrained(tmp_path / "second")
    assert {path.name for path in (tmp_path / "second").iterdir()} == ADAPTER_FILES
    assert load_tokenizer(tmp_path / "second").get_vocab() == tokenizer.get_vocab()
    write_jsonl(tmp_path / "dev.jsonl", DEV)
    assert evaluate(tmp_path / "second", DEV)[0].micro.gold
    tune = ["tune-thresholds", str(tmp_path / "second"), str(tmp_path / "dev.jsonl"), "--output", str(tmp_path / "t")]
    assert cli(tune) == 0
    assert cli(["export", "frozen", str(tmp_path / "second"), str(tmp_path / "frozen")]) == 0
    assert load_tokenizer(tmp_path / "frozen").get_vocab() == tokenizer.get_vocab()


def test_an_adapter_without_settings_uses_the_types_of_the_base_and_warns(make_adapter, caplog):
    adapter = make_adapter("a", entity_types=[{"name": "Gene", "description": "A gene."}])
    (adapter / ADAPTER_SETTINGS).unlink()
    assert AutoModel.from_pretrained(adapter).config.type_descriptions == TYPES


def test_two_encoders_with_two_tokenizers(tokenizer, tmp_path):
    base = tmp_path / "base"
    build_two_tokenizer_model().save_pretrained(base)
    tokenizer.save_pretrained(base)
    model = AutoModel.from_pretrained(base)
    trainer = make_trainer(
        get_peft_model(model, lora_config(model, r=4)),
        tokenizer,
        tmp_path / "run",
        corpus(1),
        max_steps=3,
        learning_rate=0.05,
    )
    trainer.train()
    trainer.save_model()
    for loaded in (AutoModel.from_pretrained(tmp_path / "run"), BinderModel.from_pretrained(tmp_path / "run")):
        assert loaded.type_tokenizer is not None
        assert_same_entities(found(loaded, tokenizer), found(trainer.model, tokenizer))


def test_a_bfloat16_model_keeps_the_trained_heads_in_float32(make_adapter, tokenizer):
    model = AutoModel.from_pretrained(make_adapter("a"), dtype=torch.bfloat16)
    assert model.text_encoder.dtype == torch.bfloat16
    assert {p.dtype for p in model.span_head.parameters()} == {torch.float32}
    assert found(model, tokenizer)


def test_training_in_bfloat16_mixed_precision(tokenizer, tmp_path):
    model = small_model()
    adapted = get_peft_model(model, lora_config(model, r=4))
    trainer = make_trainer(adapted, tokenizer, tmp_path, corpus(2), max_steps=8, learning_rate=0.02, bf16=True)
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
    same = {"Gene": "A gene.", "Place": "A city or a country."}  # the same descriptions with every adapter

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


def test_a_second_adapter_is_loaded_without_reports_about_the_first(make_adapter, base, capfd):
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


def test_missing_weights_of_the_second_adapter_are_reported(make_adapter, base, monkeypatch):
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


def test_an_adapter_that_does_not_exist_is_named_in_one_sentence(base, tmp_path, hub):
    model = AutoModel.from_pretrained(base)
    with pytest.raises(
        OSError, match=r"^cannot load the adapter '.*nope': there is no such folder, and loading from .*"
    ):
        model.load_adapter(str(tmp_path / "nope"), "third")
    assert not model.has_adapters


def test_cached_vectors_follow_the_adapter_of_a_peft_model(tokenizer):
    """Switching an adapter changes no tensor, so the cache must compare which adapter is active."""
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
        assert torch.allclose(ner.type_vectors(), build_pipeline_vectors(tokenizer), atol=1e-6)
    layer = next(module for module in model.type_encoder.modules() if hasattr(module, "lora_A"))
    layer.set_scale("one", 5.0)
    assert not torch.allclose(ner.type_vectors(), vectors["one"][0], atol=1e-4)


def build_pipeline_vectors(tokenizer):
    return BinderNerPipeline(model=build_model(), tokenizer=tokenizer).type_vectors()


def test_an_evaluation_after_a_switch_does_not_use_states_of_the_other_adapter(make_adapter, base, tokenizer, tmp_path):
    one, two = make_adapter("one", 1), make_adapter("two", 2)
    model = AutoModel.from_pretrained(one, adapter_name="one").requires_grad_(False)
    model.load_adapter(two, "two")
    trainer = make_trainer(model.requires_grad_(False), tokenizer, tmp_path / "x")
    losses = []
    for name in ("two", "one", "two"):
        model.set_adapter(name)
        model.requires_grad_(False)
        losses.append(trainer.evaluate()["eval_loss"])
    assert losses[0] == losses[2] != losses[1]
    fresh = make_trainer(AutoModel.from_pretrained(one).requires_grad_(False), tokenizer, tmp_path / "y")
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
    with pytest.raises(ValueError, match=r"holds an adapter .* delete adapter_config\.json"):
        model.save_pretrained(adapter)
    loaded = AutoModel.from_pretrained(adapter)
    with pytest.raises(ValueError, match=r"holds a complete model .* delete config\.json"):
        loaded.save_pretrained(Path(loaded.name_or_path))


def test_exporting_and_starting_from_an_adapter_merge_it(make_adapter, tokenizer, recipe, tmp_path):
    adapter = make_adapter("a")
    tokenizer.save_pretrained(adapter)
    export(str(adapter), tmp_path / "frozen", onnx=False, freeze_types=True)
    assert_same_entities(
        pipeline("binder-ner", model=str(tmp_path / "frozen"))(TEXT),
        pipeline("binder-ner", model=str(adapter))(TEXT),
        1e-4,
    )
    finetune([str(recipe), "--output_dir", str(tmp_path / "run"), "--init_from", str(adapter), "--max_steps", "1"])
    assert (tmp_path / "run" / "model.safetensors").exists()


# ---- commands ----


def lora(recipe, output, *arguments):
    return finetune([str(recipe), "--output_dir", str(output), "--lora-r", "4", *arguments])


def test_finetune_from_bare_encoders_saves_the_base_in_the_output_folder(recipe, tmp_path, capsys):
    output = tmp_path / "run"
    results = lora(recipe, output, "--num_train_epochs", "10", "--learning_rate", "0.01")
    assert results["metrics"]["test"]["micro"]["f1"] > 0.8
    assert results["peak_memory_mb"] > 100
    weights = load_file(output / "adapter_model.safetensors")
    assert results["trained_parameters"] == sum(tensor.numel() for tensor in weights.values())
    assert json.loads((output / "adapter_config.json").read_text())["base_model_name_or_path"] == str(output / "base")
    moved = tmp_path / "moved"
    shutil.copytree(output, moved, ignore=shutil.ignore_patterns("base", "checkpoint-*"))
    metrics = evaluate_command([str(moved), str(tmp_path / "corpus" / "test.jsonl")])
    assert metrics.micro.f1 == results["metrics"]["test"]["micro"]["f1"]
    capsys.readouterr()
    assert cli(["evaluate", str(moved), str(tmp_path / "corpus" / "test.jsonl")]) == 0
    assert cli(["find", "--model", str(moved), "--format", "jsonl", TEXT]) == 0
    assert '"Gene"' in capsys.readouterr().out


def test_finetune_from_a_checkpoint_uses_this_checkpoint_as_the_base(recipe, base, tmp_path, monkeypatch):
    monkeypatch.chdir(base.parent)
    lora(recipe, tmp_path / "run", "--init_from", base.name, "--max_steps", "2", "--lora-target", "query")
    config = json.loads((tmp_path / "run" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(base) and config["lora_alpha"] == 8
    assert config["target_modules"] == ["query"]
    assert not any("type_encoder" in name for name in load_file(tmp_path / "run" / "adapter_model.safetensors"))
    assert not (tmp_path / "run" / "base").exists()


def test_a_recipe_can_contain_the_settings_of_lora(recipe, tmp_path):
    recipe.write_text(recipe.read_text() + yaml.safe_dump({"lora_r": 2, "lora_alpha": 4, "lora_target": ["query"]}))
    finetune([str(recipe), "--output_dir", str(tmp_path / "run"), "--max_steps", "1"])
    config = json.loads((tmp_path / "run" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["target_modules"]) == (2, 4, ["query"])


def test_a_resumed_run_ends_with_the_same_adapter(recipe, tmp_path):
    steps = ("--save_strategy", "steps", "--save_steps", "4", "--eval_strategy", "steps", "--eval_steps", "4")
    arguments = (*steps, "--max_steps", "12", "--save_total_limit", "5", "--lora-dropout", "0.1")
    whole = lora(recipe, tmp_path / "whole", *arguments)
    (tmp_path / "killed").mkdir()
    shutil.copy(tmp_path / "whole" / "settings.json", tmp_path / "killed")
    for name in ("checkpoint-4", "base"):
        shutil.copytree(tmp_path / "whole" / name, tmp_path / "killed" / name)
    resumed = lora(recipe, tmp_path / "killed", *arguments)
    assert resumed["minutes"] is None and resumed["metrics"] == whole["metrics"]
    one, two = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("whole", "killed"))
    assert one.keys() == two.keys() and all(torch.equal(tensor, two[name]) for name, tensor in one.items())
    with pytest.raises(SystemExit, match="lora_r: 4 before, 8 now"):
        finetune([str(recipe), "--output_dir", str(tmp_path / "killed"), *arguments, "--lora-r", "8"])


# ---- the Hub ----


def test_a_pushed_adapter_is_loaded_with_its_base(hub, base, make_adapter, tokenizer, tmp_path):
    AutoModel.from_pretrained(base).push_to_hub("alice/base", tokenizer=tokenizer)
    model = AutoModel.from_pretrained("alice/base")
    model.config.entity_types = [{"name": "Gene", "description": "A gene."}]
    trainer = BinderTrainer(
        get_peft_model(model, lora_config(model, r=4)),
        TrainingArguments(
            str(tmp_path / "run"),
            report_to="none",
            use_cpu=True,
            disable_tqdm=True,
            max_steps=2,
            hub_model_id="alice/genes",
        ),
        [document for document in corpus(1) if "cells" not in document.text],
        processing_class=tokenizer,
        card={"license": "mit", "language": "en"},
    )
    trainer.train()
    trainer.push_to_hub()
    files = hub.files("alice/genes")
    assert set(files) == ADAPTER_FILES | {
        *("README.md", "model_card.json", "tokenizer.json", "tokenizer_config.json", ".gitattributes")
    }
    for name, content in files.items():
        assert str(tmp_path).encode() not in content, name
    card = files["README.md"].decode()
    metadata = yaml.safe_load(card.split("---")[1])
    assert metadata["base_model"] == ["alice/base"] and metadata["base_model_relation"] == "adapter"
    assert metadata["license"] == "mit" and {"peft", "lora", "adapter"} <= set(metadata["tags"])
    assert 'model="alice/genes"' in card and "https://huggingface.co/alice/base" in card and "merge_and_unload" in card
    ner = pipeline("binder-ner", model="alice/genes")
    assert_same_entities(ner(TEXT), found(trainer.model, tokenizer))
    assert list(load_pipeline("alice/genes").model.config.type_descriptions) == ["Gene"]
    # The facts on the card come from the adapter, and another push keeps them.
    ner.push_to_hub("alice/again")
    assert yaml.safe_load(hub.files("alice/again")["README.md"].decode().split("---")[1])["license"] == "mit"
    push_model(ner.model.merge_and_unload(), "alice/again", tokenizer=tokenizer)
    assert not ADAPTER_FILES & set(hub.files("alice/again")), "an adapter next to a complete model would be loaded too"
    assert pipeline("binder-ner", model="alice/again")(TEXT)


def test_an_adapter_whose_base_is_a_folder_is_not_pushed(hub, make_adapter, recipe, tmp_path, tokenizer):
    model = AutoModel.from_pretrained(make_adapter("a"))
    with pytest.raises(ValueError, match="Push the base first"):
        model.push_to_hub("alice/adapter", tokenizer=tokenizer)
    with pytest.raises(SystemExit, match="push it first and start from it with --init_from"):
        lora(recipe, tmp_path / "run", "--push_to_hub", "alice/adapter")
    assert ("model", "alice/adapter") not in hub.repos


# ---- errors ----


def test_without_peft_the_error_names_the_extra(make_adapter, recipe, tmp_path, monkeypatch, capsys):
    adapter = make_adapter("a")
    monkeypatch.setattr("modeling_binder.adapters_binder.is_peft_available", lambda: False)
    monkeypatch.setitem(sys.modules, "peft", None)
    message = r"pip install 'binder-ner\[peft\]'"
    for load in (BinderModel.from_pretrained, load_pipeline, lambda name: evaluate(name, corpus(1))):
        with pytest.raises(ValueError, match=message):
            load(str(adapter))
    with pytest.raises(SystemExit, match=message):
        lora(recipe, tmp_path / "run")
    assert cli(["find", "--model", str(adapter), TEXT]) != 0
    assert "binder-ner[peft]" in capsys.readouterr().err


def test_a_base_that_is_missing_or_does_not_fit_raises_an_error(make_adapter, base, tokenizer, tmp_path):
    adapter = make_adapter("a")
    assert base_of_adapter(adapter) == str(base) and base_of_adapter(base) is None
    base.rename(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=r"the base model '.*checkpoint' of the adapter .* cannot be loaded"):
        load_pipeline(str(adapter))
    with pytest.raises(SystemExit, match="correct base_model_name_or_path"):
        evaluate_command([str(adapter), str(write_test_file(tmp_path))])
    BertModel(tiny_encoder_config()).save_pretrained(base)
    with pytest.raises(ValueError, match="is a 'bert' model, not 'binder'"):
        load_pipeline(str(adapter))
    shutil.rmtree(base)
    build_model(text_config=tiny_encoder_config(hidden_size=48).to_dict()).save_pretrained(base)
    tokenizer.save_pretrained(base)
    with pytest.raises(ValueError, match="does not fit the base model"):
        load_pipeline(str(adapter))


def write_test_file(folder):
    write_jsonl(folder / "test.jsonl", corpus(1))
    return folder / "test.jsonl"


def test_a_pickle_of_adapter_weights_is_not_loaded(make_adapter):
    adapter = make_adapter("a")
    torch.save(load_file(adapter / "adapter_model.safetensors"), adapter / "adapter_model.bin")
    (adapter / "adapter_model.safetensors").unlink()
    with pytest.raises(OSError, match=r"adapter_model\.safetensors"):
        AutoModel.from_pretrained(adapter)


@pytest.mark.parametrize("content", ["[", "[]", '{"entity_types": [{"name": "x"}]}', '{"hidden_size": 5}'])
def test_malformed_settings_are_refused(content, make_adapter):
    adapter = make_adapter("a")
    (adapter / ADAPTER_SETTINGS).write_text(content)
    with pytest.raises(ValueError, match=ADAPTER_SETTINGS):
        AutoModel.from_pretrained(adapter)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--lora-target", "q_proj"), "the target q_proj matches no linear layer"),
        (("--lora-r", "0"), "r >= 1"),
    ],
)
def test_invalid_settings_of_the_command(recipe, tmp_path, arguments, message):
    with pytest.raises(SystemExit, match=message):
        lora(recipe, tmp_path / "run", *arguments)
    assert not (tmp_path / "run").exists()


def test_lora_settings_need_a_rank_and_full_training_needs_another_folder(recipe, make_adapter, tmp_path):
    with pytest.raises(SystemExit, match="need --lora-r"):
        finetune([str(recipe), "--lora-alpha", "4"])
    with pytest.raises(SystemExit, match="holds an adapter"):
        finetune([str(recipe), "--output_dir", str(make_adapter("a")), "--max_steps", "1"])


@pytest.mark.parametrize("output", [None, "tuned"])
def test_thresholds_of_an_adapter_are_tuned_and_saved_with_it(make_adapter, base, tmp_path, output):
    adapter = make_adapter("adapter", default_threshold=0.6)
    write_jsonl(tmp_path / "dev.jsonl", corpus(2))
    before, of_base = ({p.name: p.read_bytes() for p in folder.iterdir()} for folder in (adapter, base))
    folder = tmp_path / output if output else adapter
    options = ["--min-mentions", "4", "--device", "cpu", *(["--output", str(folder)] if output else [])]
    assert cli(["tune-thresholds", str(adapter), str(tmp_path / "dev.jsonl"), *options]) == 0
    after = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert {name for name in before if before[name] != after[name]} <= {
        ADAPTER_SETTINGS,
        "README.md",
        "model_card.json",
    }
    assert "config.json" not in after and of_base == {p.name: p.read_bytes() for p in base.iterdir()}
    former, settings = (json.loads(files[ADAPTER_SETTINGS]) for files in (before, after))
    assert set(settings["thresholds"]) == {"Gene", "Cell"} and settings["entity_types"] == former["entity_types"]
    assert AutoModel.from_pretrained(folder).config.thresholds == settings["thresholds"]
    assert "## Thresholds" in after["README.md"].decode() and "## Adapter" in after["README.md"].decode()
