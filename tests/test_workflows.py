"""Tests of the GitHub Actions workflows: permissions, fixed versions, and commands that exist."""

import os
import re

import pytest
import yaml

from tests.pages import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.y*ml"))


def load(path):
    # BaseLoader returns strings. The default loader would parse the key `on` as true, and the version 3.10 as 3.1.
    return yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)


def jobs():
    return [
        pytest.param(job, id=f"{path.stem}-{name}") for path in WORKFLOWS for name, job in load(path)["jobs"].items()
    ]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_have_only_read_permission(path):
    workflow = load(path)
    assert workflow["permissions"] == {"contents": "read"}
    assert set(workflow["on"]) == {"push", "pull_request"}, "pull_request_target would give forks write permission"
    for job in workflow["jobs"].values():
        assert "permissions" not in job
        assert set(job.get("needs", "").split()) <= set(workflow["jobs"])


@pytest.mark.parametrize("job", jobs())
def test_steps_have_fixed_versions_and_commands_that_exist(job):
    assert re.fullmatch(r"ubuntu-\d\d\.\d\d", job["runs-on"]) and int(job["timeout-minutes"]) <= 60
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for step in job["steps"]:
        assert ("uses" in step) != ("run" in step), step
        if "uses" in step:
            assert re.fullmatch(r"actions/[\w-]+@v\d+\.\d+\.\d+", step["uses"]), step["uses"]
            for file in step.get("with", {}).get("cache-dependency-path", "").split():
                assert (ROOT / file).exists(), file
        else:
            command, *rest = step["run"].split()
            if command == "make":
                assert rest and all(f"\n{target}:" in makefile for target in rest), step["run"]
            else:
                assert os.access(ROOT / command, os.X_OK), command


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_every_supported_python_is_tested(path):
    classifiers = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    supported = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', classifiers)
    for name in ("test", "wheel"):
        assert load(path)["jobs"][name]["strategy"]["matrix"]["python"] == supported
