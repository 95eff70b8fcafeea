"""LoRA adapters of PEFT: the commands, the Hub, and errors."""

import json
import shutil
import sys

import pytest
import torch
import yaml
from peft import get_peft_model
from safetensors.torch import load_file
from transformers import AutoModel, BertModel, TrainingArguments, pipeline

from modeling_binder import BinderModel, BinderNerPipeline
from modeling_binder.adapters_binder import ADAPTER_SETTINGS, base_of_adapter
from modeling_binder.cli import main as cli
from modeling_binder.finetuning import BinderTrainer, evaluate, lora_config, write_jsonl
from modeling_binder.hub import push_model
from modeling_binder.loading import load_pipeline
from tests.tiny import (
    assert_same_entities,
    build_model,
    corpus,
    tiny_encoder_config,
)
from training.evaluate import main as evaluate_command
from training.finetune import main as finetune

TEXT = "the IL-2 gene promoter in cells of the gene"
ADAPTER_FILES = {"adapter_config.json", "adapter_model.safetensors", ADAPTER_SETTINGS}
pytestmark = pytest.mark.filterwarnings("ignore:Already found a `peft_config` attribute:UserWarning")


def finetune_with_lora(recipe, output, *arguments):
    return finetune([str(recipe), "--output_dir", str(output), "--lora-r", "4", *arguments])


def test_finetune_from_bare_encoders_saves_the_base_in_the_output_folder(recipe, tmp_path, capsys):
    output = tmp_path / "run"
    results = finetune_with_lora(recipe, output, "--num_train_epochs", "10", "--learning_rate", "0.01")
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
    finetune_with_lora(recipe, tmp_path / "run", "--init_from", base.name, "--max_steps", "2", "--lora-target", "query")
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
    whole = finetune_with_lora(recipe, tmp_path / "whole", *arguments)
    (tmp_path / "killed").mkdir()
    shutil.copy(tmp_path / "whole" / "settings.json", tmp_path / "killed")
    for name in ("checkpoint-4", "base"):
        shutil.copytree(tmp_path / "whole" / name, tmp_path / "killed" / name)
    resumed = finetune_with_lora(recipe, tmp_path / "killed", *arguments)
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
    assert_same_entities(ner(TEXT), BinderNerPipeline(model=trainer.model, tokenizer=tokenizer)(TEXT))
    assert list(load_pipeline("alice/genes").model.config.type_descriptions) == ["Gene"]
    # The card gets the license from the adapter, so a second push keeps the license.
    ner.push_to_hub("alice/again")
    assert yaml.safe_load(hub.files("alice/again")["README.md"].decode().split("---")[1])["license"] == "mit"
    push_model(ner.model.merge_and_unload(), "alice/again", tokenizer=tokenizer)
    assert not ADAPTER_FILES & set(hub.files("alice/again")), (
        "from_pretrained would load an adapter next to a complete model"
    )
    assert pipeline("binder-ner", model="alice/again")(TEXT)


def test_an_adapter_whose_base_is_a_folder_is_not_pushed(hub, make_adapter, recipe, tmp_path, tokenizer):
    model = AutoModel.from_pretrained(make_adapter("a"))
    with pytest.raises(ValueError, match="Push the base first"):
        model.push_to_hub("alice/adapter", tokenizer=tokenizer)
    with pytest.raises(SystemExit, match="push it first and start from it with --init_from"):
        finetune_with_lora(recipe, tmp_path / "run", "--push_to_hub", "alice/adapter")
    assert ("model", "alice/adapter") not in hub.repos


# ---- errors ----


def test_without_peft_the_error_shows_the_command_that_installs_it(make_adapter, recipe, tmp_path, monkeypatch, capsys):
    adapter = make_adapter("a")
    monkeypatch.setattr("modeling_binder.adapters_binder.is_peft_available", lambda: False)
    monkeypatch.setitem(sys.modules, "peft", None)
    message = r"pip install 'binder-ner\[peft\]'"
    for load in (BinderModel.from_pretrained, load_pipeline, lambda name: evaluate(name, corpus(1))):
        with pytest.raises(ValueError, match=message):
            load(str(adapter))
    with pytest.raises(SystemExit, match=message):
        finetune_with_lora(recipe, tmp_path / "run")
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


def test_adapter_weights_in_a_pickle_file_are_not_loaded(make_adapter):
    adapter = make_adapter("a")
    torch.save(load_file(adapter / "adapter_model.safetensors"), adapter / "adapter_model.bin")
    (adapter / "adapter_model.safetensors").unlink()
    with pytest.raises(OSError, match=r"adapter_model\.safetensors"):
        AutoModel.from_pretrained(adapter)


@pytest.mark.parametrize("content", ["[", "[]", '{"entity_types": [{"name": "x"}]}', '{"hidden_size": 5}'])
def test_malformed_adapter_settings_raise_an_error(content, make_adapter):
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
def test_invalid_lora_arguments_raise_an_error(recipe, tmp_path, arguments, message):
    with pytest.raises(SystemExit, match=message):
        finetune_with_lora(recipe, tmp_path / "run", *arguments)
    assert not (tmp_path / "run").exists()


def test_lora_arguments_need_a_rank_and_full_training_needs_a_folder_without_an_adapter(recipe, make_adapter, tmp_path):
    with pytest.raises(SystemExit, match="need --lora-r"):
        finetune([str(recipe), "--lora-alpha", "4"])
    with pytest.raises(SystemExit, match="contains an adapter"):
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
