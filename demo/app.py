"""The demo page: it finds entities of types that the user describes, draws them, and explains their scores.

BINDER_MODEL=checkpoints/quickstart python -m demo.app
"""

import html
import json
import shutil
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gradio as gr

from . import charts, recognizer
from .drawing import CSS as DRAWING_CSS
from .drawing import draw_html
from .examples import NEW_TYPE_EXAMPLES, OWN_TYPE_EXAMPLES, Example
from .files import SUFFIXES, read_records, write_records
from .limits import (
    DELETE_CACHE,
    MAX_CHARACTERS,
    MAX_DESCRIPTION,
    MAX_FILE_BYTES,
    MAX_NAME,
    MAX_QUEUE,
    MAX_TYPES,
    Refused,
    check_text,
    check_threshold,
    check_types,
)

Rows = list[list[Any]]
CSS = DRAWING_CSS + charts.CSS
TYPE_COLUMNS = ["type", "description", "threshold"]
ENTITY_COLUMNS = ["type", "entity", "score", "start", "end"]
HEAT_MAP_WORDS = 24  # maximum number of words in the heat map
PROGRESS_SECONDS = 0.2  # minimum time between two updates of the progress bar
INTRODUCTION = (
    "# Find entities of your own types\n"
    "Describe each entity type in a sentence. The model compares every span of the text with the descriptions."
)


def own_rows() -> Rows:
    """Return the table of the model's own types. It is empty if the model has no types or too many for the page."""
    types, tuned = recognizer.own_types(), recognizer.tuned_thresholds()
    rows = [[name, description, tuned.get(name, "")] for name, description in types.items()]
    return rows if len(types) <= MAX_TYPES else []


def _rows(types: dict[str, str]) -> Rows:
    return [[name, description, ""] for name, description in types.items()]


def examples() -> list[Example]:
    """Return the examples of the page. If the model has types, the examples that use these types come first."""
    own = own_rows()
    return [*(OWN_TYPE_EXAMPLES if own else ()), *NEW_TYPE_EXAMPLES]


def _options(
    types: Rows, decoding: str, inference: str, threshold: float | None
) -> tuple[dict[str, str], dict[str, Any]]:
    """Check the table of types and the settings; return the descriptions by name, and arguments of the pipeline.

    If `threshold` is None, types without a threshold in the table have the threshold of the model.
    """
    checked, thresholds = check_types(types)
    if threshold is not None:
        thresholds = {**dict.fromkeys(checked, check_threshold(threshold, "all types")), **thresholds}
    return checked, {"decoding": decoding, "inference": inference, "threshold": thresholds}


def _note(message: str) -> str:
    """Return a message as HTML that screen readers announce, or an empty string for an empty message."""
    return f'<p class="bn-note" role="alert">{html.escape(message)}</p>' if message else ""


def _error(error: Exception) -> str:
    return error.reason if isinstance(error, Refused) else f"This did not work: {error}"


# ---- functions for programs ----


def find(
    text: str,
    entity_types: dict[str, str] | None = None,
    decoding: str = "nested",
    inference: str = "span",
    threshold: float | None = None,
) -> list[dict[str, Any]]:
    """Find the entities of a text, nested or flat.

    Args:
        text: a text of up to 20,000 characters.
        entity_types: the name and the description of each type to find; defaults to the types of the model.
        decoding: "nested" returns all entities, "flat" returns entities that do not overlap.
        inference: "span" uses only the span score. "joint" also requires that the scores of the start and the end are
            above their thresholds. It finds fewer entities with a higher precision.
        threshold: minimum score, between 0 and 1. Defaults to the tuned thresholds of the model, or to 0.5 if it has no
            tuned thresholds.

    Returns:
        A dictionary for each entity with entity_group, score, word, start and end (character offsets, end exclusive).
    """
    types, options = _options(_rows(entity_types or recognizer.own_types()), decoding, inference, threshold)
    try:
        return recognizer.find(check_text(text), types, **options)
    except ValueError as error:
        raise Refused(str(error)) from None


