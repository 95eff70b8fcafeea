"""The page: a text and entity types in, nested entities out, and why.

BINDER_MODEL=checkpoints/quickstart python -m demo.app
"""

import html
import json
import time
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import gradio as gr

from . import recognizer
from .drawing import CSS, draw, heat_map, margin_bars
from .examples import EXAMPLES
from .files import SUFFIXES, read_records, write_records
from .limits import (
    MAX_CHARACTERS,
    MAX_DESCRIPTION,
    MAX_FILE_BYTES,
    MAX_NAME,
    QUEUE,
    Refused,
    check_text,
    check_threshold,
    check_types,
)

Rows = list[list[Any]]
HEADERS = ["type", "description", "threshold"]
FOUND = ["type", "entity", "score", "start", "end"]
WORDS = 24  # of the heat map
SECONDS_BETWEEN_NEWS = 0.2  # of a file that is read
INTRODUCTION = (
    "# Find entities, nested ones too\n"
    "Say in a sentence what you are looking for; the model compares every span of the text with it."
)


def own_rows() -> Rows:
    """The table with the model's own types."""
    return [[name, description, ""] for name, description in recognizer.own_types().items()]


def _options(types: Rows, decoding: str, inference: str, threshold: float) -> tuple[dict[str, str], dict[str, Any]]:
    asked, single = check_types(types)
    common = check_threshold(threshold, "all types")
    thresholds = {name: single.get(name, common) for name in asked}
    return asked, {"decoding": decoding, "inference": inference, "threshold": thresholds}


def _said(sentence: str) -> str:
    """A sentence on the page, where screen readers hear it; empty for none."""
    return f'<p class="bn-note" role="alert">{html.escape(sentence)}</p>' if sentence else ""


def _refusal(error: Exception) -> str:
    return error.sentence if isinstance(error, Refused) else f"This did not work: {error}"


# ---- what programs call ----


def find(
    text: str,
    entity_types: dict[str, str] | None = None,
    decoding: str = "nested",
    inference: str = "span",
    threshold: float = 0.5,
) -> list[dict[str, Any]]:
    """Find the entities of a text, nested or flat.

    Args:
        text: the text to search, up to 20,000 characters.
        entity_types: name -> description of what to look for; the model's own types if left out.
        decoding: "nested" for all that is found, "flat" for entities that do not overlap.
        inference: "span" or "joint", which finds less and is surer.
        threshold: between 0 and 1; 0.5 is the model's own, dynamic threshold.

    Returns:
        For each entity its entity_group, score, word, start and end (characters, end exclusive).
    """
    rows = [[name, description, ""] for name, description in (entity_types or recognizer.own_types()).items()]
    asked, options = _options(rows, decoding, inference, threshold)
    try:
        return recognizer.find(check_text(text), asked, **options)
    except ValueError as error:
        raise Refused(str(error)) from None


def types() -> dict[str, str]:
    """The entity types that the model was trained with, name -> description."""
    return recognizer.own_types()


# ---- what the page calls ----


def show(text: str, rows: Rows, decoding: str, inference: str, threshold: float) -> tuple[Any, ...]:
    """The drawing, the table, the JSON, the spans to ask about, what was asked, and a sentence if it went wrong."""
    try:
        asked, options = _options(rows, decoding, inference, threshold)
        found = recognizer.find(check_text(text), asked, **options)
    except Exception as error:
        empty: Rows = []
        return "", empty, "[]", gr.Dropdown(choices=[], value=None), gr.Dropdown(choices=[], value=None), None, _said(
            _refusal(error)
        )  # fmt: skip
    table = [[e["entity_group"], e["word"], round(e["score"], 3), e["start"], e["end"]] for e in found]
    spans = list(dict.fromkeys((e["start"], e["end"]) for e in found))
    choices = [(f"{text[start:end][:60]} ({start} to {end})", f"{start}-{end}") for start, end in spans]
    kinds = list(asked)
    return (
        draw(text, found, kinds),
        table,
        json.dumps(found, indent=2, ensure_ascii=False),
        gr.Dropdown(choices=kinds, value=found[0]["entity_group"] if found else kinds[0]),
        gr.Dropdown(choices=choices, value=choices[0][1] if choices else None),
        (text, asked),
        _said(""),
    )


