"""How fast, how large: binder-ner beside the bare encoder and its peers, all in one run.

    python -m training.benchmarks.speed --model checkpoints/ncbi-minilm-42       # or: make bench MODEL=...
    python -m training.benchmarks.speed --model ... --quick                      # minutes; writes no table
    python -m training.benchmarks.speed --tables                                 # tables and plots from the JSON alone

Every contender has a process of its own, peers an environment of their own (.bench/, made on the first run). A round
runs each contender on each workload once, so that what disturbs the machine disturbs all; figures are medians over
rounds, ratios are taken within a round. A round before those that count warms up and weighs. Sentences come from
corpora/NAME/test.jsonl (`python -m training.corpora`), types are made up. Runs on the processor; a GPU is left alone.

The JSON file has `about` (machine, versions, commit, settings), `contenders`, `order` (what ran when), `throughput`,
`cold_start`, `training` (lists of rows with all their rounds) and `targets`.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from modeling_binder.finetuning.data import write_json
from modeling_binder.machine import hardware
from training.encoders import MINILM, resolve_encoder
from training.experiments.provenance import provenance
from training.pages import DOCS, ROOT, write_between

from . import workloads as work
from .contenders import CONTENDERS
from .contenders.base import Settings
from .plots import draw
from .processes import Failed, Process
from .summary import Results, Row, summarise, told
from .tables import page

RESULTS = Path(__file__).parent / "speed.json"
QUICK = Path(".bench") / "quick" / "speed.json"
WORKLOADS = (*work.CORPORA, work.LONG, "cold", "train")
ALLOCATOR = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_ARENA_MAX", "MALLOC_TOP_PAD_", "LD_PRELOAD")


class Bench:
    """One run: contenders that can be run, and the rows of results.

    Args:
        arguments: of the command line.
        settings: what all contenders share.
        scratch: folder for built models and logs.
    """

    def __init__(self, arguments: argparse.Namespace, settings: Settings, scratch: Path) -> None:
        self.arguments, self.settings, self.scratch = arguments, settings, scratch
        self.order: list[dict[str, Any]] = []
        self.contenders: dict[str, dict[str, Any]] = {
            name: {"title": CONTENDERS[name].title, "note": CONTENDERS[name].note} for name in arguments.contenders
        }

    @property
    def ready(self) -> list[str]:
        return [name for name, facts in self.contenders.items() if "skipped" not in facts]

    def start(self, name: str) -> Process:
        # The answer that takes longest prepares a workload: calibrating, probing, running it.
        limit = max(600.0, 20 * self.arguments.seconds)
        return Process(name, self.settings, self.scratch / name, self.scratch / f"{name}.log", limit)

    def build(self) -> None:
        """Make every contender's model, in processes that are gone before anything is measured."""
        for name in self.ready:
            say(f"building {name}")
            try:
                process = self.start(name)
                try:
                    facts = self.contenders[name]
                    facts["versions"] = process.ask("imports")["versions"]
                    built = process.ask("build", folder=str(process.folder))
                    facts["note"] = "; ".join(filter(None, [facts["note"], built["note"]]))
                finally:
                    process.close()
            except Failed as reason:
                self._skip(name, reason)

    def _skip(self, name: str, reason: Failed) -> None:
        self.contenders[name]["skipped"] = self._told(reason)
        say(f"skipping {name}: {reason}")

    def _told(self, reason: Failed) -> str:
        """The reason without the names of this machine's folders."""
        text = str(reason)
        for path, name in ((sys.executable, "python"), (f"{self.scratch}{os.sep}", ""), (f"{ROOT}{os.sep}", "")):
            text = text.replace(path, name)
        return text

    # ---- throughput and memory ----

    def throughput(self, texts: dict[str, work.Workload]) -> list[Row]:
        """Rounds over all workloads, numbers of types and contenders."""
        processes: dict[str, Process] = {}
        try:
            loaded: dict[str, Any] = {}
            for name in self.ready:
                try:
                    processes[name] = self.start(name)
                    processes[name].ask("imports")
                    loaded[name] = processes[name].ask("load", folder=str(processes[name].folder))["memory"]
                except Failed as reason:
                    self._skip(name, reason)
            rows = [
                {"workload": workload, "types": types, "contender": name, "loaded": loaded[name], "seconds": []}
                for workload in texts
                for types in (None, *self.arguments.types)
                for name in self.ready
                if CONTENDERS[name].types == (types is not None)
            ]
            for row in rows:
                self._try(row, 0, lambda row: self._prepare(row, processes[row["contender"]], texts[row["workload"]]))
            for number in range(1, self.arguments.rounds + 1):
                for row in rows:
                    self._try(row, number, lambda row: self._time(row, processes[row["contender"]]))
            return rows
        finally:
            for process in processes.values():
                process.close()

    def _try(self, row: Row, number: int, action: Callable[[Row], None]) -> None:
        """Do it and note when; a row that fails once is out, with the reason."""
        if "failed" in row:
            return
        try:
            action(row)
        except Failed as reason:
            row.update(failed=self._told(reason), seconds=[])
            say(f"  {row['contender']} failed: {reason}")
        self.order.append({key: row.get(key) for key in ("workload", "types", "contender")} | {"round": number})

    def _prepare(self, row: Row, process: Process, workload: work.Workload) -> None:
        row.update(
            process.ask(
                "prepare",
                cell=_cell(row),
                texts=workload.texts,
                gold=workload.gold,
                types=work.made_up_types(row["types"] or 1),
                sample=workload.sample,
                seconds=self.arguments.seconds,
            )
        )
        row["peak"] = process.ask("weigh", cell=_cell(row))["peak"]
        say(f"  {_cell(row)} {row['contender']}: {row['texts']} texts")

    def _time(self, row: Row, process: Process) -> None:
        answer = process.ask("run", cell=_cell(row))
        row["seconds"].append(answer["seconds"])
        row["entities"] = answer["entities"]
        say(f"  {_cell(row)} {row['contender']}: {row['texts'] / answer['seconds']:.1f} texts/s")

    # ---- cold start ----

    def cold_start(self, text: str) -> list[Row]:
        """Fresh processes: import, load, first result, and all of it with Python's own start. Files are cached."""
        parts = ("import", "load", "first", "total")
        rows: list[Row] = [
            {"workload": "cold", "contender": name, **{part: [] for part in parts}} for name in self.ready
        ]
        for number in range(self.arguments.rounds + 1):
            for row in rows:
                self._try(row, number, lambda row: self._start_cold(row, text))
        for row in rows:
            for part in parts:
                del row[part][:1]  # the round that warms the file cache
        return rows

    def _start_cold(self, row: Row, text: str) -> None:
        process = self.start(row["contender"])
        try:
            row["import"].append(process.ask("imports")["seconds"])
            row["load"].append(process.ask("load", folder=str(process.folder))["seconds"])
            row["first"].append(process.ask("first", text=text, types=work.made_up_types(5))["seconds"])
            row["total"].append(process.since_start())
        finally:
            process.close()

    # ---- training ----

    def training(self, documents: Sequence[dict[str, Any]], types: dict[str, str]) -> list[Row]:
        """Training steps on the same documents, each contender as its own trainer makes batches of them."""
        wanted = (self.arguments.steps + 1) * self.settings.train_batch_size
        chosen = work.spread([document["text"] for document in documents], wanted)
        # The epoch may be shorter than the steps asked for: then it starts again.
        sample = [documents[index] for index in chosen]
        rows: list[Row] = [
            {"workload": "train", "contender": name, "rounds": [], "seconds": []}
            for name in self.ready
            if CONTENDERS[name].trains
        ]
        for number in range(1, self.arguments.rounds + 1):
            for row in rows:
                self._try(row, number, lambda row: self._train(row, sample, types))
        return rows

    def _train(self, row: Row, documents: list[dict[str, Any]], types: dict[str, str]) -> None:
        process = self.start(row["contender"])
        try:
            process.ask("imports")
            row["loaded"] = process.ask("load", folder=str(process.folder))["memory"]
            answer = process.ask("train", documents=documents, types=types, steps=self.arguments.steps)
        finally:
            process.close()
        row["peak"] = answer.pop("peak")
        row["rounds"].append(answer)
        for name, seconds in answer.items():
            row.setdefault(name, []).extend(seconds)
        say(f"  training {row['contender']}: {sum(answer['seconds']) / len(answer['seconds']):.2f} s a step")