def types() -> dict[str, str]:
    """Return the name and the description of each entity type of the model."""
    return recognizer.own_types()


# ---- functions for the page ----


def show(text: str, rows: Rows, decoding: str, inference: str, threshold: float) -> tuple[Any, ...]:
    """Find entities, and return the new values of the elements of the page.

    These are the drawing, the table, the JSON, the choices of types and of spans under "Why", the request (text and
    types), and an error message, which is empty if there was no error.
    """
    try:
        types, options = _options(rows, decoding, inference, threshold)
        found = recognizer.find(check_text(text), types, **options)
    except Exception as error:
        nothing = gr.Dropdown(choices=[], value=None)
        return "", [], "[]", nothing, nothing, None, _note(_error(error))
    table = [[e["entity_group"], e["word"], round(e["score"], 3), e["start"], e["end"]] for e in found]
    spans = list(dict.fromkeys((e["start"], e["end"]) for e in found))
    choices = [(f"{text[start:end][:60]} ({start} to {end})", f"{start}-{end}") for start, end in spans]
    labels = list(types)
    return (
        draw_html(text, found, labels),
        table,
        json.dumps(found, indent=2, ensure_ascii=False),
        gr.Dropdown(choices=labels, value=found[0]["entity_group"] if found else labels[0]),
        gr.Dropdown(choices=choices, value=choices[0][1] if choices else None),
        (text, types),
        "",
    )


