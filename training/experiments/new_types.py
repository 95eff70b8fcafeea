"""Evaluate a model on entity types that it was not trained on. They are passed by description.

    python -m training.experiments.new_types training/recipes/genia-minilm.yaml --held-out RNA cell_line

The command accepts the settings of `training.finetune`. It removes the held-out types from the training and development
sets, with their mentions and descriptions. Then the command evaluates the model on the test set, first for the trained
types, and then for the held-out types. `python -m training.experiments.results` writes the results into a table in
docs/results.md.
"""

import argparse
import json
import logging
import sys
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from modeling_binder.finetuning import Corpus, DataError, Document, evaluate
from modeling_binder.finetuning.data import write_json
from training.arguments import parse_recipe
from training.experiments.provenance import provenance
from training.finetune import finetune


def with_types(documents: Sequence[Document], types: Collection[str]) -> list[Document]:
    """Remove all mentions of other types from the documents."""
    return [
        replace(document, entities=tuple(mention for mention in document.entities if mention.label in types))
        for document in documents
    ]


def hold_out(corpus: Corpus, types: Collection[str]) -> Corpus:
    """Remove the given types and their mentions from a corpus.

    Raises:
        ValueError: one of the given types is not in the corpus, or no type would be left.
    """
    unknown = sorted(set(types) - set(corpus.entity_types))
    kept = {name: text for name, text in corpus.entity_types.items() if name not in types}
    if unknown or not kept:
        raise ValueError(
            f"cannot hold out {', '.join(unknown or types)}: pass some, but not all, of the types of the corpus: "
            f"{', '.join(corpus.entity_types)}."
        )
    train, dev, test = (with_types(documents, kept) for documents in (corpus.train, corpus.dev, corpus.test))
    return Corpus(train=train, dev=dev, test=test, entity_types=kept)


def main(argv: list[str] | None = None) -> dict[str, Any]:
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(
        prog="python -m training.experiments.new_types",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--held-out", nargs="+", required=True, metavar="TYPE", help="types that are not trained")
    arguments, rest = parser.parse_known_args(argv)
    held = list(dict.fromkeys(arguments.held_out))
    try:
        recipe = parse_recipe(rest)
        if "output_dir" not in recipe.given:
            recipe.training.output_dir = f"{recipe.training.output_dir}-without-{'-'.join(held)}"
        output = Path(str(recipe.training.output_dir))
        corpus = recipe.data.load()
        origin = provenance(
            "training.experiments.new_types",
            argv,
            recipe.name,
            recipe.given,
            "held-out types",
            f"without {', '.join(held)}",
        )
        settings = {**recipe.settings(), "held_out": held}
        documents = hold_out(corpus, held)
        finetune(documents, recipe.model, recipe.training, settings, recipe.card, origin, lora=recipe.lora)
        held_out_types = {name: corpus.entity_types[name] for name in held}
        metrics, _ = evaluate(str(output), with_types(corpus.test, held), entity_types=held_out_types)
    except (DataError, ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print(f"\nheld-out types, by description\n{metrics.table()}", flush=True)
    results: dict[str, Any] = json.loads((output / "results.json").read_text(encoding="utf-8"))
    results["metrics"]["held out"] = metrics.to_dict()
    write_json(output / "results.json", results)
    return results


if __name__ == "__main__":
    main()
