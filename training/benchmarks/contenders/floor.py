"""The bare encoder as a contender. Its time is a lower bound for every contender with the same encoder."""

import copy
import itertools
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .base import PASSES, Contender, Job, Settings, trainer_arguments


class Floor(Contender):
    """Forward passes of the encoder over the batches of binder-ner. Tokenisation is not measured.

    Windows are sorted by length, and each batch is padded to its longest window.
    """

    def import_libraries(self) -> None:
        import torch
        import transformers

        self.torch, self.transformers = torch, transformers

    def build(self, folder: Path) -> str | None:
        check_dtype(self.options)
        return None

    def load(self, folder: Path) -> None:
        dtype = dtype_of(self.options)
        self.tokenizer = self.transformers.AutoTokenizer.from_pretrained(self.settings.encoder)
        self.encoder = self.transformers.AutoModel.from_pretrained(self.settings.encoder, dtype=dtype).eval()

    def prepare(self, job: Job) -> None:
        if job.made is not None:
            return
        settings = self.settings
        job.made = padded_batches(
            self.tokenizer, list(job.texts), settings.max_length, settings.stride, settings.batch_size
        )

    def run(self, job: Job) -> int:
        with self.torch.inference_mode():
            for batch in job.made:
                self.encoder(**batch)
        return 0

    def training_steps(self, documents: Sequence[dict[str, Any]], types: dict[str, str], steps: int) -> dict[str, Any]:
        """Measure forward and backward passes of two encoders, for texts and for descriptions, and an optimizer step.

        The batches are the batches of `BinderTrainer`. The time is a lower bound for a training step of any model with
        two encoders.
        """
        texts = self.encoder.train()
        descriptions = copy.deepcopy(texts)
        weights = [*texts.parameters(), *descriptions.parameters()]
        optimizer = self.torch.optim.AdamW(weights, lr=3e-5, fused=True)
        timed: dict[str, list[float]] = {name: [] for name in (PASSES, "of the descriptions", "optimizer", "seconds")}

        def passes(encoder: Any, input_ids: Any, attention_mask: Any) -> None:
            encoder(input_ids, attention_mask=attention_mask).last_hidden_state.square().mean().backward()

        for batch in training_batches(self.settings, documents, types, steps):
            at = [time.perf_counter()]
            passes(texts, batch["input_ids"], batch["attention_mask"])
            at.append(time.perf_counter())
            passes(descriptions, batch["type_input_ids"], batch["type_attention_mask"])
            at.append(time.perf_counter())
            optimizer.step()
            optimizer.zero_grad()
            at.append(time.perf_counter())
            parts = [after - before for before, after in itertools.pairwise(at)]
            for name, seconds in zip(timed, [*parts, at[-1] - at[0]], strict=True):
                timed[name].append(seconds)
        texts.eval()
        return timed


def padded_batches(tokenizer: Any, texts: list[str], max_length: int, stride: int, batch_size: int) -> list[Any]:
    """Return the token ids and masks of the batches in which the pipeline encodes these texts.

    Args:
        tokenizer: the tokenizer of the text encoder.
        texts: the texts.
        max_length, stride: see `BinderConfig`.
        batch_size: maximum number of windows in a batch.
    """
    windows = tokenizer(
        texts,
        truncation=True,
        max_length=max_length,
        stride=stride,
        return_overflowing_tokens=True,
        return_token_type_ids=False,
    )["input_ids"]
    windows.sort(key=len, reverse=True)
    batches = [slice(0, 1)]
    if len(windows) > 1:  # in a cold start, there is one window, and binder-ner must not be imported
        from modeling_binder.streaming_binder import cut_into_batches

        batches = list(cut_into_batches([len(window) for window in windows], batch_size))
    return [tokenizer.pad({"input_ids": windows[part]}, return_tensors="pt") for part in batches]


def dtype_of(options: Mapping[str, Any]) -> Any:
    """Return the torch dtype of a contender's weights."""
    import torch

    return getattr(torch, options.get("dtype", "float32"))


def check_dtype(options: Mapping[str, Any]) -> None:
    """Raise an error for bfloat16 on a CPU without bfloat16 instructions, because the benchmark would take hours.

    `build` calls this function. In `load`, its import of `modeling_binder` would count as loading time.

    Raises:
        RuntimeError: the CPU has no bfloat16 instructions.
    """
    from modeling_binder.machine import cpu_multiplies_bf16

    if options.get("dtype") == "bfloat16" and not cpu_multiplies_bf16():
        raise RuntimeError("this CPU has no bfloat16 instructions")


def binder_trainer(
    settings: Settings, documents: Sequence[dict[str, Any]], types: dict[str, str], steps: int, **options: Any
) -> Any:
    """Return a `BinderTrainer` for a model with untrained heads. `options` are passed to the trainer."""
    from transformers import AutoTokenizer, TrainingArguments

    from modeling_binder import BinderModel
    from modeling_binder.finetuning import BinderTrainer

    model = BinderModel.from_encoders(
        settings.encoder, entity_types=types, max_length=settings.max_length, stride=settings.stride
    )
    return BinderTrainer(
        model,
        TrainingArguments(**trainer_arguments(settings, steps), seed=0),
        documents,
        processing_class=AutoTokenizer.from_pretrained(settings.encoder),
        **options,
    )


def training_batches(
    settings: Settings, documents: Sequence[dict[str, Any]], types: dict[str, str], steps: int
) -> list[dict[str, Any]]:
    """Return the first batches of an epoch of `BinderTrainer`."""
    loader = binder_trainer(settings, documents, types, steps).get_train_dataloader()
    return [batch for batch, _ in zip(loader, range(steps), strict=False)]
