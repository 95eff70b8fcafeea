"""SpanMarker as a contender, trained by its own trainer."""

from collections.abc import Sequence
from typing import Any

from .base import Contender, Found, Text, longest_mention
from .trainers import AfterStep, timed, trainer_arguments

BATCH_SIZE = 4
ACCUMULATION = 2
WINDOW = {"model_max_length": 256, "marker_max_length": 128}


class SpanMarker(Contender):
    """SpanMarker; its training data are tags of words, so it cannot learn nested entities."""

    libraries = ("span_marker", "torch", "transformers")

    def import_libraries(self) -> None:
        import datasets
        import span_marker
        import torch
        import transformers

        self.torch, self.transformers = torch, transformers
        self.library, self.datasets = span_marker, datasets

    def train(self) -> None:
        self.transformers.set_seed(self.settings.seed)
        window = {**WINDOW, "entity_max_length": longest_mention(self.run.train, 8)}
        tags = ["O", *(f"{prefix}-{label}" for label in self.run.types for prefix in "BI")]
        self.model = self.library.SpanMarkerModel.from_pretrained(self.settings.encoder, labels=tags, **window)
        self.chosen = {"batch_size": BATCH_SIZE, "gradient_accumulation_steps": ACCUMULATION, **window}
        arguments = {**trainer_arguments(self.run, BATCH_SIZE), "gradient_accumulation_steps": ACCUMULATION}
        trainer = timed(self.library.Trainer, self.run)(
            model=self.model,
            args=self.transformers.TrainingArguments(**arguments),
            train_dataset=self.datasets.Dataset.from_dict(tagged(self.run.train, list(self.run.types))),
            callbacks=[AfterStep(self)],
        )
        trainer.train()

    def predict(self, texts: Sequence[Text]) -> list[list[Found]]:
        self.model.eval()
        with_words = [index for index, text in enumerate(texts) if text.words]
        found: list[list[Found]] = [[] for _ in texts]
        rows = self.model.predict([texts[index].tokens for index in with_words], batch_size=BATCH_SIZE)
        for index, entities in zip(with_words, rows, strict=True):
            found[index] = [
                (*texts[index].characters(entity["word_start_index"], entity["word_end_index"] - 1), entity["label"])
                for entity in entities
            ]
        return found


def tagged(texts: Sequence[Text], labels: Sequence[str]) -> dict[str, list[Any]]:
    """Return the words of each text and the ids of their IOB2 tags: 0 is O, 1 is B of the first label, 2 is I, ..."""
    rows: dict[str, list[Any]] = {"tokens": [], "ner_tags": []}
    for text in texts:
        tags = [0] * len(text.words)
        for first, last, label in text.mentions:
            begin = 1 + 2 * labels.index(label)
            tags[first : last + 1] = [begin, *[begin + 1] * (last - first)]
        if tags:
            rows["tokens"].append(text.tokens)
            rows["ner_tags"].append(tags)
    return rows
