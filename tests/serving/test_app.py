"""Tests of the server over HTTP: answers, errors, the access token, metrics, the queue and logs."""

import json
import logging
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from huggingface_hub import InferenceClient

from hub_cards.handler import EndpointHandler
from modeling_binder.pipeline_binder import MAX_WINDOWERS
from modeling_binder.serving.requests import Limits
from modeling_binder.serving.tokens import digest, is_authorized, read_token
from tests.tiny import SENTENCES, TYPES, assert_same_entities

TEXT = SENTENCES[0]
OWN = {"Gene": TYPES["Gene"], "Word": "Any word."}


@pytest.fixture(scope="module")
def handler(pipe):
    """Return an endpoint handler with the pipeline of the server."""
    found = EndpointHandler.__new__(EndpointHandler)
    found.pipeline = pipe
    return found


@pytest.mark.parametrize(
    ("inputs", "parameters"),
    [
        (TEXT, {}),
        (TEXT, None),
        (TEXT, {"threshold": None, "entity_types": OWN}),
        ([TEXT, "", SENTENCES[1]], {"decoding": "flat", "inference": "joint"}),
        ([], {}),
        (TEXT.split(), {"is_split_into_words": True}),
        ([TEXT.split(), []], {"is_split_into_words": True, "threshold": {"Gene": 0.7}}),
        ([], {"is_split_into_words": True}),
        ([TEXT * 30], {"max_length": 32, "stride": 4, "batch_size": 2, "entity_types": ["gene", "Cell"]}),
        ("Ein Gen 🧬\r\nund é", {"entity_types": {"Größe 🧬": "größer"}}),
    ],
)
@pytest.mark.parametrize("path", ["/find", "/"])
def test_the_server_gives_the_answer_of_the_endpoint_handler(client, handler, inputs, parameters, path):
    request = {"inputs": inputs, "parameters": parameters}
    status, content, headers = client.send(path, request)
    assert (status, headers["Content-Type"]) == (200, "application/json")
    assert json.loads(content) == handler(request)


def test_the_inference_client_of_huggingface_hub_works_with_the_server(client, pipe):
    found = InferenceClient(model=client.url).token_classification(TEXT)
    assert_same_entities(found, pipe(TEXT))


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"", "the body is not JSON"),
        (b'{"inputs": "x', "the body is not JSON"),
        (b'{"inputs": "\xff"}', "UTF-8"),
        (rb'{"inputs": "\ud83e"}', "halves of surrogate pairs"),
        (rb'{"inputs": "x", "parameters": {"entity_types": ["\udc00"]}}', "halves of surrogate pairs"),
        (b"[" * 100_000, "nested too deeply"),
        (b"3", "got int"),
        ({"text": TEXT}, "got the keys ['text']"),
        ({"inputs": 3}, '"inputs" must be a text or a list of texts, got 3'),
        ({"inputs": ["x", None]}, '"inputs" must be a text or a list of texts'),
        ({"inputs": "x", "parameters": [1]}, '"parameters" must be an object'),
        ({"inputs": "x", "parameters": {"treshold": 1}}, "unknown parameters: treshold. Known are entity_types"),
        (b'{"inputs": "x", "parameters": {"entity_types": {"A": "a", "A": "b"}}}', "the key 'A' appears twice"),
        ({"inputs": "x", "parameters": {"is_split_into_words": "no"}}, "must be true or false, got 'no'"),
        ({"inputs": "x", "parameters": {"is_split_into_words": True}}, "must be a list of words"),
        ({"inputs": "x", "parameters": {"entity_types": {"": "y"}}}, "must not be blank"),
        ({"inputs": "x", "parameters": {"entity_types": ["A", "A"]}}, "appears twice"),
        ({"inputs": "x", "parameters": {"entity_types": []}}, "there are no entity types"),
        ({"inputs": "x", "parameters": {"entity_types": 5}}, "a parameter has a wrong type"),
        ({"inputs": "x", "parameters": {"decoding": "both"}}, "decoding must be one of 'nested', 'flat', got 'both'"),
        ({"inputs": "x", "parameters": {"threshold": 7}}, "threshold must lie between 0 and 1, got 7"),
        ({"inputs": "x", "parameters": {"threshold": 0}}, "at least 0.01 on this server, got 0"),
        ({"inputs": "x", "parameters": {"threshold": {"Gene": 0.001}}}, "at least 0.01 on this server, got 0.001"),
        ({"inputs": "x", "parameters": {"threshold": {"Gnee": 0.5}}}, "Gnee"),
        ({"inputs": "x", "parameters": {"max_length": "ten"}}, "max_length must be a whole number, got 'ten'"),
        ({"inputs": "x", "parameters": {"max_length": 4}}, "max_length must be at least 16"),
        ({"inputs": "x", "parameters": {"max_length": 4000}}, "is more than the 128 tokens"),
        ({"inputs": "x", "parameters": {"stride": 40}}, "stride must be at most half of max_length (64)"),
        ({"inputs": "x", "parameters": {"stride": -1}}, "stride must be at least 0"),
        ({"inputs": "x", "parameters": {"batch_size": 1000}}, "batch_size must be at most 64"),
        ({"inputs": "x", "parameters": {"batch_size": 0}}, "batch_size must be at least 1"),
        ({"inputs": "x", "parameters": {"batch_size": True}}, "batch_size must be a whole number, got True"),
    ],
)
def test_invalid_requests_have_status_422_and_an_error_message(client, body, sentence):
    status, content, _ = client.send("/find", body)
    error = json.loads(content)["error"]
    assert (status, sentence in error) == (422, True), error