def _cell(row: Row) -> str:
    return row["workload"] if row["types"] is None else f"{row['workload']}/{row['types']}"


def say(line: str) -> None:
    print(line, flush=True)


def machine() -> dict[str, Any]:
    """What the figures depend on and no version tells."""
    flags: set[str] = set()
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("flags"):
                flags = set(line.split())
                break
    return {
        "processor": hardware().partition(" of ")[2],
        "cores": os.cpu_count(),
        "instructions": sorted(
            flags & {"avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_int8", "amx_bf16"}
        ),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else None,
        "system": platform.platform(),
        "libc": " ".join(platform.libc_ver()),
        "allocator": {name: os.environ.get(name) for name in ALLOCATOR},
        "load_before": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
    }


def measure(arguments: argparse.Namespace, argv: list[str]) -> Results:
    """Run all that was asked for.

    Raises:
        FileNotFoundError: a corpus or the checkpoint is not there.
        ValueError: nothing can be measured with these arguments.
        RuntimeError: not even one contender could be run.
    """
    if not (arguments.model / "config.json").is_file():
        raise FileNotFoundError(
            f"there is no checkpoint in {arguments.model}. Make one, such as by python -m training.finetune "
            f"training/recipes/ncbi-minilm.yaml --output_dir {arguments.model}, or name another: --model PATH."
        )
    config = json.loads((arguments.model / "config.json").read_text(encoding="utf-8"))
    made_up = {count: work.made_up_types(count) for count in arguments.types}  # before anything takes time
    tests = {
        name: work.read_documents(arguments.corpora, name, "test")
        for name in work.CORPORA
        if {name, work.LONG, "cold"} & set(arguments.workloads)
    }
    texts = {
        name: work.sentences(tests[name], arguments.sentences) for name in work.CORPORA if name in arguments.workloads
    }
    if work.LONG in arguments.workloads:
        texts[work.LONG] = work.long_documents(list(tests.values()), arguments.characters)
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
        bench.build()
        results.update(contenders=bench.contenders, order=bench.order, throughput=[], cold_start=[], training=[])
        if texts:
            results["throughput"] = bench.throughput(texts)
        if "cold" in arguments.workloads:
            say("cold start")
            results["cold_start"] = bench.cold_start(tests["ncbi"][0]["text"])
        if "train" in arguments.workloads:
            folder = arguments.corpora / "ncbi"
            types = json.loads((folder / "types.json").read_text(encoding="utf-8"))
            results["training"] = bench.training(work.read_documents(arguments.corpora, "ncbi", "train"), types)
    if hasattr(os, "getloadavg"):
        results["about"]["machine"]["load_after"] = list(os.getloadavg())
    if not bench.ready:
        raise RuntimeError("no contender could be run: " + "; ".join(
            f"{name}: {facts['skipped']}" for name, facts in bench.contenders.items()))  # fmt: skip
    summarise(results)
    return results


