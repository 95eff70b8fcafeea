"""Tests of `demo.deploy`, which creates a Space, and of `demo.publish`, which publishes a model with its corpora."""

import sys
from importlib.metadata import version

import pytest
from huggingface_hub import ModelCard, SpaceCard, snapshot_download
from packaging.requirements import Requirement
from transformers import AutoModel, pipeline

import demo.publish as publishing
from demo.deploy import deploy, main, pinned, requirements
from modeling_binder.finetuning import write_jsonl
from modeling_binder.finetuning.data import write_json
from modeling_binder.hub import PushError, fingerprint, rewrite_card
from tests.demo.server import serve
from tests.tiny import TYPES, build_model, corpus

TEXT = "the il-2 gene promoter of cells in oslo"


@pytest.fixture
def space(hub, model, tokenizer):
    model.push_to_hub("alice/tiny", tokenizer=tokenizer)
    main(["alice/space", "--model", "alice/tiny"])
    return "alice/space"


def test_a_space_has_the_files_and_the_card_of_the_demo(hub, space, capsys):
    files = hub.files(space, repo_type="space")
    code = {"__init__", "app", "charts", "drawing", "examples", "files", "limits", "recognizer"}
    assert set(files) == {
        *(".gitattributes", "README.md", "app.py", "requirements.txt", "demo/model_id.txt"),
        *(f"demo/{name}.py" for name in code),
        *(f"demo/drawing_copy/{name}.py" for name in ("__init__", "colors", "html", "lanes", "notebook")),
    }
    assert len(list(hub.repos["space", space].history())) == 2
    assert hub.repos["space", space].sdk == "gradio"
    assert files["demo/model_id.txt"] == b"alice/tiny\n"
    card = SpaceCard(files["README.md"].decode())
    card.validate()
    assert card.data.sdk == "gradio" and card.data.sdk_version == pinned("gradio") == version("gradio")
    assert card.data.app_file in files
    assert card.data.models == ["alice/tiny"] and card.data.license == "apache-2.0" and "nested-ner" in card.data.tags
    assert len(card.data.short_description) <= 60, "the maximum of the Hub"


def test_the_requirements_match_the_installed_versions():
    lines = [Requirement(line) for line in requirements().splitlines()]
    assert {line.name for line in lines} == {"torch", "transformers", "huggingface-hub", "safetensors"}
    assert all(line.specifier.contains(version(line.name), prereleases=True) for line in lines)


def test_a_second_deployment_updates_the_space(hub, space, tokenizer):
    build_model().push_to_hub("alice/other", tokenizer=tokenizer)
    hub.commit(space, {"assets/mine.png": b"keep"}, repo_type="space")
    deploy(space, "alice/other", private=True)
    files = hub.files(space, repo_type="space")
    assert files["demo/model_id.txt"] == b"alice/other\n" and files["assets/mine.png"] == b"keep"
    assert not hub.repos["space", space].private, "private applies only when the Space is created"


@pytest.mark.parametrize(
    ("space_id", "model_id", "message"),
    [
        ("alice/space", "alice/nothing", "alice/nothing: the namespace, repository or revision does not exist"),
        ("bob/space", "alice/tiny", "alice may not write to bob/space"),
        ("alice/space", "alice/plain", "has no code to run"),
        ("a/b/c", "alice/tiny", "Repo id must be"),
    ],
)
def test_an_invalid_deployment_changes_nothing(space_id, model_id, message, hub, model, tokenizer):
    model.push_to_hub("alice/tiny", tokenizer=tokenizer)
    hub.commit("alice/plain", {"config.json": "{}"})
    before = hub.snapshot()
    with pytest.raises(SystemExit, match=message):
        main([space_id, "--model", model_id])
    assert hub.snapshot() == before


def test_a_failed_deployment_leaves_no_space(hub, model, tokenizer):
    model.push_to_hub("alice/tiny", tokenizer=tokenizer)
    before = hub.snapshot()
    hub.fail("POST", "/commit/", 500)
    with pytest.raises(PushError, match="problem"):
        deploy("alice/space", "alice/tiny")
    assert hub.snapshot() == before


@pytest.fixture
def running(hub, space, tmp_path):
    """Run the Space as on the Hub: with its own files and without this package. Yield its URL."""
    folder = snapshot_download(space, repo_type="space", local_dir=tmp_path / "space")
    guard = (
        "import runpy, sys; sys.path.insert(0, ''); sys.modules['modeling_binder'] = sys.modules['hub_cards'] = None; "
    )
    command = [sys.executable, "-c", guard + "runpy.run_path('app.py', run_name='__main__')"]
    with serve(command, folder, HF_HOME=str(tmp_path / "home"), PYTHONPATH="") as address:
        yield address


