"""Start fine-tuning from a checkpoint.

With replay, the training data also contain texts of other corpora. So the model does not forget their entity types.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from modeling_binder import BinderModel
from modeling_binder.finetuning import Corpus, EntityType, Mix, MixPart, load_corpus, replay_mix
from modeling_binder.finetuning.replay import TOKENS_PER_BATCH
from modeling_binder.loading import load_tokenizer

# A recipe may change only these fields of a checkpoint's configuration, because the other fields must fit the weights.
CHANGEABLE = ("decoding", "inference", "max_length", "stride")


@dataclass
class StartArguments:
    """Arguments for the checkpoint to start from, and for the replay of other corpora."""

    init_from: str | None = field(
        default=None, metadata={"help": "checkpoint to start from (folder or id on the Hub), instead of bare encoders"}
    )
    replay: float = field(
        default=0.0,
        metadata={"help": "with --init_from: share of the texts of an epoch that come from --replay_corpora"},
    )
    replay_corpora: list[str] = field(
        default_factory=lambda: ["training/open_types"],
        metadata={"help": "folders of corpora whose entity types must not be forgotten"},
    )
    tokens_per_batch: int = field(
        default=TOKENS_PER_BATCH,
        metadata={"help": "with --replay: maximum number of tokens in a batch, padding included"},
    )
    freeze: list[str] | None = field(
        default=None,
        metadata={
            "help": "parts of the model that are not trained; with --init_from, the default is type_encoder (except "
            "if texts and types share one encoder)"
        },
    )
    config: dict[str, Any] = field(init=False, default_factory=dict)  # new values of the fields in CHANGEABLE

    def __post_init__(self) -> None:
        if self.replay and not self.init_from:
            raise ValueError("--replay needs --init_from CHECKPOINT, the checkpoint to start from.")
        if not 0 <= self.replay < 1:
            raise ValueError(f"--replay must be at least 0 and less than 1, got {self.replay}.")

    def frozen_parts(self, model: BinderModel) -> list[str]:
        """Return the names of the parts of a model that are not trained."""
        if self.freeze is not None:
            return self.freeze
        return ["type_encoder"] if self.init_from and not model.config.share_encoders else []

    def load(self, entity_types: Sequence[EntityType]) -> tuple[BinderModel, Any]:
        """Return the checkpoint and its tokenizer. `entity_types` replaces the types of the checkpoint."""
        if self.init_from is None:
            raise ValueError("there is no checkpoint to start from: init_from is not set.")
        return load_checkpoint(self.init_from, entity_types, self.config)

    def training_data(self, corpus: Corpus) -> Any:
        """Return the training documents. With replay, return a mix of these documents and texts of other corpora.

        Raises:
            DataError: a corpus cannot be read, or the share of replayed texts is out of range.
        """
        if not self.replay:
            return corpus.train
        folders = [Path(os.path.expanduser(os.path.expandvars(folder))) for folder in self.replay_corpora]
        names = [f"replay of {folder.resolve().name}" for folder in folders]
        old = [MixPart.of(name, load_corpus(folder)) for name, folder in zip(names, folders, strict=True)]
        mix: Mix = replay_mix(MixPart.of("corpus", corpus), old, self.replay, self.tokens_per_batch)
        return mix


def check_not_start(output: Path, init_from: str | None) -> None:
    """Check that the output folder of a training is not the checkpoint to start from.

    Raises:
        ValueError: it is. The training would replace the checkpoint.
    """
    if init_from and Path(init_from).exists() and output.resolve() == Path(init_from).resolve():
        raise ValueError(f"{output} is the checkpoint to start from, and would be replaced; pass another --output_dir.")


def load_checkpoint(
    source: str, entity_types: Sequence[EntityType], config: Mapping[str, Any] | None = None
) -> tuple[BinderModel, Any]:
    """Load a checkpoint to fine-tune it.

    Args:
        source: folder or id on the Hub. An adapter is merged into its base.
        entity_types: the types to train. They replace the types of the checkpoint. Tuned thresholds and temperatures
            are removed. The breadth network is removed too. It prefers the narrower of two types of a span, which is
            wrong for types that exclude each other.
        config: new values of further fields of the configuration.

    Returns:
        The model in float32, and its tokenizer.
    """
    model = BinderModel.from_pretrained(source, dtype=torch.float32)
    if model.has_adapters:
        model.merge_and_unload()
    model.breadth = model.config.thresholds = model.config.temperatures = None
    model.config.default_threshold, model.config.default_temperature = 0.5, 1.0
    model.config.use_breadth = False
    own = [{"name": t.name, "description": t.description, "parent": t.parent} for t in entity_types]
    model.config.entity_types = [{key: text for key, text in fields.items() if text is not None} for fields in own]
    for name, value in (config or {}).items():
        setattr(model.config, name, value)
    model.config.validate_ranges()
    model.config.validate_entity_types()
    return model, load_tokenizer(source)
