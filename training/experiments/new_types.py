"""New types: train without some types, then ask for them by their descriptions alone.

    python -m training.experiments.new_types training/recipes/genia-minilm.yaml --held-out RNA cell_line

Takes the settings of `training.finetune`. Mentions of the held-out types are removed from the training and development
sets, so that the model has seen neither a mention nor a description of them; the test set is then searched for them
by description (and, apart from it, for the trained types). `python -m training.experiments.results` makes the table.
"""

import argparse
import json
import logging
import sys
from collections.abc import Collection, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from modeling_binder.finetuning import Corpus, DataError, Document
from modeling_binder.finetuning.data import write_json
from training.arguments import parse_recipe
from training.evaluate import evaluate
from training.experiments.provenance import provenance
from training.finetune import finetune


def of_types(documents: Sequence[Document], types: Collection[str]) -> list[Document]:
    """The documents with the mentions of some types alone."""
    return [
        replace(document, entities=tuple(mention for mention in document.entities if mention.label in types))
        for document in documents
    ]


def hold_out(corpus: Corpus, types: Collection[str]) -> Corpus:
    """The corpus as if nobody had annotated these types in train and dev.

    Raises:
        ValueError: a type is none of the corpus', or none is left.
    """
    unknown = sorted(set(types) - set(corpus.entity_types))
    kept = {name: text for name, text in corpus.entity_types.items() if name not in types}
    if unknown or not kept:
        raise ValueError(
            f"cannot hold out {', '.join(unknown or types)}: the corpus has {', '.join(corpus.entity_types)}; name "
            "some of them, not all."
        )
    train, dev, test = (of_types(documents, kept) for documents in (corpus.train, corpus.dev, corpus.test))
    return Corpus(train=train, dev=dev, test=test, entity_types=kept)


def main(argv: list[str] | None = None) -> dict[str, Any]:
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(
        prog="python -m training.experiments.new_types",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--held-out", nargs="+", required=True, metavar="TYPE", help="types to train without")
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
        settings = {**asdict(recipe.data), **asdict(recipe.model), **recipe.changed, "held_out": held}
        finetune(hold_out(corpus, held), recipe.model, recipe.training, settings, recipe.card, origin)
        asked = [{"name": name, "description": corpus.entity_types[name]} for name in held]
        metrics, _ = evaluate(str(output), of_types(corpus.test, held), entity_types=asked)
    except (DataError, ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print(f"\nheld out, asked for by description\n{metrics.table()}", flush=True)
    results: dict[str, Any] = json.loads((output / "results.json").read_text(encoding="utf-8"))
    results["metrics"]["held out"] = metrics.to_dict()
    write_json(output / "results.json", results)
    return results


if __name__ == "__main__":
    main()
