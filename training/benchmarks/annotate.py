"""Measure `binder-ner annotate`: its overhead, the gain from a second Ray actor, and its memory.

    python -m training.benchmarks.annotate --model demo/model
    python -m training.benchmarks.annotate --model demo/model --rows 400 --rounds 1 --memory-rows 1000 4000
    python -m training.benchmarks.annotate --model demo/model --only memory

A round consists of four measurements, one after the other:

- the bare pipeline on one core,
- the command without Ray,
- Ray with one actor,
- Ray with two actors of one core each.

Other work on the machine may slow down a whole round. So only ratios within a round are compared. The rows per second
do not include imports and loading the model, because the first output of each actor is not counted. Memory means the
peak memory of the process that runs the command (with Ray, the driver). It is measured with a tiny untrained model and
short rows.

Ray's workers have the same niceness as the command. With Ray's default niceness of 15, other work on the machine would
slow the workers down more than the bare pipeline.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from hub_cards.markdown import table
from modeling_binder.finetuning.data import write_json
from training.benchmarks.workloads import made_up_types
from training.experiments.provenance import provenance
from training.pages import DOCS, ROOT, write_between

RESULTS = Path(__file__).parent / "annotate.json"
PARTS = ("speed", "memory")
CONTENDERS = ("bare pipeline", "annotate", "Ray, 1 actor", "Ray, 2 actors")
# OVERHEAD is the maximum time relative to the bare pipeline. GAIN is the minimum speed of two actors relative to one
# actor.
OVERHEAD, GAIN = 1.1, 1.6
_SENTENCES = (
    "The expression of IL-{n} in human T cells was measured {n} times in a laboratory near Geneva.",
    "Patients who received {n} mg of the drug had fewer episodes of fever than those in the other group.",
    "Mutations in exon {n} of the gene change the binding site, as the authors of the second study report.",
)


def texts(rows: int, sentences: int) -> Iterator[str]:
    """Yield `rows` texts of `sentences` sentences each."""
    for row in range(rows):
        yield " ".join(_SENTENCES[(row + index) % 3].format(n=row + index) for index in range(1, sentences + 1))


def write_table(path: Path, rows: int, sentences: int) -> Path:
    """Write a table of texts as JSONL."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps({"text": text}) + "\n" for text in texts(rows, sentences))
    return path


def run_worker(arguments: dict[str, Any]) -> dict[str, float]:
    """Run a measurement in a separate process, and return its result.

    The process writes the result into a file, because Ray prints messages to the standard output.
    """
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",
        "TOKENIZERS_PARALLELISM": "false",
    }
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "result.json")
        worker = json.dumps({**arguments, "out": str(out)})
        subprocess.run(
            [sys.executable, "-m", "training.benchmarks.annotate", "--worker", worker],
            cwd=ROOT,
            env=environment,
            check=True,
        )
        result: dict[str, float] = json.loads(out.read_text(encoding="utf-8"))
    return result


def work(arguments: dict[str, Any]) -> dict[str, float]:
    """Annotate a table. Return the rows per second and the peak memory of this process in MB."""
    from modeling_binder.annotating.job import prepare

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "out")
        if arguments["contender"] == "bare pipeline":
            rate = _bare_rate(arguments)
        else:
            options = {"entity_types": arguments["types"], "rows_per_part": arguments["rows_per_part"]}
            job = prepare(arguments["table"], out, arguments["model"], **options)
            if arguments["contender"] == "annotate":
                job.run(progress=False)
            else:
                import ray

                from modeling_binder.integrations.ray import run

                actors = arguments["actors"]
                ray.init("local", num_cpus=actors, include_dashboard=False, logging_level="error", log_to_driver=False)
                run(job, actors=actors, progress=False)
            times = sorted(path.stat().st_mtime for path in out.glob("part-*"))
            # Do not count the first output of each actor, because its time includes the start.
            first = arguments["actors"]
            rate = (len(times) - first) * arguments["rows_per_part"] / max(times[-1] - times[first - 1], 1e-9)
    return {"rows_per_second": rate, "peak_mb": _peak_mb()}


def _bare_rate(arguments: dict[str, Any]) -> float:
    """Return the rows per second of the pipeline, without the first call. A call gets the rows of one output part."""
    import time

    import torch
    from transformers import pipeline

    import modeling_binder  # noqa: F401 (registers the pipeline)

    torch.set_num_threads(1)
    pipe = pipeline("binder-ner", model=arguments["model"])
    rows = [json.loads(line)["text"] for line in Path(arguments["table"]).read_text(encoding="utf-8").splitlines()]
    size, start = arguments["rows_per_part"], 0.0
    for begin in range(0, len(rows), size):
        pipe(rows[begin : begin + size], entity_types=arguments["types"])
        start = start or time.perf_counter()
    return (len(rows) - size) / (time.perf_counter() - start)


def _peak_mb() -> float:
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1024)


