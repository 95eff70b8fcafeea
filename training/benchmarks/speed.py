"""Measure the speed and memory of binder-ner, of its bare encoder, and of other packages.

    make bench BENCH_ARGS="--model checkpoints/ncbi-minilm-42"
    python -m training.benchmarks.speed --model checkpoints/ncbi-minilm-42
    python -m training.benchmarks.speed --model ... --quick  # takes minutes; writes no tables
    python -m training.benchmarks.speed --model ... --workloads latency --keep  # keeps other results of the JSON file
    python -m training.benchmarks.speed --tables             # only writes tables and plots, from the JSON file

The contenders are binder-ner in several precisions, the bare encoder, and other packages. Each contender runs in a
separate process. Each other package runs in a separate environment. The first run of the benchmark installs these
environments into .bench/.

A round runs every contender on each workload. So if other work slows the machine down for a while, this affects all
contenders. A contender repeats a short run until a second has passed, and the last run counts. Ratios are computed
within a round, and the figures are medians over rounds.

Sentences come from corpora/NAME/test.jsonl (see `python -m training.corpora`). The entity types are made up. Everything
runs on the CPU.

The JSON file has these keys: `about` (machine, commit, settings), `contenders`, `order` (the measurements in their
order of time) and `targets`. The keys `throughput`, `latency`, `new_types`, `cold_start` and `training` have rows with
all rounds. With `--keep`, `about` also names the command and the commit of the earlier results.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

from modeling_binder.finetuning.data import write_json
from modeling_binder.machine import processor
from training.encoders import MINILM, resolve_encoder
from training.experiments.provenance import provenance
from training.pages import DOCS, ROOT, write_between

from . import workloads
from .bench import Bench, log
from .contenders import CONTENDERS
from .contenders.base import Settings
from .plots import draw
from .summary import Results, describe_target, summarise
from .tables import page

RESULTS = Path(__file__).parent / "speed.json"
QUICK_RESULTS = Path(".bench") / "quick" / "speed.json"
WORKLOADS = (*workloads.CORPORA, workloads.LONG, "latency", "new-types", "cold", "train")
ALLOCATOR_VARIABLES = (
    "MALLOC_MMAP_THRESHOLD_",
    "MALLOC_TRIM_THRESHOLD_",
    "MALLOC_ARENA_MAX",
    "MALLOC_TOP_PAD_",
    "LD_PRELOAD",
)
PARTS = ("throughput", "latency", "new_types", "cold_start", "training")
# Results that differ in one of these settings cannot stand in one table.
COMPARABLE = (
    *("threads", "rounds", "batch_size", "train_batch_size", "max_length", "stride"),
    *("types", "encoder", "model"),
)
INSTRUCTIONS = {"avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_int8", "amx_bf16"}


def machine() -> dict[str, Any]:
    """Return the properties of this machine that affect speed, without the versions of packages."""
    flags: set[str] = set()
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("flags"):
                flags = set(line.split())
                break
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "instructions": sorted(flags & INSTRUCTIONS),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else None,
        "system": platform.platform(),
        "libc": " ".join(platform.libc_ver()),
        "allocator": {name: os.environ.get(name) for name in ALLOCATOR_VARIABLES},
        "load_before": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
    }


def measure(arguments: argparse.Namespace, argv: list[str]) -> Results:
    """Run the benchmark. With `--keep`, add the earlier results of other workloads.

    Raises:
        FileNotFoundError: a corpus or the checkpoint is missing.
        ValueError: an argument is invalid, or the earlier results cannot be kept.
        RuntimeError: no contender could be run.
    """
    if not (arguments.model / "config.json").is_file():
        raise FileNotFoundError(
            f"no checkpoint in {arguments.model}. Train one, for example with python -m training.finetune "
            f"training/recipes/ncbi-minilm.yaml --output_dir {arguments.model}, or pass another one: --model PATH."
        )
    config = json.loads((arguments.model / "config.json").read_text(encoding="utf-8"))
    made_up = {
        count: workloads.made_up_types(count) for count in arguments.types
    }  # if a number is invalid, this raises an error before the measurements
    tests, texts = _read_texts(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        held_out = arguments.corpora / "ncbi" / "dev.jsonl"
        settings = Settings(
            encoder=resolve_encoder(arguments.encoder),
            model=str(arguments.model.resolve()),
            batch_size=arguments.batch_size,
            train_batch_size=arguments.train_batch_size,
            max_length=config["max_length"],
            stride=config["stride"],
            threads=arguments.threads,
            scratch=scratch,
            held_out=str(held_out.resolve()) if held_out.is_file() else None,
        )
        bench = Bench(arguments, settings, Path(scratch))
        results: Results = {"about": about(arguments, argv, settings, sorted(made_up))}
        earlier = json.loads(arguments.out.read_text(encoding="utf-8")) if arguments.keep else None
        if earlier is not None:
            check_comparable(results["about"], earlier["about"])
        bench.build()
        results.update(contenders=bench.contenders, order=bench.order)
        results.update({part: [] for part in PARTS})
        if texts:
            results["throughput"] = bench.throughput(texts)
        if "latency" in arguments.workloads:
            log("latency")
            results["latency"] = bench.latency(workloads.sentences(tests["ncbi"], arguments.sentences))
        if "new-types" in arguments.workloads:
            log("new types")
            results["new_types"] = bench.new_types()
        if "cold" in arguments.workloads:
            log("cold start")
            results["cold_start"] = bench.cold_start(tests["ncbi"][0]["text"])
        if "train" in arguments.workloads:
            types = json.loads((arguments.corpora / "ncbi" / "types.json").read_text(encoding="utf-8"))
            results["training"] = bench.training(workloads.read_documents(arguments.corpora, "ncbi", "train"), types)
    if hasattr(os, "getloadavg"):
        results["about"]["machine"]["load_after"] = list(os.getloadavg())
    if not bench.ready:
        raise RuntimeError("no contender could be run: " + "; ".join(
            f"{name}: {facts['skipped']}" for name, facts in bench.contenders.items()))  # fmt: skip
    if earlier is not None:
        keep(results, earlier)
    summarise(results)
    return results


def check_comparable(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """Raise ValueError if the facts `about` two results say that they cannot stand in one table."""
    differ = [name for name in COMPARABLE if ours[name] != theirs[name]]
    parts = ("processor", "cores", "instructions")
    differ += [name for name in parts if ours["machine"][name] != theirs["machine"][name]]
    if differ:
        raise ValueError(
            f"the results in --out cannot be kept, because they differ in {', '.join(differ)}. Leave --keep out, and "
            "measure all workloads."
        )


def keep(results: Results, earlier: Results) -> None:
    """Add the earlier rows of workloads that were not measured again, and their command, commit and date."""
    origin = {name: earlier["about"][name] for name in ("command", "commit", "date")}
    kept = results["about"]["kept"] = {}
    for part in PARTS:
        measured = {row["workload"] for row in results[part]}
        rows = [row for row in earlier[part] if row["workload"] not in measured]
        results[part] += rows
        for row in rows:
            kept[row["workload"]] = earlier["about"].get("kept", {}).get(row["workload"], origin)
    results["contenders"] = earlier["contenders"] | results["contenders"]


def _read_texts(arguments: argparse.Namespace) -> tuple[dict[str, Any], dict[str, workloads.Workload]]:
    """Return the test documents of the required corpora, and the texts of each workload."""
    wanted = set(arguments.workloads)
    tests = {
        name: workloads.read_documents(arguments.corpora, name, "test")
        for name in workloads.CORPORA
        if {name, workloads.LONG, "latency", "cold"} & wanted
    }
    texts = {
        name: workloads.sentences(tests[name], arguments.sentences) for name in workloads.CORPORA if name in wanted
    }
    if workloads.LONG in wanted:
        texts[workloads.LONG] = workloads.long_documents(list(tests.values()), arguments.characters)
    return tests, texts


def without_folders(argument: str) -> str:
    """Return an argument of the command line without folders of this machine.

    An absolute path in the repository becomes a relative path. Any other absolute path is shortened to its last
    component.
    """
    if not os.path.isabs(argument):
        return argument
    return os.path.relpath(argument, ROOT) if Path(argument).is_relative_to(ROOT) else Path(argument).name


def about(arguments: argparse.Namespace, argv: list[str], settings: Settings, types: list[int]) -> dict[str, Any]:
    """Return the machine, the commit and the settings of a benchmark."""
    command = [without_folders(argument) for argument in argv]
    origin = provenance("training.benchmarks.speed", command, None, {}, "speed")
    return {
        "command": origin["command"],
        "commit": origin["commit"],
        "date": date.today().isoformat(),
        "machine": machine(),
        "threads": settings.threads,
        "rounds": arguments.rounds,
        "batch_size": settings.batch_size,
        "train_batch_size": settings.train_batch_size,
        "max_length": settings.max_length,
        "stride": settings.stride,
        "seconds_a_round": arguments.seconds,
        "sentences": arguments.sentences,
        "characters": arguments.characters,
        "types": types,
        "encoder": arguments.encoder,
        "model": arguments.model.name,
        "quick": arguments.quick,
    }


def parse(argv: list[str]) -> argparse.Namespace:
    """Parse the command line, and fill in the defaults. Some defaults are different with --quick."""
    parser = argparse.ArgumentParser(
        prog="python -m training.benchmarks.speed",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_arguments(parser)
    arguments = parser.parse_args(argv)
    quick: dict[str, Any] = {"types": [1, 5, 100], "rounds": 2, "steps": 2, "sentences": 32, "seconds": 3.0}
    full: dict[str, Any] = {
        "types": [1, 5, 20, 100, 1000, 10_000],
        "rounds": 5,
        "steps": 8,
        "sentences": 320,
        "seconds": 10.0,
    }
    for name, value in (quick if arguments.quick else full).items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, value)
    arguments.sentences = arguments.sentences or None
    arguments.no_tables = arguments.no_tables or arguments.quick
    arguments.out = arguments.out or (ROOT / QUICK_RESULTS if arguments.quick else RESULTS)
    for name in ("rounds", "threads", "batch_size", "train_batch_size", "steps", "characters"):
        if getattr(arguments, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1, got {getattr(arguments, name)}")
    if arguments.seconds <= 0:
        parser.error(f"--seconds must be more than 0, got {arguments.seconds}")
    return arguments


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--model", type=Path, default=ROOT / "checkpoints" / "ncbi-minilm-42",
        help="checkpoint of binder-ner (default: checkpoints/ncbi-minilm-42)")  # fmt: skip
    add("--encoder", default=MINILM, help="encoder of the other contenders (default: minilm)")
    add("--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS), metavar="NAME",
        help=f"default: all of {', '.join(CONTENDERS)}")  # fmt: skip
    add("--workloads", nargs="+", choices=WORKLOADS, default=list(WORKLOADS), metavar="NAME",
        help=f"default: all of {', '.join(WORKLOADS)}")  # fmt: skip
    add("--types", type=int, nargs="+", help="numbers of entity types (default: 1 5 20 100 1000 10000)")
    add("--rounds", type=int, help="number of rounds (default: 5)")
    add("--threads", type=int, default=min(2, os.cpu_count() or 1), help="number of threads (default: 2)")
    add("--batch-size", type=int, default=32, help="texts or windows in a batch (default: 32)")
    add("--train-batch-size", type=int, default=16, help="texts in a training step (default: 16)")
    add("--steps", type=int, help="training steps in a round (default: 8)")
    add("--sentences", type=int, help="maximum number of sentences of a corpus; 0 means all (default: 320)")
    add("--characters", type=int, default=50_000, help="length of a long document (default: 50000)")
    add("--seconds", type=float, help="approximate time limit of a contender in a round; slow contenders process "
        "fewer texts (default: 10)")  # fmt: skip
    add("--corpora", type=Path, default=ROOT / "corpora", help="folder of the corpora (default: corpora)")
    add("--out", type=Path, help="file for the results (default: training/benchmarks/speed.json)")
    add("--page", type=Path, default=DOCS / "speed.md", help="page with the tables (default: docs/speed.md); the plots "
        "are written into images/ next to it")  # fmt: skip
    add("--no-tables", action="store_true", help="do not change the page")
    add("--keep", action="store_true", help="keep earlier results in --out of workloads that are not measured "
        "again")  # fmt: skip
    add("--tables", action="store_true", help="only write the tables and plots from the results in --out")
    add("--quick", action="store_true", help="few sentences, two rounds, no tables; results in .bench/quick")


def main(argv: list[str] | None = None) -> Results:
    argv = sys.argv[1:] if argv is None else argv
    arguments = parse(argv)
    try:
        if arguments.tables:
            results: Results = json.loads(arguments.out.read_text(encoding="utf-8"))
            summarise(results)
        else:
            results = measure(arguments, argv)
        write_json(arguments.out, results)
        images = arguments.out.parent if arguments.no_tables else arguments.page.parent / "images"
        plots = draw(results, images)
        if not arguments.no_tables:
            write_between(arguments.page, "speed", page(results, plots, images.name))
    except (ValueError, RuntimeError, OSError) as error:
        sys.exit(f"error: {error}")
    for target in results["targets"]:
        log(describe_target(target))
    log(f"written: {arguments.out}" + "".join(f", {path.name}" for path in plots))
    return results


if __name__ == "__main__":
    main()
