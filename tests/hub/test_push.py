"""Tests of pushes to the local Hub: the files of a successful push, and the Hub after a failed push."""

import hashlib
import json
import logging
import threading

import pytest
import yaml
from huggingface_hub import HfApi
from transformers import AutoModel, TrainingArguments

import modeling_binder.hub as hub_package
from modeling_binder import BinderNerPipeline
from modeling_binder.finetuning import BinderTrainer
from modeling_binder.hub import FACTS_FILE, PushError, check_access, fingerprint
from tests.tiny import build_model, build_tokenizer, corpus, small_model
from training.finetune import main as finetune

CODE = {
    "adapters_binder.py",
    "breadth_binder.py",
    "configuration_binder.py",
    "decoding_binder.py",
    "encoders_binder.py",
    "exported_binder.py",
    "heads_binder.py",
    "losses_binder.py",
    "modeling_binder.py",
    "pipeline_binder.py",
    "numbers_binder.py",
    "onnx_binder.py",
    "openvino_binder.py",
    "pretrained_binder.py",
    "processing_binder.py",
    "results_binder.py",
    "streaming_binder.py",
    "thresholds_binder.py",
    "tokenizers_binder.py",
    "types_binder.py",
    "scoring_binder.py",
    "words_binder.py",
}
CONTRACT = CODE | {
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "README.md",
    "handler.py",
    FACTS_FILE,
}


def metadata(hub, repo_id, **options):
    """Return the metadata in the model card of a repository."""
    return yaml.safe_load(hub.files(repo_id, **options)["README.md"].decode().split("---")[1])


def make_trainer(tokenizer, folder, **arguments):
    settings = {"report_to": "none", "use_cpu": True, "disable_tqdm": True, "max_steps": 2, **arguments}
    return BinderTrainer(
        small_model(),
        TrainingArguments(str(folder), **settings),
        corpus(2),
        corpus(1),
        processing_class=tokenizer,
        card={"language": "en", "license": "apache-2.0", "dataset": {"name": "Our tiny corpus"}},
    )


def push_by(way, model, tokenizer, recipe, tmp_path):
    """Push a model in one of five ways."""
    if way == "model":
        return model.push_to_hub("alice/tiny", tokenizer=tokenizer)
    if way == "a loaded model":
        model.save_pretrained(tmp_path / "saved")
        tokenizer.save_pretrained(tmp_path / "saved")
        return AutoModel.from_pretrained(tmp_path / "saved").push_to_hub("alice/tiny")
    if way == "pipe":
        return BinderNerPipeline(model=model, tokenizer=tokenizer).push_to_hub("alice/tiny")
    if way == "trainer":
        trainer = make_trainer(tokenizer, tmp_path / "run", hub_model_id="alice/tiny")
        trainer.train()
        return trainer.push_to_hub()
    return finetune([str(recipe), "--output_dir", str(tmp_path / "run"), "--push-to-hub", "alice/tiny"])


@pytest.mark.parametrize("way", ["model", "a loaded model", "pipe", "trainer", "training.finetune"])
def test_all_ways_to_push_make_one_commit_with_the_same_files(way, hub, model, tokenizer, recipe, tmp_path):
    push_by(way, model, tokenizer, recipe, tmp_path)
    files = hub.files("alice/tiny")
    assert set(files) == CONTRACT | {".gitattributes"}
    assert len(list(hub.repos["model", "alice/tiny"].history())) == 2, "the initial commit and the push"
    config = json.loads(files["config.json"])
    assert config["auto_map"]["AutoModel"] == "modeling_binder.BinderModel"
    assert config["custom_pipelines"]["binder-ner"]["impl"] == "pipeline_binder.BinderNerPipeline"
    for name, content in files.items():
        assert str(tmp_path).encode() not in content, name
        assert b"hf_alice" not in content, name
    assert "model-index" in metadata(hub, "alice/tiny") or way not in ("trainer", "training.finetune")


def test_pickles_next_to_the_checkpoint_are_not_uploaded(hub, recipe, tmp_path):
    """The output folder contains two kinds of pickles: training_args.bin, and optimizer states in its checkpoints."""
    finetune([str(recipe), "--output_dir", str(tmp_path / "run"), "--push-to-hub", "alice/tiny"])
    here = {path.name for path in (tmp_path / "run").rglob("*")}
    assert {"training_args.bin", "optimizer.pt", "settings.json"} <= here
    assert set(hub.files("alice/tiny")) == CONTRACT | {".gitattributes"}
    assert "hub" not in (tmp_path / "run" / "settings.json").read_text()


