"""BINDER as a contender, trained by `BinderTrainer`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .base import Contender, Found, Run, Text
from .trainers import AfterStep, timed, trainer_arguments

# The values of the recipes for this encoder
BATCH_SIZE = 16
WINDOW: dict[str, Any] = {"max_length": 128, "stride": 16}
MAX_SPAN_WIDTH = 48


def documents_of(run: Run, split: str) -> Any:
    """Return the documents of a split as `Document` objects."""
    from modeling_binder.finetuning.formats import read_documents

    return read_documents(Path(run.settings.data) / f"{split}.jsonl")


class Binder(Contender):
    """BINDER; it reads the descriptions of the types."""

    def import_libraries(self) -> None:
        import torch
        import transformers

        import modeling_binder.finetuning

        self.torch, self.transformers, self.finetuning = torch, transformers, modeling_binder.finetuning

    def train(self) -> None:
        from modeling_binder import BinderModel

        self.transformers.set_seed(self.settings.seed)  # before the heads are initialised
        decoding = "nested" if self.settings.nested else "flat"
        tokenizer = self.transformers.AutoTokenizer.from_pretrained(self.settings.encoder)
        model = BinderModel.from_encoders(
            self.settings.encoder,
            entity_types=self.run.types,
            max_span_width=MAX_SPAN_WIDTH,
            decoding=decoding,
            **WINDOW,
        )
        self.chosen = {"batch_size": BATCH_SIZE, "max_span_width": MAX_SPAN_WIDTH, "decoding": decoding, **WINDOW}
        self.trainer = timed(self.finetuning.BinderTrainer, self.run)(
            model,
            self.transformers.TrainingArguments(**trainer_arguments(self.run, BATCH_SIZE)),
            train_dataset=documents_of(self.run, "train"),
            processing_class=tokenizer,
            callbacks=[AfterStep(self)],
        )
        self.trainer.train()

    def predict(self, texts: Sequence[Text]) -> list[list[Found]]:
        found = self.trainer.predict(documents_of(self.run, self.settings.split)).predictions
        return [[(entity["start"], entity["end"], entity["label"]) for entity in entities] for entities in found]
