"""Draw the pictures of docs/how-it-works.md with the scores of demo/model: python -m docs.images.make

Run it in a clone after `pip install ".[bench]"`. It writes scores.svg, thresholds.svg and windows.svg into this folder.
"""

from pathlib import Path
from typing import Any

import matplotlib
import torch
from transformers import pipeline

import modeling_binder

matplotlib.use("svg")
import matplotlib.pyplot as plt

FOLDER = Path(__file__).resolve().parent
TEXT = "Nurse Amina Okafor left the University of Nairobi for Geneva."
TYPES = ["person", "university", "city"]
LONG_TEXT = (
    "The ferry Aurora left Bergen on Monday with a crew of twelve. In the evening it met the trawler Nordlys off the "
    "island of Stord. The captain, Marit Solberg, offered help, and both ships reached the harbour of Haugesund."
)
INK = "#24292f"
STYLE = {
    "svg.hashsalt": "pictures",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
}


def draw_scores(ner: Any) -> Any:
    """Draw the margins of all spans for each type. A row is the first word of a span, and a column is the last word."""
    spans, margins = ner.margins(TEXT, TYPES)
    words = [TEXT[start:end] for start, end in spans]
    figure, axes = plt.subplots(1, len(TYPES), figsize=(9.6, 3.7), layout="constrained", sharey=True)
    limit = max(float(margin.nan_to_num().max()) for margin in margins.values())
    for axis, (label, margin) in zip(axes, margins.items(), strict=True):
        image = axis.imshow(margin, cmap="RdBu_r", vmin=-limit, vmax=limit)
        axis.set_title(label)
        axis.set_xticks(range(len(words)), words, rotation=90)
        axis.set_xlabel("last word")
        for row, column in (margin > 0).nonzero().tolist():
            axis.text(column, row, f"{margin[row, column]:.0f}", ha="center", va="center", color="white", fontsize=8)
    axes[0].set_yticks(range(len(words)), words)
    axes[0].set_ylabel("first word")
    figure.colorbar(image, ax=axes, label="margin over the threshold", shrink=0.75, extend="min")
    return figure


def draw_thresholds(ner: Any) -> Any:
    """Draw the span scores of all words of two texts, with the dynamic threshold of each text and type."""
    texts = {"with entities": TEXT, "without entities": "Nobody was there, so they left again after an hour."}
    figure, axes = plt.subplots(1, len(texts), figsize=(9.6, 2.8), layout="constrained", sharex=True, sharey=True)
    for axis, (title, text) in zip(axes, texts.items(), strict=True):
        spans, margins = ner.margins(text, TYPES)
        thresholds = threshold_scores(ner, text)
        for row, label in enumerate(TYPES):
            margin, threshold = margins[label], thresholds[row]
            scored = margin[~margin.isnan()]
            found = scored > 0
            axis.plot(scored[~found] + threshold, [row] * int((~found).sum()), "|", color="#9aa4af", markersize=10)
            axis.plot(scored[found] + threshold, [row] * int(found.sum()), "o", color="#b2182b", markersize=5)
            axis.plot([threshold, threshold], [row - 0.35, row + 0.35], color="#2166ac", linewidth=2)
            for number, (first, last) in enumerate((margin > 0).nonzero().tolist()):
                word = text[spans[first][0] : spans[last][1]]
                place = {"xytext": (0, -15 if number % 2 else 7), "textcoords": "offset points", "ha": "center"}
                axis.annotate(word, (float(margin[first, last]) + threshold, row), fontsize=8, **place)
        axis.set_title(f"a text {title}")
        axis.set_xlabel("span score (blue: dynamic threshold)")
    axes[0].set_yticks(range(len(TYPES)), TYPES)
    axes[0].set_ylim(len(TYPES) - 0.5, -0.6)
    return figure


def threshold_scores(ner: Any, text: str) -> list[float]:
    """Return the dynamic threshold of each type, which is the score of the span (0, 0)."""
    inputs = ner.tokenizer(text, return_tensors="pt")
    with torch.inference_mode():
        hidden = ner.model.encode_text(inputs["input_ids"], inputs["attention_mask"])
        scores = ner.model.score(hidden, ner.type_vectors(TYPES), ner.model.span_parts(hidden))[2][0]
    return scores[:, 0, 0].tolist()


def draw_windows(ner: Any) -> Any:
    """Draw the windows of a text as bars. A bar covers the characters of its window."""
    windower = modeling_binder.BinderWindower(ner.tokenizer, max_length=24, stride=8)
    windows = list(windower.read(LONG_TEXT))
    figure, axis = plt.subplots(figsize=(9.6, 1.9), layout="constrained")
    for row, window in enumerate(windows):
        begin = min(start for start in window.starts if start >= 0)
        end = max(window.ends)
        axis.barh(row, end - begin, left=begin, height=0.62, color="#c6dbef", edgecolor="#2166ac")
        axis.text((begin + end) / 2, row, f"window {row + 1}", ha="center", va="center")
    for entity in ner(LONG_TEXT, entity_types=["ship", "person", "city", "island"]):
        axis.axvspan(entity["start"], entity["end"], color="#f4a582", alpha=0.6, linewidth=0)
        axis.text((entity["start"] + entity["end"]) / 2, -0.75, entity["word"], ha="center", fontsize=8)
    axis.set_ylim(len(windows) - 0.4, -1.2)
    axis.set_yticks([])
    axis.set_xlim(0, len(LONG_TEXT))
    axis.set_xlabel("character of the text")
    return figure


def main() -> None:
    """Write the three pictures."""
    ner = pipeline("binder-ner", model=str(FOLDER.parents[1] / "demo" / "model"))
    with matplotlib.rc_context(STYLE):
        for name, draw in {"scores": draw_scores, "thresholds": draw_thresholds, "windows": draw_windows}.items():
            path = FOLDER / f"{name}.svg"
            draw(ner).savefig(path, metadata={"Date": None}, facecolor="white", bbox_inches="tight", pad_inches=0.15)
            print(path.name, path.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
