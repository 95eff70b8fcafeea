"""The page: a text and entity types in, entities out.

Stands alone: on the Hub it runs beside `model_id.txt` with nothing but gradio, transformers and torch, and the model's
code comes from the model's own repository.

    BINDER_MODEL=checkpoints/quickstart python demo/app.py
"""

import os
from functools import cache
from pathlib import Path
from typing import Any

import gradio as gr
from transformers import Pipeline, pipeline

MAX_CHARACTERS = 20_000
MAX_TYPES = 100


def model_id() -> str:
    """The model shown: BINDER_MODEL, or the line in model_id.txt."""
    return (
        os.environ.get("BINDER_MODEL") or (Path(__file__).parent / "model_id.txt").read_text(encoding="utf-8").strip()
    )


@cache
def recognizer() -> Pipeline:
    """The pipeline, loaded once."""
    return pipeline("binder-ner", model=model_id(), trust_remote_code=True)


def find(text: str, types: list[list[str]], decoding: str, threshold: float) -> list[list[Any]]:
    """Entities of a text as rows: type, entity, start, end, score.

    Args:
        text: up to MAX_CHARACTERS.
        types: rows of name and description; blank rows are skipped.
        decoding: "nested" or "flat".
        threshold: 0.5 is the model's own.
    """
    if len(text) > MAX_CHARACTERS:
        raise gr.Error(f"The text has {len(text):,} characters; this page reads up to {MAX_CHARACTERS:,}.")
    asked = {str(name).strip(): str(text or name).strip() for name, text in types if str(name or "").strip()}
    if not asked or len(asked) > MAX_TYPES:
        raise gr.Error(f"Name between 1 and {MAX_TYPES} entity types; there are {len(asked)}.")
    found = recognizer()(text, entity_types=asked, decoding=decoding, threshold=threshold)
    return [[e["entity_group"], e["word"], e["start"], e["end"], round(e["score"], 3)] for e in found]


def build() -> gr.Blocks:
    """The page."""
    own = [[name, description] for name, description in recognizer().model.config.type_descriptions.items()]
    with gr.Blocks(title="Find entities") as page:
        gr.Markdown("# Find entities\nNested or flat, of the types you describe.")
        text = gr.Textbox(label="Text", lines=5, max_length=MAX_CHARACTERS)
        types = gr.Dataframe(
            own, headers=["type", "description"], column_count=2, type="array", interactive=True, label="Entity types"
        )
        with gr.Row():
            decoding = gr.Radio(["nested", "flat"], value=recognizer().model.config.decoding, label="Decoding")
            threshold = gr.Slider(0, 1, value=0.5, step=0.01, label="Threshold (0.5 is the model's own)")
        button = gr.Button("Find", variant="primary")
        found = gr.Dataframe(headers=["type", "entity", "start", "end", "score"], label="Entities", interactive=False)
        gr.on([button.click, text.submit], find, [text, types, decoding, threshold], found, api_name="find")
    return page


if __name__ == "__main__":
    build().launch()
