"""Train a model, save its results.json and publish it: steps that all training commands share."""

import resource
import sys
import time
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import Trainer

from modeling_binder.finetuning import BinderTrainer
from modeling_binder.finetuning.data import write_json


def run_training(trainer: Trainer, checkpoint: str | None) -> dict[str, Any]:
    """Train and save a model. Return facts about the training for results.json.

    Args:
        trainer: a trainer that is ready to train.
        checkpoint: the checkpoint to resume from. None means to start from the beginning.

    Returns:
        `minutes`, `epochs`, `steps`, `best_checkpoint_step`, `seed`, `processes`, `peak_memory_mb`,
        `trained_parameters` and `versions`. `minutes` is None if the training was resumed, because its first part was
        not measured. `peak_memory_mb` is the memory of the GPU. Without a GPU, it is the memory of this process.
    """
    began = time.monotonic()
    trainer.train(resume_from_checkpoint=checkpoint)
    minutes = (time.monotonic() - began) / 60
    trainer.save_model()
    if trainer.is_world_process_zero():
        print(f"\nSaved in {trainer.args.output_dir} after {minutes:.1f} minutes of training.", flush=True)
    return {
        "minutes": None if checkpoint else round(minutes, 1),
        "epochs": trainer.state.epoch,
        "steps": trainer.state.global_step,
        "best_checkpoint_step": trainer.state.best_global_step,
        "seed": trainer.args.seed,
        "processes": trainer.args.world_size,
        "peak_memory_mb": round(_peak_memory() / 1e6),
        "trained_parameters": sum(weight.numel() for weight in trainer.model.parameters() if weight.requires_grad),
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
    }


def _peak_memory() -> int:
    """Return the peak memory of this process in bytes: GPU memory, or main memory if no GPU was used."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated()
    unit = 1 if sys.platform == "darwin" else 1024  # the unit of ru_maxrss in bytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def save_results(trainer: Trainer, results: dict[str, Any]) -> None:
    """Write the results of a training to `output_dir/results.json`."""
    if trainer.is_world_process_zero():
        write_json(Path(str(trainer.args.output_dir)) / "results.json", results)


def publish(trainer: BinderTrainer, message: str) -> None:
    """Push the model to the Hub if a repository is set. Otherwise, write its model card."""
    if not trainer.args.hub_model_id:
        trainer.create_model_card()
        return
    commit = trainer.push_to_hub(commit_message=message)
    if commit is not None:
        print(f"Pushed: {commit.pr_url or commit.commit_url}", flush=True)
