"""Measure the throughput and the latency of servers with 1, 8 and 64 clients, compared with the bare pipeline.

    python -m training.benchmarks.serving --model checkpoints/ncbi-minilm-42
    python -m training.benchmarks.serving --model demo/model --quick --servers binder  # a minute; writes no table

Each client sends one sentence after the other, and waits for each answer. Usually, all clients pass the same entity
types. In one measurement, each client passes different types, so that binder-ner cannot put requests of different
clients into the same batch.

Before each measurement of a server, the bare pipeline (without a server) is measured in a separate process. It
processes the same requests one by one. The throughput of the server is divided by the throughput of the pipeline. The
figures are medians over rounds. The clients and the server share the CPU of this machine.

The JSON file contains `about` (machine, commit, settings) and `rows` with all rounds.
"""

import argparse
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import Any

from hub_cards.markdown import table
from modeling_binder.finetuning import read_documents
from modeling_binder.finetuning.data import write_json
from training.encoders import MINILM, resolve_encoder
from training.experiments.provenance import provenance
from training.pages import DOCS, ROOT, write_between

from .contenders.base import Settings
from .servers import SERVERS, Client, OneByOne, Request, ServerError, keep_busy, load, running
from .speed import machine
from .workloads import made_up_types

RESULTS = Path(__file__).parent / "serving.json"
QUICK_RESULTS = Path(".bench") / "quick" / "serving.json"
NUM_TYPES = 5


