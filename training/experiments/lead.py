"""Compare BINDER with the token classifier on a test set, by a paired bootstrap.

    python -m training.experiments.lead training/recipes/ncbi-minilm.yaml checkpoints/ncbi-minilm-42 \\
        checkpoints/ncbi-minilm-tokens-42

The two checkpoints are models that were trained with the recipe. The command adds `lead` to the file results.json of
the token classifier: F1 of both models, and the difference with a 95% interval. `training.experiments.results` with
`--token-classifier` runs this command.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from modeling_binder.finetuning import DataError, evaluate
from modeling_binder.finetuning.bootstrap import paired_bootstrap
from modeling_binder.finetuning.data import write_json
from modeling_binder.loading import check_model
from training.arguments import parse_recipe
from training.experiments.token_classifier import predict


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(
        prog="python -m training.experiments.lead",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("recipe", help="recipe of both models")
    parser.add_argument("binder", help="folder of the BINDER model")
    parser.add_argument("tokens", type=Path, help="folder of the token classifier")
    arguments = parser.parse_args(argv)
    try:
        results_file = arguments.tokens / "results.json"
        if not results_file.is_file():
            raise DataError(
                f"{results_file} does not exist: train the token classifier first (python -m "
                f"training.experiments.token_classifier {arguments.recipe} --output_dir {arguments.tokens})."
            )
        results: dict[str, Any] = json.loads(results_file.read_text(encoding="utf-8"))
        check_model(arguments.binder)
        recipe = parse_recipe([arguments.recipe])
        corpus = recipe.data.load()
        _, ours = evaluate(arguments.binder, corpus.test)
        theirs = predict(arguments.tokens, corpus.test, corpus.entity_types, recipe.model)
        lead = paired_bootstrap([document.entities for document in corpus.test], ours, theirs)
        write_json(results_file, {**results, "lead": lead.to_dict()})
    except (DataError, ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print(lead.summary("BINDER", "the token classifier"))
    return lead.to_dict()


if __name__ == "__main__":
    main()