@pytest.mark.parametrize(
    ("inputs", "parameters", "sentence"),
    [
        ("x" * 101, {}, "has 101 characters in the texts and the entity types, and this server accepts at most 100"),
        ("x" * 90, {"entity_types": {"Type": "twelve chars"}}, "has 106 characters"),
        (["x"] * 6, {}, "has 6 texts, and this server accepts at most 5"),
        ([["x"]] * 6, {"is_split_into_words": True}, "has 6 texts"),
        ([""] * 100, {"is_split_into_words": True}, None),
        ([""] * 101, {"is_split_into_words": True}, "has 101 characters"),
        ("x", {"entity_types": ["A", "B", "C", "D"]}, "has 4 entity types, and this server accepts at most 3"),
        ("x" * 100, {"entity_types": None}, None),
        ("x" * 100_000, {}, "the body has more than 66,736 bytes, and this server accepts at most 100 characters"),
    ],
)
def test_large_requests_have_status_413_and_an_error_message(pipe, serve, inputs, parameters, sentence):
    with serve(pipe, Limits(max_characters=100, max_texts=5, max_types=3)) as small:
        status, content = small.find(inputs, **parameters)
    if sentence is None:
        assert status == 200
    else:
        assert (status, sentence in content["error"]) == (413, True), content


def test_unknown_paths_and_wrong_methods_have_an_error_status(client):
    for path, data, expected in (("/nothing", None, 404), ("/find", None, 405), ("/health", b"", 405)):
        status, content, _ = client.send(path, data)
        assert (status, list(json.loads(content))) == (expected, ["error"])
    assert client.send("/health")[:2] == (200, '{"status":"ok"}')


def test_the_openapi_document_describes_find(client):
    assert client.send("/docs")[0] == 200
    page = json.loads(client.send("/openapi.json")[1])
    route = page["paths"]["/find"]["post"]
    schema = route["requestBody"]["content"]["application/json"]["schema"]
    from hub_cards.handler import PARAMETERS

    assert set(schema["properties"]["parameters"]["properties"]) == set(PARAMETERS)
    assert {"200", "401", "413", "422", "429"} <= set(route["responses"])
    assert client.send("/find", schema["example"])[0] == 200


def test_find_and_metrics_require_the_token(pipe, serve):
    with serve(pipe, token=digest("s3cret")) as protected:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic s3cret"},
                        {"Authorization": "Bearer s3cretX"}, {"Authorization": "Bearer é"}):  # fmt: skip
            headers = {name: value.encode().decode("latin-1") for name, value in headers.items()}
            for path, data in (("/find", {"inputs": TEXT}), ("/", {"inputs": TEXT}), ("/metrics", None)):
                status, content, answered = protected.send(path, data, headers)
                assert (status, answered["WWW-Authenticate"]) == (401, "Bearer")
                assert "Authorization: Bearer TOKEN" in json.loads(content)["error"]
        assert protected.send("/health")[0] == 200, "/health requires no token"
        protected.token = "s3cret"
        assert protected.find(TEXT) == (200, pipe(TEXT))
        assert protected.metrics()["binder_ner_texts_total"] == 1


def test_the_token_is_read_from_a_file_or_an_environment_variable(tmp_path, monkeypatch):
    monkeypatch.delenv("BINDER_NER_TOKEN", raising=False)
    assert read_token() is None
    assert is_authorized(None, None) and is_authorized("anything", None)
    monkeypatch.setenv("BINDER_NER_TOKEN", "from-environment")
    assert is_authorized("from-environment", read_token())
    file = tmp_path / "token"
    file.write_text("from-file\n")
    expected = read_token(str(file))
    assert is_authorized("from-file", expected)
    assert not is_authorized("from-environment", expected) and not is_authorized(None, expected)
    for content, sentence in (("\n", "is empty"), ("two words", "without spaces"), ("é", "printable ASCII")):
        file.write_text(content)
        with pytest.raises(ValueError, match=sentence):
            read_token(str(file))
    monkeypatch.setenv("BINDER_NER_TOKEN", "")
    with pytest.raises(ValueError, match="BINDER_NER_TOKEN is empty"):
        read_token()


