"""Tests of the Dockerfile: fixed versions, a user without root permissions, no downloads, and copied files."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from modeling_binder.cli.serve import add_arguments
from tests.fresh_process import ROOT

FILE = ROOT / "Dockerfile"


def instructions(text):
    """Return the name and the arguments of each instruction. Continued lines are joined and comments are removed."""
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    joined = re.sub(r"\\\n\s*", " ", lines)
    return [tuple(line.split(None, 1)) for line in joined.splitlines() if line.strip()]


@pytest.fixture(scope="module")
def steps():
    return instructions(FILE.read_text(encoding="utf-8"))


def of(steps, name):
    """Return the arguments of all instructions with this name."""
    return [arguments for found, arguments in steps if found == name]


def test_images_have_an_exact_version(steps):
    images = [arguments.split()[0] for arguments in of(steps, "FROM")]
    assert images and all(re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+", image) for image in images), images


def test_the_server_is_not_root(steps):
    last = [name for name, _ in steps if name in ("FROM", "USER", "ENTRYPOINT")][-3:]
    assert last == ["FROM", "USER", "ENTRYPOINT"]
    (user,) = of(steps, "USER")
    assert int(user) > 0, "Kubernetes needs a number to check that the user is not root"


def test_no_instruction_downloads_from_a_url(steps):
    assert not of(steps, "ADD")
    for _, arguments in steps:
        for address in re.findall(r"https?://([^/:\"']+)", arguments):
            assert address == "127.0.0.1", address
    assert not any(re.search(r"\b(curl|wget|apt-get)\b", arguments) for arguments in of(steps, "RUN"))


def test_the_image_copies_all_files_of_the_package(steps):
    copied = [part for arguments in of(steps, "COPY") if "--from" not in arguments for part in arguments.split()[:-1]]
    assert all((ROOT / name).exists() for name in copied), copied
    needed = set(re.findall(r'"(\w+)\*"', (ROOT / "pyproject.toml").read_text(encoding="utf-8")))
    assert needed | {"pyproject.toml", "README.md", "LICENSE", "constraints.txt"} == set(copied)


def test_packages_have_the_versions_of_the_constraints(steps):
    installed = [arguments for arguments in of(steps, "RUN") if "pip install" in arguments]
    assert installed and all("--constraint constraints.txt" in arguments for arguments in installed)


def test_the_entry_point_calls_serve_with_valid_arguments(steps):
    import argparse

    program, command, *arguments = json.loads(of(steps, "ENTRYPOINT")[0])
    assert (program, command) == ("binder-ner", "serve")
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    found = parser.parse_args([*arguments, "--threads", "4"])
    assert (found.model, found.host) == ("/model", "0.0.0.0")
    assert of(steps, "EXPOSE") == [str(found.port)] and f":{found.port}/health" in of(steps, "HEALTHCHECK")[0]


@pytest.mark.skipif(shutil.which("hadolint") is None, reason="hadolint is not installed")
def test_hadolint_reports_no_problem():
    done = subprocess.run(["hadolint", str(Path(FILE))], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
