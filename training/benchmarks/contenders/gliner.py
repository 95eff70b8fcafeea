"""GLiNER as a contender of the speed benchmark, with one or two encoders.

With one encoder, the input consists of the labels and the text. With two encoders, labels are encoded once, and their
embeddings are reused. The models have the default settings of the library, except for the hidden size. It is the hidden
size of the encoder.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .base import Contender, Job, characters_of_words, logit, sigmoid, step_timer, trainer_arguments, words_and_mentions

LOWEST = -20.0  # a minimum score (as a logit) that is lower than the scores of all spans
POSITIONS = 8192  # number of position embeddings, enough for a thousand labels before the text


class Gliner(Contender):
    """GLiNER. With the option `two`, it has a separate encoder for labels."""

    libraries = ("gliner", "torch", "transformers")
    untrained = True

    def import_libraries(self) -> None:
        import gliner
        import torch
        import transformers

        self.torch, self.transformers, self.library = torch, transformers, gliner

    def build(self, folder: Path) -> None:
        from gliner.config import GLiNERConfig

        self.torch.manual_seed(0)
        encoder = self._with_more_positions(folder / "encoder")
        config = GLiNERConfig(
            model_name=str(encoder),
            hidden_size=self.transformers.AutoConfig.from_pretrained(encoder).hidden_size,
            labels_encoder=self.settings.encoder if self.options.get("two") else None,
        )
        model = self.library.GLiNER.from_config(config)
        model.save_pretrained(folder / "model")

    def _with_more_positions(self, folder: Path) -> Path:
        """Save a copy of the encoder that accepts longer texts, by repeating its position embeddings."""
        model = self.transformers.AutoModel.from_pretrained(self.settings.encoder)
        tokenizer = self.transformers.AutoTokenizer.from_pretrained(self.settings.encoder)
        table = model.embeddings.position_embeddings
        rows, width = table.weight.shape
        larger = self.torch.nn.Embedding(POSITIONS, width)
        larger.weight.data = table.weight.detach().repeat(-(-POSITIONS // rows), 1)[:POSITIONS].clone()
        model.embeddings.position_embeddings = larger
        model.config.max_position_embeddings = tokenizer.model_max_length = POSITIONS
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    def load(self, folder: Path) -> None:
        self.model = self.library.GLiNER.from_pretrained(str(folder / "model"), map_location="cpu")
        self._encoded: tuple[tuple[str, ...], Any] = ((), None)  # the last labels and their embeddings

    def prepare(self, job: Job) -> None:
        if self.options.get("two") and job.made is None:
            labels = tuple(job.types)
            if self._encoded[0] != labels:
                with self._padded_to_the_longest(labels):
                    self._encoded = (labels, self._embeddings(labels))
            job.made = self._encoded[1]

    @contextmanager
    def _padded_to_the_longest(self, labels: Sequence[str]) -> Iterator[None]:
        """Pad labels to the longest of them. The embeddings stay the same.

        The library pads each label to the maximum length of the tokenizer. Ten thousand labels then take a quarter of
        an hour, and the preparation of a job is not measured.
        """
        tokenizer = self.model.data_processor.labels_tokenizer
        usual = tokenizer.model_max_length
        tokenizer.model_max_length = min(usual, max(map(len, tokenizer(list(labels))["input_ids"])))
        try:
            yield
        finally:
            tokenizer.model_max_length = usual

    def encode_types(self, types: dict[str, str]) -> None:
        """Encode the descriptions, which GLiNER accepts as labels; binder-ner encodes descriptions too."""
        self._embeddings(types.values())

    def _embeddings(self, labels: Iterable[str]) -> Any:
        return self.model.encode_labels(list(labels), batch_size=self.settings.batch_size)

    def run(self, job: Job) -> int:
        return sum(map(len, self._find(job)))

    def level(self, job: Job, wanted: int, seconds: float) -> float:
        """Return the level (the minimum score of an entity, as a logit) at which exactly `wanted` entities are found.

        The scores of one run are sufficient, because decoding processes spans in the order of their scores. A higher
        level only stops decoding earlier.
        """
        job.level = LOWEST
        scores = sorted((entity["score"] for found in self._find(job) for entity in found), reverse=True)
        return logit((scores[wanted - 1] + scores[wanted]) / 2) if 0 < wanted < len(scores) else LOWEST

    def _find(self, job: Job) -> Any:
        arguments = {"threshold": sigmoid(job.level), "batch_size": self.settings.batch_size}
        texts, labels = list(job.texts), list(job.types)
        if self.options.get("two"):
            return self.model.batch_predict_with_embeds(texts, job.made, labels, **arguments)
        return self.model.inference(texts, labels, **arguments)

    def characters_read(self, text: str, types: dict[str, str]) -> int:
        ends = [end for _, _, end in self.model.data_processor.words_splitter(text)]
        return characters_of_words(text, ends, self.model.config.max_len)

    def training_steps(self, documents: Sequence[dict[str, Any]], types: dict[str, str], steps: int) -> dict[str, Any]:
        from gliner.training import Trainer, TrainingArguments

        rows = [
            {"tokenized_text": words, "ner": [list(mention) for mention in mentions]}
            for words, mentions in map(words_and_mentions, documents)
        ]
        timer = step_timer()
        Trainer(
            model=self.model,
            args=TrainingArguments(**trainer_arguments(self.settings, steps)),
            train_dataset=rows,
            data_collator=self.model._create_data_collator(),
            processing_class=self.model.data_processor.transformer_tokenizer,
            callbacks=[timer],
        ).train()
        return {"seconds": timer.seconds}
