"""GLiNER as a contender, trained by its own trainer."""

from collections.abc import Iterator, Sequence

from .base import Contender, Found, Text, longest_mention
from .trainers import AfterStep, timed, trainer_arguments

BATCH_SIZE = 8
THRESHOLD = 0.5


class Gliner(Contender):
    """GLiNER with one encoder, whose input is the names of all types followed by the text.

    A text has the names of all types in training too ("ner_labels"). By default, GLiNER would sample types that other
    texts of the batch have, which leaves most texts of a corpus with few types without any type to reject.
    """

    libraries = ("gliner", "torch", "transformers")

    def import_libraries(self) -> None:
        import gliner
        import gliner.training
        import torch
        import transformers

        self.torch, self.transformers, self.library = torch, transformers, gliner

    def train(self) -> None:
        from gliner.config import GLiNERConfig

        self.transformers.set_seed(self.settings.seed)
        labels = list(self.run.types)
        sizes = {"max_width": longest_mention(self.run.train, 12), "max_types": max(25, len(labels))}
        config = GLiNERConfig(
            model_name=self.settings.encoder,
            hidden_size=self.transformers.AutoConfig.from_pretrained(self.settings.encoder).hidden_size,
            **sizes,
        )
        self.model = self.library.GLiNER.from_config(config)
        self.multi_label = any(
            len({mention[:2] for mention in text.mentions}) < len(text.mentions) for text in self.run.train
        )
        self.chosen = {"batch_size": BATCH_SIZE, "threshold": THRESHOLD, "multi_label": self.multi_label, **sizes}
        rows = [
            {"tokenized_text": text.tokens, "ner": [list(mention) for mention in text.mentions], "ner_labels": labels}
            for text in self.run.train
            if text.words
        ]
        trainer = timed(self.library.training.Trainer, self.run)(
            model=self.model,
            args=self.model.create_training_args(**trainer_arguments(self.run, BATCH_SIZE), max_steps=-1),
            train_dataset=rows,
            data_collator=self.model._create_data_collator(),
            processing_class=self.model.data_processor.transformer_tokenizer,
            callbacks=[AfterStep(self)],
        )
        trainer.train()

    def predict(self, texts: Sequence[Text]) -> list[list[Found]]:
        words = {text.text: text.words for text in texts}

        def split(text: str) -> Iterator[tuple[str, int, int]]:
            return ((text[start:end], start, end) for start, end in words[text])

        splitter, self.model.data_processor.words_splitter = self.model.data_processor.words_splitter, split
        found = self.model.inference(
            [text.text for text in texts],
            list(self.run.types),
            flat_ner=not self.settings.nested,
            multi_label=self.multi_label,
            threshold=THRESHOLD,
            batch_size=BATCH_SIZE,
        )
        self.model.data_processor.words_splitter = splitter
        return [[(entity["start"], entity["end"], entity["label"]) for entity in entities] for entities in found]
