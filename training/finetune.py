"""Fine-tune BINDER from a recipe and evaluate it.

    python -m training.finetune training/recipes/quickstart.yaml --output_dir checkpoints/mine

The command line can override every key of the recipe; `--help` lists all keys. To continue an interrupted training, run
the same command again.

Training can also start from a checkpoint. `--replay` adds texts of other corpora to the training data, so that the
model does not forget its earlier entity types:

    python -m training.finetune --corpus my_corpus --init_from demo/model --replay 0.3

`--lora-r` trains and saves adapters (LoRA) instead of all weights:

    python -m training.finetune --corpus my_corpus --init_from demo/model --lora-r 16 --learning_rate 5e-4

A recipe with a `mix` of corpora is passed to `training.finetune_mix`.
"""

import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import transformers
from transformers import AutoTokenizer, EarlyStoppingCallback, set_seed

from modeling_binder import BinderModel
from modeling_binder.finetuning import BinderTrainer, Corpus, DataError, WindowDataset, data_report
from modeling_binder.hub import PushError, check_access
from training.arguments import BinderTrainingArguments, CardArguments, ModelArguments, parse_recipe
from training.checkpoints import checkpoint_to_resume, checksum, save_settings
from training.encoders import hub_ids, resolve_encoder
from training.experiments.provenance import provenance
from training.finetune_mix import is_mix_recipe
from training.finetune_mix import main as train_on_mix
from training.lora import LoraArguments
from training.runs import publish, run_training, save_results
from training.start import StartArguments, check_not_start

logger = logging.getLogger("training.finetune")


def finetune(
    corpus: Corpus,
    model_arguments: ModelArguments,
    training_arguments: BinderTrainingArguments,
    settings: dict[str, Any] | None = None,
    card: CardArguments | None = None,
    origin: dict[str, Any] | None = None,
    model_class: type[BinderModel] = BinderModel,
    start: StartArguments | None = None,
    lora: LoraArguments | None = None,
) -> dict[str, Any]:
    """Fine-tune a model, save the best checkpoint in `output_dir`, and evaluate it.

    Args:
        corpus: documents of the splits, and their entity types.
        model_arguments, training_arguments: see `training.arguments`.
        settings: settings of this training. They are saved, and compared with the settings of an interrupted training.
        card: facts for the model card.
        origin: command, code version and machine of the result, see `training.experiments.provenance`. They are saved
            with the results.
        model_class: the class of the model, for ablations.
        start: a checkpoint to start from, instead of bare encoders.
        lora: adapters to train instead of all weights.

    If `training_arguments.hub_model_id` is set, the function pushes the model to this repository at the end.

    Returns:
        The results: metrics on dev and test, minutes of training (None for a resumed training) and counts. They are
        also written to `output_dir/results.json`.

    Raises:
        DataError, ValueError: the data or the settings are invalid. Nothing was written.
        PushError: you have no write access to the repository (checked before the training), or the push failed (the
            checkpoint is saved).
    """
    start = start or StartArguments()
    if not corpus.train:
        raise DataError("the corpus has no training documents: add a train.jsonl, or pass --train_file FILE.")
    settings, output = {**(settings or {}), "data": checksum(corpus)}, Path(str(training_arguments.output_dir))
    check_not_start(output, start.init_from)
    checkpoint = None if training_arguments.restart else checkpoint_to_resume(output, settings)
    if training_arguments.hub_model_id:
        check_access(training_arguments.hub_model_id, training_arguments.hub_token)
    lora, card = lora or LoraArguments(), card or CardArguments()
    trainer = _build_trainer(corpus, model_arguments, training_arguments, card, model_class, start, lora)
    splits = _windows(trainer, corpus)
    if trainer.is_world_process_zero():
        print(f"\n{data_report(splits)}\n", flush=True)
        save_settings(output, settings)
        if checkpoint:
            print(f"Resuming from {checkpoint}; --restart true starts from the beginning.", flush=True)

    facts = run_training(trainer, checkpoint)
    windows = {name: len(dataset) for name, dataset in splits.items()}
    results = {**(origin or {}), "metrics": _evaluate(trainer, splits), **facts, "windows": windows}
    save_results(trainer, results)
    publish(trainer, "Fine-tuned BINDER model")
    return results


