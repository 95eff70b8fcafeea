"""Measure the contribution of each component of the method: train a recipe repeatedly, with one change at a time.

    python -m training.experiments.ablations training/recipes/ncbi-minilm.yaml --num_train_epochs 4
    python -m training.experiments.ablations training/recipes/genia-minilm.yaml --first 4000

The command accepts the settings of `training.finetune`. With `--first N`, it trains only on the first N documents. It
skips finished variants, and continues an interrupted variant. `python -m training.experiments.results` writes the
results into a table in docs/results.md.
"""

import argparse
import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from modeling_binder import BinderModel
from modeling_binder.finetuning import Corpus, DataError, evaluate
from modeling_binder.finetuning.data import write_json
from training.arguments import Recipe, parse_recipe
from training.experiments.provenance import provenance
from training.finetune import finetune


class GlobalThresholdModel(BinderModel):
    """BINDER with one learned threshold for each head. All texts and types have the same threshold.

    The thresholds replace the scores of [CLS] (position 0). The losses and the decoding are unchanged.
    """

    # A threshold is a parameter times this factor. Without the factor, the learning rate of an encoder would change the
    # threshold too slowly.
    GAIN = 100.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.thresholds = nn.Parameter(torch.zeros(3))

    def score(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor, Tensor]:
        start, end, span = super().score(*args, **kwargs)
        first, second, third = (self.GAIN * self.thresholds).unbind()
        at_zero = torch.zeros(start.shape[-1], dtype=torch.bool, device=start.device)
        at_zero[0] = True
        corner = torch.zeros(span.shape[-2:], dtype=torch.bool, device=span.device)
        corner[0, 0] = True
        return torch.where(at_zero, first, start), torch.where(at_zero, second, end), torch.where(corner, third, span)


class SharedDropout(nn.Dropout):
    """Dropout that drops the same dimensions of all vectors, until `mask` is set to None."""

    mask: Tensor | None = None

    def forward(self, vectors: Tensor) -> Tensor:
        if not self.training:
            return vectors
        if self.mask is None:
            self.mask = super().forward(vectors.new_ones(vectors.shape[-1]))
        return vectors * self.mask


class SharedDropoutModel(BinderModel):
    """BINDER whose span head drops the same dimensions of start, end, width and type vectors in a forward pass.

    In `BinderModel`, each of these vectors loses its own dimensions.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.dropout = self.span_head.dropout = SharedDropout(self.config.projection_dropout)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        self.dropout.mask = None
        return super().forward(*args, **kwargs)


def _bare_names(corpus: Corpus) -> Corpus:
    return replace(corpus, entity_types={name: name.replace("_", " ") for name in corpus.entity_types})


def _drop_empty(corpus: Corpus) -> Corpus:
    return replace(corpus, train=[document for document in corpus.train if document.entities])


@dataclass(frozen=True)
class Variant:
    """A variant of the method.

    Args:
        model: changed settings of the model.
        corpus: function that changes the corpus before training.
        model_class: class of the model.
        head_rate: learning rate of the heads, as a multiple of the learning rate of the encoders.
        evaluation: arguments of `evaluate`. If they are set, no model is trained. The unchanged model is evaluated with
            these arguments.
        flat: whether the variant is only for recipes with flat decoding. It is skipped for other recipes.
    """

    model: dict[str, Any] = field(default_factory=dict)
    corpus: Callable[[Corpus], Corpus] | None = None
    model_class: type[BinderModel] = BinderModel
    head_rate: float | None = None
    evaluation: dict[str, Any] | None = None
    flat: bool = False


UNCHANGED = "unchanged"
VARIANTS = {
    UNCHANGED: Variant(),
    "joint inference": Variant(evaluation={"inference": "joint"}),
    "greedy flat decoding": Variant(evaluation={"flat_algorithm": "greedy"}, flat=True),
    "one global threshold": Variant(model_class=GlobalThresholdModel),
    "names for descriptions": Variant(corpus=_bare_names),
    "shared encoders": Variant({"share_encoders": True}),
    "span loss alone": Variant({"start_loss_weight": 0.0, "end_loss_weight": 0.0, "span_loss_weight": 1.0}),
    "texts without mentions dropped": Variant(corpus=_drop_empty),
    "four times the learning rate for the heads": Variant(head_rate=4.0),
    "projection to 256 dimensions": Variant({"projection_size": 256}),
    "no dropout on projected vectors": Variant({"projection_dropout": 0.0}),
    "shared dropout in the span head": Variant(model_class=SharedDropoutModel),
}


def run(name: str, recipe: Recipe, corpus: Corpus, folder: Path, origin: dict[str, Any]) -> dict[str, Any]:
    """Train a variant in `folder/NAME`, or evaluate the unchanged model with the arguments of the variant."""
    variant = VARIANTS[name]
    output = folder / name.replace(" ", "-")
    if variant.evaluation is not None:
        documents = {split: getattr(corpus, split) for split in ("dev", "test")}
        metrics = {
            split: evaluate(str(folder / UNCHANGED), documents[split], **variant.evaluation)[0].to_dict()
            for split in documents
        }
        results = {**origin, "metrics": metrics, "seed": recipe.training.seed, "minutes": None}
        output.mkdir(parents=True, exist_ok=True)
        write_json(output / "results.json", results)
        return results
    recipe.training.output_dir = str(output)
    if variant.head_rate is not None:
        recipe.training.learning_rates = {"heads": variant.head_rate * recipe.training.learning_rate}
    return finetune(
        variant.corpus(corpus) if variant.corpus else corpus,
        replace(recipe.model, **variant.model),
        recipe.training,
        {**recipe.settings(), "variant": name},
        recipe.card,
        origin,
        variant.model_class,
        lora=recipe.lora,
    )


def main(argv: list[str] | None = None) -> None:
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(
        prog="python -m training.experiments.ablations",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--first", type=int, help="train on the first N documents only")
    parser.add_argument(
        "--only", nargs="+", choices=list(VARIANTS), default=list(VARIANTS), help="variants to run (default: all)"
    )
    arguments, rest = parser.parse_known_args(argv)
    try:
        for name in arguments.only:
            recipe = parse_recipe(rest)
            if VARIANTS[name].flat and recipe.model.decoding != "flat":
                continue
            output = str(recipe.training.output_dir)
            folder = Path(output if "output_dir" in recipe.given else f"{output}-ablations")
            if (folder / name.replace(" ", "-") / "results.json").exists():
                print(f"{name}: already finished, in {folder}", flush=True)
                continue
            print(f"\n=== {name} ===", flush=True)
            corpus = recipe.data.load()
            given = dict(recipe.given)
            if arguments.first:
                corpus = replace(corpus, train=corpus.train[: arguments.first])
                given["first"] = arguments.first
            origin = provenance("training.experiments.ablations", argv, recipe.name, given, "ablation", name)
            run(name, recipe, corpus, folder, origin)
    except (DataError, ValueError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
