"""Fine-tune on the sample corpus, evaluate, and draw the entities of sentences that are not in the corpus.

python -m training.quickstart
"""

import argparse
import re
from pathlib import Path

from rich.console import Console
from rich.rule import Rule
from rich.text import Text
from transformers import pipeline

from training.drawing import draw_entities
from training.finetune import main as finetune

RECIPE = Path(__file__).parent / "recipes" / "quickstart.yaml"
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
    """Find the entities of some sentences that are not in the sample corpus, and draw them."""
    recognizer = pipeline("binder-ner", model=checkpoint)
    labels = list(recognizer.model.config.type_descriptions)
    console.print(Rule(Text('pipeline("binder-ner") on sentences that are not in the corpus')))
    for sentence in SENTENCES:
        console.print(draw_entities(sentence, recognizer(sentence), min(console.width, 100), labels))


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m training.quickstart", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output-dir", default="checkpoints/quickstart", help="default: checkpoints/quickstart")
    parser.add_argument("--encoder", help="id on the Hub or local folder; defaults to the recipe's")
    parser.add_argument(
        "--show-only", action="store_true", help="use the checkpoint in the output folder, without training"
    )
    parser.add_argument("--svg", type=Path, help="also save the drawing as an SVG file")
    arguments = parser.parse_args(argv)

    if not arguments.show_only:
        command = [str(RECIPE), "--output_dir", arguments.output_dir, "--restart", "true"]
        if arguments.encoder:
            command += ["--encoder", arguments.encoder]
        finetune(command)
    console = Console(record=bool(arguments.svg), width=100 if arguments.svg else None)
    show(arguments.output_dir, console)
    if arguments.svg:
        picture = console.export_svg(title="binder-ner")
        # Without the fonts, which rich loads from the web, the viewer uses its own monospace font.
        arguments.svg.write_text(re.sub(r"@font-face \{.*?\}", "", picture, flags=re.DOTALL), encoding="utf-8")


if __name__ == "__main__":
    main()