def why(request: tuple[str, dict[str, str]] | None, label: str | None, span: str | None) -> str:
    """Return HTML that explains the last request: a heat map for a type, and the margins of all types for a span."""
    if request is None or label is None:
        return _note("Find entities first.")
    text, types = request
    try:
        start, end = (int(edge) for edge in span.split("-")) if span else (0, 0)
        words, margins = recognizer.margins(text, types, (start + end) // 2, HEAT_MAP_WORDS)
        if label not in margins or not words:
            return _note("There are no words to compare.")
        page = charts.heat_map(text, words, margins[label].tolist(), label)
        firsts, lasts = [word[0] for word in words], [word[1] for word in words]
        if span and start in firsts and end in lasts:
            i, j = firsts.index(start), lasts.index(end)
            of_span = {name: float(matrix[i, j]) for name, matrix in margins.items()}
            page = charts.margin_bars(text[start:end], of_span, list(types)) + page
        if len(words) == HEAT_MAP_WORDS:
            page += f'<p class="bn-note">The table shows {HEAT_MAP_WORDS} words around the entity.</p>'
        return page
    except Exception as error:
        return _note(_error(error))


def find_in_file(
    path: str | None, rows: Rows, decoding: str, inference: str, threshold: float
) -> Iterator[tuple[str | None, str]]:
    """Find entities in a file of texts. Yield the progress, and at the end the path of a JSONL file with the entities.

    The generator deletes the JSONL file when it is resumed after the last item. By then, Gradio has copied the file
    into its cache. Gradio clears this cache regularly (`DELETE_CACHE`).
    """
    result: str | None = None
    try:
        if path is None:
            raise Refused("Choose a file first.")
        types, options = _options(rows, decoding, inference, threshold)
        records = read_records(path)
        found = recognizer.find_all([record["text"] for record in records], types, **options)
        updated = 0.0
        for done, result in write_records(records, map(_labelled, found)):
            if result is not None:
                yield result, _note(f"Done: {done:,} texts.")
            elif time.monotonic() - updated > PROGRESS_SECONDS:
                updated = time.monotonic()
                yield None, _progress(done, len(records))
    except Exception as error:
        yield None, _note(_error(error))
    finally:
        if result is not None:
            shutil.rmtree(Path(result).parent)


def _labelled(entities: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return entities with the keys of a corpus file (`label` instead of `entity_group`)."""
    return [
        {"start": e["start"], "end": e["end"], "label": e["entity_group"], "score": e["score"], "word": e["word"]}
        for e in entities
    ]


def _progress(done: int, total: int) -> str:
    return f'<progress max="{total}" value="{done}"></progress> {_note(f"{done:,} of {total:,} texts")}'


def add_type(rows: Rows, name: str, description: str) -> tuple[Rows, str, str, str]:
    """Return the table with the new type, the new content of both text boxes, and an error message."""
    kept = [row for row in rows if str(row[0] or "").strip()]
    try:
        if not name.strip():
            raise Refused("Give the new type a name.")
        added = [[name.strip(), description.strip(), ""], *kept]  # first, so that it is visible
        check_types(added)
        return added, "", "", ""
    except Refused as error:
        return rows, name, description, _note(_error(error))


def remove_types(rows: Rows, names: list[str]) -> tuple[Rows, Any]:
    """Return the table without the types in `names`, and an empty selection."""
    return [row for row in rows if str(row[0] or "").strip() not in names], gr.Dropdown(value=[])


def names_of(rows: Rows) -> Any:
    """Return a dropdown with the names of all types in the table."""
    return gr.Dropdown(choices=[str(row[0]).strip() for row in rows if str(row[0] or "").strip()])


# ---- the layout ----


def _inputs() -> tuple[Any, list[Any], Any, Any]:
    """Lay out the text, types, settings and examples; return the text box, settings, the button and the examples."""
    config = recognizer.recognizer().model.config
    shown = examples()
    own = own_rows()
    table: list[Rows] = [own if example.types is None else _rows(example.types) for example in shown]
    with gr.Row(equal_height=False):
        with gr.Column(min_width=300):
            text = gr.Textbox(shown[0].text, label="Text", lines=5, max_length=MAX_CHARACTERS, elem_id="text")
            button = gr.Button("Find entities", variant="primary", elem_id="find")
            example_row = gr.Row()
        with gr.Column(min_width=300):
            rows = gr.Dataframe(
                table[0],
                headers=TYPE_COLUMNS,
                datatype="str",
                column_count=3,
                type="array",
                interactive=True,
                wrap=True,
                max_height=300,
                column_widths=["26%", "54%", "20%"],
                label="Entity types: edit a cell; a threshold (0 to 1) is optional",
                elem_id="types",
            )
            _type_editor(rows, table[0])
            with gr.Accordion("Settings", open=False):
                decoding = gr.Radio(
                    [("nested: all entities", "nested"), ("flat: entities do not overlap", "flat")],
                    value=config.decoding,
                    label="Decoding",
                )
                inference = gr.Radio(
                    [("span", "span"), ("joint: start and end must also be above their thresholds", "joint")],
                    value=config.inference,
                    label="Inference",
                )
                # The tuned thresholds of the model's own types are in the table. The slider is for all other types.
                common = getattr(config, "default_threshold", 0.5)  # the code of older checkpoints lacks this field
                threshold = gr.Slider(0, 1, value=common, step=0.001, label="Threshold (0.5 is the dynamic threshold)")
        with example_row:
            chosen = gr.Examples(
                [[example.text, types] for example, types in zip(shown, table, strict=True)],
                [text, rows],
                label="Examples",
                example_labels=[example.title for example in shown],
                elem_id="examples",
            )
    return text, [rows, decoding, inference, threshold], button, chosen


def _type_editor(rows: Any, first: Rows) -> None:
    """Lay out the elements that add and remove types."""
    hidden: dict[str, Any] = {"api_visibility": "private"}
    with gr.Accordion("Add or remove types", open=False):
        with gr.Row():
            name = gr.Textbox(label="Name", max_length=MAX_NAME, elem_id="name")
            description = gr.Textbox(label="Description", max_length=MAX_DESCRIPTION, elem_id="description", scale=2)
        add = gr.Button("Add the type", elem_id="add")
        message = gr.HTML(elem_id="type-message")
        unwanted = gr.Dropdown([row[0] for row in first], multiselect=True, label="Types to remove", elem_id="unwanted")
        with gr.Row():
            remove = gr.Button("Remove", elem_id="remove")
            reset = gr.Button("The model's own types", elem_id="reset")
    boxes = [rows, name, description, message]
    gr.on([add.click, description.submit], add_type, [rows, name, description], boxes, **hidden)
    remove.click(remove_types, [rows, unwanted], [rows, unwanted], **hidden)
    reset.click(own_rows, None, rows, **hidden)
    rows.change(names_of, rows, unwanted, **hidden)


def _files_tab(settings: list[Any], model: dict[str, Any], hidden: dict[str, Any]) -> None:
    """Lay out the tab in which users upload a file of texts."""
    with gr.Tab("Files"):
        gr.Markdown(
            f"Upload a file of up to {MAX_FILE_BYTES / 1e6:.0f} MB: .txt (one text per line), .jsonl (key `text`) or "
            ".csv (column `text`). The result is a JSONL file with the `entities` of each text."
        )
        upload = gr.File(file_types=list(SUFFIXES), label="File", elem_id="upload")
        with gr.Row():
            start = gr.Button("Find entities in the file", variant="primary", elem_id="start")
            cancel = gr.Button("Cancel", elem_id="cancel")
        message = gr.HTML(elem_id="file-message")
        result = gr.File(label="Result", interactive=False, elem_id="result")
    run = start.click(find_in_file, [upload, *settings], [result, message], **model)
    # "Cancelled." is shown after the run has stopped. Otherwise the last progress update would overwrite it.
    cancel.click(None, cancels=run, **hidden).then(lambda: _note("Cancelled."), None, message, **hidden)


def build() -> gr.Blocks:
    """Return the page."""
    hidden: dict[str, Any] = {"api_visibility": "private"}
    # Only one request at a time uses the model; other requests wait.
    model: dict[str, Any] = {**hidden, "concurrency_id": "model", "concurrency_limit": 1}
    # A user may click again while a request is running. The last click then starts a request afterwards. By default,
    # Gradio would ignore this click.
    last: dict[str, Any] = {**model, "trigger_mode": "always_last"}
    with gr.Blocks(title="Find entities", delete_cache=DELETE_CACHE) as page:
        gr.Markdown(INTRODUCTION)
        request = gr.State(None)
        text, settings, button, chosen = _inputs()
        message = gr.HTML(elem_id="message")
        with gr.Tabs():
            with gr.Tab("Text"):
                drawn = gr.HTML(elem_id="drawing")
            with gr.Tab("Table"):
                table = gr.Dataframe(
                    headers=ENTITY_COLUMNS, datatype="str", interactive=False, wrap=True, elem_id="table"
                )
            with gr.Tab("JSON"):
                code = gr.Textbox(
                    "[]",
                    label="Output of the pipeline",
                    lines=12,
                    max_lines=24,
                    interactive=False,
                    buttons=["copy"],
                    elem_id="json",
                )
            with gr.Tab("Why"):
                with gr.Row():
                    label = gr.Dropdown([], label="Type", elem_id="label")
                    span = gr.Dropdown([], label="Span", elem_id="span")
                reasons = gr.HTML(elem_id="why")
            _files_tab(settings, model, hidden)
        shown = [drawn, table, code, label, span, request, message]
        explain: tuple[Any, ...] = (why, [request, label, span], reasons)
        for event in (
            gr.on([button.click, text.submit], show, [text, *settings], shown, **last),
            chosen.load_input_event.then(show, [text, *settings], shown, **last),
            page.load(show, [text, *settings], shown, **model),
        ):
            event.then(*explain, **last)
        gr.on([label.input, span.input], *explain, **last)
        gr.api(find, api_name="find", concurrency_id="model", concurrency_limit=1)
        gr.api(types, api_name="types")
    page.queue(max_size=MAX_QUEUE)
    return page


def main() -> None:
    """Serve the page. If `mcp` is installed, the functions of the page are also MCP tools for language models."""
    build().launch(css=CSS, max_file_size=MAX_FILE_BYTES * 2, mcp_server=find_spec("mcp") is not None)


if __name__ == "__main__":
    main()