def speed(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Return the rows per second in all rounds, and the medians of their ratios."""
    table = write_table(folder / "table.jsonl", arguments.rows, arguments.sentences)
    size = max(1, arguments.rows // 20)
    rounds = []
    for number in range(arguments.rounds):
        rates = {}
        for contender in CONTENDERS:
            task = {"contender": contender, "table": str(table), "model": arguments.model, "rows_per_part": size}
            task |= {"actors": 2 if contender.endswith("2 actors") else 1, "types": made_up_types(5)}
            rates[contender] = run_worker(task)["rows_per_second"]
            print(f"round {number + 1}: {contender}: {rates[contender]:.1f} rows/s", flush=True)
        rounds.append(rates)

    def ratio(one: str, other: str) -> float:
        return median(rates[one] / rates[other] for rates in rounds)

    return {
        "rounds": rounds,
        "time relative to the bare pipeline, without Ray": ratio("bare pipeline", "annotate"),
        "time relative to the bare pipeline, 1 actor": ratio("bare pipeline", "Ray, 1 actor"),
        "target": OVERHEAD,
        "speed of 2 actors relative to 1": ratio("Ray, 2 actors", "Ray, 1 actor"),
        "target of 2 actors": GAIN,
    }


def save_tiny_model(tokenizer_of: str, folder: Path) -> None:
    """Save an untrained model with one layer and the tokenizer of another model. It finds almost no entities."""
    from transformers import AutoTokenizer, BertConfig

    from modeling_binder import BinderConfig, BinderModel

    tokenizer = AutoTokenizer.from_pretrained(tokenizer_of)
    encoder = BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    BinderModel(BinderConfig(text_config=encoder.to_dict(), projection_size=8)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def memory(rows: list[int], model: str, folder: Path) -> dict[str, Any]:
    """Return the peak memory without and with Ray, for tables with these numbers of rows.

    The measured model is tiny and has the tokenizer of `model`.
    """
    save_tiny_model(model, folder / "tiny")
    results = []
    for number in rows:
        table = folder / f"{number}.jsonl"
        with table.open("w", encoding="utf-8") as file:
            file.writelines(f'{{"text": "the gene {row % 10}"}}\n' for row in range(number))
        for contender in CONTENDERS[1:3]:
            task = {"contender": contender, "table": str(table), "model": str(folder / "tiny"), "actors": 1}
            peak = run_worker({**task, "types": ["gene"], "rows_per_part": 1000})["peak_mb"]
            results.append({"contender": contender, "rows": number, "peak_mb": peak})
            print(f"{contender}, {number:,} rows: {peak:.0f} MB", flush=True)
    return {"rows": results}


def page(results: dict[str, Any]) -> str:
    """Return the tables of speed and memory, as Markdown."""
    blocks = []
    if "speed" in results:
        speed = results["speed"]
        rows = []
        for contender in CONTENDERS:
            rates = [rates[contender] for rates in speed["rounds"]]
            relative = median(rates[contender] / rates[CONTENDERS[0]] for rates in speed["rounds"])
            rows.append([contender, f"{median(rates):.1f}", f"{relative:.2f}"])
        blocks += [
            _origin(speed["about"]) + f", medians of {len(speed['rounds'])} rounds.",
            table(["on one core per actor", "rows/s", "relative to the bare pipeline"], rows, numbers=2),
            "With two actors, Ray annotates "
            f"{speed['speed of 2 actors relative to 1']:.2f} times as many rows per second as with one.",
        ]
    if "memory" in results:
        found = results["memory"]["rows"]
        numbers = sorted({row["rows"] for row in found})
        peaks = {(row["contender"], row["rows"]): f"{row['peak_mb']:.0f}" for row in found}
        rows = [[name, *(peaks.get((name, number), "") for number in numbers)] for name in CONTENDERS[1:3]]
        blocks += [
            _origin(results["memory"]["about"]) + ": the peak memory of the process that runs the command, in MB.",
            table(["", *(f"{number:,} rows" for number in numbers)], rows, numbers=len(numbers)),
        ]
    return "\n\n".join(blocks)


def _origin(about: dict[str, Any]) -> str:
    return f"`{about['command']}`, {about['device']}"


def about(argv: list[str]) -> dict[str, Any]:
    """Return the command, the commit and the machine."""
    origin = provenance("training.benchmarks.annotate", argv, None, {}, "binder")
    return {name: origin[name] for name in ("command", "commit", "device")}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="folder, or id on the Hub")
    parser.add_argument(
        "--rows", type=int, default=2000, help="number of rows in the table for the measurement of speed"
    )
    parser.add_argument(
        "--sentences", type=int, default=8, help="sentences in each row (default: 8, as in an abstract)"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory-rows", type=int, nargs="*", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--only", choices=PARTS, help="measure only this, and keep the other results in the file")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--page", type=Path, default=DOCS / "at-scale.md", help="page with the tables")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.worker:
        task = json.loads(arguments.worker)
        Path(task["out"]).write_text(json.dumps(work(task)), encoding="utf-8")
        return
    if arguments.model is None:
        parser.error("--model is needed")
    arguments.model = str(Path(arguments.model).absolute()) if Path(arguments.model).exists() else arguments.model
    results: dict[str, Any] = {}
    if arguments.output.exists():
        results = json.loads(arguments.output.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        for part in PARTS if arguments.only is None else (arguments.only,):
            origin = {**about(sys.argv[1:] if argv is None else argv), "load_before": list(os.getloadavg())}
            measure = {
                "speed": lambda: speed(arguments, Path(folder)),
                "memory": lambda: memory(arguments.memory_rows, arguments.model, Path(folder)),
            }[part]
            results[part] = {"about": origin, **measure()}
            write_json(arguments.output, results)
    write_between(arguments.page, "annotate", page(results))
    print(page(results))


if __name__ == "__main__":
    main()