def _build_trainer(
    corpus: Corpus,
    model_arguments: ModelArguments,
    training_arguments: BinderTrainingArguments,
    card: CardArguments,
    model_class: type[BinderModel],
    start: StartArguments,
    lora: LoraArguments,
) -> BinderTrainer:
    """Build a model from pretrained encoders, or load a checkpoint. Add adapters if given. Return the trainer."""
    set_seed(training_arguments.seed)  # Trainer sets it too late: after the heads are initialised
    if start.init_from:
        model, tokenizer = start.load(corpus.types)
        base_model = None if Path(start.init_from).exists() else [start.init_from]
    else:
        encoder = resolve_encoder(model_arguments.encoder)
        model = model_class.from_encoders(
            encoder,
            model_arguments.type_encoder and resolve_encoder(model_arguments.type_encoder),
            entity_types=corpus.entity_types,
            **model_arguments.config(),
        )
        tokenizer = AutoTokenizer.from_pretrained(encoder)
        base_model = hub_ids(model_arguments.encoder, model_arguments.type_encoder)
    frozen, pushed = start.frozen_parts(model), bool(training_arguments.hub_model_id)
    model = lora.adapt(model, tokenizer, frozen, Path(str(training_arguments.output_dir)), pushed)
    if not corpus.dev:
        logger.warning("no development set: the last checkpoint is kept instead of the best one.")
        training_arguments.eval_strategy = transformers.IntervalStrategy.NO
        training_arguments.load_best_model_at_end = False
        training_arguments.early_stopping_patience = None
    patience = training_arguments.early_stopping_patience
    return BinderTrainer(
        model,
        training_arguments,
        train_dataset=start.training_data(corpus),
        eval_dataset=corpus.dev or None,
        processing_class=tokenizer,
        freeze=frozen,
        learning_rates=training_arguments.learning_rates,  # type: ignore[arg-type]  # a mapping, see __post_init__
        callbacks=[EarlyStoppingCallback(patience)] if patience else None,
        card={**card.card(), "base_model": base_model},
    )


def _windows(trainer: BinderTrainer, corpus: Corpus) -> dict[str, Any]:
    """Return the windows of each split that has documents."""
    of_corpus = isinstance(trainer.train_dataset, WindowDataset)
    splits = {"train": trainer.train_dataset if of_corpus else trainer.make_windows(corpus.train, "train")}
    if corpus.dev:
        splits["dev"] = trainer.eval_dataset
    if corpus.test:
        splits["test"] = trainer.make_windows(corpus.test, "test")
    return splits


def _evaluate(trainer: BinderTrainer, splits: Mapping[str, Any]) -> dict[str, Any]:
    """Evaluate the model on dev and test, print the tables, and return the metrics as dictionaries for JSON."""
    results = {}
    for name in ("dev", "test"):
        if name in splits:
            metrics = trainer.score(splits[name], name)
            results[name] = metrics.to_dict()
            if trainer.is_world_process_zero():
                print(f"\n{name}\n{metrics.table()}", flush=True)
    return results


def main(argv: list[str] | None = None) -> dict[str, Any]:
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    argv = sys.argv[1:] if argv is None else argv
    if argv and is_mix_recipe(argv[0]):
        return train_on_mix(argv)
    try:
        recipe = parse_recipe(argv)
        origin = provenance("training.finetune", argv, recipe.name, recipe.given, "binder")
        return finetune(
            recipe.data.load(),
            recipe.model,
            recipe.training,
            recipe.settings(),
            recipe.card,
            origin,
            start=recipe.start,
            lora=recipe.lora,
        )
    except (DataError, PushError, ValueError, FileNotFoundError, ModuleNotFoundError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
