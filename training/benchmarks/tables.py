"""Make the tables of docs/speed.md from the results of the speed benchmark."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hub_cards.markdown import escape, table

from .contenders import CONTENDERS, FLOOR
from .contenders.base import FIXED_TYPES
from .summary import MEGABYTE, Results, Row, row_of
from .workloads import CORPORA, LONG, TITLES

NOT_MEASURED = "Not measured yet."
TRUNCATES = "†"


def page(results: Results | None, plots: Sequence[Path] = (), folder: str = ".") -> str:
    """Return the generated part of the page.

    Args:
        results: results of `training.benchmarks.speed`. None if the benchmark was not run.
        plots: files of the plots.
        folder: folder of the plots, relative to the page.
    """
    if results is None:
        return NOT_MEASURED
    parts = [_origin(results), *(f"![{_alt(plot)}]({folder}/{plot.name})" for plot in plots)]
    parts += [
        contenders_table(results),
        *_truncation_note(results),
        types_table(results),
        latency_table(results),
        other_table(results),
        _notes(results),
    ]
    return "\n\n".join(part for part in parts if part)


def _alt(plot: Path) -> str:
    return {"types": "Throughput by number of types", "throughput": "Throughput", "memory": "Peak memory"}[plot.stem]


def _origin(results: Results) -> str:
    about, machine = results["about"], results["about"]["machine"]
    settings = [f"{name}={value}" for name, value in machine["allocator"].items() if value]
    threads = f"{about['threads']} thread" + ("s" if about["threads"] > 1 else "")
    allocator = escape(", ".join(settings) or "default settings")
    instructions = f" ({', '.join(machine['instructions'])})" if machine["instructions"] else ""
    quick = "**A quick run, not a result.** " if about["quick"] else ""
    commands: dict[str, list[str]] = {}
    for workload, origin in about.get("kept", {}).items():
        commands.setdefault(_command(origin), []).append(workload)
    kept = "".join(f" Earlier results of {', '.join(names)}: {command}." for command, names in commands.items())
    return (
        f"{quick}{threads} of {escape(machine['processor'] + instructions)}, batch size {about['batch_size']}, "
        f"medians of {about['rounds']} interleaved rounds. Allocator: {allocator}. "
        f"Command: {_command(about)}.{kept}"
    )


def _command(origin: dict[str, Any]) -> str:
    return f"`{origin['command']}` at commit {origin['commit']}, {origin['date']}"


def _shown(row: Row | None, figure: str, divisor: float = 1.0) -> str:
    if row is None:
        return ""
    value = row[figure]["median"] / divisor
    return f"{value:,.0f}{TRUNCATES if row['truncates'] else ''}" if value >= 100 else (
        f"{value:.1f}{TRUNCATES if row['truncates'] else ''}")  # fmt: skip


def _reason(facts: dict[str, Any]) -> str:
    return "not run" if "skipped" in facts else ""


def contenders_table(results: Results) -> str:
    """Return the table of all contenders with five types: throughput, ratio to the bare encoder, and memory."""
    workloads = {row["workload"] for row in results["throughput"]}
    if not workloads:
        return ""
    shown = [name for name in (*CORPORA, LONG) if name in workloads]
    header = [f"{FIXED_TYPES} types", *(f"{TITLES[name]}, " + ("1,000 characters/s" if name == LONG else "sentences/s")
                                        for name in shown)]  # fmt: skip
    header += ["relative to bare encoder", "peak memory, MB", "increase after loading, MB"]
    rows = []
    for name, facts in results["contenders"].items():
        found = {workload: row_of(results, name, workload, FIXED_TYPES) for workload in shown}
        cells = [
            _shown(found[workload], *(("characters_per_second", 1000) if workload == LONG else ("texts_per_second",)))
            for workload in shown
        ]
        first = found[shown[0]]
        ratio = "" if first is None or "ratio_to_floor" not in first else f"{first['ratio_to_floor']:.2f}"
        memory = ["", ""]
        if first is not None and first.get("peak") is not None:
            memory = [f"{first['peak'] / MEGABYTE:,.0f}", f"{first['peak_above_loaded'] / MEGABYTE:,.0f}"]
        cells[0] = cells[0] or _reason(facts)
        rows.append([facts["title"], *cells, ratio, *memory])
    return table(header, rows, numbers=len(header) - 1) + (
        f"\n\nThe last three columns are for {TITLES[shown[0]]}." if len(shown) > 1 else ""
    )


def _truncation_note(results: Results) -> list[str]:
    shares: dict[str, float] = {}
    for row in results["throughput"]:
        if row.get("truncates"):
            share = row["characters_read"] / row["characters"]
            shares[row["contender"]] = min(share, shares.get(row["contender"], 1.0))
    if not shares:
        return []
    read = ", ".join(f"{share:.0%} ({CONTENDERS[name].title})" for name, share in shares.items())
    return [
        f"{TRUNCATES} truncates long texts without a warning. Share of a text that is read: {read}. The speed "
        "counts only the characters that were read."
    ]


def types_table(results: Results) -> str:
    """Return the table of sentences per second by number of types for the first corpus."""
    measured = {row["workload"] for row in results["throughput"]}
    corpus = next((name for name in CORPORA if name in measured), None)
    if corpus is None:
        return ""
    counts = results["about"]["types"]
    rows = []
    for name, facts in results["contenders"].items():
        if CONTENDERS[name].types:
            found = [row_of(results, name, corpus, count) for count in counts]
            if any(found):
                rows.append([facts["title"], *(_shown(row, "texts_per_second") for row in found)])
    header = [f"{TITLES[corpus]}, sentences/s by number of types", *(f"{count:,}" for count in counts)]
    return table(header, rows, numbers=len(counts)) if rows else ""


def latency_table(results: Results) -> str:
    """Return the table of the times of single sentences, and of the encoding of new types."""
    latency = {row["contender"]: row for row in results.get("latency", ())}
    encoding = {row["contender"]: row for row in results.get("new_types", ())}
    rows = []
    for name, facts in results["contenders"].items():
        single, new = latency.get(name, {}), encoding.get(name, {})
        cells = [
            f"{single[figure]['median']:.1f}" if figure in single else ""
            for figure in ("p50_milliseconds", "p95_milliseconds")
        ]
        cells.append(f"{new['types_per_second']['median']:,.0f}" if "types_per_second" in new else "")
        if any(cells):
            rows.append([facts["title"], *cells])
    header = ["one sentence at a time", "median, ms", "95th percentile, ms", "encoding of new types, types/s"]
    return table(header, rows, numbers=len(header) - 1) if rows else ""


def other_table(results: Results) -> str:
    """Return the table of cold starts and training steps."""
    cold = {row["contender"]: row for row in results["cold_start"]}
    training = {row["contender"]: row for row in results["training"]}
    if not cold and not training:
        return ""
    rows = []
    for name, facts in results["contenders"].items():
        begun, trained = cold.get(name, {}), training.get(name, {})
        cells = [f"{begun[f'{part}_seconds']['median']:.2f}" if f"{part}_seconds" in begun else ""
                 for part in ("import", "load", "first", "total")]  # fmt: skip
        step = f"{trained['step']['median']:.2f}" if "step" in trained else ""
        ratios = [
            f"{trained[ratio]:.2f}" if ratio in trained and name != FLOOR else ""
            for ratio in ("ratio_to_forward_and_backward", "ratio_to_step")
        ]
        peak = f"{trained['peak'] / MEGABYTE:,.0f}" if trained.get("peak") is not None and step else ""
        if any(cells) or step:
            rows.append([facts["title"], *cells, step, *ratios, peak])
    header = ["seconds", "import", "load", "first result", "total with start of Python",
              f"training step with {results['about']['train_batch_size']} texts",
              "relative to passes of the text encoder",
              "relative to the bare encoders' step", "peak memory in training, MB"]  # fmt: skip
    return table(header, rows, numbers=len(header) - 1)


def _notes(results: Results) -> str:
    lines = []
    for name, facts in results["contenders"].items():
        versions = ", ".join(f"{library} {version}" for library, version in facts.get("versions", {}).items())
        note = "; ".join(filter(None, [CONTENDERS[name].note, facts.get("note")]))
        text = "; ".join(filter(None, [note, versions]))
        if "skipped" in facts:
            text = "not run: " + " ".join(facts["skipped"].split())[:200]
        elif CONTENDERS[name].ours and name != "binder":  # all variants of binder-ner have the same versions
            text = note
        if not text:
            continue
        lines.append(f"- {escape(facts['title'])}: {escape(text)}")
    return "\n".join(lines)
