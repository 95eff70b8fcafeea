"""Compare BINDER with other packages: F1 at equal training time, with the same encoder, data and CPU cores.

    python -m training.experiments.peers corpora/ncbi corpora/genia --minutes 60
    python -m training.experiments.peers corpora/ncbi --tune 15             # choose learning rates on dev first

Each contender is trained in its own process and environment, by its own trainer. Its model is evaluated on the test set
after 1/8, 1/4, 1/2 and all of the training time; the evaluations do not count as training time. All predictions are
scored by `modeling_binder.finetuning.metrics`, and BINDER's are compared with those of each other package by a paired
bootstrap.

The results are written to training/experiments/peers.json after each run, and as a table and a plot into
docs/results.md at the end. A finished run is not repeated; an interrupted run starts again. For equal conditions, no
other program may use the CPU cores.
"""

import argparse
import json
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from modeling_binder.finetuning.corpus import load_corpus
from modeling_binder.finetuning.data import DataError, write_json
from modeling_binder.machine import cpu, cpu_multiplies_bf16
from training.benchmarks.speed import without_folders
from training.encoders import resolve_encoder
from training.experiments.tables import key_of, merged
from training.pages import DOCS, ROOT, write_between

from . import CONTENDERS, OURS
from .base import Settings
from .runs import Data, RunError, difference, run, scored, write_data
from .tables import Record, draw, origins, peers_table
from .worker import FINISHED, SETTINGS

CORPORA = ("ncbi", "bc5cdr", "genia", "wikigold")
JSON = Path(__file__).parents[1] / "peers.json"
PAGE = DOCS / "results.md"
PLOT = DOCS / "images" / "peers.svg"
MARKER = "peers"  # marker of the table in the page
KEY = ("corpus", "first", "minutes", "seed", "contender")  # these fields identify a record


def _label(settings: Settings) -> str:
    """Return the name of the folder of a run."""
    return f"{settings.contender}-{settings.split}-{settings.minutes:g}min-{settings.learning_rate:g}-{settings.seed}"


class Comparison:
    """The runs of a command.

    Args:
        arguments: the arguments of the command.
        command: the command, for the records.
        known: the records of earlier commands; new records are added.
    """

    def __init__(self, arguments: argparse.Namespace, command: str, known: Sequence[Record]) -> None:
        self.arguments, self.command, self.known = arguments, command, list(known)
        self.encoder = resolve_encoder(arguments.encoder)
        self.folder: Path = arguments.folder.resolve()

    def data(self) -> list[Data]:
        """Write the corpora in the form that the contenders read."""
        first = self.arguments.first
        found = []
        for place in self.arguments.corpora:
            name = Path(place).resolve().name
            folder = self.folder / (name if first is None else f"{name}-first-{first}")
            found.append(write_data(name, load_corpus(place), folder / "data", first))
        return found

    def settings(self, data: Data, contender: str, seed: int, learning_rate: float) -> Settings:
        return Settings(
            contender=contender,
            data=str(data.folder),
            encoder=self.encoder,
            learning_rate=learning_rate,
            minutes=self.arguments.minutes,
            nested=data.nested and CONTENDERS[contender].nested,
            bf16=self.arguments.bf16,
            threads=self.arguments.threads,
            seed=seed,
        )

    def records(self, datasets: Sequence[Data]) -> Iterator[list[Record]]:
        """Run the contenders on each corpus with each seed, and yield all known records after each run."""
        for seed in self.arguments.seeds:
            for data in datasets:
                for name in CONTENDERS:
                    if name in self.arguments.contenders:
                        print(f"\n=== {data.name}, {CONTENDERS[name].title}, seed {seed} ===", flush=True)
                        record = self.record(data, name, seed)
                        self.known = merged(self.known, [record], KEY)
                        result = [(point["minutes"], point["f1"]) for point in record.get("points", [])]
                        print(record.get("error") or f"minutes and F1: {result}", flush=True)
                        yield self.known

    def record(self, data: Data, contender: str, seed: int) -> Record:
        """Run a contender and return its record; if it fails, the record has the reason as "error"."""
        entry, threads = CONTENDERS[contender], self.arguments.threads
        record: Record = {
            "corpus": data.name,
            "first": self.arguments.first,
            "minutes": self.arguments.minutes,
            "seed": seed,
            "contender": contender,
            "outermost": data.nested and not entry.nested,
            "documents": data.documents,
            "command": self.command,
            "device": cpu(threads),
            "threads": threads,
            "bf16": self.arguments.bf16,
            "source_of_settings": entry.source,
        }
        try:
            record["tuning"] = self.tune(data, contender) if self.arguments.tune else None
            rate = max(record["tuning"], key=lambda tried: tried["dev_f1"]) if record["tuning"] else None
            record["learning_rate"] = rate["learning_rate"] if rate else entry.learning_rates[0]
            settings = self.settings(data, contender, seed, record["learning_rate"])
            output = self.output(data, record)
            facts = run(settings, output)
            record["commit"] = json.loads((output / SETTINGS).read_text(encoding="utf-8"))["commit"]
            record |= {**facts, "points": scored(data, facts, output, "test")}
            ours = self.ours(data, record)
            if ours is not None:
                record["lead"] = difference(data, ours, output)
        except RunError as error:
            record["error"] = str(error)
        return record

    def ours(self, data: Data, record: Record) -> Path | None:
        """Return the output folder of BINDER's finished run that a record is compared with; None if there is none."""
        wanted = {**record, "contender": OURS}
        found = next(
            (each for each in self.known if key_of(each, KEY) == key_of(wanted, KEY) and "error" not in each), None
        )
        if found is None or record["contender"] == OURS:
            return None
        output = self.output(data, found)
        return output if (output / FINISHED).exists() else None

    def output(self, data: Data, record: Record) -> Path:
        """Return the output folder of a run on the test set."""
        settings = self.settings(data, record["contender"], record["seed"], record["learning_rate"])
        return data.folder.parent / _label(settings)

    def tune(self, data: Data, contender: str) -> list[dict[str, Any]]:
        """Train with each learning rate of a contender for a shorter time and return their F1 on the dev set."""
        tried = []
        for rate in CONTENDERS[contender].learning_rates:
            settings = self.settings(data, contender, self.arguments.seeds[0], rate)
            settings = replace(settings, minutes=self.arguments.tune, shares=(1.0,), split="dev")
            output = data.folder.parent / _label(settings)
            points = scored(data, run(settings, output), output, "dev")
            tried.append({"learning_rate": rate, "minutes": settings.minutes, "dev_f1": points[-1]["f1"]})
            print(f"learning rate {rate:g}: F1 {points[-1]['f1']:.2f} on dev", flush=True)
        return tried


