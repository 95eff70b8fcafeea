"""Calibrate scores with a temperature, and measure how well scores agree with the share of correct spans.

The score of a span is sigmoid(margin / temperature). The margin is the span score of the model minus the dynamic
threshold of the type. With every temperature, a positive margin gives a score above 0.5. So calibration does not move a
span across the dynamic threshold.

Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, describe temperature scaling and the expected
calibration error.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from .files import replacement_of

NUM_BINS = 15
# If the margins separate gold mentions perfectly, or not at all, the optimum is not finite. So there are limits.
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.1, 10.0
_STEPS = 60
_PLOT_SUFFIXES = (".png", ".svg", ".pdf")


@dataclass(frozen=True)
class Bin:
    """A group of spans whose scores lie in the same interval.

    Args:
        spans: number of spans.
        score: mean of their scores.
        correct: share of the spans that are gold mentions.
    """

    spans: int
    score: float
    correct: float


@dataclass(frozen=True)
class CalibrationReport:
    """How well the scores agree with the shares of correct spans, before and after the calibration.

    Args:
        spans: number of spans.
        before, after: the bins of `reliability` for the scores before and after the calibration.
        helped: whether the calibration lowers the expected calibration error. If not, the model keeps its old
            temperatures, and `after` contains the bins for the rejected temperatures.
    """

    spans: int
    before: tuple[Bin, ...]
    after: tuple[Bin, ...]
    helped: bool = True

    @property
    def error_before(self) -> float:
        return expected_calibration_error(self.before)

    @property
    def error_after(self) -> float:
        return expected_calibration_error(self.after)


def fit_temperature(margins: np.ndarray, is_gold: np.ndarray) -> float:
    """Return the temperature that minimises the cross-entropy between the scores and the gold mentions.

    This loss is convex in 1 / temperature. Its derivative is the sum of margin * (score - y) over the spans. Here y is
    1 for gold mentions and 0 for other spans. Bisection finds the temperature for which the derivative is 0. The result
    has four significant digits and lies between `MIN_TEMPERATURE` and `MAX_TEMPERATURE`.

    Args:
        margins: [N], margin of each span.
        is_gold: [N], whether each span is a gold mention.
    """
    margins, truth = np.asarray(margins, dtype=np.float64), np.asarray(is_gold, dtype=np.float64)
    low, high = np.log(MIN_TEMPERATURE), np.log(MAX_TEMPERATURE)
    for _ in range(_STEPS):
        middle = (low + high) / 2
        slope = np.sum(margins * (_sigmoid(margins / np.exp(middle)) - truth))
        if slope > 0:  # 1 / temperature is too large
            low = middle
        else:
            high = middle
    return float(f"{np.exp((low + high) / 2):.4g}")


def reliability(scores: np.ndarray, is_gold: np.ndarray) -> tuple[Bin, ...]:
    """Group spans by their scores into `NUM_BINS` bins of equal width.

    Args:
        scores: [N], score of each span, from 0 to 1.
        is_gold: [N], whether each span is a gold mention.
    """
    index = np.minimum((np.asarray(scores) * NUM_BINS).astype(int), NUM_BINS - 1)
    counts = np.bincount(index, minlength=NUM_BINS)
    totals = np.bincount(index, weights=scores, minlength=NUM_BINS) / np.maximum(counts, 1)
    shares = np.bincount(index, weights=is_gold, minlength=NUM_BINS) / np.maximum(counts, 1)
    return tuple(
        Bin(int(count), float(score), float(share)) for count, score, share in zip(counts, totals, shares, strict=True)
    )


def expected_calibration_error(bins: Sequence[Bin]) -> float:
    """Return the mean of |mean score - share of correct spans| over the bins, weighted by their numbers of spans."""
    total = sum(found.spans for found in bins)
    return sum(found.spans * abs(found.score - found.correct) for found in bins) / max(total, 1)


@dataclass(frozen=True)
class Temperatures:
    """The temperatures of a model.

    Args:
        default: the shared temperature.
        own: type id -> temperature, for the types with a separate temperature.
    """

    default: float
    own: dict[int, float]

    def of(self, type_ids: np.ndarray) -> np.ndarray:
        """Return the temperature of each span, [N]."""
        return np.array([self.own.get(key, self.default) for key in type_ids.tolist()], dtype=np.float64)


def calibrate(
    margins: np.ndarray,
    is_gold: np.ndarray,
    type_ids: np.ndarray,
    former: Temperatures,
    separate: Iterable[int],
    min_spans: int,
) -> tuple[Temperatures, CalibrationReport]:
    """Fit temperatures, and return temperatures that lower the expected calibration error (ECE).

    Fitting minimises the cross-entropy. So it can raise the ECE, especially if there are few spans. A type gets a
    separate temperature only if this lowers the ECE of its spans. The function tries these choices in order, and
    returns the first that lowers the ECE of all spans:

    1. a new shared temperature and separate temperatures;
    2. only the new shared temperature;
    3. the former temperatures and separate temperatures.

    If no choice lowers the ECE, it returns the former temperatures.

    Args:
        margins, is_gold, type_ids: [N], margin of each span, whether it is a gold mention, and its type.
        former: the current temperatures of the model.
        separate: ids of the types that may have a separate temperature.
        min_spans: minimum number of gold mentions, and minimum number of other spans, for a separate temperature.
    """
    fitted = {}
    for key in separate:
        chosen = type_ids == key
        right = int(is_gold[chosen].sum())
        if min(right, int(chosen.sum()) - right) >= min_spans:
            fitted[key] = fit_temperature(margins[chosen], is_gold[chosen])

    def bins(temperatures: Temperatures, chosen: Any = slice(None)) -> tuple[Bin, ...]:
        scores = _sigmoid(margins[chosen] / temperatures.of(type_ids[chosen]))
        return reliability(scores, is_gold[chosen])

    def with_separate(base: Temperatures) -> Temperatures:
        better = {}
        for key, value in fitted.items():
            chosen, own = type_ids == key, Temperatures(value, {})
            if expected_calibration_error(bins(own, chosen)) < expected_calibration_error(bins(base, chosen)):
                better[key] = value
        return Temperatures(base.default, {**base.own, **better})

    shared = Temperatures(fit_temperature(margins, is_gold), {})
    before = bins(former)
    choices = [with_separate(shared), shared, with_separate(former)]
    reports = [CalibrationReport(len(margins), before, bins(choice)) for choice in choices]
    for choice, report in zip(choices, reports, strict=True):
        if report.error_after < report.error_before:
            return choice, report
    return former, replace(reports[0], helped=False)


def check_plot(path: str | Path) -> None:
    """Check that `draw` can write to a file.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: the folder of the file does not exist, or the suffix of the file is unknown.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError(f"{error}; the plot needs matplotlib: pip install 'binder-ner[plot]'.") from error
    if Path(path).suffix.lower() not in _PLOT_SUFFIXES:
        raise ValueError(f"{path}: a plot has one of the suffixes {', '.join(_PLOT_SUFFIXES)}.")
    if not Path(path).absolute().parent.is_dir():
        raise ValueError(f"{path}: the folder of the plot does not exist.")


