"""Fine-tuning from a checkpoint, with and without replay, from the command line."""

import json

import pytest
import yaml
from transformers import AutoModel

from modeling_binder.finetuning import Document, EntityType, Mention, write_jsonl
from tests.tiny import TYPES, build_model
from training.arguments import parse_recipe
from training.finetune import main as finetune
from training.start import StartArguments, load_checkpoint


@pytest.fixture
def replay_corpus(tmp_path):
    """Write a corpus with the entity type "Protein", and return its folder."""
    folder = tmp_path / "replayed"
    documents = [Document(f"r{i}", f"p{i} in cells", (Mention(0, len(f"p{i}"), "Protein"),)) for i in range(9)]
    write_jsonl(folder / "train.jsonl", documents)
    (folder / "types.json").write_text(json.dumps({"Protein": "A protein."}))
    return folder


def weights(model, part):
    """Return copies of the weights of a part of the model."""
    return {name: tensor.clone() for name, tensor in model.state_dict().items() if name.startswith(part)}


def test_a_checkpoint_is_fine_tuned_with_replay(recipe, checkpoint, replay_corpus, tmp_path, capsys):
    output = tmp_path / "run"
    command = [str(recipe), "--output_dir", str(output), "--init_from", str(checkpoint), "--decoding", "flat"]
    results = finetune(
        [*command, "--replay", "0.4", "--replay_corpora", str(replay_corpus), "--tokens_per_batch", "100"]
    )
    assert results["metrics"]["test"]["micro"]["gold"] > 0 and "mentions" in capsys.readouterr().out
    before, after = AutoModel.from_pretrained(checkpoint), AutoModel.from_pretrained(output)
    assert after.config.type_descriptions == TYPES and after.config.decoding == "flat"
    assert after.config.max_length == 64 and after.config.stride == 8  # the values in the recipe
    frozen, trained = weights(before, "type_encoder"), weights(after, "type_encoder")
    assert all(tensor.equal(trained[name]) for name, tensor in frozen.items())
    text = weights(after, "text_encoder")
    assert not all(tensor.equal(text[name]) for name, tensor in weights(before, "text_encoder").items())
    settings = json.loads((output / "settings.json").read_text())
    assert settings["replay"] == 0.4 and settings["init_from"] == str(checkpoint)
    assert results["windows"]["train"] == 24


def test_freeze_without_replay_freezes_only_the_given_part(recipe, checkpoint, tmp_path):
    output = tmp_path / "run"
    finetune([str(recipe), "--output_dir", str(output), "--init_from", str(checkpoint), "--freeze", "embeddings"])
    before, after = AutoModel.from_pretrained(checkpoint), AutoModel.from_pretrained(output)
    part = "text_encoder.embeddings"
    assert all(tensor.equal(weights(after, part)[name]) for name, tensor in weights(before, part).items())
    trained = weights(after, "type_encoder")
    assert not all(tensor.equal(trained[name]) for name, tensor in weights(before, "type_encoder").items())


def test_settings_that_the_checkpoint_determines_raise_an_error_or_a_warning(recipe, checkpoint, tmp_path, caplog):
    command = [str(recipe), "--output_dir", str(tmp_path / "run"), "--init_from", str(checkpoint)]
    with pytest.raises(SystemExit, match=r"--max_span_width has no effect, because .*checkpoint determines it"):
        finetune([*command, "--max_span_width", "300"])
    with pytest.raises(SystemExit, match=r"--replay must be at least 0 and less than 1, got 1\.5"):
        finetune([*command, "--replay", "1.5"])
    with pytest.raises(SystemExit, match=r"is the checkpoint to start from, and would be replaced; pass another"):
        finetune([*command[:2], str(checkpoint), *command[3:]])
    parse_recipe(command)
    assert "these settings of the recipe have no effect with --init_from: encoder" in caplog.text


def test_types_of_the_corpus_replace_the_types_of_the_checkpoint(tokenizer, tmp_path):
    former = build_model(use_breadth=True, thresholds={"Gene": 0.7}, decoding="flat")
    former.save_pretrained(tmp_path / "former")
    tokenizer.save_pretrained(tmp_path / "former")
    types = [EntityType("Water", ("What is wet.",)), EntityType("River", ("A stream.", "Running water."), "Water")]
    started, loaded = load_checkpoint(str(tmp_path / "former"), types, {"stride": 4})
    assert started.config.type_descriptions == {"Water": "What is wet.", "River": "A stream."}
    assert started.config.type_parents == {"Water": None, "River": "Water"} and started.config.thresholds is None
    assert started.config.stride == 4 and started.config.decoding == "flat" and loaded("gene")["input_ids"]
    assert started.breadth is None and not started.config.use_breadth
    started.save_pretrained(tmp_path / "again")
    assert AutoModel.from_pretrained(tmp_path / "again").breadth is None
    with pytest.raises(ValueError, match="stride must be at least 0"):
        load_checkpoint(str(tmp_path / "former"), types, {"stride": 640})


def test_shared_encoders_are_not_frozen(checkpoint):
    start = StartArguments(init_from=str(checkpoint))
    model, _ = start.load([EntityType("River", ("A stream.",))])
    assert start.frozen_parts(model) == ["type_encoder"]
    model.config.share_encoders = True
    assert start.frozen_parts(model) == [] and StartArguments().frozen_parts(model) == []


def test_invalid_arguments_raise_an_error(recipe, checkpoint, replay_corpus, tmp_path):
    output = ["--output_dir", str(tmp_path / "run")]
    with pytest.raises(SystemExit, match="--replay needs --init_from"):
        finetune([str(recipe), *output, "--replay", "0.3"])
    with pytest.raises(SystemExit, match="less than 1"):
        finetune([str(recipe), *output, "--init_from", str(checkpoint), "--replay", "1.5",
                  "--replay_corpora", str(replay_corpus)])  # fmt: skip
    with pytest.raises(ValueError, match="there is no checkpoint"):
        StartArguments().load([])


def test_settings_of_a_run_without_a_checkpoint_do_not_contain_replay(recipe):
    assert "replay" not in parse_recipe([str(recipe)]).settings()
    settings = yaml.safe_load(recipe.read_text())
    assert {name: parse_recipe([str(recipe)]).settings()[name] for name in settings} == settings
