"""Train BINDER on a mix of corpora, each with its own types.

    python -m training.finetune_mix training/recipes/open-types-minilm.yaml --data FOLDER --output_dir checkpoints/open

The recipe lists the corpora (`mix`) and the development sets (`dev`), see docs/partial-corpora.md. The command line can
override every other key; `--help` lists the keys. To continue an interrupted training from its last checkpoint, run the
same command again. `--prepared FOLDER` saves the tokenised mix in a folder. If the folder already contains a mix, the
command uses this mix and does not need the corpora.
"""

import logging
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from transformers import AutoTokenizer, HfArgumentParser, set_seed

from modeling_binder import BinderModel
from modeling_binder.finetuning import BinderTrainer, DataError
from modeling_binder.finetuning.distillation import Teacher
from modeling_binder.finetuning.mix import MixSettings, TypedDocuments
from modeling_binder.finetuning.packed import PackedMix
from modeling_binder.hub import PushError
from modeling_binder.processing_binder import BinderWindower
from training.arguments import BinderTrainingArguments, CardArguments, ModelArguments, from_json, read_recipe
from training.checkpoints import checkpoint_to_resume, save_settings
from training.encoders import hub_ids, resolve_encoder
from training.experiments.provenance import provenance
from training.mixes import (
    Folders,
    chosen_sets,
    load_prepared,
    rates,
    read_dev,
    read_mix,
    report_table,
    save_prepared,
    with_shares,
)
from training.runs import publish, run_training, save_results
from training.start import check_not_start


@dataclass
class MixArguments:
    """Arguments for the corpora, for sampling batches, and for the trained parts of the model."""

    mix: str | None = field(default=None, metadata={"help": "(in a recipe) list of corpora"})
    mix_defaults: str | None = field(
        default=None, metadata={"help": "(in a recipe) default values for keys in `mix` and `dev`"}
    )
    dev: str | None = field(default=None, metadata={"help": "(in a recipe) list of development sets"})
    shares: str | None = field(
        default=None,
        metadata={
            "help": "shares of corpora, instead of those in `mix`; on the command line as JSON: '{\"open_types\": 0.5}'"
        },
    )
    data: str | None = field(default=None, metadata={"help": "folder of the corpora; defaults to $BINDER_DATA"})
    prepared: str | None = field(default=None, metadata={"help": "folder in which the tokenised mix is saved"})
    prepare_only: bool = field(
        default=False, metadata={"help": "tokenise the mix into the folder --prepared, without training"}
    )
    processes: int = field(default=1, metadata={"help": "number of processes for tokenisation"})
    tokens_per_batch: int = field(
        default=4096, metadata={"help": "maximum number of tokens in a batch of one process, padding included"}
    )
    max_types: int = field(default=24, metadata={"help": "maximum number of types that a window is compared with"})
    foreign_types: int = field(
        default=4,
        metadata={"help": "number of types from other windows of the batch that are added to a window as negatives"},
    )
    phrasings: str | None = field(
        default=None,
        metadata={
            "help": "(in a recipe) how often the text of a type is 'film' (name), 'film: a movie' (named_description) "
            "or 'a movie' (description), as three shares"
        },
    )
    augment: str | None = field(
        default=None,
        metadata={
            "help": "(in a recipe) shares of the texts that are changed: to lower case (lower), to capitals (upper), "
            "or by line breaks instead of some spaces (breaks)"
        },
    )
    freeze: list[str] = field(
        default_factory=list, metadata={"help": "parts of the model that are not trained, for example type_encoder"}
    )
    max_minutes: float | None = field(
        default=None, metadata={"help": "time limit in minutes, including the evaluation and saving of the model"}
    )
    init_from: str | None = field(
        default=None, metadata={"help": "checkpoint to start from, instead of an encoder with untrained heads"}
    )
    teacher: str | None = field(
        default=None,
        metadata={"help": "folder or Hub id of a larger model whose scores the model also learns to predict"},
    )
    teacher_weight: float = field(
        default=1.0, metadata={"help": "factor of the loss that compares the model with its teacher"}
    )
    default_types: str | None = field(
        default=None, metadata={"help": "(in a recipe) entity types of the checkpoint, used if a call passes no types"}
    )

    def settings(self) -> MixSettings:
        """Return the settings for sampling batches."""
        shares: Any = self.phrasings or {}
        augment: Any = self.augment or {}
        return MixSettings(self.tokens_per_batch, self.max_types, self.foreign_types, augment=augment, **shares)


