"""Fine-tuning from a checkpoint, with and without replay, from the command line."""

import json

import pytest
import yaml
from transformers import AutoModel

from modeling_binder.finetuning import Document, EntityType, Mention, write_jsonl
from tests.tiny import TYPES
from training.arguments import parse_recipe
from training.finetune import main as finetune
from training.start import StartArguments, load_checkpoint


@pytest.fixture
def replayed(tmp_path):
    folder = tmp_path / "replayed"
    documents = [Document(f"r{i}", f"p{i} in cells", (Mention(0, len(f"p{i}"), "Protein"),)) for i in range(9)]
    write_jsonl(folder / "train.jsonl", documents)
    (folder / "types.json").write_text(json.dumps({"Protein": "A protein."}))
    return folder


def weights(model, part):
    return {name: tensor.clone() for name, tensor in model.state_dict().items() if name.startswith(part)}


def test_a_checkpoint_is_fine_tuned_with_replay(recipe, checkpoint, replayed, tmp_path, capsys):
    output = tmp_path / "run"
    command = [str(recipe), "--output_dir", str(output), "--init_from", str(checkpoint), "--decoding", "flat"]
    results = finetune([*command, "--replay", "0.4", "--replay_corpora", str(replayed), "--tokens_per_batch", "100"])
    assert results["metrics"]["test"]["micro"]["gold"] > 0 and "mentions" in capsys.readouterr().out
    before, after = AutoModel.from_pretrained(checkpoint), AutoModel.from_pretrained(output)
    assert after.config.type_descriptions == TYPES and after.config.decoding == "flat"
    assert after.config.max_length == 64 and after.config.stride == 8  # of the recipe
    frozen, trained = weights(before, "type_encoder"), weights(after, "type_encoder")
    assert all(tensor.equal(trained[name]) for name, tensor in frozen.items())
    text = weights(after, "text_encoder")
    assert not all(tensor.equal(text[name]) for name, tensor in weights(before, "text_encoder").items())
    settings = json.loads((output / "settings.json").read_text())
    assert settings["replay"] == 0.4 and settings["init_from"] == str(checkpoint)
    assert results["windows"]["train"] == 24


def test_without_replay_the_data_are_the_documents(recipe, checkpoint, tmp_path):
    output = tmp_path / "run"
    finetune([str(recipe), "--output_dir", str(output), "--init_from", str(checkpoint), "--freeze", "embeddings"])
    before, after = AutoModel.from_pretrained(checkpoint), AutoModel.from_pretrained(output)
    part = "text_encoder.embeddings"
    assert all(tensor.equal(weights(after, part)[name]) for name, tensor in weights(before, part).items())
    trained = weights(after, "type_encoder")
    assert not all(tensor.equal(trained[name]) for name, tensor in weights(before, "type_encoder").items())


def test_a_checkpoint_gets_the_types_of_the_corpus(checkpoint):
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps({**config, "decoding": "flat", "use_breadth": True}))
    model, tokenizer = load_checkpoint(str(checkpoint), [EntityType("River", ("A stream.", "Water."))], {"stride": 4})
    assert model.config.type_descriptions == {"River": "A stream."} and model.config.stride == 4
    assert model.config.decoding == "flat" and not getattr(model.config, "use_breadth", False)
    assert tokenizer("gene")["input_ids"]
    with pytest.raises(ValueError, match="stride must be at least 0"):
        load_checkpoint(str(checkpoint), [EntityType("River", ("A stream.",))], {"stride": 640})


def test_shared_encoders_are_not_frozen(checkpoint):
    start = StartArguments(init_from=str(checkpoint))
    model, _ = start.load([EntityType("River", ("A stream.",))])
    assert start.frozen_parts(model) == ["type_encoder"]
    model.config.share_encoders = True
    assert start.frozen_parts(model) == [] and StartArguments().frozen_parts(model) == []


def test_wrong_arguments_are_explained(recipe, checkpoint, replayed, tmp_path):
    output = ["--output_dir", str(tmp_path / "run")]
    with pytest.raises(SystemExit, match="--replay needs --init_from"):
        finetune([str(recipe), *output, "--replay", "0.3"])
    with pytest.raises(SystemExit, match="less than 1"):
        finetune([str(recipe), *output, "--init_from", str(checkpoint), "--replay", "1.5",
                  "--replay_corpora", str(replayed)])  # fmt: skip
    with pytest.raises(ValueError, match="there is no checkpoint"):
        StartArguments().load([])


def test_settings_of_a_run_from_encoders_are_those_of_before(recipe):
    assert "replay" not in parse_recipe([str(recipe)]).settings()
    settings = yaml.safe_load(recipe.read_text())
    assert {name: parse_recipe([str(recipe)]).settings()[name] for name in settings} == settings
