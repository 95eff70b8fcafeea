"""The token-classification pipeline of transformers as a contender of the speed benchmark.

It has the same encoder as the other contenders.
"""

from pathlib import Path

from .base import FIXED_TYPES, Contender, Job


class TokenClassifier(Contender):
    """A token classifier with IOB2 tags for five types. The pipeline splits long texts into windows."""

    untrained = True

    def import_libraries(self) -> None:
        import torch
        import transformers

        self.torch, self.transformers = torch, transformers

    def build(self, folder: Path) -> None:
        self.torch.manual_seed(0)
        tags = ["O", *(f"{prefix}-{type_id}" for type_id in range(FIXED_TYPES) for prefix in "BI")]
        model = self.transformers.AutoModelForTokenClassification.from_pretrained(
            self.settings.encoder, num_labels=len(tags), id2label=dict(enumerate(tags))
        )
        model.save_pretrained(folder)
        tokenizer = self.transformers.AutoTokenizer.from_pretrained(self.settings.encoder)
        tokenizer.model_max_length = self.settings.max_length  # length of the windows of the pipeline
        tokenizer.save_pretrained(folder)

    def load(self, folder: Path) -> None:
        self.ner = self.transformers.pipeline(
            "token-classification",
            model=str(folder),
            aggregation_strategy="simple",
            stride=self.settings.stride,
            batch_size=self.settings.batch_size,
            device="cpu",
        )
        self.bias = self.ner.model.classifier.bias
        self.untouched = self.bias.detach()[0].item()

    def run(self, job: Job) -> int:
        with self.torch.no_grad():
            self.bias[0] = self.untouched + job.level
        return sum(map(len, self.ner(list(job.texts))))