class Run(NamedTuple):
    """A parsed recipe: its name, its groups of arguments, and the settings that the command line changes (`given`)."""

    mix: MixArguments
    model: ModelArguments
    card: CardArguments
    training: BinderTrainingArguments
    name: str
    given: dict[str, Any]


def parse(argv: list[str]) -> Run:
    """Parse `RECIPE.yaml [--key value ...]`. Raise ValueError if the recipe cannot be read."""
    parser = HfArgumentParser(
        (MixArguments, ModelArguments, CardArguments, BinderTrainingArguments),
        prog="python -m training.finetune_mix",
        description="Train BINDER on a mix of corpora from a recipe (YAML).",
        usage="%(prog)s RECIPE.yaml [--key value ...]",
    )
    if not argv or argv[0].startswith("-"):
        parser.parse_args(argv)  # with --help, this ends the program
        raise ValueError("the first argument must be a recipe, for example training/recipes/open-types-minilm.yaml.")
    path = Path(argv[0])
    settings = read_recipe(path, {action.dest for action in parser._actions})
    settings.setdefault("output_dir", f"checkpoints/{path.stem}")
    parser.set_defaults(**settings)
    untouched, chosen = vars(parser.parse_args([])), vars(parser.parse_args(argv[1:]))
    given = {key: value for key, value in chosen.items() if value != untouched[key]}
    for key in ("dev", "shares", "phrasings", "augment"):
        if isinstance(chosen[key], str):
            chosen[key] = from_json(key, chosen[key])
    if chosen["shares"]:
        chosen["mix"] = with_shares(chosen["mix"] or [], chosen["shares"])
    mix, model, card, training = parser.parse_dict(chosen)
    return Run(mix, model, card, training, path.stem, given)


def is_mix_recipe(path: str) -> bool:
    """Return whether a file is a recipe with the key `mix`, including inherited keys."""
    try:
        return "mix" in read_recipe(Path(path))
    except (OSError, ValueError):
        return False


def build_model(run: Run) -> tuple[BinderModel, Any]:
    """Return the model to train and its tokenizer. The model is a checkpoint or an encoder with untrained heads."""
    if run.mix.init_from:
        model = BinderModel.from_pretrained(run.mix.init_from, dtype=torch.float32)
        return model, AutoTokenizer.from_pretrained(run.mix.init_from)
    encoder = resolve_encoder(run.model.encoder)
    model = BinderModel.from_encoders(
        encoder,
        run.model.type_encoder and resolve_encoder(run.model.type_encoder),
        entity_types=run.mix.default_types,
        **run.model.config(),
    )
    return model, AutoTokenizer.from_pretrained(encoder)


def load_teacher(run: Run) -> Teacher | None:
    """Return the teacher that the recipe names, or None."""
    if not run.mix.teacher:
        return None
    model = BinderModel.from_pretrained(run.mix.teacher, dtype=torch.float32)
    return Teacher(model, AutoTokenizer.from_pretrained(run.mix.teacher), run.mix.teacher_weight)


