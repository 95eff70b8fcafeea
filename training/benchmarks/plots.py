"""Draw the plots of docs/speed.md as SVG files that are readable on light and dark pages."""

import io
import re
from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from modeling_binder.drawing.colors import PALETTE

from .contenders import CONTENDERS, FLOOR
from .contenders.base import FIXED_TYPES
from .summary import MEGABYTE, Results, row_of
from .workloads import CORPORA, LONG, TITLES

_COLORS = (*(bar for bar, _ in PALETTE), "#a6761d", "#8c6bb1", "#882255", "#332288")
INK, DARK_PAGE_INK = "#24292f", "#e6edf3"  # colours of text and axes on light and on dark pages


def draw(results: Results, folder: Path) -> list[Path]:
    """Write throughput.svg, types.svg and memory.svg into a folder, and return the files.

    A plot without results is not written.

    Raises:
        ValueError: matplotlib is not installed.
    """
    workloads = [name for name in (*CORPORA, LONG) if any(row["workload"] == name for row in results["throughput"])]
    if not workloads:
        return []
    with style("speed"):
        drawn = {
            "throughput": _bars(results, workloads[0], "texts_per_second", f"{TITLES[workloads[0]]}, texts/s, "
                                f"{FIXED_TYPES} types"),
            "types": _lines(results, workloads),
            "memory": _bars(results, workloads[0], "peak", f"peak memory on {TITLES[workloads[0]]}, MB, "
                            f"{FIXED_TYPES} types"),
        }  # fmt: skip
    paths = []
    for name, figure in drawn.items():
        if figure is not None:
            path = folder / f"{name}.svg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(as_svg(figure), encoding="utf-8")
            paths.append(path)
    return paths


def colour(name: str) -> str:
    """Return the colour of a contender, the same in all plots."""
    return _COLORS[list(CONTENDERS).index(name) % len(_COLORS)]


def style(salt: str) -> AbstractContextManager[None]:
    """Return a context in which figures have the style of this project's pages.

    Args:
        salt: text from which the ids in an SVG file are made, so that the same figure gives the same file.

    Raises:
        ValueError: matplotlib is not installed.
    """
    try:
        import matplotlib
    except ModuleNotFoundError:
        raise ValueError('plots need matplotlib: pip install ".[bench]"') from None
    settings = {"svg.fonttype": "none", "svg.hashsalt": salt, "font.family": "sans-serif", "font.size": 10,
                "text.color": INK, "axes.edgecolor": INK, "axes.labelcolor": INK, "xtick.color": INK,
                "ytick.color": INK, "axes.spines.top": False, "axes.spines.right": False}  # fmt: skip
    context: AbstractContextManager[None] = matplotlib.rc_context(settings)
    return context


def new_figure(columns: int, width: float, height: float) -> tuple[Any, list[Any]]:
    """Return a transparent figure (size in inches) with axes side by side."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasSVG(figure)
    figure.patch.set_alpha(0)
    axes = figure.subplots(1, columns, squeeze=False)[0]
    for axis in axes:
        axis.patch.set_alpha(0)
    return figure, list(axes)


def _bars(results: Results, workload: str, figure_of: str, title: str) -> Any:
    """Draw a bar for each contender: throughput with its range over rounds, or peak memory.

    In the memory plot, a thin line shows the memory after loading the model.
    """
    found = [(name, row_of(results, name, workload, FIXED_TYPES)) for name in results["contenders"]]
    rows = [(name, row) for name, row in found if row is not None and row.get(figure_of)]
    if not rows:
        return None
    figure, (axis,) = new_figure(1, 8, 0.6 + 0.34 * len(rows))
    for place, (name, row) in enumerate(reversed(rows)):
        if figure_of == "peak":
            loaded, value = row["loaded"] / MEGABYTE, row["peak"] / MEGABYTE
            end = value
            axis.barh(place, value, color=colour(name), height=0.7)
            axis.barh(place, min(loaded, value), color=INK, height=0.12)
        else:
            value, end = row[figure_of]["median"], row[figure_of]["max"]
            spread = [[value - row[figure_of]["min"]], [row[figure_of]["max"] - value]]
            axis.barh(place, value, color=colour(name), height=0.7, xerr=spread, ecolor=INK)
        axis.annotate(f"{value:,.0f}" if value >= 100 else f"{value:.1f}", (end, place), xytext=(6, 0),
                      textcoords="offset points", va="center")  # fmt: skip
    axis.set_yticks(range(len(rows)), [results["contenders"][name]["title"] for name, _ in reversed(rows)])
    axis.set_title(title + (" (thin line: after loading)" if figure_of == "peak" else ""), loc="left", fontsize=10)
    axis.margins(x=0.12)
    return figure


def _lines(results: Results, workloads: Iterable[str]) -> Any:
    """Draw throughput by number of types, with a panel for each workload. A dashed line means fixed types."""
    from matplotlib.ticker import LogLocator, StrMethodFormatter

    workloads = list(workloads)
    counts = results["about"]["types"]
    figure, axes = new_figure(len(workloads), max(8, 2 + 3.2 * len(workloads)), 4.2)
    handles: dict[str, Any] = {}
    for axis, workload in zip(axes, workloads, strict=True):
        for name, facts in results["contenders"].items():
            rows = [row_of(results, name, workload, count) for count in counts]
            points = [(count, row["characters_per_second"]["median"] / 1000)
                      for count, row in zip(counts, rows, strict=True) if row is not None]  # fmt: skip
            if points:
                level = "--" if not CONTENDERS[name].types else "-"
                mark = "" if level == "--" and len(points) > 1 else "o"
                (line,) = axis.plot(*zip(*points, strict=True), level, marker=mark, color=colour(name),
                                    linewidth=2.5 if name in (FLOOR, "binder") else 1.5)  # fmt: skip
                handles.setdefault(facts["title"], line)
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.set_xticks(counts, [f"{count:,}" for count in counts])
        axis.minorticks_off()
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.set_title(TITLES[workload], loc="left", fontsize=10)
        axis.set_xlabel("types")
    axes[0].set_ylabel("1,000 characters/s")
    if not handles:
        return None
    figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=3, frameon=False)
    return figure


def as_svg(figure: Any) -> str:
    """Return a figure as SVG. Its text and axes become light on dark pages."""
    target = io.StringIO()
    figure.savefig(target, format="svg", metadata={"Date": None}, transparent=True)
    style = (
        "<style>text{fill:" + INK + "}@media (prefers-color-scheme: dark){text{fill:" + DARK_PAGE_INK + "}"
        f'[style*="fill: {INK}"]{{fill:{DARK_PAGE_INK} !important}}'
        f'[style*="stroke: {INK}"]{{stroke:{DARK_PAGE_INK} !important}}}}'
        "</style>"
    )
    svg = re.sub(r"[ \t]+$", "", target.getvalue(), flags=re.MULTILINE)
    return re.sub(r"(<svg\b[^>]*>)", lambda opening: f"{opening.group(1)}\n {style}", svg, count=1)
