"""The Space: what is deployed, and that it runs from the model's repository alone."""

import os
import re
import socket
import subprocess
import sys
from importlib.metadata import version

import pytest
from huggingface_hub import SpaceCard, snapshot_download
from packaging.requirements import Requirement
from transformers import pipeline

from demo.deploy import deploy, main, pinned, requirements
from modeling_binder.hub import PushError
from tests.conftest import build_model

TEXT = "the il-2 gene promoter of cells in oslo"


@pytest.fixture
def space(hub, model, tokenizer):
    model.push_to_hub("alice/tiny", tokenizer=tokenizer)
    main(["alice/space", "--model", "alice/tiny"])
    return "alice/space"


def test_what_is_deployed(hub, space, capsys):
    files = hub.files(space, kind="space")
    assert set(files) == {".gitattributes", "README.md", "app.py", "model_id.txt", "requirements.txt"}
    assert len(list(hub.repos["space", space].history())) == 2
    assert hub.repos["space", space].sdk == "gradio"
    assert files["model_id.txt"] == b"alice/tiny\n"
    card = SpaceCard(files["README.md"].decode())
    card.validate()
    assert card.data.sdk == "gradio" and card.data.sdk_version == pinned("gradio") == version("gradio")
    assert card.data.app_file in files
    assert card.data.models == ["alice/tiny"] and card.data.license == "apache-2.0" and "nested-ner" in card.data.tags
    assert len(card.data.short_description) <= 60, "the Hub takes no more"
    for content in files.values():
        assert b"modeling_binder" not in content, "the Space runs without the package"


def test_its_requirements_are_those_tested_here():
    lines = [Requirement(line) for line in requirements().splitlines()]
    assert {line.name for line in lines} == {"torch", "transformers", "huggingface-hub", "safetensors"}
    assert all(line.specifier.contains(version(line.name), prereleases=True) for line in lines)


def test_a_second_deployment_updates_it(hub, space, tokenizer):
    build_model().push_to_hub("alice/other", tokenizer=tokenizer)
    hub.commit(space, {"assets/mine.png": b"keep"}, kind="space")
    deploy(space, "alice/other", private=True)
    files = hub.files(space, kind="space")
    assert files["model_id.txt"] == b"alice/other\n" and files["assets/mine.png"] == b"keep"
    assert not hub.repos["space", space].private, "of a Space that is made"


@pytest.mark.parametrize(
    ("space_id", "model_id", "message"),
    [
        ("alice/space", "alice/nothing", "alice/nothing: there is no such"),
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
    with pytest.raises(PushError, match="trouble"):
        deploy("alice/space", "alice/tiny")
    assert hub.snapshot() == before


@pytest.fixture
def running(hub, space, tmp_path):
    """The Space as the Hub runs it: its own files, without this package. Returns its address."""
    folder = snapshot_download(space, repo_type="space", local_dir=tmp_path / "space")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    guard = "import runpy, sys; sys.modules['modeling_binder'] = sys.modules['hub_cards'] = None; "
    process = subprocess.Popen(
        [sys.executable, "-c", guard + "runpy.run_path('app.py', run_name='__main__')"],
        cwd=folder,
        env={
            **os.environ,
            "HF_HOME": str(tmp_path / "home"),
            "HF_TOKEN": "",
            "GRADIO_SERVER_PORT": str(port),
            "GRADIO_ANALYTICS_ENABLED": "False",
            "PYTHONPATH": "",
            "PYTHONUNBUFFERED": "1",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    lines = []
    try:
        for line in process.stdout:
            lines.append(line)
            if re.search(r"running on.*http", line, re.IGNORECASE):
                break
        else:
            raise AssertionError("".join(lines))
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_the_space_runs_from_the_models_repository(running, hub, model, tokenizer, tmp_path):
    from gradio_client import Client

    client = Client(running, verbose=False, analytics_enabled=False)
    found = client.predict(
        TEXT,
        {"headers": ["type", "description"], "data": [["Gene", ""]], "metadata": None},
        "nested",
        0.5,
        api_name="/find",
    )
    model.save_pretrained(tmp_path / "saved")
    tokenizer.save_pretrained(tmp_path / "saved")
    expected = pipeline("binder-ner", model=str(tmp_path / "saved"))(TEXT, entity_types={"Gene": "Gene"})
    rows = [[e["entity_group"], e["word"], e["start"], e["end"], round(e["score"], 3)] for e in expected]
    assert found["data"] == rows
