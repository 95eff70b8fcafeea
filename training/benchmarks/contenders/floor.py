"""The floor: what the encoder alone costs on the same text. Nothing that reads the text can be faster."""

import copy
import itertools
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .base import PASSES, Contender, Job, Settings, trainer_arguments


class Floor(Contender):
    """Forward passes over binder-ner's own batches (windows sorted by length, padded to the longest of their batch),
    tokenised beforehand."""

    def import_libraries(self) -> None:
        import torch
        import transformers

        self.torch, self.transformers = torch, transformers

    def load(self, folder: Path) -> None:
        dtype = dtype_of(self.options)
        self.tokenizer = self.transformers.AutoTokenizer.from_pretrained(self.settings.encoder)
        self.encoder = self.transformers.AutoModel.from_pretrained(self.settings.encoder, dtype=dtype).eval()

    def prepare(self, job: Job) -> None:
        windows = self.tokenizer(
            list(job.texts),
            truncation=True,
            max_length=self.settings.max_length,
            stride=self.settings.stride,
            return_overflowing_tokens=True,
            return_token_type_ids=False,
        )["input_ids"]
        windows.sort(key=len, reverse=True)
        batches = [slice(0, 1)]
        if len(windows) > 1:  # one text is a cold start, which does not have to import binder-ner
            from modeling_binder.streaming_binder import cut_into_batches

            batches = list(cut_into_batches([len(window) for window in windows], self.settings.batch_size))
        job.made = [self.tokenizer.pad({"input_ids": windows[part]}, return_tensors="pt") for part in batches]

    def run(self, job: Job) -> int:
        with self.torch.inference_mode():
            for batch in job.made:
                self.encoder(**batch)
        return 0

    def training_steps(self, documents: Sequence[dict[str, Any]], types: dict[str, str], steps: int) -> dict[str, Any]:
        """On binder-ner's batches: the encoder's own forward and backward pass over the texts, another encoder's over
        the descriptions, and the optimizer's step for both. A step of two encoders cannot cost less."""
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


def dtype_of(options: Mapping[str, Any]) -> Any:
    """The torch type of a contender's weights.

    Raises:
        RuntimeError: it is bfloat16, which this CPU does not multiply in: one would wait for an hour to learn nothing.
    """
    import torch

    from modeling_binder.machine import cpu_multiplies_bf16  # imports torch alone: loading is timed

    if options.get("dtype") == "bfloat16" and not cpu_multiplies_bf16():
        raise RuntimeError("this CPU does not multiply in bfloat16")
    return getattr(torch, options.get("dtype", "float32"))


def binder_trainer(
    settings: Settings, documents: Sequence[dict[str, Any]], types: dict[str, str], steps: int, **options: Any
) -> Any:
    """Our trainer on a fresh model: what is trained, and where the batches come from."""
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
    """The first batches of an epoch of our trainer."""
    loader = binder_trainer(settings, documents, types, steps).get_train_dataloader()
    return [batch for batch, _ in zip(loader, range(steps), strict=False)]
