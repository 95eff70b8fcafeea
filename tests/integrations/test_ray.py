"""Tests of annotation on a Ray cluster of two nodes. A test kills the driver and one node during the annotation.

The environment variable BINDER_RAY_KILLS sets how often the driver is killed.
"""

import contextlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import time

import psutil
import pyarrow.parquet as pq
import pytest

from tests.fresh_process import ROOT
from tests.tiny import assert_same_entities, build_tokenizer, small_model

KILLS = int(os.environ.get("BINDER_RAY_KILLS", "1"))
ROWS, ROWS_PER_PART = 2000, 10
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(ROOT),
    "OMP_NUM_THREADS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "disabled",  # otherwise, Ray writes an access token into the home folder
    "RAY_enable_metrics_collection": "0",
    "RAY_worker_niceness": "0",  # with the default of 15, all other processes have priority over the workers
}


@pytest.fixture(scope="module")
def cluster():
    """Start a cluster of two nodes on this machine. Each node has two CPUs, even if the machine has fewer."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        from ray.cluster_utils import Cluster

        resources = {"num_cpus": 2, "object_store_memory": 80_000_000}
        cluster = Cluster(initialize_head=True, head_node_args={**resources, "include_dashboard": False})
        try:
            cluster.add_node(**resources)
            session = cluster.head_node.get_session_dir_path()
            yield cluster
        finally:
            cluster.shutdown()
            shutil.rmtree(session, ignore_errors=True)
    left = [
        process for process in psutil.process_iter(["cmdline"]) if session in " ".join(process.info["cmdline"] or [])
    ]
    psutil.wait_procs(left, timeout=30)
    assert not [process for process in left if process.is_running()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with a checkpoint and a table."""
    folder = tmp_path_factory.mktemp("ray")
    small_model(initializer_range=0.5).save_pretrained(folder / "checkpoint")
    build_tokenizer().save_pretrained(folder / "checkpoint")
    rows = [{"text": f"the IL-{row} gene {'promoter ' * (row % 4)}in cells", "n": row} for row in range(ROWS)]
    (folder / "table.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def start(*command):
    return subprocess.Popen(
        [sys.executable, "-m", *map(str, command)],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def parts_in(folder):
    return len(list(folder.glob("part-*"))) if folder.exists() else 0


def wait_for_parts(process, out, number):
    """Wait until the output has a number of parts. Fail if the driver ends earlier."""
    while parts_in(out) < number:
        assert process.poll() is None, process.communicate()[1][-3000:]
        time.sleep(0.005)


@pytest.mark.slow
def test_no_row_is_lost_or_repeated_if_drivers_and_a_node_are_killed(cluster, folder):
    table, out = folder / "table.jsonl", folder / "out"
    command = ["modeling_binder", "annotate", table, out, "--model", folder / "checkpoint", "--no-progress"]
    command += ["--rows-per-part", ROWS_PER_PART, "--type", "Gene", "--type", "drug: a medicine"]
    command += ["--ray", cluster.address, "--actors", 2, "--cpus-per-actor", 0.5]
    parts, chance = ROWS // ROWS_PER_PART, random.Random()
    for kill in range(KILLS):
        before = parts_in(out)
        with start(*command) as driver:
            wait_for_parts(driver, out, before + chance.randint(1, parts // (2 * KILLS)))
            time.sleep(chance.uniform(0, 0.05))
            driver.kill()
        assert before < parts_in(out) < parts, f"after {kill} kills"
    with start(*command) as driver:
        before = parts_in(out)
        wait_for_parts(driver, out, before + (parts - before) // 4)
        cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
        assert parts_in(out) < parts
        printed, errors = driver.communicate()
    assert driver.returncode == 0, errors[-3000:]
    # A task may write one more part after its driver was killed. So `done` may be larger than counted before.
    counts = re.findall(r"([\d,]+) (?:rows annotated|were annotated before)", printed)
    annotated, done = (int(number.replace(",", "")) for number in counts)
    assert annotated + done == ROWS and 0 < ROWS_PER_PART * before <= done
    assert parts_in(out) == parts and (out / "_SUCCESS").exists()
    rows = pq.read_table(out).to_pylist()
    assert [row["n"] for row in rows] == list(range(ROWS)), "each row appears once, in the order of the table"
    assert not any(row["error"] for row in rows)
    pipe = build_pipeline_of(folder)
    texts = [row["text"] for row in rows]
    for row, expected in zip(rows, pipe(texts, entity_types={"Gene": None, "drug": "a medicine"}), strict=True):
        assert_same_entities([{**entity, "entity_group": entity["label"]} for entity in row["entities"]], expected)
    assert any(row["entities"] for row in rows)


def build_pipeline_of(folder):
    from transformers import pipeline

    return pipeline("binder-ner", model=str(folder / "checkpoint"))


@pytest.mark.slow
def test_annotate_adds_entities_to_a_ray_dataset(folder):
    """`annotate` also checks its arguments: an invalid call raises an error of one line."""
    shutil.copytree(folder / "checkpoint", folder / "copy")
    with start("tests.integrations.ray_checks", folder, folder / "copy", folder / "found.json") as driver:
        _, errors = driver.communicate()
    assert driver.returncode == 0, errors[-3000:]
    found = json.loads((folder / "found.json").read_text())

    rows = sorted(found.pop("rows"), key=lambda row: row["n"])
    assert [row["n"] for row in rows] == list(range(12)) and not any(row["error"] for row in rows)
    pipe = build_pipeline_of(folder)
    for row, expected in zip(rows, pipe([row["text"] for row in rows], entity_types=["Gene", "drug"]), strict=True):
        assert_same_entities([{**entity, "entity_group": entity["label"]} for entity in row["entities"]], expected)

    expected_errors = {
        "no column": "no column 'body'; choose the text_column from ['text', 'n']",
        "column exists": "a column 'n' already",
        "too few CPUs": "an actor needs 500 CPUs and 0 GPUs, and reading and writing need 1 CPUs. Lower num_cpus",
        "no actors": "actors must be at least 1, or a minimum and a maximum, got (2, 1)",
        "no model": "cannot load the model",
        "in memory": "Ray can resume only datasets that are read from files",
        "no ids": "has the id_column 'id', but the dataset has no such column. The columns are ['text', 'n']",
        "no model in actors": "RuntimeError: ValueError: cannot load the model",
    }
    assert list(found) == list(expected_errors)
    for case, error in expected_errors.items():
        assert error in found[case] and "\n" not in found[case], case


def test_an_address_without_a_cluster_raises_an_error(folder, capsys):
    from modeling_binder.cli import main

    command = [
        "annotate",
        folder / "table.jsonl",
        folder / "none",
        "--model",
        folder / "checkpoint",
        "--ray",
        "127.0.0.1:1",
    ]
    assert main([str(argument) for argument in command]) == 1
    assert "cannot connect to a Ray cluster at '127.0.0.1:1'" in capsys.readouterr().err


@pytest.mark.parametrize(("address", "started"), [("auto", None), (None, "local")])
def test_a_cluster_that_has_ended_is_not_contacted(monkeypatch, address, started):
    """Ray stores the address of the last cluster on a machine. It would try for minutes to connect to this address."""
    import ray

    from modeling_binder.integrations import ray_cluster

    calls = []
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray_cluster, "get_ray_address_from_environment", lambda address, folder: "127.0.0.1:1")
    monkeypatch.setattr(ray, "init", lambda address, **options: calls.append(address))
    context = contextlib.nullcontext() if started else pytest.raises(ConnectionError, match="cannot connect to a Ray")
    with context, ray_cluster.connected(address):
        pass
    assert calls == ([started] if started else [])