def why(asked: tuple[str, dict[str, str]] | None, kind: str | None, span: str | None) -> str:
    """The heat map of a type and the margins of a span, of what was searched last."""
    if asked is None or kind is None:
        return _said("Find entities first.")
    text, described = asked
    try:
        start, end = (int(edge) for edge in span.split("-")) if span else (0, 0)
        words, margins = recognizer.margins(text, described, (start + end) // 2, WORDS)
        if kind not in margins or not words:
            return _said("There are no words to compare.")
        drawn = heat_map(text, words, margins[kind].tolist(), kind)
        firsts, lasts = [word[0] for word in words], [word[1] for word in words]
        if span and start in firsts and end in lasts:
            i, j = firsts.index(start), lasts.index(end)
            of_span = {name: float(matrix[i, j]) for name, matrix in margins.items()}
            drawn = margin_bars(text[start:end], of_span, list(described)) + drawn
        if len(words) == WORDS:
            drawn += f'<p class="bn-note">{WORDS} words around the entity are shown.</p>'
        return drawn
    except Exception as error:
        return _said(_refusal(error))


def find_in_file(
    path: str | None, rows: Rows, decoding: str, inference: str, threshold: float
) -> Iterator[tuple[str | None, str]]:
    """A file of texts as JSONL with entities, and how far it is; stops between two texts where it is cancelled."""
    try:
        if path is None:
            raise Refused("Choose a file first.")
        asked, options = _options(rows, decoding, inference, threshold)
        records = read_records(path)
        found = recognizer.find_all((record["text"] for record in records), asked, **options)
        told = 0.0
        for done, result in write_records(records, found):
            if result is not None:
                yield result, _said(f"Done: {done:,} texts.")
            elif time.monotonic() - told > SECONDS_BETWEEN_NEWS:
                told = time.monotonic()
                yield None, _progress(done, len(records))
    except Exception as error:
        yield None, _said(_refusal(error))


def _progress(done: int, total: int) -> str:
    return f'<progress max="{total}" value="{done}"></progress> {_said(f"{done:,} of {total:,} texts")}'


def add_type(rows: Rows, name: str, description: str) -> tuple[Rows, str, str, str]:
    """The table with one type more, the two boxes emptied, and a sentence if it went wrong."""
    kept = [row for row in rows if str(row[0] or "").strip()]
    try:
        if not name.strip():
            raise Refused("Give the new type a name.")
        added = [[name.strip(), description.strip(), ""], *kept]  # first, where it is seen
        check_types(added)
        return added, "", "", _said("")
    except Refused as error:
        return rows, name, description, _said(_refusal(error))


def remove_types(rows: Rows, names: list[str]) -> tuple[Rows, Any]:
    """The table without some types."""
    return [row for row in rows if str(row[0] or "").strip() not in names], gr.Dropdown(value=[])


def names_of(rows: Rows) -> Any:
    """What can be removed: the names in the table."""
    return gr.Dropdown(choices=[str(row[0]).strip() for row in rows if str(row[0] or "").strip()])


def build() -> gr.Blocks:
    """The page."""
    config = recognizer.recognizer().model.config
    with gr.Blocks(title="Find entities") as page:
        gr.Markdown(INTRODUCTION)
        asked = gr.State(None)
        with gr.Row(equal_height=False):
            with gr.Column(min_width=300):
                text = gr.Textbox(EXAMPLES[0], label="Text", lines=5, max_length=MAX_CHARACTERS, elem_id="text")
                button = gr.Button("Find entities", variant="primary", elem_id="find")
                gr.Examples([[example] for example in EXAMPLES], text, label="Examples")
            with gr.Column(min_width=300):
                rows = gr.Dataframe(
                    own_rows(),
                    headers=HEADERS,
                    datatype="str",
                    column_count=3,
                    type="array",
                    interactive=True,
                    wrap=True,
                    max_height=260,
                    column_widths=["26%", "54%", "20%"],
                    label="Entity types: edit a cell; a threshold is optional (0 to 1)",
                    elem_id="types",
                )
                with gr.Accordion("Add or remove types", open=False):
                    with gr.Row():
                        name = gr.Textbox(label="Name", max_length=MAX_NAME, elem_id="name")
                        description = gr.Textbox(
                            label="Description", max_length=MAX_DESCRIPTION, elem_id="description", scale=2
                        )
                    add = gr.Button("Add the type", elem_id="add")
                    unwanted = gr.Dropdown([], multiselect=True, label="Types to remove", elem_id="unwanted")
                    with gr.Row():
                        remove = gr.Button("Remove", elem_id="remove")
                        reset = gr.Button("The model's own types", elem_id="reset")
                with gr.Accordion("Settings", open=False):
                    decoding = gr.Radio(
                        [("nested: all of them", "nested"), ("flat: none overlaps", "flat")],
                        value=config.decoding,
                        label="Decoding",
                    )
                    inference = gr.Radio(
                        [("span", "span"), ("joint: start and end must agree", "joint")],
                        value=config.inference,
                        label="Inference",
                    )
                    threshold = gr.Slider(0, 1, value=0.5, step=0.01, label="Threshold (0.5 is the model's own)")
        message = gr.HTML(elem_id="message")
        with gr.Tabs():
            with gr.Tab("Text"):
                drawing = gr.HTML(elem_id="drawing")
            with gr.Tab("Table"):
                table = gr.Dataframe(headers=FOUND, datatype="str", interactive=False, wrap=True, elem_id="table")
            with gr.Tab("JSON"):
                code = gr.Textbox(
                    "[]",
                    label="As the pipeline gives it",
                    lines=12,
                    max_lines=24,
                    interactive=False,
                    buttons=["copy"],
                    elem_id="json",
                )
            with gr.Tab("Why"):
                with gr.Row():
                    kind = gr.Dropdown([], label="Type", elem_id="kind")
                    span = gr.Dropdown([], label="Span", elem_id="span")
                reasons = gr.HTML(elem_id="why")
            with gr.Tab("Files"):
                gr.Markdown(
                    f"Texts as .txt (one a line), .jsonl (`text`) or .csv (column `text`), up to "
                    f"{MAX_FILE_BYTES / 1e6:.0f} MB; the types and settings above. You get JSONL with `entities`."
                )
                upload = gr.File(file_types=list(SUFFIXES), label="File", elem_id="upload")
                with gr.Row():
                    start = gr.Button("Find entities in the file", variant="primary", elem_id="start")
                    cancel = gr.Button("Cancel", elem_id="cancel")
                file_message = gr.HTML(elem_id="file-message")
                result = gr.File(label="Result", interactive=False, elem_id="result")
        settings = [rows, decoding, inference, threshold]
        shown = [drawing, table, code, kind, span, asked, message]
        hidden: dict[str, Any] = {"api_visibility": "private"}
        # One request at a time asks the model; the others wait their turn.
        model: dict[str, Any] = {**hidden, "concurrency_id": "model", "concurrency_limit": 1}
        # Asked again while an answer is under way, the page answers the last question too and drops none in silence.
        last: dict[str, Any] = {**model, "trigger_mode": "always_last"}
        gr.on([button.click, text.submit], show, [text, *settings], shown, **last).then(
            why, [asked, kind, span], reasons, **last
        )
        gr.on([kind.input, span.input], why, [asked, kind, span], reasons, **last)
        gr.on([add.click, description.submit], add_type, [rows, name, description], [rows, name, description, message],
              **hidden)  # fmt: skip
        remove.click(remove_types, [rows, unwanted], [rows, unwanted], **hidden)
        reset.click(own_rows, None, rows, **hidden)
        gr.on([rows.change, page.load], names_of, rows, unwanted, **hidden)
        run = start.click(find_in_file, [upload, *settings], [result, file_message], **model)
        # Said only after the run was stopped: the last news of it, still under way, would cover it.
        cancel.click(None, cancels=run, **hidden).then(lambda: _said("Cancelled."), None, file_message, **hidden)
        page.load(show, [text, *settings], shown, **model).then(why, [asked, kind, span], reasons, **model)
        gr.api(find, api_name="find", concurrency_id="model", concurrency_limit=1)
        gr.api(types, api_name="types")
    page.queue(max_size=QUEUE)
    return page


def main() -> None:
    """Serve the page; as a tool for language models too (MCP) where that package is installed."""
    build().launch(css=CSS, max_file_size=MAX_FILE_BYTES * 2, mcp_server=find_spec("mcp") is not None)


if __name__ == "__main__":
    main()
