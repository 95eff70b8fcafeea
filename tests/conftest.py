"""Tiny models, built in the process: no network, no weights; and a Hub on this machine."""

# ruff: noqa: E402 (the environment is read when huggingface_hub is imported)

import atexit
import copy
import json
import os
import string
import tempfile

import pytest
import torch
import yaml

from tests.local_hub import LocalHub

# Read by huggingface_hub when it is imported: tests know no other Hub than the one on this machine, and nobody's token.
HUB = LocalHub()
_HOME = tempfile.TemporaryDirectory()
atexit.register(_HOME.cleanup)
atexit.register(HUB.socket.close)
os.environ.update(HF_ENDPOINT=HUB.url, HF_HOME=_HOME.name, HF_HUB_DISABLE_XET="1", HF_HUB_DISABLE_TELEMETRY="1")
for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_CACHE", "HF_MODULES_CACHE", "HF_TOKEN_PATH"):
    os.environ.pop(name, None)
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, PreTrainedTokenizerFast

from modeling_binder import BinderConfig, BinderModel
from modeling_binder.finetuning import write_jsonl

TYPES = {
    "Gene": "A region of DNA that codes for a protein.",
    "Cell": "A cell type or a cell line.",
    "Place": "A city or a country.",
}


def build_tokenizer() -> PreTrainedTokenizerFast:
    """A WordPiece tokenizer over single letters and a few pieces: every word has several tokens."""
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = list(string.ascii_lowercase + string.digits + string.punctuation)
    pieces = ["the", "gene", "cell", "##s", "il", "pro", "##mo", "##ter", "##ing", "of", "in"]
    vocabulary = [*specials, *letters, *(f"##{letter}" for letter in letters), *pieces]
    tokenizer = Tokenizer(
        models.WordPiece({token: index for index, token in enumerate(dict.fromkeys(vocabulary))}, unk_token="[UNK]")
    )
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=128,
    )


def tiny_encoder_config(**overrides) -> BertConfig:
    """A BERT of two layers and 32 dimensions."""
    sizes = {
        "vocab_size": 256,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "max_position_embeddings": 128,
    }
    return BertConfig(**{**sizes, **overrides})


def build_model(**overrides) -> BinderModel:
    """A tiny BINDER with three types. Its scores are spread out, so that some spans beat their threshold."""
    torch.manual_seed(7)
    options = {
        "text_config": tiny_encoder_config().to_dict(),
        "projection_size": 16,
        "max_span_width": 12,
        "max_length": 64,
        "stride": 16,
        "entity_types": [{"name": name, "description": text} for name, text in TYPES.items()],
        "initializer_range": 0.5,
    }
    return BinderModel(BinderConfig(**{**options, **overrides})).eval()


_TOKENIZER, _MODEL = build_tokenizer(), build_model()


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    return copy.deepcopy(_TOKENIZER)


@pytest.fixture
def model() -> BinderModel:
    return copy.deepcopy(_MODEL)


@pytest.fixture
def checkpoint(tmp_path, model, tokenizer):
    """The tiny model and its tokenizer as a folder."""
    folder = tmp_path / "checkpoint"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def hub(monkeypatch) -> LocalHub:
    """An empty Hub on this machine; the process is logged in as alice."""
    HUB.start()
    HUB.reset()
    monkeypatch.setenv("HF_TOKEN", "hf_alice")
    return HUB


@pytest.fixture
def recipe(tmp_path, tokenizer):
    """A recipe for a tiny encoder and a tiny corpus, in a folder."""
    from tests.finetuning.test_trainer import corpus, small_model

    encoder = tmp_path / "encoder"
    small_model().text_encoder.save_pretrained(encoder)
    tokenizer.save_pretrained(encoder)
    data = tmp_path / "corpus"
    write_jsonl(data / "train.jsonl", corpus(6))
    write_jsonl(data / "dev.jsonl", corpus(1))
    write_jsonl(data / "test.jsonl", corpus(1))
    (data / "types.json").write_text(json.dumps(TYPES))
    settings = {
        "corpus": str(data),
        "encoder": str(encoder),
        "projection_size": 16,
        "projection_dropout": 0.1,
        "max_span_width": 12,
        "max_length": 64,
        "stride": 8,
        "num_train_epochs": 3,
        "learning_rate": 5.0e-3,
        "per_device_train_batch_size": 4,
        "use_cpu": True,
        "disable_tqdm": True,
        "seed": 3,
    }
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path
