"""The token classification of transformers as a contender, trained as in `training.experiments.token_classifier`."""

from collections.abc import Sequence
from typing import Any

from .base import Contender, Found, Text
from .binder import BATCH_SIZE, WINDOW, documents_of
from .trainers import AfterStep, timed, trainer_arguments


class Tokens(Contender):
    """`AutoModelForTokenClassification` with IOB2 tags on the first tokens of words."""

    def import_libraries(self) -> None:
        import torch
        import transformers

        from training.experiments import token_classifier

        self.torch, self.transformers, self.module = torch, transformers, token_classifier

    def train(self) -> None:
        self.transformers.set_seed(self.settings.seed)  # before the head is initialised
        self.tokenizer = self.transformers.AutoTokenizer.from_pretrained(self.settings.encoder)
        data = self._windows("train")
        model = self.transformers.AutoModelForTokenClassification.from_pretrained(
            self.settings.encoder,
            num_labels=len(data.tags),
            id2label=dict(enumerate(data.tags)),
            label2id={tag: index for index, tag in enumerate(data.tags)},
        )
        self.chosen = {"batch_size": BATCH_SIZE, **WINDOW}
        self.trainer = timed(self.module.TokenTrainer, self.run)(
            model=model,
            args=self.transformers.TrainingArguments(**trainer_arguments(self.run, BATCH_SIZE)),
            train_dataset=data,
            processing_class=self.tokenizer,
            data_collator=self.transformers.DataCollatorForTokenClassification(self.tokenizer),
            callbacks=[AfterStep(self)],
        )
        self.trainer.train()

    def predict(self, texts: Sequence[Text]) -> list[list[Found]]:
        data = self._windows(self.settings.split)
        found: list[list[Found]] = data.mentions(self.trainer.predict(data).predictions)
        return found

    def _windows(self, split: str) -> Any:
        from modeling_binder.finetuning import WindowDataset
        from modeling_binder.processing_binder import BinderWindower

        windower = BinderWindower(self.tokenizer, **WINDOW)
        windows = WindowDataset(documents_of(self.run, split), windower, self.run.types, 2**16, "")
        return self.module.TaggedWindows(windows)
