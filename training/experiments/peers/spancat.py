"""The span categorizer of spaCy as a contender, with its own configuration and training loop."""

from collections.abc import Iterator, Sequence
from typing import Any

from .base import Contender, Found, Text, longest_mention

KEY = "sc"  # spaCy's default for the group of spans
WARMUP = 250 / 20_000  # warm-up steps and all steps in spaCy's configuration


class Spancat(Contender):
    """`spancat` on the encoder, which spacy-transformers loads.

    The configuration is that of `spacy init config`, with four changes: the encoder; the learning rate, which follows
    the clock; the suggester, which proposes spans as long as 99% of the training mentions instead of up to three words;
    the training data, which are not read from a file of spaCy's format.
    """

    libraries = ("spacy", "spacy-transformers", "torch", "transformers")

    def import_libraries(self) -> None:
        import spacy
        import spacy_transformers  # noqa: F401 (registers the component "transformer")
        import torch
        from spacy.training import initialize, loop

        self.torch, self.spacy, self.initialize, self.loop = torch, spacy, initialize, loop

    def config(self, longest: int) -> Any:
        """Return the configuration of the training."""
        from spacy.cli.init_config import init_config

        registry = self.spacy.registry

        @registry.readers("peers.Texts.v1")
        def reader(split: str) -> Any:
            return lambda nlp: self.examples(nlp) if split == "train" else iter(())

        @registry.schedules("peers.timed.v1")
        def schedule(rate: float) -> Iterator[float]:
            while True:
                yield rate * self.run.factor(WARMUP)

        config = init_config(lang="en", pipeline=["spancat"], gpu=True)
        config["system"].update(seed=self.settings.seed, gpu_allocator=None)
        config["components"]["transformer"]["model"]["name"] = self.settings.encoder
        suggester = {"@misc": "spacy.ngram_range_suggester.v1", "min_size": 1, "max_size": longest}
        config["components"]["spancat"]["suggester"] = suggester
        for split in ("train", "dev"):
            config["corpora"][split] = {"@readers": "peers.Texts.v1", "split": split}
        rate = {"@schedules": "peers.timed.v1", "rate": self.settings.learning_rate}
        config["training"]["optimizer"]["learn_rate"] = rate
        return config

    def examples(self, nlp: Any) -> Iterator[Any]:
        """Yield the training texts as examples of spaCy."""
        from spacy.tokens import Doc, Span
        from spacy.training import Example

        for text in self.run.train:
            if text.words:
                gold = Doc(nlp.vocab, words=text.tokens)
                gold.spans[KEY] = [Span(gold, first, last + 1, label) for first, last, label in text.mentions]
                yield Example(Doc(nlp.vocab, words=text.tokens), gold)

    def train(self) -> None:
        from spacy.schemas import ConfigSchemaTraining

        longest = longest_mention(self.run.train, 3)
        config = self.config(longest)
        self.nlp = self.initialize.init_nlp(config)
        training = self.spacy.registry.resolve(config.interpolate()["training"], schema=ConfigSchemaTraining)
        self.chosen = {"max_words": longest, "batcher": dict(config["training"]["batcher"])}
        self.chosen["accumulate_gradient"] = training["accumulate_gradient"]
        examples = list(self.examples(self.nlp))
        read = 0  # number of texts; spaCy counts only whole epochs

        def batches() -> Iterator[Any]:
            nonlocal read
            for epoch, batch in self.loop.create_train_batches(
                self.nlp, lambda _: iter(examples), training["batcher"], 0
            ):
                read += len(batch)
                yield epoch, batch

        steps = self.loop.train_while_improving(
            self.nlp,
            training["optimizer"],
            batches(),
            lambda: (0.0, {}),  # no evaluation on dev, which would take training time
            dropout=training["dropout"],
            eval_frequency=10**9,
            accumulate_gradient=training["accumulate_gradient"],
            patience=0,
            max_steps=0,
            exclude=[],
            annotating_components=[],
            before_update=None,
        )
        for _, info, _ in steps:
            if self.run.after_step(self, info["step"] + 1, read / len(examples)):
                break

    def predict(self, texts: Sequence[Text]) -> list[list[Found]]:
        from spacy.tokens import Doc

        documents = [Doc(self.nlp.vocab, words=text.tokens) for text in texts]
        return [
            self._entities(text, document)
            for text, document in zip(texts, self.nlp.pipe(documents, batch_size=32), strict=True)
        ]

    def _entities(self, text: Text, document: Any) -> list[Found]:
        """Return the entities of a text; in a flat corpus, of overlapping entities the one with the highest score."""
        if KEY not in document.spans:
            return []
        spans = document.spans[KEY]
        found = sorted(zip(spans.attrs["scores"], spans, strict=True), key=lambda pair: -pair[0])
        kept: list[Any] = []
        for _, span in found:
            if self.settings.nested or all(span.end <= other.start or span.start >= other.end for other in kept):
                kept.append(span)
        return [(*text.characters(span.start, span.end - 1), span.label_) for span in kept]