@pytest.mark.slow
def test_the_space_runs_with_the_code_of_the_model(running, hub, model, tokenizer, tmp_path):
    from gradio_client import Client

    client = Client(running, verbose=False, analytics_enabled=False)
    found = client.predict(TEXT, {"Gene": "Gene"}, api_name="/find")
    model.save_pretrained(tmp_path / "saved")
    tokenizer.save_pretrained(tmp_path / "saved")
    expected = pipeline("binder-ner", model=str(tmp_path / "saved"))(TEXT, entity_types={"Gene": "Gene"})
    assert [{**e, "score": round(e["score"], 4)} for e in found] == [
        {**e, "score": round(e["score"], 4)} for e in expected
    ]
    assert found


# ---- publishing a checkpoint, its corpora and a Space ----


@pytest.fixture
def open_types(tmp_path, monkeypatch):
    """Replace the corpus training/open_types by a small corpus."""
    folder = tmp_path / "open_types"
    write_corpus(folder)
    monkeypatch.setattr(publishing, "OPEN_TYPES", folder)
    return folder


def write_corpus(folder):
    write_jsonl(folder / "train.jsonl", corpus(2))
    write_json(folder / "types.json", TYPES)


def with_mix(checkpoint, *parts):
    """Write a model card for the checkpoint. The card lists training corpora."""
    counts = {"documents": 8, "windows": 8, "mentions": 9, "types": 3, "drawn": 1 / len(parts)}
    rewrite_card(
        checkpoint,
        "alice/tiny",
        weights=fingerprint(AutoModel.from_pretrained(checkpoint)),
        mix=[{**counts, **part} for part in parts],
        language="en",
    )


def test_model_corpora_and_space_are_published_with_one_name(hub, checkpoint, open_types, tmp_path, capsys):
    news = {"name": "news", "license": "CC BY 4.0", "source": "https://example.org/news"}
    closed = {"name": "closed", "license": "none stated", "source": "a/b"}
    with_mix(checkpoint, {"name": "open_types"}, news, closed)
    for name in ("news", "closed"):
        write_corpus(tmp_path / "data" / name)
    publishing.main(["alice/tiny", "--model", str(checkpoint), "--data", str(tmp_path / "data")])
    assert set(hub.repos) == {("dataset", "alice/tiny"), ("model", "alice/tiny"), ("space", "alice/tiny")}
    printed = capsys.readouterr().out
    assert all(f"{name}: {hub.url}" in printed for name in ("dataset", "model", "space"))
    corpora = hub.files("alice/tiny", repo_type="dataset")
    assert {name for name in corpora if "/" in name} == {
        *("news/train.jsonl.gz", "news/types.json", "open_types/train.jsonl.gz", "open_types/types.json")
    }
    card = corpora["README.md"].decode()
    assert "Training corpora of the model alice/tiny." in card and "https://example.org/news" in card
    assert "| closed | none stated | a/b |" in card
    card = ModelCard(hub.files("alice/tiny")["README.md"].decode())
    assert card.data.datasets == ["alice/tiny"] and card.data.license == "apache-2.0" and card.data.language == "en"
    assert "trained on 3 corpora" in card.text and "published on the Hub: alice/tiny" in card.text
    card = SpaceCard(hub.files("alice/tiny", repo_type="space")["README.md"].decode())
    assert card.data.models == card.data.datasets == ["alice/tiny"]
    assert hub.files("alice/tiny", repo_type="space")["demo/model_id.txt"] == b"alice/tiny\n"

    publishing.main(["alice/tiny", "--model", str(checkpoint)])  # without --data, only open_types is published
    assert len(list(hub.repos["model", "alice/tiny"].history())) == 2, "the model is unchanged"
    corpora = hub.files("alice/tiny", repo_type="dataset")
    assert {name for name in corpora if "/" in name} == {"open_types/train.jsonl.gz", "open_types/types.json"}


def test_a_checkpoint_of_one_corpus_is_published_with_the_open_types(hub, checkpoint, open_types):
    publishing.publish("tiny", checkpoint, private=True)
    assert "open_types/train.jsonl.gz" in hub.files("alice/tiny", repo_type="dataset")
    assert all(hub.repos[name].private for name in hub.repos) and len(hub.repos) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["alice/tiny", "--model", "nowhere"], "nowhere has no checkpoint: pass another folder"),
        (["bob/tiny"], "alice may not write to bob/tiny"),
        (["alice/tiny", "--data", "nowhere"], "nowhere/news"),
        (["a/b/c"], "Repo id must be"),
    ],
)
def test_an_invalid_publication_pushes_nothing(arguments, message, hub, checkpoint, open_types):
    with_mix(checkpoint, {"name": "news"})
    with pytest.raises(SystemExit, match=message):
        publishing.main([arguments[0], "--model", str(checkpoint), *arguments[1:]])
    assert not hub.repos