def test_a_private_repository_is_created_and_is_closed_to_other_users(hub, model, tokenizer, monkeypatch):
    model.push_to_hub("alice/secret", tokenizer=tokenizer, private=True)
    assert hub.repos["model", "alice/secret"].private
    monkeypatch.setenv("HF_TOKEN", "hf_bob")
    with pytest.raises(PushError, match="bob may not write to alice/secret"):
        model.push_to_hub("alice/secret", tokenizer=tokenizer)


def test_a_name_without_namespace_uses_the_namespace_of_the_user(hub, model, tokenizer):
    commit = model.push_to_hub("tiny", tokenizer=tokenizer, commit_message="First", commit_description="Of many")
    assert commit.commit_url.startswith(f"{hub.url}/alice/tiny/commit/")
    assert next(hub.repos["model", "alice/tiny"].history()).title == "First"
    model.push_to_hub("lab/tiny", tokenizer=tokenizer)
    assert ("model", "lab/tiny") in hub.repos


def test_a_push_to_a_branch_does_not_change_main(hub, model, tokenizer):
    model.push_to_hub("alice/tiny", tokenizer=tokenizer)
    main = hub.repos["model", "alice/tiny"].refs["main"]
    for _ in range(2):  # the first push creates the branch, and the second push finds it
        build_model(projection_size=8).push_to_hub("alice/tiny", tokenizer=tokenizer, revision="next")
    assert hub.repos["model", "alice/tiny"].refs["main"] == main
    assert json.loads(hub.files("alice/tiny", ref="next")["config.json"])["projection_size"] == 8


def test_a_pull_request_does_not_change_the_other_users_files(hub, model, tokenizer, monkeypatch):
    model.push_to_hub("alice/tiny", tokenizer=tokenizer)
    before = hub.files("alice/tiny")
    monkeypatch.setenv("HF_TOKEN", "hf_bob")
    commit = build_model(projection_size=8).push_to_hub("alice/tiny", tokenizer=tokenizer, create_pr=True)
    assert commit.pr_url == f"{hub.url}/alice/tiny/discussions/1"
    assert hub.files("alice/tiny") == before
    assert json.loads(hub.files("alice/tiny", ref="refs/pr/1")["config.json"])["projection_size"] == 8


def test_a_second_push_keeps_files_of_the_user(hub, model, tokenizer):
    model.push_to_hub("alice/tiny", tokenizer=tokenizer, max_shard_size="100KB")
    assert "model.safetensors.index.json" in hub.files("alice/tiny")
    hub.commit("alice/tiny", {"notes/mine.txt": "keep", "model.safetensors.txt": "keep", "extra.safetensors": b"keep"})
    build_model(projection_size=8).push_to_hub("alice/tiny", tokenizer=tokenizer)
    files = hub.files("alice/tiny")
    kept = {"notes/mine.txt", "model.safetensors.txt", "extra.safetensors"}
    # The second push deletes the shards of the first push. Otherwise, the shards would be loaded, not the new weights.
    assert set(files) == CONTRACT | kept | {".gitattributes"}
    assert json.loads(files["config.json"])["projection_size"] == 8