def prepare(run: Run, model: BinderModel, tokenizer: Any) -> tuple[PackedMix, dict[str, TypedDocuments]]:
    """Return the tokenised mix and the development sets.

    If the folder `--prepared` already contains a mix, the mix and the sets are read from this folder. Otherwise, they
    are made from the corpora. If `--prepared` is given, they are saved in this folder.
    """
    folder = Path(run.mix.prepared) if run.mix.prepared else None
    if folder is not None and (folder / "dev.json").exists():
        mix, dev = load_prepared(folder)
        entries: Any = run.mix.mix or []
        defaults: Any = run.mix.mix_defaults or {}
        mix.configure(run.mix.settings(), rates(entries, defaults))
        return mix, chosen_sets(dev, run.mix.dev or [])
    folders, defaults = Folders(run.mix.data), run.mix.mix_defaults or {}
    source = f"{run.name}.yaml"
    read = read_mix(run.mix.mix, defaults, run.mix.settings(), folders, source)
    dev = read_dev(run.mix.dev or [], defaults, folders, source)
    processor = BinderWindower.for_model(model, tokenizer)
    mix = PackedMix.prepare(read, processor, model.config.max_span_width, run.mix.processes)
    if folder is not None:
        save_prepared(folder, mix, dev)
    return mix, dev


def finetune_mix(run: Run, origin: dict[str, Any] | None = None) -> dict[str, Any]:
    """Train on a mix, and evaluate the checkpoint with the highest mean F1 over the development sets.

    Args:
        run: the parsed recipe.
        origin: command, code version and machine of the result, see `training.experiments.provenance`. They are saved
            with the results.

    Returns:
        The metrics and facts about the training. They are also written to `output_dir/results.json`.

    Raises:
        DataError, ValueError: the data or the settings are invalid; nothing was trained.
        PushError: the push to the Hub failed. The checkpoint is saved.
    """
    arguments, output = run.training, Path(str(run.training.output_dir))
    settings = {**asdict(run.mix), **asdict(run.model)}
    settings |= {name: getattr(arguments, name) for name in ("seed", "max_steps", "learning_rates")}
    for name in ("max_minutes", "processes", "prepared", "data", "prepare_only"):
        del settings[name]  # these settings may change when an interrupted training is continued
    check_not_start(output, run.mix.init_from)
    checkpoint = None if arguments.restart else checkpoint_to_resume(output, settings)
    set_seed(arguments.seed)
    model, tokenizer = build_model(run)
    mix, dev = prepare(run, model, tokenizer)
    if run.mix.prepare_only:
        print(f"\n{report_table(mix)}\n", flush=True)
        return {"mix": mix.report()}
    if not dev:
        arguments.eval_strategy = transformers.IntervalStrategy.NO
        arguments.load_best_model_at_end = False
    trainer = BinderTrainer(
        model,
        arguments,
        train_dataset=mix,
        eval_dataset=dev or None,
        processing_class=tokenizer,
        freeze=run.mix.freeze,
        learning_rates=arguments.learning_rates,  # type: ignore[arg-type]  # a mapping, see __post_init__
        max_minutes=run.mix.max_minutes,
        teacher=load_teacher(run),
        card={**run.card.card(), "base_model": hub_ids(run.model.encoder, run.model.type_encoder)},
    )
    if trainer.is_world_process_zero():
        print(f"\n{report_table(mix)}\n", flush=True)
        save_settings(output, settings)
    facts = run_training(trainer, checkpoint)
    metrics = trainer.evaluate() if dev else {}
    results: dict[str, Any] = {**(origin or {}), "metrics": metrics, **facts, "mix": mix.report()}
    save_results(trainer, results)
    publish(trainer, "BINDER model trained on a mix of corpora")
    return results


def main(argv: list[str] | None = None) -> dict[str, Any]:
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    argv = sys.argv[1:] if argv is None else argv
    try:
        run = parse(argv)
        origin = provenance("training.finetune_mix", argv, run.name, run.given, "binder")
        return finetune_mix(run, origin)
    except (DataError, PushError, ValueError, FileNotFoundError, ModuleNotFoundError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
