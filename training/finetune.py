"""Fine-tune BINDER from a recipe and evaluate it.

    python -m training.finetune training/recipes/quickstart.yaml --output_dir checkpoints/mine

Every key of the recipe can be overridden; `--help` lists them all. A run that was interrupted goes on from its last
checkpoint when the same command is given again.
"""

import json
import logging
import sys
import time
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoTokenizer, EarlyStoppingCallback, set_seed

from modeling_binder import BinderModel
from modeling_binder.finetuning import BinderTrainer, Corpus, DataError, data_report
from modeling_binder.finetuning.data import write_json
from modeling_binder.hub import PushError, check_access
from training.arguments import BinderTrainingArguments, CardArguments, ModelArguments, parse_recipe
from training.checkpoints import last_whole_checkpoint
from training.encoders import hub_ids, resolve_encoder
from training.experiments.provenance import provenance

logger = logging.getLogger("training.finetune")

# What may differ between an interrupted run and the one that goes on with it, and is not remembered of it: a token is
# nobody's business.
_RESUMABLE = {"output_dir", "restart", "resume_from_checkpoint", "report_to", "disable_tqdm", "logging_steps"}
_SHARING = {field.name for field in fields(CardArguments)} | {"push_to_hub"}


def finetune(
    corpus: Corpus,
    model_arguments: ModelArguments,
    training_arguments: BinderTrainingArguments,
    settings: dict[str, Any] | None = None,
    card: CardArguments | None = None,
    origin: dict[str, Any] | None = None,
    model_class: type[BinderModel] = BinderModel,
) -> dict[str, Any]:
    """Fine-tune, save the best checkpoint in `output_dir`, evaluate it.

    Args:
        corpus: train, dev and test documents and their types.
        model_arguments, training_arguments: see `training.arguments`.
        settings: what to remember of this run and to compare an interrupted one with.
        card: what the model card tells that only you know. With `training_arguments.hub_model_id` the result is
            pushed there.
        origin: where the result comes from, see `training.experiments.provenance`; kept with it.
        model_class: a variant of the model, for ablations.

    Returns:
        What was measured: metrics of dev and test, minutes (of a resumed run None), counts; also written to
        `output_dir/results.json`.

    Raises:
        DataError, ValueError: bad data or settings; nothing was written yet.
        PushError: you may not push there (before the training), or the push failed; the checkpoint is saved.
    """
    if not corpus.train:
        raise DataError("the corpus has no training documents: it needs a train.jsonl, or name one with --train_file.")
    output = Path(str(training_arguments.output_dir))
    checkpoint = None if training_arguments.restart else _interrupted(output, settings or {})
    if training_arguments.hub_model_id:
        check_access(training_arguments.hub_model_id, training_arguments.hub_token)
    set_seed(training_arguments.seed)  # the heads are initialised before Trainer sets it
    encoder = resolve_encoder(model_arguments.encoder)
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    model = model_class.from_encoders(
        encoder,
        model_arguments.type_encoder and resolve_encoder(model_arguments.type_encoder),
        entity_types=corpus.entity_types,
        **model_arguments.config(),
    )
    if not corpus.dev:
        logger.warning("no development set: the last checkpoint is kept, not the best one.")
        training_arguments.eval_strategy = transformers.IntervalStrategy.NO
        training_arguments.load_best_model_at_end = False
        training_arguments.early_stopping_patience = None
    patience = training_arguments.early_stopping_patience
    trainer = BinderTrainer(
        model,
        training_arguments,
        train_dataset=corpus.train,
        eval_dataset=corpus.dev or None,
        processing_class=tokenizer,
        callbacks=[EarlyStoppingCallback(patience)] if patience else None,
        card={
            **(card or CardArguments()).card(),
            "base_model": hub_ids(model_arguments.encoder, model_arguments.type_encoder),
        },
    )
    splits = {"train": trainer.train_dataset}
    if corpus.dev:
        splits["dev"] = trainer.eval_dataset
    if corpus.test:
        splits["test"] = trainer.make_windows(corpus.test, "test")
    if trainer.is_world_process_zero():
        print(f"\n{data_report(splits)}\n", flush=True)
        write_json(output / "settings.json", settings or {})
        if checkpoint:
            print(f"Going on from {checkpoint}; --restart true begins anew.", flush=True)

    began = time.time()
    trainer.train(resume_from_checkpoint=checkpoint)
    minutes = (time.time() - began) / 60
    trainer.save_model()
    results: dict[str, Any] = {
        **(origin or {}),
        "metrics": {},
        "minutes": None if checkpoint else round(minutes, 1),  # of a run that was resumed nobody took the whole time
        "epochs": trainer.state.epoch,
    }
    for name in ("dev", "test"):
        if name in splits:
            metrics = trainer.score(splits[name], name)
            results["metrics"][name] = metrics.to_dict()
            if trainer.is_world_process_zero():
                print(f"\n{name}\n{metrics.table()}", flush=True)
    results |= {
        "seed": training_arguments.seed,
        "best_checkpoint_step": trainer.state.best_global_step,
        "steps": trainer.state.global_step,
        "windows": {name: len(dataset) for name, dataset in splits.items()},
        "processes": training_arguments.world_size,
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
    }
    if trainer.is_world_process_zero():
        write_json(output / "results.json", results)
        print(f"\nSaved in {output} after {minutes:.1f} minutes of training.", flush=True)
    if training_arguments.hub_model_id:
        commit = trainer.push_to_hub(commit_message="Fine-tuned BINDER model")
        if commit is not None:
            print(f"Pushed: {commit.pr_url or commit.commit_url}", flush=True)
    else:
        trainer.create_model_card()
    return results


def _interrupted(output: Path, settings: dict[str, Any]) -> str | None:
    """The last whole checkpoint of an earlier run in the same folder, if that run had the same settings."""
    if (checkpoint := last_whole_checkpoint(output)) is None:
        return None
    remembered = output / "settings.json"
    before = json.loads(remembered.read_text(encoding="utf-8")) if remembered.exists() else {}
    now = json.loads(json.dumps(settings, default=str))
    different = [
        f"{name}: {before.get(name)!r} then, {now.get(name)!r} now"
        for name in sorted({*before, *now} - _RESUMABLE)
        if before.get(name) != now.get(name)
    ]
    if different:
        raise ValueError(
            f"{output} holds an interrupted run with other settings ({'; '.join(different)}). Name another "
            "--output_dir, or begin anew with --restart true."
        )
    return checkpoint


def main(argv: list[str] | None = None) -> dict[str, Any]:
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    argv = sys.argv[1:] if argv is None else argv
    try:
        recipe = parse_recipe(argv)
        settings = {**asdict(recipe.data), **asdict(recipe.model), **recipe.changed}
        settings = {
            name: value for name, value in settings.items() if name not in _SHARING and not name.startswith("hub_")
        }
        origin = provenance("training.finetune", argv, recipe.name, recipe.given, "binder")
        return finetune(recipe.data.load(), recipe.model, recipe.training, settings, recipe.card, origin)
    except (DataError, PushError, ValueError, FileNotFoundError, ModuleNotFoundError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
