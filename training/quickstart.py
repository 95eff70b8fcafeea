"""Find entities of your own types, fine-tune a checkpoint on the sample corpus, evaluate it, and show entities.

    python -m training.quickstart
    python -m training.quickstart --ask "The kettle boils in 90 seconds." --type appliance --type duration

The second command only finds entities of the given types in one text, without training.
"""

import argparse
import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.rule import Rule
from rich.text import Text
from transformers import pipeline

import modeling_binder  # noqa: F401 (registers the pipeline)
from modeling_binder.cli.options import parse_type
from modeling_binder.drawing.terminal import draw_entities
from training.finetune import main as finetune

ROOT = Path(__file__).resolve().parent.parent
RECIPE = ROOT / "training" / "recipes" / "quickstart.yaml"
MODEL = ROOT / "demo" / "model"  # a checkpoint that was trained on many corpora
EPOCHS_FROM_MODEL = 3  # a trained checkpoint needs fewer epochs than a bare encoder (8 in the recipe)
# Sentences, and descriptions of the types to find in each sentence. The checkpoint was trained on some of the types,
# but not on these sentences.
QUESTIONS: tuple[tuple[str, dict[str, str]], ...] = (
    (
        "Dr Maria Jensen called from +45 20 31 44 55 about the invoice of 4,200 kroner, due on 3 May.",
        {
            "person": "A person, real or fictional, by name.",
            "phone number": "phone number",
            "amount of money": "amount of money",
            "due date": "due date",
        },
    ),
    (
        "Patients received metformin 500 mg twice daily for type 2 diabetes; two developed lactic acidosis.",
        {name: name for name in ("drug", "dose", "frequency", "disease")},
    ),
    (
        "cheap thai place with outdoor seating near the station open after 10",
        {name: name for name in ("price", "cuisine", "amenity", "opening hours")},
    ),
    (
        "The trebuchet battered the curtain wall of Dover Castle while sappers dug under the barbican.",
        {name: name for name in ("siege weapon", "castle", "part of a castle")},
    ),
)
SENTENCES = (
    "Deletion of the NF-kB binding site in the IL-6 gene promoter abolished its induction by dexamethasone in CD14+ "
    "monocytes.",
    "Binding of the glucocorticoid receptor to the TNF-alpha gene was lost in HeLa cells from patients with lung "
    "cancer.",
    "Amina Okafor, a spokeswoman for the University of Nairobi, travelled to Geneva to meet officials of the World "
    "Health Organization.",
    "The Ministry of Health of Portugal said that the Lisbon Heart Institute had treated forty patients with "
    "hypertension.",
)


def show(checkpoint: str, console: Console) -> None:
    """Find the entities in sentences that are not in the sample corpus, and show them."""
    recognizer = pipeline("binder-ner", model=checkpoint)
    labels = list(recognizer.model.config.type_descriptions)
    console.print(Rule(Text('pipeline("binder-ner") on sentences that are not in the corpus')))
    for sentence in SENTENCES:
        console.print(draw_entities(sentence, recognizer(sentence), min(console.width, 100), labels))


def ask(checkpoint: str | Path, questions: Iterable[tuple[str, Mapping[str, str]]], console: Console) -> None:
    """Find entities of the given types in each sentence, and show them."""
    recognizer = pipeline("binder-ner", model=str(checkpoint))
    console.print(Rule(Text("types of your own, without training")))
    for sentence, types in questions:
        found = recognizer(sentence, entity_types=types, decoding="nested")
        console.print(draw_entities(sentence, found, min(console.width, 100), list(types)))


@contextmanager
def _without_warnings(name: str) -> Iterator[None]:
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m training.quickstart", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output-dir", default="checkpoints/quickstart", help="default: checkpoints/quickstart")
    parser.add_argument(
        "--encoder",
        help="train a new model from this encoder (id on the Hub or local folder). By default, demo/model is "
        "fine-tuned. If this folder does not exist, a new model is trained from the encoder in the recipe",
    )
    parser.add_argument(
        "--show-only", action="store_true", help="use the checkpoint in the output folder, without training"
    )
    parser.add_argument("--ask", metavar="TEXT", help="only find entities in this text, of the types that --type names")
    parser.add_argument("--type", type=parse_type, action="append", default=[], help="'name' or 'name: description'")
    parser.add_argument("--svg", type=Path, help="also save the drawing as an SVG file")
    arguments = parser.parse_args(argv)

    if bool(arguments.ask) != bool(arguments.type):
        parser.error("--ask and --type go together: --ask TEXT --type NAME")
    from_model = MODEL.is_dir() and not arguments.encoder
    if arguments.ask or (from_model and not arguments.show_only):
        questions = [(arguments.ask, dict(arguments.type))] if arguments.ask else QUESTIONS
        ask(MODEL, questions, Console())
        if arguments.ask:
            return
    if not arguments.show_only:
        command = [str(RECIPE), "--output_dir", arguments.output_dir, "--restart", "true"]
        if arguments.encoder:
            command += ["--encoder", arguments.encoder]
        elif from_model:
            command += ["--init_from", str(MODEL), "--decoding", "nested"]
            command += ["--num_train_epochs", str(EPOCHS_FROM_MODEL)]
        with _without_warnings("training.arguments"):  # the checkpoint replaces the encoder and the span width
            finetune(command)
    console = Console(record=bool(arguments.svg), width=100 if arguments.svg else None)
    show(arguments.output_dir, console)
    if arguments.svg:
        picture = console.export_svg(title="binder-ner")
        # rich would load fonts from the web. Without these fonts, the viewer uses a local monospace font.
        arguments.svg.write_text(re.sub(r"@font-face \{.*?\}", "", picture, flags=re.DOTALL), encoding="utf-8")


if __name__ == "__main__":
    main()
