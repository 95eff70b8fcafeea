"""Run the contenders of the speed benchmark in rounds, each in a separate process, and collect their results."""

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from training.pages import ROOT

from . import workloads
from .contenders import CONTENDERS
from .contenders.base import FIXED_TYPES, Settings
from .processes import ContenderError, Process
from .summary import Row

COLD_PARTS = ("import", "load", "first", "total")
NUM_NEW_TYPES = 1000
# Runs that end within this time are a warm-up. The first batches after a pause take longer, and threads of the previous
# contender may still keep a core busy for 0.1 seconds (onnxruntime waits actively).
WARM_UP_SECONDS = 1.0


def log(line: str) -> None:
    """Print a line of progress immediately."""
    print(line, flush=True)


class Bench:
    """Runs the benchmark.

    Args:
        arguments: arguments of the command line.
        settings: settings that all contenders share.
        scratch: folder for built models and logs.

    Attributes:
        contenders: name -> facts about a contender. The key "skipped" has the reason why it could not be built or
            loaded.
        order: the measurements in their order of time.
    """

    def __init__(self, arguments: argparse.Namespace, settings: Settings, scratch: Path) -> None:
        self.arguments, self.settings, self.scratch = arguments, settings, scratch
        self.order: list[dict[str, Any]] = []
        self.contenders: dict[str, dict[str, Any]] = {
            name: {"title": CONTENDERS[name].title} for name in arguments.contenders
        }

    @property
    def ready(self) -> list[str]:
        """The names of the contenders that are not skipped."""
        return [name for name, facts in self.contenders.items() if "skipped" not in facts]

    def start(self, name: str) -> Process:
        """Start the process of a contender."""
        # The slowest command is "prepare". It calibrates the contender. It also determines how many texts the contender
        # can process in the given time.
        limit = max(600.0, 20 * self.arguments.seconds)
        return Process(name, self.settings, self.scratch / name, self.scratch / f"{name}.log", limit)

    def build(self) -> None:
        """Build the models of all contenders. The processes end before the first measurement."""
        for name in self.ready:
            log(f"building {name}")
            try:
                process = self.start(name)
                try:
                    facts = self.contenders[name]
                    facts["versions"] = process.ask("imports")["versions"]
                    facts["note"] = process.ask("build", folder=str(process.folder))["note"] or ""
                finally:
                    process.close()
            except ContenderError as reason:
                self._skip(name, reason)

    def _skip(self, name: str, reason: ContenderError) -> None:
        self.contenders[name]["skipped"] = self._without_folders(reason)
        log(f"skipping {name}: {reason}")

    def _without_folders(self, reason: ContenderError) -> str:
        """Return the message of an error without folders of this machine."""
        text = str(reason)
        for path, name in ((sys.executable, "python"), (f"{self.scratch}{os.sep}", ""), (f"{ROOT}{os.sep}", "")):
            text = text.replace(path, name)
        return text

    def _try(self, row: Row, number: int, action: Callable[[Row], None]) -> None:
        """Run an action for a row of the results, and record it in `order`. Skip rows that failed before."""
        if "failed" in row:
            return
        try:
            action(row)
        except ContenderError as reason:
            row.update(failed=self._without_folders(reason), seconds=[])
            log(f"  {row['contender']} failed: {reason}")
        self.order.append({key: row.get(key) for key in ("workload", "types", "contender")} | {"round": number})

    @contextmanager
    def _loaded(self) -> Iterator[tuple[dict[str, Process], dict[str, Any]]]:
        """Load the models of all contenders. Yield the processes of the contenders, and their memory in bytes."""
        processes: dict[str, Process] = {}
        memory: dict[str, Any] = {}
        try:
            for name in self.ready:
                try:
                    processes[name] = self.start(name)
                    processes[name].ask("imports")
                    memory[name] = processes[name].ask("load", folder=str(processes[name].folder))["memory"]
                except ContenderError as reason:
                    self._skip(name, reason)
            yield processes, memory
        finally:
            for process in processes.values():
                process.close()

    def _rounds(self, rows: Sequence[Row], prepare: Callable[[Row], None], action: Callable[[Row], None]) -> None:
        """Run `prepare` once for each row, and then `action` in each round for each row."""
        for number in range(self.arguments.rounds + 1):
            for row in rows:
                self._try(row, number, action if number else prepare)

    # ---- throughput and memory ----

    def throughput(self, texts: dict[str, workloads.Workload]) -> list[Row]:
        """Measure throughput and memory. In each round, every contender runs every workload and number of types."""
        with self._loaded() as (processes, memory):
            rows = [
                {"workload": workload, "types": types, "contender": name, "loaded": memory[name], "seconds": []}
                for workload in texts
                for types in (None, *self.arguments.types)
                for name in self.ready
                if CONTENDERS[name].types == (types is not None)
                and (types or 0) <= (CONTENDERS[name].max_types or sys.maxsize)
            ]
            self._rounds(
                rows,
                lambda row: self._prepare(row, processes[row["contender"]], texts[row["workload"]]),
                lambda row: self._time(row, processes[row["contender"]]),
            )
        return rows

    def _prepare(self, row: Row, process: Process, workload: workloads.Workload) -> None:
        """Prepare a job, and measure its memory. This is also a warm-up."""
        row.update(
            process.ask(
                "prepare",
                cell=_cell(row),
                texts=workload.texts,
                gold=workload.gold,
                types=workloads.made_up_types(row["types"] or 1),
                sample=workload.sample,
                seconds=self.arguments.seconds,
            )
        )
        row["peak"] = process.ask("measure_memory", cell=_cell(row))["peak"]
        log(f"  {_cell(row)} {row['contender']}: {row['texts']} texts")

    def _time(self, row: Row, process: Process) -> None:
        elapsed = 0.0
        while elapsed < WARM_UP_SECONDS:
            answer = process.ask("run", cell=_cell(row))
            elapsed += answer["seconds"]
        row["seconds"].append(answer["seconds"])
        row["entities"] = answer["entities"]
        log(f"  {_cell(row)} {row['contender']}: {row['texts'] / answer['seconds']:.1f} texts/s")

    # ---- latency, and new types ----

    def latency(self, workload: workloads.Workload) -> list[Row]:
        """Measure the time of each text if the contenders get one text at a time."""
        with self._loaded() as (processes, _):
            rows: list[Row] = [
                {
                    "workload": "latency",
                    "types": FIXED_TYPES if CONTENDERS[name].types else None,
                    "contender": name,
                    "rounds": [],
                }
                for name in self.ready
            ]
            self._rounds(
                rows,
                lambda row: self._prepare(row, processes[row["contender"]], workload),
                lambda row: self._time_each(row, processes[row["contender"]]),
            )
        return rows

    def _time_each(self, row: Row, process: Process) -> None:
        seconds = process.ask("run_each", cell=_cell(row))["seconds"]
        row["rounds"].append(seconds)
        log(f"  {_cell(row)} {row['contender']}: {1000 * sum(seconds) / len(seconds):.1f} ms per text")

    def new_types(self) -> list[Row]:
        """Measure the encoding of types that were not encoded before."""
        with self._loaded() as (processes, _):
            rows: list[Row] = [
                {"workload": "new-types", "types": NUM_NEW_TYPES, "contender": name, "seconds": []}
                for name in self.ready
                if CONTENDERS[name].encodes
            ]

            def encode(row: Row) -> None:
                self._encode(row, processes[row["contender"]])

            self._rounds(rows, encode, encode)
        for row in rows:
            del row["seconds"][:1]  # the warm-up
        return rows

    def _encode(self, row: Row, process: Process) -> None:
        # The descriptions differ from those of earlier rounds, because a contender may keep the vectors of types.
        types = {
            label: f"{description} Round {len(row['seconds'])}."
            for label, description in workloads.made_up_types(row["types"]).items()
        }
        row["seconds"].append(process.ask("encode_types", types=types)["seconds"])
        log(f"  {_cell(row)} {row['contender']}: {row['types'] / row['seconds'][-1]:.0f} types/s")

    # ---- cold start ----

    def cold_start(self, text: str) -> list[Row]:
        """Measure the cold start in new processes: import, load, first result, and the total with the start of Python.

        The figures of an additional first round are dropped, because it loads the files into the cache of the system.
        """
        rows: list[Row] = [
            {"workload": "cold", "contender": name, **{part: [] for part in COLD_PARTS}} for name in self.ready
        ]
        for number in range(self.arguments.rounds + 1):
            for row in rows:
                self._try(row, number, lambda row: self._start_cold(row, text))
        for row in rows:
            for part in COLD_PARTS:
                del row[part][:1]
        return rows

    def _start_cold(self, row: Row, text: str) -> None:
        process = self.start(row["contender"])
        try:
            row["import"].append(process.ask("imports")["seconds"])
            row["load"].append(process.ask("load", folder=str(process.folder))["seconds"])
            row["first"].append(process.ask("first", text=text, types=workloads.made_up_types(5))["seconds"])
            row["total"].append(process.since_start())
        finally:
            process.close()

    # ---- training ----

    def training(self, documents: Sequence[dict[str, Any]], types: dict[str, str]) -> list[Row]:
        """Measure training steps on the same documents. Each contender uses the batches of its own trainer."""
        count = (self.arguments.steps + 1) * self.settings.train_batch_size
        chosen = workloads.spread([document["text"] for document in documents], count)
        # If there are too few documents for the steps, the trainer starts another epoch.
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
        log(f"  training {row['contender']}: {sum(answer['seconds']) / len(answer['seconds']):.2f} s per step")


def _cell(row: Row) -> str:
    return row["workload"] if row["types"] is None else f"{row['workload']}/{row['types']}"
