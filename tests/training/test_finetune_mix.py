"""Training on a mix of corpora from the command line: recipes, errors, prepared mixes, resuming and two processes."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from modeling_binder.finetuning import Corpus, DataError, Document, EntityType, Mention, load_corpus, write_jsonl
from modeling_binder.finetuning.mix import MixSettings
from modeling_binder.hub import push_dataset
from tests.fresh_process import HANGS
from tests.tiny import TYPES, corpus
from training.finetune import main as finetune
from training.finetune_mix import main, parse
from training.mixes import Folders, as_asked, read_dev, read_mix

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def mix_recipe(recipe, tmp_path):
    """Write a recipe for a mix of two corpora, and return the path of the recipe.

    The corpus "genes" is annotated only for genes, and the corpus "cells" only for cells.
    """
    for name, label in (("genes", "Gene"), ("cells", "Cell")):
        documents = [Document(d.id, d.text, tuple(m for m in d.entities if m.label == label)) for d in corpus()]
        write_jsonl(tmp_path / name / "train.jsonl", documents)
        write_jsonl(tmp_path / name / "dev.jsonl", documents[:4])
        (tmp_path / name / "types.json").write_text(json.dumps({label: TYPES[label]}))
    settings = yaml.safe_load(recipe.read_text())
    del settings["corpus"], settings["num_train_epochs"], settings["per_device_train_batch_size"]
    settings |= {
        "data": str(tmp_path),
        "max_steps": 4,
        "tokens_per_batch": 100,
        "eval_strategy": "steps",
        "eval_steps": 4,
        "save_strategy": "steps",
        "save_steps": 2,
        "save_total_limit": 3,
        "load_best_model_at_end": False,
        "mix": ["genes", {"corpus": "cells", "weight": 2}],
        "dev": [{"corpus": "genes"}, {"corpus": "corpus", "name": "both", "types": ["Gene", "Cell"]}],
        "default_types": dict(list(TYPES.items())[:2]),
    }
    path = tmp_path / "mix.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def test_one_model_is_trained_on_two_corpora_with_different_types(mix_recipe, tmp_path, capsys):
    command = [str(mix_recipe), "--output_dir", str(tmp_path / "run"), "--max_steps", "60", "--eval_steps", "60"]
    results = finetune(command)  # the command passes a recipe with a mix to training.finetune_mix
    assert results["metrics"]["eval_both_f1"] > 0.9 and results["metrics"]["eval_genes_f1"] > 0.9
    assert [(part["name"], part["documents"]) for part in results["mix"]] == [("genes", 16), ("cells", 16)]
    assert "66.7%" in capsys.readouterr().out
    card = (tmp_path / "run" / "README.md").read_text()
    assert "genes" in card and "cells" in card


def test_training_from_a_prepared_mix_does_not_need_the_corpora(mix_recipe, tmp_path, monkeypatch):
    prepared = ["--prepared", str(tmp_path / "prepared")]
    main([str(mix_recipe), *prepared, "--prepare_only", "true"])
    whole = main([str(mix_recipe), "--output_dir", str(tmp_path / "one")])
    for name in ("genes", "cells", "corpus"):
        shutil.rmtree(tmp_path / name)
    again = main([str(mix_recipe), *prepared, "--output_dir", str(tmp_path / "two")])
    assert_equal(tmp_path / "one", tmp_path / "two")
    timings = ("runtime", "per_second")
    for one, two in ((whole["metrics"], again["metrics"]),):
        assert {k: v for k, v in one.items() if not k.endswith(timings)} == {
            k: v for k, v in two.items() if not k.endswith(timings)
        }
    alone = main([str(mix_recipe), *prepared, "--output_dir", str(tmp_path / "three"), "--dev", "[]"])
    assert alone["metrics"] == {}


def test_a_resumed_run_ends_with_the_same_weights(mix_recipe, tmp_path):
    main([str(mix_recipe), "--output_dir", str(tmp_path / "whole"), "--max_steps", "12", "--save_steps", "5"])
    (tmp_path / "resumed").mkdir()
    shutil.copy(tmp_path / "whole" / "settings.json", tmp_path / "resumed")
    shutil.copytree(tmp_path / "whole" / "checkpoint-5", tmp_path / "resumed" / "checkpoint-5")
    resumed = main(
        [str(mix_recipe), "--output_dir", str(tmp_path / "resumed"), "--max_steps", "12", "--save_steps", "5"]
    )
    assert resumed["minutes"] is None and resumed["steps"] == 12 and resumed["epochs"] > 1
    assert_equal(tmp_path / "whole", tmp_path / "resumed")


def assert_equal(one, two):
    first, second = (load_file(folder / "model.safetensors") for folder in (one, two))
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def test_two_processes_train_the_same_weights_as_one_process_that_accumulates_gradients(mix_recipe, tmp_path):
    common = ["-m", "training.finetune_mix", str(mix_recipe), "--projection_dropout", "0", "--optim", "sgd"]
    # All steps are within the first epoch. At the end of an epoch, the two runs may differ: if the number of batches is
    # odd, the last batch cannot be divided between two processes.
    common += ["--learning_rate", "0.1", "--freeze", "type_encoder", "--tokens_per_batch", "30", "--output_dir"]
    two = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29633"]
    commands = {
        "two": [*two, *common, str(tmp_path / "two")],
        "one": [*common, str(tmp_path / "one"), "--gradient_accumulation_steps", "2"],
    }
    for command in commands.values():
        done = subprocess.run(
            [sys.executable, *command],
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=HANGS,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
    results = {name: json.loads((tmp_path / name / "results.json").read_text()) for name in commands}
    assert results["two"]["processes"] == 2 and results["one"]["steps"] == results["two"]["steps"] == 4
    assert results["one"]["epochs"] < 1
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in commands)
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, atol=2e-5, rtol=1e-3)
    scores = [{key: results[name]["metrics"][key] for key in ("eval_f1", "eval_both_f1")} for name in commands]
    assert scores[0] == scores[1]


def read(tmp_path, *entries, **defaults):
    return read_mix(list(entries), defaults, MixSettings(), Folders(str(tmp_path)), "mix.yaml")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"corpus": "genes", "weight": 0}, r"genes: weight must be a number above 0, got 0"),
        ({"corpus": "genes", "weight": -1}, r"genes: weight must be a number above 0, got -1"),
        ({"corpus": "genes", "share": 2}, r"genes: share must be above 0 and at most 1"),
        ({"corpus": "genes", "negative_rate": 1.5}, r"negative_rate must lie between 0 and 1, got 1\.5"),
        ({"corpus": "genes", "types": ["Cell"]}, r"genes: types contains 'Cell'.* its types are Gene"),
        ({"corpus": "genes", "exclude": ["Gene"]}, r"genes: 'types' and 'exclude' leave no type"),
        ({"corpus": "genes", "parents": {"Gene": "Thing"}}, r"genes: parents contains 'Thing'"),
        ({"corpus": "genes", "wieght": 2}, r"mix\.yaml: mix\[0\] has the unknown key 'wieght'"),
        ({"weight": 2}, r"mix\.yaml: mix\[0\] must be a folder, or a mapping with 'corpus'"),
        ({"corpus": "nothing"}, r"there is no corpus 'nothing'.*--data"),
        ({"corpus": "genes", "types": {"Gene": " "}}, r"the type 'Gene' needs a description"),
        ({"corpus": "untyped"}, r"untyped.types\.json"),
        ({"corpus": "strange"}, r"strange.train\.jsonl: 'types' of document 'a' contains 'Cell'"),
    ],
)
def test_error_messages_for_a_mix_contain_the_corpus_and_the_field(mix_recipe, tmp_path, entry, message):
    write_jsonl(tmp_path / "untyped" / "train.jsonl", corpus(1))
    write_jsonl(tmp_path / "strange" / "train.jsonl", [Document("a", "the gene", types=("Gene", "Cell"))])
    (tmp_path / "strange" / "types.json").write_text(json.dumps({"Gene": "A gene."}))
    with pytest.raises(DataError, match=message):
        read(tmp_path, entry)


def test_one_error_lists_all_problems_of_a_mix(mix_recipe, tmp_path):
    with pytest.raises(DataError, match=r"(?s)'one'.*'two'.*2 problems in total"):
        read(tmp_path, "one", "two", "genes")
    with pytest.raises(DataError, match=r"two corpora named 'genes'"):
        read(tmp_path, "genes", "genes")
    with pytest.raises(DataError, match=r"sum to 1, which leaves nothing for the 1 corpora without a share"):
        read(tmp_path, {"corpus": "genes", "share": 1.0}, "cells")


def test_shares_on_the_command_line_replace_the_shares_of_the_recipe(mix_recipe, tmp_path, capsys):
    run = ["--output_dir", str(tmp_path / "run"), "--max_steps", "2", "--shares", '{"genes": 0.75}']
    main([str(mix_recipe), *run])
    table = capsys.readouterr().out
    assert "75.0%" in table and "25.0%" in table
    with pytest.raises(SystemExit, match=r"'shares' names 'proteins', which is not a corpus of the mix"):
        main([str(mix_recipe), "--shares", '{"proteins": 0.5}'])
    with pytest.raises(SystemExit, match=r"--shares must be JSON"):
        main([str(mix_recipe), "--shares", "half"])
    with pytest.raises(SystemExit, match=r"'shares' must be a mapping from names of corpora to shares, got 0\.5"):
        main([str(mix_recipe), "--shares", "0.5"])


def test_types_of_development_sets_are_passed_by_name_or_description(tmp_path, mix_recipe):
    types = (
        EntityType("PER", ("person: a person by name.",)),
        EntityType("LOC", ("place: a town.", "place: a river.")),
    )
    assert [entity_type.description for entity_type in as_asked(types, True, "name")] == ["person", "place"]
    assert [entity_type.description for entity_type in as_asked(types, True, "description")] == [
        "a person by name.",
        "a town.",
    ]
    assert [entity_type.description for entity_type in as_asked(types, False, "name")] == ["PER", "LOC"]
    same = (EntityType("a", ("city: where a bus starts",)), EntityType("b", ("city: where a bus ends",)))
    assert [entity_type.description for entity_type in as_asked(same, True, "name")] == [
        "city: where a bus starts",
        "city: where a bus ends",
    ]
    with pytest.raises(DataError, match=r"genes: the corpus has no documents in the split 'test'"):
        read_dev([{"corpus": "genes", "split": "test"}], {}, Folders(str(tmp_path)))


def test_corpora_are_downloaded_from_a_dataset_repository(hub, tmp_path):
    corpora = {
        name: Corpus({label: TYPES[label]}, [Document("a", "the gene", (Mention(4, 8, label),))], [], [])
        for name, label in (("genes", "Gene"), ("cells", "Cell"))
    }
    push_dataset(corpora, "alice/corpora", origins={name: {"license": "CC0"} for name in corpora})
    push_dataset(load_corpus_of(tmp_path), "alice/single", license="cc0-1.0")
    mix = read_mix(["open/genes", "cells"], {}, MixSettings(), Folders("alice/corpora"))
    assert [(part.name, part.types[0].name) for part in mix.parts] == [("genes", "Gene"), ("cells", "Cell")]
    names = ["hf://datasets/alice/single", "hf://datasets/alice/corpora/cells"]
    assert [part.name for part in read_mix(names, {}, MixSettings(), Folders()).parts] == ["single", "cells"]
    with pytest.raises(DataError, match=r"alice/corpora: .* has no folder 'proteins' with types\.json"):
        read_mix(["proteins"], {}, MixSettings(), Folders("alice/corpora"))


def load_corpus_of(folder):
    write_jsonl(folder / "single" / "train.jsonl", corpus(1))
    (folder / "single" / "types.json").write_text(json.dumps(TYPES))
    return load_corpus(folder / "single")


def test_mappings_are_passed_as_json_on_the_command_line(mix_recipe):
    run = parse([str(mix_recipe), "--learning_rates", '{"heads": 0.001}', "--phrasings", '{"name": 1.0}'])
    assert run.training.learning_rates == {"heads": 0.001} and run.mix.settings().name == 1.0
    with pytest.raises(ValueError, match=r"--learning_rates must be JSON"):
        parse([str(mix_recipe), "--learning_rates", "heads=1"])


def test_a_recipe_can_contain_a_teacher(mix_recipe, tmp_path):
    common = [str(mix_recipe), "--freeze", "type_encoder", "--dev", "[]", "--eval_strategy", "no"]
    main([*common, "--output_dir", str(tmp_path / "teacher")])
    main([*common, "--output_dir", str(tmp_path / "alone")])
    main([*common, "--output_dir", str(tmp_path / "taught"), "--teacher", str(tmp_path / "teacher")])
    weights = [load_file(tmp_path / name / "model.safetensors") for name in ("teacher", "alone", "taught")]
    name = "text_encoder.encoder.layer.0.attention.self.query.weight"
    assert weights[0][name].equal(weights[1][name])
    assert not weights[0][name].equal(weights[2][name])
    settings = json.loads((tmp_path / "taught" / "settings.json").read_text())
    assert settings["teacher"] == str(tmp_path / "teacher") and settings["teacher_weight"] == 1.0


def test_a_recipe_with_a_teacher_and_a_trained_type_encoder_raises_an_error(mix_recipe, tmp_path):
    main([str(mix_recipe), "--output_dir", str(tmp_path / "teacher"), "--dev", "[]", "--eval_strategy", "no"])
    with pytest.raises(SystemExit, match="frozen type encoder"):
        main([str(mix_recipe), "--output_dir", str(tmp_path / "taught"), "--teacher", str(tmp_path / "teacher")])
