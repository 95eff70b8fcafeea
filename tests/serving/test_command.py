"""Tests of `binder-ner serve`: the end after SIGTERM, invalid arguments and options."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from modeling_binder.cli import main
from tests.fresh_process import ROOT
from tests.tiny import SENTENCES, assert_same_entities

# A program that runs the command. Its pipeline waits until a file exists, so the test decides when it returns.
GATED = """
import sys, time
from pathlib import Path
from modeling_binder import cli
from modeling_binder.cli import serve
from modeling_binder.serving import model

load = serve.load_pipeline

class Gated:
    def __init__(self, arguments):
        self.pipeline = load(arguments)
        self.model = self.pipeline.model

    def __call__(self, *arguments, **options):
        while not Path(sys.argv[1]).exists():
            time.sleep(0.01)
        return self.pipeline(*arguments, **options)

serve.load_pipeline = Gated
model.warm_up = lambda *_: None
sys.exit(cli.main(["serve", *sys.argv[2:]]))
"""


def start(*arguments):
    """Start a Python process that serves, and return the process and its port."""
    process = subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    line = process.stdout.readline()
    found = re.search(r":(\d+)/find", line)
    if not found:
        process.kill()
        pytest.fail(line + process.communicate()[1])
    return process, int(found[1])


def test_waiting_requests_are_answered_after_sigterm(checkpoint, tmp_path, pipe, client_of, wait_until):
    """The process ends after it has answered all requests that were waiting when the signal arrived."""
    gate = tmp_path / "gate"
    process, port = start("-c", GATED, gate, checkpoint, "--port", 0, "--max-requests", 2)
    try:
        client = client_of(port)
        with ThreadPoolExecutor(6) as threads:
            texts = [SENTENCES[number % 2] for number in range(6)]
            answers = [threads.submit(client.find, text) for text in texts]
            wait_until(lambda: client.metrics()["binder_ner_open_requests"] == 6)
            process.send_signal(signal.SIGTERM)
            wait_until(lambda: not is_listening(port))
            assert not any(answer.done() for answer in answers)
            gate.touch()
            for text, answer in zip(texts, answers, strict=True):
                status, entities = answer.result()
                assert status == 200
                assert_same_entities(entities, pipe(text))
        _, log = process.communicate()
    finally:
        process.kill()
        process.wait()
    assert process.returncode in (0, -signal.SIGTERM), log
    assert log.count("find: 200") == 6 and "Traceback" not in log, log
    for text in SENTENCES:
        assert text not in log


def is_listening(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--port", "PORT"], "cannot serve at 127.0.0.1, port PORT: .*in use.* Choose another --host or --port."),
        (["--port", "99999"], "cannot serve at 127.0.0.1, port 99999: a port is a number from 0 to 65535"),
        (["--host", "192.0.2.1"], "cannot serve at 192.0.2.1, port 0"),
        (["--max-queue", "0"], "max_queue must be at least 1, got 0"),
        (["--token-file", "nowhere"], "No such file or directory: 'nowhere'"),
        (["--threshold", "2"], "threshold must lie between 0 and 1, got 2.0"),
        (["--ray", "--autoscaling", "{"], "--autoscaling must be JSON"),
        (["--ray", "--autoscaling", "3"], "--autoscaling must be an object"),
    ],
)
def test_the_error_of_invalid_arguments_has_one_line(checkpoint, capsys, monkeypatch, arguments, sentence):
    monkeypatch.setattr("modeling_binder.serving.server.serve", lambda app, bound: pytest.fail("it serves"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        arguments = [port if argument == "PORT" else argument for argument in arguments]
        if "--port" not in arguments:
            arguments += ["--port", "0"]
        assert main(["serve", str(checkpoint), *arguments]) == 1
    *before, error = capsys.readouterr().err.splitlines()
    assert re.fullmatch(f"binder-ner serve: error: .*{sentence.replace('PORT', port)}.*", error), error
    assert not any("Traceback" in line for line in before), before


def test_a_model_that_does_not_exist_raises_an_error(tmp_path, capsys):
    assert main(["serve", str(tmp_path / "nothing"), "--port", "0"]) == 1
    assert "nothing" in capsys.readouterr().err


def test_the_types_limits_and_token_of_the_command_are_used(checkpoint, tmp_path, monkeypatch, client_of, capsys):
    """In this test, the server runs in a thread of the test process."""
    from modeling_binder.serving import server

    types, token = tmp_path / "types.json", tmp_path / "token"
    types.write_text(json.dumps({"Tool": "A thing that people use."}))
    token.write_text("s3cret\n")
    seen = {}

    def serve(app, bound):
        seen["app"], seen["port"] = app, bound.getsockname()[1]
        run = server.uvicorn.Server(server.uvicorn.Config(app, log_level="warning", access_log=False))
        thread = threading.Thread(target=run.run, args=([bound],))
        thread.start()
        try:
            client = client_of(seen["port"], "s3cret")
            assert client_of(seen["port"]).find("x")[0] == 401
            seen["found"] = client.find("the IL-2 gene promoter")
            seen["large"] = client.find("x" * 31)
        finally:
            run.should_exit = True
            thread.join()

    monkeypatch.setattr(server, "serve", serve)
    arguments = ["--types", str(types), "--token-file", str(token), "--max-characters", "30", "--threads", "1"]
    assert main(["serve", str(checkpoint), "--port", "0", "--flat", *arguments]) == 0
    status, entities = seen["found"]
    assert status == 200 and {entity["entity_group"] for entity in entities} == {"Tool"}
    assert seen["large"][0] == 413
    printed = capsys.readouterr()
    assert f"http://127.0.0.1:{seen['port']}/find" in printed.out and "s3cret" not in printed.out + printed.err
    assert "warning" not in printed.err


def test_a_server_without_a_token_for_other_machines_prints_a_warning(checkpoint, monkeypatch, capsys):
    from modeling_binder.serving import server

    monkeypatch.setattr(server, "serve", lambda app, bound: None)
    monkeypatch.delenv("BINDER_NER_TOKEN", raising=False)
    assert main(["serve", str(checkpoint), "--port", "0", "--host", "0.0.0.0"]) == 0
    assert "everybody who can connect to 0.0.0.0 may send requests. Set BINDER_NER_TOKEN" in capsys.readouterr().err