def requests_of(texts: list[str], clients: int, shared: bool) -> list[Request]:
    """Return the requests of several clients: first the first request of each client, then the second, and so on.

    If `shared` is true, all clients pass the same types. Otherwise, each client passes different types.
    """
    types = list(made_up_types(NUM_TYPES * clients).items())
    own = [dict(types[NUM_TYPES * client :][:NUM_TYPES]) for client in range(clients)]
    # The number of requests is a multiple of `clients`, so that each client keeps its types when the list is repeated.
    count = clients * -(-len(texts) // clients)
    return [(texts[index % len(texts)], own[0 if shared else index % clients]) for index in range(count)]


def percentile(times: list[float], share: float) -> float:
    """Return a percentile of the times of requests in milliseconds. `share` is 0.5 for the median."""
    return 1000 * sorted(times)[min(len(times) - 1, int(share * len(times)))]


def figures(times: list[float], seconds: float) -> dict[str, float]:
    """Return the throughput (requests per second) and the latency (milliseconds) of a measurement."""
    return {
        "throughput": len(times) / seconds,
        "p50": percentile(times, 0.5),
        "p99": percentile(times, 0.99),
        "requests": len(times),
    }


def neighbours(
    name: str, port: int, alone: OneByOne, clients: int, shared: bool, texts: list[str], seconds: float
) -> dict[str, Any]:
    """Measure the pipeline and, directly afterwards, a server with the same requests."""
    requests = requests_of(texts, clients, shared)
    times = alone.run(requests, seconds)
    senders = [Client(name, port).send for _ in range(clients)]
    keep_busy(senders, requests, seconds / 4)
    began = time.perf_counter()
    found = keep_busy(senders, requests, seconds)
    return {"pipeline": figures(times, sum(times)), "server": figures(found, time.perf_counter() - began)}


def measure(arguments: argparse.Namespace, argv: list[str]) -> dict[str, Any]:
    """Run the benchmark.

    Raises:
        ValueError: the texts or an argument are invalid.
        RuntimeError: the pipeline failed.
        OSError: a file is missing.
    """
    config = json.loads((arguments.model / "config.json").read_text(encoding="utf-8"))
    texts = [document.text for document in read_documents(arguments.texts)]
    cases = [(count, True) for count in arguments.clients] + [(max(arguments.clients), False)]
    rows: dict[tuple[str, int, bool], list[dict[str, Any]]] = {}
    skipped: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as scratch:
        settings = Settings(
            encoder=resolve_encoder(arguments.encoder), model=str(arguments.model.resolve()), batch_size=32,
            train_batch_size=1, max_length=config["max_length"], stride=config["stride"], threads=arguments.threads,
            scratch=scratch,
        )  # fmt: skip
        alone = OneByOne(settings)
        try:
            for number, name in itertools.product(range(arguments.rounds), arguments.servers):
                if name in skipped:
                    continue
                print(f"round {number + 1}: {SERVERS[name].title}", file=sys.stderr, flush=True)
                try:
                    with running(name, settings, Path(scratch) / name) as port:
                        for case in cases:
                            found = neighbours(name, port, alone, *case, texts, arguments.seconds)
                            rows.setdefault((name, *case), []).append(found)
                except ServerError as error:
                    skipped[name] = str(error)
                    print(f"skipped: {error}", file=sys.stderr)
        finally:
            alone.close()
    origin = provenance("training.benchmarks.serving", argv, None, {}, "serving")
    about = {
        "command": origin["command"], "commit": origin["commit"], "date": date.today().isoformat(),
        "machine": machine(), "load_after": load(), "model": arguments.model.name, "encoder": arguments.encoder,
        "threads": arguments.threads, "seconds": arguments.seconds, "rounds": arguments.rounds, "texts": len(texts),
        "types": NUM_TYPES, "quick": arguments.quick, "skipped": skipped,
    }  # fmt: skip
    return {"about": about, "rows": [_summary(key, rounds) for key, rounds in rows.items()]}


def _summary(key: tuple[str, int, bool], rounds: list[dict[str, Any]]) -> dict[str, Any]:
    name, clients, shared = key

    def median(who: str, what: str) -> float:
        return statistics.median(one[who][what] for one in rounds)

    return {
        "server": name,
        "clients": clients,
        "shared_types": shared,
        **{
            f"{who}_{what}": median(who, what)
            for who in ("server", "pipeline")
            for what in ("throughput", "p50", "p99")
        },
        "ratio": statistics.median(one["server"]["throughput"] / one["pipeline"]["throughput"] for one in rounds),
        "rounds": rounds,
    }


def page(results: dict[str, Any]) -> str:
    """Return the table of results, as Markdown."""
    about = results["about"]
    rows = [
        [
            SERVERS[row["server"]].title,
            f"{row['clients']}" + ("" if row["shared_types"] else ", types of their own"),
            f"{row['server_throughput']:.1f}",
            f"{row['ratio']:.2f}",
            f"{row['server_p50']:.0f} / {row['server_p99']:.0f}",
            f"{row['pipeline_p50']:.0f} / {row['pipeline_p99']:.0f}",
        ]
        for row in results["rows"]
    ]
    head = [
        "server",
        "clients",
        "texts/s",
        "texts/s relative to the pipeline",
        "ms: p50 / p99",
        "pipeline, ms: p50 / p99",
    ]
    notes = [f"- {server.title}: {server.note}." for server in SERVERS.values() if server.note]
    notes += [f"- {SERVERS[name].title} is missing: {reason}" for name, reason in about["skipped"].items()]
    origin = (
        f"`{about['command']}`, {about['threads']} threads of {about['machine']['processor']}, {about['texts']} texts, "
        f"{about['types']} entity types, medians of {about['rounds']} rounds."
    )
    return "\n\n".join([origin, table(head, rows), "\n".join(notes)])


def parse(argv: list[str]) -> argparse.Namespace:
    """Parse the command line, and fill in the defaults. Some defaults are different with --quick."""
    parser = argparse.ArgumentParser(
        prog="python -m training.benchmarks.serving",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--model", type=Path, default=ROOT / "demo" / "model", help="checkpoint (default: demo/model)")
    add("--encoder", default=MINILM, help="encoder of the models of other packages (default: minilm)")
    add("--servers", nargs="+", choices=SERVERS, default=list(SERVERS), metavar="NAME",
        help=f"default: all of {', '.join(SERVERS)}")  # fmt: skip
    add("--clients", type=int, nargs="+", default=[1, 8, 64], help="default: 1 8 64")
    add("--texts", type=Path, default=ROOT / "training" / "sample" / "test.jsonl", help="default: the sample corpus")
    add("--threads", type=int, default=min(2, os.cpu_count() or 1), help="threads of each server (default: 2)")
    add("--rounds", type=int, help="default: 5")
    add("--seconds", type=float, help="duration of a measurement (default: 20)")
    add("--out", type=Path, help="default: training/benchmarks/serving.json")
    add("--page", type=Path, default=DOCS / "at-scale.md", help="page with the table (default: docs/at-scale.md)")
    add(
        "--quick",
        action="store_true",
        help="one round with measurements of 3 seconds; results in .bench/quick, no table on the page",
    )
    arguments = parser.parse_args(argv)
    for name, value in (("rounds", 1), ("seconds", 3.0)) if arguments.quick else (("rounds", 5), ("seconds", 20.0)):
        if getattr(arguments, name) is None:
            setattr(arguments, name, value)
    arguments.out = arguments.out or (ROOT / QUICK_RESULTS if arguments.quick else RESULTS)
    if min(arguments.rounds, arguments.threads, *arguments.clients) < 1 or arguments.seconds <= 0:
        parser.error("--rounds, --threads, --clients and --seconds must be more than 0")
    if NUM_TYPES * max(arguments.clients) > len(made_up_types(1000)):
        parser.error(f"--clients must be at most {1000 // NUM_TYPES}, because each client needs types of its own")
    return arguments


def main(argv: list[str] | None = None) -> dict[str, Any]:
    argv = sys.argv[1:] if argv is None else argv
    arguments = parse(argv)
    try:
        results = measure(arguments, argv)
        write_json(arguments.out, results)
        text = page(results)
        if not arguments.quick:
            write_between(arguments.page, "serving", text)
    except (ValueError, RuntimeError, OSError) as error:
        sys.exit(f"error: {error}")
    print(text)
    return results


if __name__ == "__main__":
    main()
