"""The table and the plot of the comparison with other packages."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from hub_cards.markdown import table
from modeling_binder.drawing.colors import PALETTE
from training.benchmarks.plots import as_svg, new_figure, style
from training.experiments.tables import NOT_RUN, lead

from . import CONTENDERS, OURS
from .base import SHARES

Record = dict[str, Any]
OUTERMOST = "†"  # marks contenders that were trained on the outermost mentions of a nested corpus


def corpus_title(record: Record) -> str:
    """Return the name of the corpus, with the number of training documents if not all were used."""
    first = record["first"]
    return record["corpus"] + (f" (first {first})" if first else "")


def peers_table(records: Sequence[Record]) -> str:
    """Return the table: a row for each corpus, training time and contender, with means over the seeds."""
    if not records:
        return NOT_RUN
    rows = []
    for corpus, minutes, name in _groups(records):
        found = [record for record in records if _key(record) == (corpus, minutes, name)]
        done = [record for record in found if "error" not in record]
        title = CONTENDERS[name].title + (OUTERMOST if found[0]["outermost"] else "")
        if not done:
            rows.append([corpus, f"{minutes:g}", title, "", *[""] * len(SHARES), f"failed: {found[0]['error']}"])
            continue
        cells = [_f1(done, share) for share in SHARES]
        rates = ", ".join(dict.fromkeys(f"{record['learning_rate']:g}" for record in done))
        rows.append([corpus, f"{minutes:g}", title, rates, *cells, _difference(done)])
    header = ["corpus", "minutes", "package", "learning rate", *(f"F1 at {_fraction(share)}" for share in SHARES)]
    text = table([*header, f"{CONTENDERS[OURS].title}'s lead (95% interval)"], rows, numbers=len(SHARES) + 1)
    if any(record["outermost"] for record in records):
        text += (
            f"\n\n{OUTERMOST} This package cannot learn entities that overlap. It is trained on the outermost entities "
            "and evaluated on all entities."
        )
    return text


def origins(records: Sequence[Record]) -> str:
    """Return for each command of the results: the threads and the processor of a package, the command, the commits."""
    commits: dict[tuple[str, str], dict[str, None]] = {}
    for record in records:
        if "error" not in record:
            commits.setdefault((record["device"], record["command"]), {})[record["commit"]] = None
    return "\n\n".join(
        f"Each package used {device}. Command: `{command}` at commit {', '.join(found)}."
        for (device, command), found in commits.items()
    )


def _groups(records: Iterable[Record]) -> list[tuple[str, float, str]]:
    """Return corpus, training time and contender of each row; contenders are in the order of `CONTENDERS`."""
    corpora = list(dict.fromkeys(corpus_title(record) for record in records))
    names = list(CONTENDERS)
    keys = {_key(record) for record in records}
    return sorted(keys, key=lambda key: (corpora.index(key[0]), key[1], names.index(key[2])))


def _key(record: Record) -> tuple[str, float, str]:
    return corpus_title(record), record["minutes"], record["contender"]


def _points(record: Record, share: float) -> list[float]:
    return [point["f1"] for point in record["points"] if point["share"] == round(share, 3)]


def _f1(records: Sequence[Record], share: float) -> str:
    """Return mean and standard deviation over the seeds of F1 after a share of the training time."""
    values = [f1 for record in records for f1 in _points(record, share)]
    return (f"{mean(values):.2f}" + (f" ± {stdev(values):.2f}" if len(values) > 1 else "")) if values else ""


def _difference(records: Sequence[Record]) -> str:
    """Return BINDER's lead with its interval; with several seeds, one after the other."""
    return "; ".join(lead(record["lead"]) for record in records if record.get("lead"))


def _fraction(share: float) -> str:
    return "the end" if share == 1 else f"1/{round(1 / share)}"


def draw(records: Sequence[Record], path: Path) -> bool:
    """Write the plot of test F1 over minutes of training, with a panel for each corpus and training time.

    Returns:
        Whether there are results to draw.

    Raises:
        ValueError: matplotlib is not installed.
    """
    done = [record for record in records if "error" not in record]
    panels = list(dict.fromkeys(key[:2] for key in _groups(done)))
    if not panels:
        return False
    with style("peers"):
        figure, axes = new_figure(len(panels), max(8.0, 1 + 3.4 * len(panels)), 4.0)
        handles: dict[str, Any] = {}
        for axis, panel in zip(axes, panels, strict=True):
            for index, (name, entry) in enumerate(CONTENDERS.items()):
                found = [record for record in done if _key(record) == (*panel, name)]
                curve = _curve(found)
                if curve:
                    (line,) = axis.plot(*zip(*curve, strict=True), marker="o", color=PALETTE[index][0],
                                        linewidth=2.5 if name == OURS else 1.5)  # fmt: skip
                    handles.setdefault(entry.title, line)
            axis.set_title(panel[0], loc="left", fontsize=10)
            axis.set_xlabel("minutes of training")
            axis.set_ylim(0, 100)
        axes[0].set_ylabel("F1 on the test set, %")
        figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=3, frameon=False)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(as_svg(figure), encoding="utf-8")
    return True


def _curve(records: Sequence[Record]) -> list[tuple[float, float]]:
    """Return the points (minutes, F1) of a contender, as means over the seeds."""
    shares = sorted({point["share"] for record in records for point in record["points"]})
    points = [
        [point for record in records for point in record["points"] if point["share"] == share] for share in shares
    ]
    return [(mean(point["minutes"] for point in group), mean(point["f1"] for point in group)) for group in points]