def test_metrics_count_requests_texts_and_characters(pipe, serve):
    with serve(pipe, Limits(max_characters=100)) as fresh:
        fresh.find([TEXT, ""])
        fresh.find("x" * 101)
        fresh.send("/find", b"nonsense")
        found = fresh.metrics()
    assert found['binder_ner_requests_total{status="200"}'] == 1
    assert found['binder_ner_requests_total{status="413"}'] == 1
    assert found['binder_ner_requests_total{status="422"}'] == 1
    assert found["binder_ner_texts_total"] == 2
    assert found["binder_ner_characters_total"] == len(TEXT) + 2
    assert found["binder_ner_pass_requests_count"] == found["binder_ner_pass_requests_sum"] == 1
    assert found["binder_ner_request_seconds_count"] == 3
    assert found["binder_ner_open_requests"] == found["binder_ner_waiting_requests"] == 0


class Gated:
    """A pipeline whose calls wait until the event `gate` is set."""

    def __init__(self, pipe):
        self._pipe, self.model = pipe, pipe.model
        self.entered, self.gate = threading.Event(), threading.Event()

    def __call__(self, texts, **parameters):
        self.entered.set()
        self.gate.wait()
        return self._pipe(texts, **parameters)


def test_requests_are_rejected_while_the_queue_is_full(pipe, serve, wait_until):
    gated = Gated(pipe)
    with serve(gated, Limits(max_queue=1)) as busy, ThreadPoolExecutor(1) as thread:
        try:
            first = thread.submit(busy.find, TEXT)
            gated.entered.wait()
            with socket.create_connection(("127.0.0.1", int(busy.url.rpartition(":")[2]))) as leaving:
                leaving.sendall(b'POST /find HTTP/1.1\r\nHost: x\r\nContent-Length: 15\r\n\r\n{"inputs": "x"}')
                wait_until(lambda: busy.metrics()["binder_ner_waiting_requests"] == 1)
                status, content, headers = busy.send("/find", {"inputs": TEXT})
                assert (status, headers["Retry-After"]) == (429, "1")
                assert json.loads(content)["error"].startswith("the limit of 1 waiting requests is reached")
            wait_until(lambda: busy.metrics()["binder_ner_open_requests"] == 1)
        finally:
            gated.gate.set()
        assert first.result() == (200, pipe(TEXT))
        assert busy.find(TEXT)[0] == 200, "the queue has room again"
        found = busy.metrics()
        assert found["binder_ner_texts_total"] == 2, "the request of the closed connection is not processed"
        assert found['binder_ner_requests_total{status="499"}'] == 1


def test_the_number_of_cached_windowers_is_limited(client, pipe):
    for length in range(16, 100):
        assert client.find("x", max_length=length, stride=0)[0] == 200
    assert len(pipe._windowers) <= MAX_WINDOWERS


class Broken:
    """A pipeline that fails for some texts, with errors that quote the text."""

    def __init__(self, pipe):
        self._pipe, self.model = pipe, pipe.model

    def __call__(self, texts, **parameters):
        for text in texts:
            if "broken" in text:
                raise RuntimeError(f"cannot read {text!r}")
            if "odd" in text:
                raise ValueError(f"odd: {text!r}")
        return self._pipe(texts, **parameters)


def test_logs_and_metrics_contain_no_texts_and_no_types(pipe, serve, caplog, capfd):
    secrets = ["Zebrafish", "Quokka", "Platypus", "Axolotl"]
    with caplog.at_level(logging.DEBUG), serve(Broken(pipe)) as fresh:
        status, content = fresh.find("a broken Zebrafish")
        assert (status, "Zebrafish" in str(content)) == (500, False)
        status, content = fresh.find("an odd Zebrafish")
        assert (status, "Zebrafish" in str(content)) == (422, True), "the client may see its own text"
        assert fresh.find("the Zebrafish gene", entity_types={"Quokka": "a Platypus"})[0] == 200
        assert fresh.find("the Zebrafish gene", entity_types={"Quokka": ""})[0] == 422
        assert fresh.find("x" * 200_000 + "Zebrafish")[0] == 413
        assert fresh.send("/find?inputs=Axolotl", {"inputs": "Zebrafish"})[0] == 200
        assert fresh.send("/Axolotl")[0] == 404
        assert fresh.send("/find", b'{"inputs": "Zebrafish')[0] == 422
        page = fresh.send("/metrics")[1]
    printed = "".join(capfd.readouterr())
    assert "find: 500" in caplog.text and "find: 200" in caplog.text and "RuntimeError" in caplog.text
    for secret in secrets:
        assert secret not in caplog.text + printed + page, secret
