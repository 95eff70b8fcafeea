"""SpanMarker as a contender of the speed benchmark. Its input consists of the text and two markers for each span."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .base import FIXED_TYPES, Contender, Job, step_timer, trainer_arguments, words_and_mentions

# These values are from the documentation of SpanMarker. The default length exceeds the 512 positions of the encoder.
WINDOW = {"model_max_length": 256, "marker_max_length": 128, "entity_max_length": 8}


class SpanMarker(Contender):
    """SpanMarker. Its types are fixed in training."""

    libraries = ("span_marker", "torch", "transformers")
    untrained = True

    def import_libraries(self) -> None:
        import span_marker
        import torch

        self.torch, self.library = torch, span_marker

    def build(self, folder: Path) -> None:
        self._fresh([f"type {type_id}" for type_id in range(FIXED_TYPES)]).save_pretrained(folder)

    def _fresh(self, types: Sequence[str]) -> Any:
        self.torch.manual_seed(0)
        return self.library.SpanMarkerModel.from_pretrained(self.settings.encoder, labels=["O", *types], **WINDOW)

    def load(self, folder: Path) -> None:
        self.model = self.library.SpanMarkerModel.from_pretrained(str(folder)).eval()
        self.bias = self.model.classifier.bias
        self.untouched = self.bias.detach()[0].item()

    def run(self, job: Job) -> int:
        with self.torch.no_grad():
            self.bias[0] = self.untouched + job.level
        # SpanMarker interprets a list of strings without spaces as the words of a single text. So pass texts without
        # spaces one by one.
        if all(" " not in text for text in job.texts):
            return sum(len(self.model.predict(text)) for text in job.texts)
        return sum(map(len, self.model.predict(list(job.texts), batch_size=self.settings.batch_size)))

    def characters_read(self, text: str, types: dict[str, str]) -> int:
        offsets = self.model.tokenizer.tokenizer(
            text, truncation=True, max_length=WINDOW["model_max_length"], return_offsets_mapping=True
        )["offset_mapping"]
        read = max(end for _, end in offsets)
        return len(text) if not text[read:].strip() else int(read)

    def training_steps(self, documents: Sequence[dict[str, Any]], types: dict[str, str], steps: int) -> dict[str, Any]:
        from datasets import Dataset
        from transformers import TrainingArguments

        names = list(types)
        rows: dict[str, list[Any]] = {"tokens": [], "ner_tags": []}
        for words, mentions in map(words_and_mentions, documents):
            tags = [0] * len(words)
            for first, last, label in mentions:
                tags[first : last + 1] = [1 + names.index(label)] * (last + 1 - first)
            rows["tokens"].append(words)
            rows["ner_tags"].append(tags)
        timer = step_timer()
        self.library.Trainer(
            model=self._fresh(names),
            args=TrainingArguments(**trainer_arguments(self.settings, steps)),
            train_dataset=Dataset.from_dict(rows),
            callbacks=[timer],
        ).train()
        return {"seconds": timer.seconds}
