"""The benchmark of servers: the requests of the clients, the measured figures, and the tables."""

import itertools

import pytest

from training.benchmarks import annotate, servers, serving
from training.benchmarks.servers import ServerError, keep_busy


def test_all_clients_send_the_same_types_or_each_client_sends_its_own_types():
    texts = [f"text {number}" for number in range(7)]
    shared = serving.requests_of(texts, 3, shared=True)
    own = serving.requests_of(texts, 3, shared=False)
    assert len(shared) == len(own) == 9 and {text for text, _ in own} == set(texts)
    assert all(types == shared[0][1] and len(types) == serving.NUM_TYPES for _, types in shared)
    for client in range(3):
        assert all(types == own[client][1] for _, types in own[client::3])
    assert not set(own[0][1]) & set(own[1][1])


def test_each_client_repeats_its_own_requests_in_order(monkeypatch):
    clock = itertools.count()
    monkeypatch.setattr(servers.time, "perf_counter", lambda: next(clock))  # each call returns a later time
    sent = {0: [], 1: []}
    times = keep_busy([sent[0].append, sent[1].append], ["a", "b", "c", "d"], 40)
    for client, own in ((0, "ac"), (1, "bd")):
        assert sent[client] == [own[number % 2] for number in range(len(sent[client]))]
    assert len(times) == len(sent[0]) + len(sent[1]) > 0


def test_an_error_of_the_server_ends_the_measurement():
    def send(request):
        raise ServerError("answers 500")

    with pytest.raises(ServerError, match="answers 500"):
        keep_busy([send, send], ["a"], 60)


def test_figures_are_the_throughput_and_percentiles_of_the_response_times():
    found = serving.figures([0.001 * (number + 1) for number in range(100)], 4)
    assert found == pytest.approx({"throughput": 25, "p50": 51, "p99": 100, "requests": 100})


def test_ratios_in_the_table_are_computed_within_each_round():
    def measured(server, alone):
        figures = {"p50": 10.0, "p99": 20.0, "requests": 5}
        return {"server": {**figures, "throughput": server}, "pipeline": {**figures, "throughput": alone}}

    row = serving._summary(("binder", 64, False), [measured(20, 10), measured(30, 10), measured(90, 30)])
    assert (row["ratio"], row["server_throughput"], row["pipeline_throughput"]) == (3, 30, 10)
    about = {"command": "c", "threads": 2, "machine": {"processor": "p"}, "texts": 3, "types": 5, "rounds": 3,
             "skipped": {"gliner": "not installed"}}  # fmt: skip
    text = serving.page({"about": about, "rows": [row]})
    assert "| binder-ner serve | 64, types of their own | 30.0 | 3.00 | 10 / 20 | 10 / 20 |" in text
    assert "gliner.serve is missing: not installed" in text


def test_the_tables_of_the_annotation_benchmark_are_generated():
    about = {"command": "c", "device": "d"}
    rounds = [dict(zip(annotate.CONTENDERS, rates, strict=True)) for rates in ((10, 9, 8, 16), (20, 19, 20, 30))]
    speed = {"about": about, "rounds": rounds, "speed of 2 actors relative to 1": 1.75}
    memory = [{"contender": name, "rows": 1000, "peak_mb": 100.4} for name in annotate.CONTENDERS[1:3]]
    text = annotate.page({"speed": speed, "memory": {"about": about, "rows": memory}})
    assert "| bare pipeline | 15.0 | 1.00 |" in text and "| Ray, 2 actors | 23.0 | 1.55 |" in text
    assert "1.75 times as many rows per second" in text and "| annotate | 100 |" in text and "1,000 rows" in text
    assert "rows/s" not in annotate.page({"memory": {"about": about, "rows": memory}})


@pytest.mark.parametrize("argument", [["--clients", "0"], ["--seconds", "0"], ["--clients", "500"]])
def test_arguments_out_of_range_raise_an_error(argument, capsys):
    with pytest.raises(SystemExit):
        serving.parse(argument)
    assert "must be" in capsys.readouterr().err
