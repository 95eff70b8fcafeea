"""Tests of the server on Ray: answers, the end after SIGTERM, and the error for a model that cannot be loaded."""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from modeling_binder.cli import main
from tests.fresh_process import ROOT
from tests.tiny import SENTENCES, assert_same_entities

# A program that runs the command. The pipelines of its replicas wait until a file exists, so the test decides when a
# pipeline returns. Ray sends classes of the main module to the replicas, so this module defines `GatedReplica`.
GATED = """
import sys
from modeling_binder import cli
from modeling_binder.integrations.ray_cluster import connected
from modeling_binder.serving import ray_serve

gate = sys.argv[1]

class Gated:
    def __init__(self, pipeline):
        self.pipeline, self.model = pipeline, pipeline.model

    def __call__(self, *arguments, **options):
        import time
        from pathlib import Path
        while not Path(gate).exists():
            time.sleep(0.01)
        return self.pipeline(*arguments, **options)

class GatedReplica(ray_serve.BinderReplica):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self._pipeline = Gated(self._pipeline)

ray_serve.BinderReplica = GatedReplica
with connected(log_to_driver=False):
    # The first model cannot be loaded by any replica. The second model can be loaded.
    assert cli.main(["serve", "/nowhere/nothing", "--replicas", "2", *sys.argv[3:]]) == 1
    code = cli.main(["serve", *sys.argv[2:]])
sys.exit(code)
"""


@pytest.fixture(scope="module", autouse=True)
def imported():
    """Import Ray Serve before the tests, because its import raises warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray 2.60 uses a deprecated feature of pydantic
        import ray.serve  # noqa: F401


@pytest.fixture
def ray_folder(monkeypatch):
    """Yield a folder for Ray, and raise Ray's timeouts. The path is short, because Ray creates sockets in it."""
    for name in ("READY_CHECK", "HEALTH_CHECK"):
        monkeypatch.setenv(f"RAY_SERVE_PROXY_{name}_TIMEOUT_S", "300")
    # With the default of 15, all other processes of the machine have priority over Ray's workers.
    monkeypatch.setenv("RAY_worker_niceness", "0")
    with tempfile.TemporaryDirectory(prefix="bn", dir="/tmp", ignore_cleanup_errors=True) as folder:
        monkeypatch.setenv("RAY_TMPDIR", folder)
        monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
        yield Path(folder)


def processes_in(folder):
    """Return the command lines of the processes of a Ray session."""
    found = []
    for process in psutil.process_iter():
        try:
            line = " ".join(process.cmdline())
        except psutil.Error:
            continue
        if str(folder) in line:
            found.append(line)
    return found


@pytest.mark.slow
def test_ray_answers_all_requests_before_it_ends(checkpoint, tmp_path, ray_folder, pipe, client_of, wait_until):
    gate = tmp_path / "gate"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    arguments = [gate, checkpoint, "--port", port, "--ray", "--cpus", 0.5, "--max-requests", 2, "--max-queue", 8]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", GATED, *map(str, arguments)],
            stdout=subprocess.PIPE, stderr=log, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
    try:
        # Ray prints other lines, too. So wait for the line with the address of the server.
        assert any("/find" in line for line in process.stdout), (tmp_path / "log").read_text()
        client = client_of(port)
        requests = [(SENTENCES[0], {"Quokka": "A gene."}), (SENTENCES[1], {"Quokka": "A cell."})] * 5
        with ThreadPoolExecutor(10) as threads:
            answers = [threads.submit(client.find, text, entity_types=types) for text, types in requests[:9]]
            # The pipeline processes one or two of the nine requests. All other requests wait.
            wait_until(lambda: client.metrics()["binder_ner_open_requests"] == 9)
            assert client.send("/find?inputs=Axolotl", b"{")[0] == 422
            process.send_signal(signal.SIGTERM)
            wait_until(lambda: client.send("/health")[0] == 404)
            assert not any(answer.done() for answer in answers)
            gate.touch()
            for (text, types), answer in zip(requests, answers, strict=False):
                status, entities = answer.result()
                assert status == 200
                assert_same_entities(entities, pipe(text, entity_types=types))
        assert process.wait() == 0, (tmp_path / "log").read_text()
    finally:
        process.kill()
        process.communicate()
    logs = {path: path.read_text(errors="replace") for path in ray_folder.rglob("*") if path.is_file()}
    replicas = [text for path, text in logs.items() if path.parent.name == "serve" and path.name.startswith("replica_")]
    assert "".join(replicas).count("find: 200") == 9
    printed = (tmp_path / "log").read_text()
    errors = [line for line in printed.splitlines() if "error" in line.lower()]
    assert len(errors) == 1, errors
    assert re.match("binder-ner serve: error: a replica cannot start: .*/nowhere/nothing", errors[0])
    for text in (*logs.values(), printed):
        for secret in (*SENTENCES[:2], "Quokka", "Axolotl"):
            assert secret not in text
    wait_until(lambda: not processes_in(ray_folder))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--ray", "127.0.0.1:1"], "cannot connect to a Ray cluster at '127.0.0.1:1': .*refused.* Start one with"),
        (["--ray", "nonsense"], "cannot connect to a Ray cluster at 'nonsense': .*nonsense"),
        (["--ray", "127.0.0.1:1", "--port", "0"], "--port 0 does not work on a Ray cluster: choose a port"),
        (["--ray", "--port", "0", "--replicas", "0"], "replicas must be more than 0, got 0"),
        (
            ["--ray", "--port", "0", "--autoscaling", '{"min_replica": 1}'],
            "autoscaling has no field 'min_replica'; the fields are min_replicas,",
        ),
        (
            ["--ray", "--port", "0", "--autoscaling", '{"min_replicas": 3, "max_replicas": 2}'],
            "autoscaling: .*max_replicas",
        ),
    ],
)
def test_the_error_of_invalid_options_has_one_line(checkpoint, capsys, arguments, sentence):
    assert main(["serve", str(checkpoint), *arguments]) == 1
    error = capsys.readouterr().err
    assert re.fullmatch(f"binder-ner serve: error: .*{sentence}.*\n", error), error