def draw(report: CalibrationReport, path: str | Path) -> None:
    """Draw a reliability diagram and write it to a file.

    Raises:
        ImportError, ValueError: see `check_plot`.
    """
    check_plot(path)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.6), layout="constrained")
    panels: Any = figure.subplots(1, 2, sharey=True)
    for panel, name, bins, error in (
        (panels[0], "before calibration", report.before, report.error_before),
        (
            panels[1],
            "after calibration" if report.helped else "after calibration (not saved)",
            report.after,
            report.error_after,
        ),
    ):
        filled = [(place, found) for place, found in enumerate(bins) if found.spans]
        centres = [(place + 0.5) / NUM_BINS for place, _ in filled]
        most = max((found.spans for _, found in filled), default=1)
        panel.bar(
            centres,
            [found.correct for _, found in filled],
            width=1 / NUM_BINS,
            color="#4c78a8",
            edgecolor="white",
            label="share of correct spans",
        )
        panel.scatter(
            [found.score for _, found in filled],
            [found.correct for _, found in filled],
            s=[12 + 120 * (found.spans / most) ** 0.5 for _, found in filled],
            color="#e45756",
            edgecolors="white",
            zorder=3,
            label="mean score (area: number of spans)",
        )
        panel.plot([0, 1], [0, 1], color="#555555", linestyle="--", linewidth=1, label="perfect calibration")
        panel.axvline(0.5, color="#999999", linewidth=0.8)
        panel.set(title=f"{name}: ECE {100 * error:.2f} %", xlabel="score", xlim=(0, 1), ylim=(0, 1.02))
    panels[0].set_ylabel("share of spans that are gold mentions")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    figure.suptitle(f"{report.spans:,} candidate spans of the development data", fontsize=10)
    with replacement_of(path) as temporary:
        figure.savefig(temporary, dpi=150, format=Path(path).suffix.lower()[1:])


def _sigmoid(values: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(0.5 * values))