def test_an_access_token_can_be_given_as_argument(hub, model, tokenizer, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(PushError, match="hf auth login"):
        model.push_to_hub("alice/tiny", tokenizer=tokenizer)
    model.push_to_hub("alice/tiny", tokenizer=tokenizer, token="hf_alice")
    assert ("model", "alice/tiny") in hub.repos


def test_a_model_without_a_tokenizer_is_not_pushed(hub, model):
    with pytest.raises(ValueError, match=r"push_to_hub\(repo_id, tokenizer=tokenizer\)"):
        model.push_to_hub("alice/tiny")
    assert not hub.repos


# ---- failures ----

COMMIT = {"method": "POST", "path": "/commit/"}
# The values are: arguments of `hub.fail`, access token, repository id, and a pattern of the expected error message.
FAILURES = {
    "an unknown token": ({}, "hf_wrong", "alice/tiny", "missing or invalid"),
    "a read token": ({}, "hf_reader", "alice/new", "role 'write'"),
    "a read token, existing repository": ({}, "hf_reader", "alice/tiny", "role 'write'"),
    "another user's namespace": ({}, "hf_alice", "bob/tiny", r"Push to alice/tiny.*create_pr=True"),
    "an unknown namespace": ({}, "hf_alice", "nobody/tiny", "'nobody' is not yours. Your namespaces are alice, lab"),
    "the Hub is down": ({"method": "POST", "path": "repos/create", "status": 503}, "hf_alice", "alice/new", "problem"),
    "a failing commit": ({**COMMIT, "status": 500}, "hf_alice", "alice/new", "problem"),
    "a failing commit, existing repository": ({**COMMIT, "status": 500}, "hf_alice", "alice/tiny", "problem"),
    "too many requests": ({**COMMIT, "status": 429, "times": 99}, "hf_alice", "alice/new", "wait"),
    "too large": ({"method": "POST", "path": "/preupload/", "status": 413}, "hf_alice", "alice/new", "max_shard_size"),
    "an interrupted upload": ({"method": "PUT", "path": "/_lfs/", "times": 99}, "hf_alice", "alice/new", "push again"),
    "an interrupted commit": ({**COMMIT, "times": 99}, "hf_alice", "alice/new", "connection to the Hub was lost"),
    "others keep committing": (
        {**COMMIT, "status": 412, "times": 99},
        "hf_alice",
        "alice/tiny",
        "are made at the same time",
    ),
    "a name that somebody else took before the commit": (
        {**COMMIT, "status": 409},
        "hf_alice",
        "alice/tiny",
        "name is taken",
    ),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_failed_push_changes_nothing(name, hub, model, tokenizer, tmp_path, monkeypatch):
    failure, token, repo_id, message = FAILURES[name]
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # huggingface_hub waits before it tries again
    build_model(projection_size=8).push_to_hub("alice/tiny", tokenizer=tokenizer)
    folder = tmp_path / "checkpoint"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    local = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    remote = hub.snapshot()
    if failure:
        hub.fail(**failure)
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(PushError, match=message):
        AutoModel.from_pretrained(folder).push_to_hub(repo_id)
    assert hub.snapshot() == remote
    assert {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()} == local


def test_a_failed_push_removes_the_branch_it_created(hub, model, tokenizer):
    model.push_to_hub("alice/tiny", tokenizer=tokenizer)
    remote = hub.snapshot()
    hub.fail("POST", "/commit/", 500)
    with pytest.raises(PushError, match="problem"):
        build_model(projection_size=8).push_to_hub("alice/tiny", tokenizer=tokenizer, revision="next")
    assert hub.snapshot() == remote


def test_a_commit_whose_response_was_lost_is_kept(hub, model, tokenizer):
    hub.fail("POST", "/commit/", late=True)
    with pytest.raises(PushError, match="connection"):
        model.push_to_hub("alice/new", tokenizer=tokenizer)
    assert set(hub.files("alice/new")) == CONTRACT | {".gitattributes"}


def test_the_error_names_an_empty_repository_that_could_not_be_removed(hub, model, tokenizer):
    hub.fail("POST", "/commit/", 500)
    hub.fail("DELETE", "/repos/delete", 500, times=99)
    with pytest.raises(PushError, match="created the empty repository and could not remove it"):
        model.push_to_hub("alice/new", tokenizer=tokenizer)


def test_access_is_checked_before_the_training(hub, recipe, tmp_path, capsys):
    with pytest.raises(SystemExit, match="alice may not write to bob/tiny"):
        finetune([str(recipe), "--output_dir", str(tmp_path / "run"), "--push-to-hub", "bob/tiny"])
    assert not (tmp_path / "run").exists()
    with pytest.raises(ValueError, match="Repo id"):
        check_access("alice/two/many")


def test_a_failed_push_keeps_the_trained_checkpoint(hub, recipe, tmp_path):
    hub.fail("POST", "/commit/", 500)
    with pytest.raises(SystemExit, match="problem"):
        finetune([str(recipe), "--output_dir", str(tmp_path / "run"), "--push-to-hub", "alice/tiny"])
    assert not hub.repos
    assert "model-index" in (tmp_path / "run" / "README.md").read_text()
    AutoModel.from_pretrained(tmp_path / "run").push_to_hub("alice/tiny")
    assert metadata(hub, "alice/tiny")["model-index"][0]["name"] == "alice/tiny"


# ---- concurrent pushes ----


def test_a_commit_by_somebody_else_during_the_push_is_kept(hub, model, tokenizer):
    model.push_to_hub("alice/tiny", tokenizer=tokenizer)
    others = iter([lambda: hub.commit("alice/tiny", {"theirs.txt": "first"})])
    hub.before_commit = lambda: next(others, lambda: None)()
    build_model(projection_size=8).push_to_hub("alice/tiny", tokenizer=tokenizer)
    files = hub.files("alice/tiny")
    assert files["theirs.txt"] == b"first"
    assert json.loads(files["config.json"])["projection_size"] == 8


def test_two_concurrent_pushes_are_not_mixed(hub, tokenizer, caplog):
    models = {8: build_model(projection_size=8), 24: build_model(projection_size=24)}
    errors = []

    def push(model):
        try:
            model.push_to_hub("alice/tiny", tokenizer=build_tokenizer(), max_shard_size="100KB")
        except Exception as error:  # otherwise, an exception in a thread would be lost
            errors.append(error)

    threads = [threading.Thread(target=push, args=(model,)) for model in models.values()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert len(list(hub.repos["model", "alice/tiny"].history())) == 3
    size = json.loads(hub.files("alice/tiny")["config.json"])["projection_size"]
    loaded = AutoModel.from_pretrained("alice/tiny")
    assert fingerprint(loaded) == fingerprint(models[size])


# ---- pushes by transformers' Trainer ----


def test_every_push_by_the_trainer_is_complete(hub, tokenizer, tmp_path):
    """The Trainer pushes during training and when it saves. Each push has all files and no pickle."""
    trainer = make_trainer(
        tokenizer,
        tmp_path / "run",
        push_to_hub=True,
        hub_model_id="alice/tiny",
        save_strategy="steps",
        save_steps=1,
        hub_always_push=True,
    )
    assert not hub.repos, "only the first push creates the repository"
    trainer.train()
    trainer.save_model()
    titles = [commit.title for commit in hub.repos["model", "alice/tiny"].history()]
    assert titles[0] == "Model save" and "Training in progress, step 1" in titles
    for commit in hub.repos["model", "alice/tiny"].history():
        assert commit.parent is None or set(commit.files) == CONTRACT | {".gitattributes"}


@pytest.mark.parametrize("strategy", ["checkpoint", "all_checkpoints"])
def test_optimizer_states_are_not_pushed(strategy, hub, tokenizer, tmp_path):
    with pytest.raises(ValueError, match="hub_strategy='end' or 'every_save'"):
        make_trainer(tokenizer, tmp_path / "run", push_to_hub=True, hub_model_id="alice/tiny", hub_strategy=strategy)


def test_push_to_hub_can_run_in_the_background(hub, tokenizer, tmp_path):
    trainer = make_trainer(tokenizer, tmp_path / "run", hub_model_id="alice/tiny")
    commit = trainer.push_to_hub(blocking=False, revision="draft", private=True, language="de").result()
    assert commit.commit_url.startswith(f"{hub.url}/alice/tiny")
    assert hub.repos["model", "alice/tiny"].private
    assert metadata(hub, "alice/tiny", ref="draft")["language"] == "de"


# ---- cards and weights ----


def test_the_card_has_no_results_if_the_weights_have_changed(hub, tokenizer, tmp_path, caplog):
    trainer = make_trainer(tokenizer, tmp_path / "run", hub_model_id="alice/tiny")
    trainer.train()
    trainer.push_to_hub()
    assert "Training data" in hub.files("alice/tiny")["README.md"].decode()
    loaded = AutoModel.from_pretrained("alice/tiny")
    loaded.push_to_hub("alice/copy")
    copy = metadata(hub, "alice/copy")
    assert copy["model-index"][0]["results"] == metadata(hub, "alice/tiny")["model-index"][0]["results"]
    loaded.start_head.scale.data += 1
    with caplog.at_level(logging.WARNING):
        loaded.push_to_hub("alice/changed")
    changed = metadata(hub, "alice/changed")
    assert "model-index" not in changed and changed["license"] == "apache-2.0"
    assert "Training data" not in hub.files("alice/changed")["README.md"].decode()
    assert "belong to other weights" in caplog.text


def test_the_hub_shows_the_metadata_of_the_card(hub, model, tokenizer):
    model.push_to_hub("alice/tiny", tokenizer=tokenizer, tags=["biology"])
    info = HfApi().model_info("alice/tiny")
    assert info.pipeline_tag == "token-classification" and info.library_name == "binder-ner"
    assert "biology" in info.tags


def test_deprecated_names_give_a_warning():
    with pytest.warns(FutureWarning, match="FACTS_FILE"):
        assert hub_package.FACTS == FACTS_FILE
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        hub_package.nothing  # noqa: B018
