"""Fine-tune BINDER from a recipe and evaluate it.

    python -m training.finetune training/recipes/quickstart.yaml --output_dir checkpoints/mine

Every key of the recipe can be overridden; `--help` lists them all. A run that was interrupted goes on from its last
checkpoint when the same command is given again.
"""

import json
import logging
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoTokenizer, EarlyStoppingCallback, set_seed
from transformers.trainer_utils import get_last_checkpoint

from modeling_binder import BinderModel
from modeling_binder.finetuning import BinderTrainer, Corpus, DataError, data_report
from modeling_binder.finetuning.data import written_whole
from training.arguments import BinderTrainingArguments, ModelArguments, parse_recipe
from training.encoders import resolve_encoder

logger = logging.getLogger("training.finetune")

# What may differ between an interrupted run and the one that goes on with it.
_RESUMABLE = {"output_dir", "restart", "resume_from_checkpoint", "report_to", "disable_tqdm", "logging_steps"}


def finetune(
    corpus: Corpus,
    model_arguments: ModelArguments,
    training_arguments: BinderTrainingArguments,
    settings: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Fine-tune, save the best checkpoint in `output_dir`, evaluate it.

    Args:
        corpus: train, dev and test documents and their types.
        model_arguments, training_arguments: see `training.arguments`.
        settings: what to remember of this run and to compare an interrupted one with.

    Returns:
        What was measured: metrics of dev and test, minutes, counts; also written to `output_dir/results.json`.

    Raises:
        DataError, ValueError: bad data or settings; nothing was written yet.
    """
    if not corpus.train:
        raise DataError("the corpus has no training documents: it needs a train.jsonl, or name one with --train_file.")
    output = Path(str(training_arguments.output_dir))
    checkpoint = None if training_arguments.restart else _interrupted(output, settings or {})
    set_seed(training_arguments.seed)  # the heads are initialised before Trainer sets it
    encoder = resolve_encoder(model_arguments.encoder)
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    model = BinderModel.from_encoders(
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
    results: dict[str, Any] = {"metrics": {}, "minutes": round(minutes, 1), "epochs": trainer.state.epoch}
    for name in ("dev", "test"):
        if name in splits:
            metrics = trainer.score(splits[name])
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
    return results


def _interrupted(output: Path, settings: dict[str, Any]) -> str | None:
    """The last checkpoint of an earlier run in the same folder, if that run had the same settings."""
    if not output.is_dir() or (checkpoint := get_last_checkpoint(str(output))) is None:
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


def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON; the file appears whole or not at all."""
    with written_whole(path) as file:
        file.write(json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")


def main(argv: list[str] | None = None) -> dict[str, Any]:
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    try:
        data, model, training, settings = parse_recipe(argv)
        settings = {**asdict(data), **asdict(model), **settings}
        return finetune(data.load(), model, training, settings)
    except (DataError, ValueError, FileNotFoundError, ModuleNotFoundError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