def _nearer(path: str) -> str:
    """A path as seen from the repository, or its last part."""
    if not os.path.isabs(path):
        return path
    return os.path.relpath(path, ROOT) if Path(path).is_relative_to(ROOT) else Path(path).name


def about(arguments: argparse.Namespace, argv: list[str], settings: Settings, types: list[int]) -> dict[str, Any]:
    # Where things are on this machine is nobody's business.
    command = [_nearer(argument) for argument in argv]
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
    parser = argparse.ArgumentParser(
        prog="python -m training.benchmarks.speed",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--model",
        type=Path,
        default=ROOT / "checkpoints" / "ncbi-minilm-42",
        help="default: checkpoints/ncbi-minilm-42",
    )
    add("--encoder", default=MINILM, help="what floor and peers are built on (default: minilm)")
    add("--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS), metavar="NAME",
        help=f"default: all of {', '.join(CONTENDERS)}")  # fmt: skip
    add("--workloads", nargs="+", choices=WORKLOADS, default=list(WORKLOADS), metavar="NAME",
        help=f"default: all of {', '.join(WORKLOADS)}")  # fmt: skip
    add("--types", type=int, nargs="+", help="numbers of types (default: 1 5 20 100 1000)")
    add("--rounds", type=int, help="default: 5")
    add("--threads", type=int, default=min(2, os.cpu_count() or 1), help="default: 2")
    add("--batch-size", type=int, default=32, help="texts or windows read at once (default: 32)")
    add("--train-batch-size", type=int, default=16, help="default: 16, as recipes for two cores")
    add("--steps", type=int, help="training steps a round (default: 8)")
    add("--sentences", type=int, help="of a corpus, at most; 0: all (default: 320)")
    add("--characters", type=int, default=50_000, help="of a long document (default: 50000)")
    add("--seconds", type=float, help="a round of one contender takes at most about this long; slow ones read fewer "
        "texts, and the results say how many (default: 10)")  # fmt: skip
    add("--corpora", type=Path, default=ROOT / "corpora", help="default: corpora")
    add("--out", type=Path, help="default: training/benchmarks/speed.json")
    add("--page", type=Path, default=DOCS / "speed.md", help="page with the tables (default: docs/speed.md); the plots "
        "are written into images/ next to it")  # fmt: skip
    add("--no-tables", action="store_true", help="leave the page as it is")
    add("--tables", action="store_true", help="measure nothing: tables and plots from what --out holds")
    add(
        "--quick",
        action="store_true",
        help="few sentences, two rounds, no tables; into .bench/quick unless --out is given",
    )
    arguments = parser.parse_args(argv)
    small: dict[str, Any] = {"types": [1, 5, 100], "rounds": 2, "steps": 2, "sentences": 32, "seconds": 3.0}
    usual: dict[str, Any] = {"types": [1, 5, 20, 100, 1000], "rounds": 5, "steps": 8, "sentences": 320, "seconds": 10.0}
    for name, value in (small if arguments.quick else usual).items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, value)
    arguments.sentences = arguments.sentences or None
    arguments.no_tables = arguments.no_tables or arguments.quick
    arguments.out = arguments.out or (ROOT / QUICK if arguments.quick else RESULTS)
    for name in ("rounds", "threads", "batch_size", "train_batch_size", "steps", "characters"):
        if getattr(arguments, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1, got {getattr(arguments, name)}")
    if arguments.seconds <= 0:
        parser.error(f"--seconds must be more than 0, got {arguments.seconds}")
    return arguments


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
        drawn = draw(results, images)
        if not arguments.no_tables:
            write_between(arguments.page, "speed", page(results, drawn, images.name))
    except (ValueError, RuntimeError, OSError) as error:
        sys.exit(f"error: {error}")
    for target in results["targets"]:
        say(told(target))
    say(f"written: {arguments.out}" + "".join(f", {path.name}" for path in drawn))
    return results


if __name__ == "__main__":
    main()