def page_content(records: Sequence[Record], plot: Path, page: Path) -> str:
    """Return the table, the plot if there are results to draw, and the commands of the results."""
    content = peers_table(records)
    if draw(records, plot):
        link = Path(os.path.relpath(plot, page.parent)).as_posix()
        content += f"\n\n![F1 on the test set by minutes of training, for each corpus and package]({link})"
        content += f"\n\n{origins(records)}"
    return content


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m training.experiments.peers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    default = [str(ROOT / "corpora" / name) for name in CORPORA]
    named = f"corpora/{{{','.join(CORPORA)}}}"
    tune = "first train this long with each of three learning rates, and choose by F1 on dev"
    precision = "mixed precision in the trainers of transformers; default: if the CPU supports it"
    parser.add_argument(
        "corpora", nargs="*", default=default, metavar="CORPUS", help=f"corpus folders; default: {named}"
    )
    parser.add_argument("--contenders", nargs="+", choices=list(CONTENDERS), default=list(CONTENDERS))
    parser.add_argument("--minutes", type=float, default=60, help="training time of each run; default: 60")
    parser.add_argument("--tune", type=float, metavar="MINUTES", help=tune)
    parser.add_argument("--seeds", type=int, nargs="+", default=[42], help="default: 42")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="default: all cores")
    bf16 = cpu_multiplies_bf16()
    parser.add_argument("--bf16", action=argparse.BooleanOptionalAction, default=bf16, help=precision)
    parser.add_argument("--encoder", default="minilm", help="'minilm', 'mpnet', an id or a folder; default: minilm")
    parser.add_argument("--first", type=int, help="use only the first documents of each split, to try the command")
    parser.add_argument("--folder", type=Path, default=ROOT / "checkpoints" / "peers", help="folder of the runs")
    parser.add_argument("--json", type=Path, default=JSON, help="default: training/experiments/peers.json")
    parser.add_argument("--page", type=Path, default=PAGE, help="page with the table; default: docs/results.md")
    parser.add_argument("--plot", type=Path, default=PLOT, help="default: docs/images/peers.svg")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> list[Record]:
    argv = sys.argv[1:] if argv is None else argv
    arguments = parse(argv)
    records: list[Record] = json.loads(arguments.json.read_text(encoding="utf-8")) if arguments.json.exists() else []
    try:
        command = shlex.join(["python", "-m", "training.experiments.peers", *map(without_folders, argv)])
        comparison = Comparison(arguments, command, records)
        for records in comparison.records(comparison.data()):
            write_json(arguments.json, records)
        write_between(arguments.page, MARKER, page_content(records, arguments.plot, arguments.page))
    except (DataError, ValueError, OSError, ModuleNotFoundError) as error:
        sys.exit(f"error: {error}")
    print(f"\n{peers_table(records)}")
    return records


if __name__ == "__main__":
    main()
