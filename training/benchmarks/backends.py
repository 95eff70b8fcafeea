"""Compare the backends and the precisions of binder-ner on a corpus: speed, F1, and whether scores depend on the batch.

    python -m training.benchmarks.backends --model demo/model --corpus corpora/mine
    python -m training.benchmarks.backends --tables  # only writes the table, from the JSON file

The model gets the entity types of the corpus (CORPUS/types.json). Int8 exports are calibrated and checked on
CORPUS/dev.jsonl, and any loss of F1 is accepted. The speed is measured on texts of CORPUS/test.jsonl, in interleaved
rounds as in `training.benchmarks.speed`. Afterwards, each contender finds the entities of the dev and test documents.
It finds those of some test documents also one by one.

The JSON file contains `about` (machine, commit, settings) and `contenders` with all rounds.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from hub_cards.markdown import table
from modeling_binder import BinderNerPipeline
from modeling_binder.backends import f1
from modeling_binder.finetuning import Document, read_documents
from modeling_binder.finetuning.data import read_types, write_json
from modeling_binder.loading import load_pipeline
from training.experiments.provenance import provenance
from training.pages import DOCS, ROOT, write_between

from .bench import Bench, log
from .contenders import CONTENDERS
from .contenders.base import FIXED_TYPES, Settings
from .speed import machine, without_folders
from .summary import measured, times_as_fast
from .worker import spread
from .workloads import Workload

RESULTS = Path(__file__).parent / "backends.json"
NAMES = ("binder", "binder-bf16", "binder-onnx", "binder-int8", "binder-openvino")
NUM_COMPARED = 64  # texts whose scores are compared one by one and in batches
LOWEST = 0.1  # the comparison covers entities with this score or a higher one


def with_types(model: str, corpus: Path, folder: Path) -> None:
    """Save a copy of a checkpoint in a folder. The types of the copy are those of a corpus, without own thresholds."""
    pipe = load_pipeline(model)
    config = pipe.model.config
    config.thresholds = config.temperatures = None
    types = read_types(corpus / "types.json")
    config.entity_types = [{"name": label, "description": text} for label, text in types.items()]
    pipe.save_pretrained(folder)


def batch_dependence(pipe: BinderNerPipeline, texts: Sequence[str]) -> float:
    """Return the largest difference between the scores of a text alone and of the same text in a batch with others.

    If only one of the two results contains an entity, its score in the other result is taken to be `LOWEST`.
    """
    largest = 0.0
    for text, together in zip(texts, pipe(list(texts), threshold=LOWEST), strict=True):
        one, other = (
            {(e["entity_group"], e["start"], e["end"]): e["score"] for e in entities}
            for entities in (pipe(text, threshold=LOWEST), together)
        )
        differences = [abs(one.get(span, LOWEST) - other.get(span, LOWEST)) for span in one.keys() | other.keys()]
        largest = max([largest, *differences])
    return largest


def measure(arguments: argparse.Namespace, argv: list[str]) -> dict[str, Any]:
    """Run the comparison and return its results.

    Raises:
        OSError: the model or a file of the corpus is missing.
        ValueError: the model or a file of the corpus is invalid.
        RuntimeError: a contender could not be exported, loaded or run.
    """
    paths = {
        split: next(arguments.corpus.glob(f"{split}.jsonl*"), arguments.corpus / split) for split in ("dev", "test")
    }
    documents = {split: read_documents(path)[: arguments.documents] for split, path in paths.items()}
    about = _about(arguments, argv, documents)  # before the measurement, because it contains the load of the machine
    chosen = spread([document.text for document in documents["test"]], arguments.sentences)
    sample = [documents["test"][index] for index in chosen]
    workload = Workload([document.text for document in sample], [len(document.entities) for document in sample], {})
    with tempfile.TemporaryDirectory() as scratch:
        model = Path(scratch, "model")
        with_types(str(arguments.model), arguments.corpus, model)
        config = json.loads((model / "config.json").read_text(encoding="utf-8"))
        settings = Settings(
            encoder="",
            model=str(model),
            batch_size=arguments.batch_size,
            train_batch_size=1,
            max_length=config["max_length"],
            stride=config["stride"],
            threads=arguments.threads,
            scratch=scratch,
            held_out=str(paths["dev"].resolve()),
        )
        bench = Bench(arguments, settings, Path(scratch))
        bench.build()
        rows = bench.throughput({arguments.corpus.name: workload})
        failed = [facts["skipped"] for facts in bench.contenders.values() if "skipped" in facts]
        failed += [row["failed"] for row in rows if "failed" in row]
        if failed:
            raise RuntimeError("; ".join(failed))
        contenders = [_facts(row, rows[0], bench, model, documents) for row in rows]
    return {"about": about, "contenders": contenders}


def _facts(
    row: dict[str, Any], first: dict[str, Any], bench: Bench, model: Path, documents: dict[str, list[Document]]
) -> dict[str, Any]:
    """Return the rounds and the figures of a contender; `first` is the row of the first contender."""
    name = row["contender"]
    log(f"finding entities: {name}")
    options = CONTENDERS[name].options
    exported = "export" in options
    loading = {"dtype": options["dtype"]} if "dtype" in options else {}
    pipe = load_pipeline(str(bench.scratch / name if exported else model), device="cpu", **loading)
    return {
        "contender": name,
        "title": CONTENDERS[name].title,
        "versions": bench.contenders[name]["versions"],
        "seconds": row["seconds"],
        "texts_per_second": measured([row["texts"] / seconds for seconds in row["seconds"]]),
        "relative": times_as_fast(row, first),
        "f1": {split: f1(pipe, some) for split, some in documents.items()},
        "batch_dependence": batch_dependence(pipe, [document.text for document in documents["test"][:NUM_COMPARED]]),
    }


def _about(arguments: argparse.Namespace, argv: list[str], documents: dict[str, list[Document]]) -> dict[str, Any]:
    origin = provenance("training.benchmarks.backends", [without_folders(item) for item in argv], None, {}, "backends")
    return {
        "command": origin["command"],
        "commit": origin["commit"],
        "date": date.today().isoformat(),
        "machine": machine(),
        "model": arguments.model.name,
        "corpus": arguments.corpus.name,
        "documents": {split: len(some) for split, some in documents.items()},
        "threads": arguments.threads,
        "rounds": arguments.rounds,
        "batch_size": arguments.batch_size,
        "sentences": arguments.sentences,
    }


def page(results: dict[str, Any]) -> str:
    """Return the table, and a sentence about its origin."""
    about, contenders = results["about"], results["contenders"]
    load = about["machine"]["load_before"]
    busy = ""
    if load and load[0] > 0.5:
        busy = (
            f" Other programs used the machine (load {load[0]:.0f}), so the speeds are rough. The ratios are medians "
            "of the ratios within a round."
        )
    first = contenders[0]
    rows = []
    for facts in contenders:
        gains = {split: round(facts["f1"][split] - first["f1"][split], 2) + 0.0 for split in ("dev", "test")}  # no -0.0
        rows.append(
            [
                facts["title"],
                f"{facts['texts_per_second']['median']:.0f}",
                f"{facts['relative']:.2f}",
                *(f"{facts['f1'][split]:.2f} ({gains[split]:+.2f})" for split in ("dev", "test")),
                f"{facts['batch_dependence']:.1g}",
            ]
        )
    head = [
        "",
        "sentences/s",
        f"relative to {first['title']}",
        "F1 on dev",
        "F1 on test",
        "effect of the batch on scores",
    ]
    origin = (
        f"{about['model']} with the entity types of {about['corpus']}, speed on {about['sentences']} test sentences, "
        f"{about['threads']} threads of {about['machine']['processor']}, batch size {about['batch_size']}, medians of "
        f"{about['rounds']} interleaved rounds. The last column is the largest difference between the scores of a text "
        f"alone and in a batch.{busy} Command: `{about['command']}` at commit {about['commit']}, {about['date']}."
    )
    return f"{origin}\n\n{table(head, rows, numbers=len(head) - 1)}"


def parse(argv: list[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m training.benchmarks.backends",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--model", type=Path, default=ROOT / "demo" / "model", help="checkpoint (default: demo/model)")
    add("--corpus", type=Path, default=ROOT / "training" / "sample",
        help="folder with dev.jsonl, test.jsonl and types.json (default: training/sample)")  # fmt: skip
    add("--contenders", nargs="+", choices=NAMES, default=list(NAMES), metavar="NAME",
        help=f"default: all of {', '.join(NAMES)}; the first one is the reference")  # fmt: skip
    add("--documents", type=int, help="use at most this number of dev and of test documents (default: all)")
    add("--sentences", type=int, default=320, help="number of test documents for the speed (default: 320)")
    add("--rounds", type=int, default=7, help="number of rounds (default: 7)")
    add("--threads", type=int, default=min(2, os.cpu_count() or 1), help="number of threads (default: 2)")
    add("--batch-size", type=int, default=32, help="windows in a batch (default: 32)")
    add("--seconds", type=float, default=10.0, help="approximate time limit of a round (default: 10)")
    add("--out", type=Path, default=RESULTS, help="default: training/benchmarks/backends.json")
    add("--page", type=Path, default=DOCS / "speed.md", help="page with the table (default: docs/speed.md)")
    add("--no-tables", action="store_true", help="do not change the page")
    add("--tables", action="store_true", help="measure nothing; write the table of the results in --out")
    arguments = parser.parse_args(argv)
    if (
        min(arguments.rounds, arguments.threads, arguments.batch_size, arguments.sentences) < 1
        or arguments.seconds <= 0
    ):
        parser.error("--rounds, --threads, --batch-size, --sentences and --seconds must be more than 0")
    arguments.types = [FIXED_TYPES]  # the speed is measured with this number of made-up types
    return arguments


def main(argv: list[str] | None = None) -> dict[str, Any]:
    argv = sys.argv[1:] if argv is None else argv
    arguments = parse(argv)
    try:
        if arguments.tables:
            results: dict[str, Any] = json.loads(arguments.out.read_text(encoding="utf-8"))
        else:
            results = measure(arguments, argv)
            write_json(arguments.out, results)
        text = page(results)
        if not arguments.no_tables:
            write_between(arguments.page, "backends", text)
    except (ValueError, RuntimeError, OSError) as error:
        sys.exit(f"error: {error}")
    print(text)
    return results


if __name__ == "__main__":
    main()
