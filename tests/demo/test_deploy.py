"""The Space: what is deployed, and that it runs from the model's repository alone."""

import sys
from importlib.metadata import version

import pytest
from huggingface_hub import SpaceCard, snapshot_download
from packaging.requirements import Requirement
from transformers import pipeline

from demo.deploy import deploy, main, pinned, requirements
from modeling_binder.hub import PushError
from tests.demo.server import serve
from tests.tiny import build_model

TEXT = "the il-2 gene promoter of cells in oslo"


@pytest.fixture
def space(hub, model, tokenizer):
    model.push_to_hub("alice/tiny", tokenizer=tokenizer)
    main(["alice/space", "--model", "alice/tiny"])
    return "alice/space"


def test_what_is_deployed(hub, space, capsys):
    files = hub.files(space, repo_type="space")
    code = {"__init__", "app", "drawing", "examples", "files", "limits", "recognizer"}
    assert set(files) == {
        *(".gitattributes", "README.md", "app.py", "requirements.txt", "demo/model_id.txt"),
        *(f"demo/{name}.py" for name in code),
    }
    assert len(list(hub.repos["space", space].history())) == 2
    assert hub.repos["space", space].sdk == "gradio"
    assert files["demo/model_id.txt"] == b"alice/tiny\n"
    card = SpaceCard(files["README.md"].decode())
    card.validate()
    assert card.data.sdk == "gradio" and card.data.sdk_version == pinned("gradio") == version("gradio")
    assert card.data.app_file in files
    assert card.data.models == ["alice/tiny"] and card.data.license == "apache-2.0" and "nested-ner" in card.data.tags
    assert len(card.data.short_description) <= 60, "the Hub takes no more"


def test_its_requirements_are_those_tested_here():
    lines = [Requirement(line) for line in requirements().splitlines()]
    assert {line.name for line in lines} == {"torch", "transformers", "huggingface-hub", "safetensors"}
    assert all(line.specifier.contains(version(line.name), prereleases=True) for line in lines)


def test_a_second_deployment_updates_it(hub, space, tokenizer):
    build_model().push_to_hub("alice/other", tokenizer=tokenizer)
    hub.commit(space, {"assets/mine.png": b"keep"}, repo_type="space")
    deploy(space, "alice/other", private=True)
    files = hub.files(space, repo_type="space")
    assert files["demo/model_id.txt"] == b"alice/other\n" and files["assets/mine.png"] == b"keep"
    assert not hub.repos["space", space].private, "of a Space that is made"


@pytest.mark.parametrize(
    ("space_id", "model_id", "message"),
    [
        ("alice/space", "alice/nothing", "alice/nothing: the namespace, repository or revision does not exist"),
        ("bob/space", "alice/tiny", "alice may not write to bob/space"),
        ("alice/space", "alice/plain", "brings no code to run"),
        ("a/b/c", "alice/tiny", "Repo id must be"),
    ],
)
def test_what_cannot_be_deployed(space_id, model_id, message, hub, model, tokenizer):
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
    """The Space as the Hub runs it: its own files, without this package. Returns its address."""
    folder = snapshot_download(space, repo_type="space", local_dir=tmp_path / "space")
    guard = (
        "import runpy, sys; sys.path.insert(0, ''); sys.modules['modeling_binder'] = sys.modules['hub_cards'] = None; "
    )
    command = [sys.executable, "-c", guard + "runpy.run_path('app.py', run_name='__main__')"]
    with serve(command, folder, HF_HOME=str(tmp_path / "home"), PYTHONPATH="") as address:
        yield address


@pytest.mark.slow
def test_the_space_runs_from_the_models_repository(running, hub, model, tokenizer, tmp_path):
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
