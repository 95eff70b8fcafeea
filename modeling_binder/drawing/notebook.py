"""Draw entities in notebooks, in terminals and on web pages."""

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from .html import CSS, draw_html
from .lanes import Entities, all_labels

Results: TypeAlias = Entities | Sequence[Entities]
# Limits of a drawing in a notebook. They keep the notebook file small, because the file stores each drawing.
MAX_TEXTS = 50
MAX_CHARACTERS = 20_000


def draw(results: Results, texts: str | Sequence[str] | None = None, labels: Sequence[str] | None = None) -> "Drawing":
    """Draw the entities of a text, or of each of several texts, as labelled bars under the text.

    A notebook shows the drawing if it is the last expression of a cell. `print(draw(...))` draws in a terminal, and
    `draw(...).save("found.html")` writes a web page.

    Example:
        >>> draw(ner(text))  # doctest: +SKIP
        >>> draw(ner(texts))  # doctest: +SKIP
        >>> draw([entity for entity in ner(text) if entity["score"] > 0.9], text)  # doctest: +SKIP

    Args:
        results: the result of one text, or a list of results. Entities of a corpus (with `label`, without `score`) are
            accepted too.
        texts: the text or the texts. Results of the pipeline contain their text, so `texts` has a default for them.
            Selections and copies of results do not contain the text.
        labels: names of all entity types, whose order determines the colours. Defaults to the entity types of the calls
            that returned the results.

    Raises:
        ValueError: a text is missing, the numbers of texts and results differ, or an entity is not in its text.
    """
    if isinstance(texts, str) or hasattr(results, "text"):
        chosen: list[Any] = [results]
        given: Sequence[str] | None = [texts] if isinstance(texts, str) else texts
    else:
        chosen, given = list(results), texts
    if given is None:
        if not all(hasattr(result, "text") for result in chosen):
            raise ValueError("the text of these entities is unknown: pass the text too, as in draw(results, texts).")
        given = [result.text for result in chosen]
    if len(given) != len(chosen):
        raise ValueError(f"there are {len(chosen)} results and {len(given)} texts; each text needs one result.")
    if labels is None:
        labels = list(dict.fromkeys(label for result in chosen for label in getattr(result, "labels", ())))
    for text, result in zip(given, chosen, strict=True):
        _check(text, result)
    return Drawing(given, chosen, all_labels([entity for result in chosen for entity in result], labels))


class Drawing:
    """A drawing of texts with their entities, as `draw` returns it."""

    def __init__(self, texts: Sequence[str], results: Sequence[Entities], labels: Sequence[str]) -> None:
        self.texts, self.results, self.labels = list(texts), list(results), list(labels)

    def _repr_html_(self) -> str:
        """Return HTML for notebooks: the first `MAX_CHARACTERS` characters of the first `MAX_TEXTS` texts."""
        parts = []
        for text, entities in zip(self.texts[:MAX_TEXTS], self.results, strict=False):
            shown = [entity for entity in entities if entity["end"] <= MAX_CHARACTERS]
            parts.append(draw_html(text[:MAX_CHARACTERS], shown, self.labels))
            if len(text) > MAX_CHARACTERS:
                parts[-1] += _note(f"The first {MAX_CHARACTERS:,} of {len(text):,} characters are shown.")
        if len(self.texts) > MAX_TEXTS:
            parts.append(_note(f"The first {MAX_TEXTS} of {len(self.texts):,} texts are shown."))
        return f"<style>{CSS}</style>{_RULE.join(parts)}"

    def save(self, path: str | Path) -> None:
        """Write a web page with all texts in full.

        Args:
            path: the file, such as found.html. Missing folders are created.

        Raises:
            ValueError: the name does not end in .html or .htm.
        """
        path = Path(path)
        if path.suffix.lower() not in (".html", ".htm"):
            raise ValueError(
                f"a drawing is saved as a web page: expected a name that ends in .html, got {str(path)!r}."
            )
        drawn = _RULE.join(
            draw_html(text, entities, self.labels) for text, entities in zip(self.texts, self.results, strict=True)
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            '<!DOCTYPE html>\n<html><head><meta charset="utf-8"><title>Entities</title>'
            f"<style>{_PAGE_CSS}{CSS}</style></head>\n<body>{drawn}</body></html>\n",
            encoding="utf-8",
            errors="replace",
        )

    def __rich__(self) -> Any:
        """Return the drawing as a coloured `Text` of the package rich."""
        from rich.text import Text

        from .terminal import draw_entities

        drawn = zip(self.texts, self.results, strict=True)
        return Text("\n").join(draw_entities(text, entities, labels=self.labels) for text, entities in drawn)

    def __repr__(self) -> str:
        return str(self.__rich__())


_RULE = "<hr>"
_PAGE_CSS = "body { font-family: system-ui, sans-serif; max-width: 50rem; margin: 2rem auto; padding: 0 1rem; }"


def _note(message: str) -> str:
    return f'<p class="bn-note">{html.escape(message)}</p>'


def _check(text: str, entities: Sequence[Mapping[str, Any]]) -> None:
    for entity in entities:
        start, end = entity["start"], entity["end"]
        if not 0 <= start < end <= len(text) or text[start:end] != entity.get("word", text[start:end]):
            raise ValueError(
                f"the text {text!r:.80} does not contain the entity {entity.get('word', '')!r} from {start} to {end}; "
                "pass the text in which the entities were found."
            )
