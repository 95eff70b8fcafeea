"""Fixtures for all tests: a tiny tokenizer, a tiny model, a checkpoint, a training recipe and a local Hub."""

# ruff: noqa: E402 (huggingface_hub reads the environment when it is imported)

import atexit
import copy
import json
import os
import tempfile

import pytest
import yaml

from tests.local_hub import LocalHub

# Tests use only the local Hub, and never the user's access token. huggingface_hub reads these environment variables
# when it is imported, so they are set before the imports below.
HUB = LocalHub()
_HOME = tempfile.TemporaryDirectory()
atexit.register(_HOME.cleanup)
atexit.register(HUB.socket.close)
os.environ.update(HF_ENDPOINT=HUB.url, HF_HOME=_HOME.name, HF_HUB_DISABLE_XET="1", HF_HUB_DISABLE_TELEMETRY="1")
for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_CACHE", "HF_MODULES_CACHE", "HF_TOKEN_PATH"):
    os.environ.pop(name, None)
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from transformers import PreTrainedTokenizerFast

from modeling_binder import BinderModel
from modeling_binder.finetuning import write_jsonl
from tests.tiny import TYPES, build_model, build_tokenizer, corpus, small_model

_TOKENIZER, _MODEL = build_tokenizer(), build_model()


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    return copy.deepcopy(_TOKENIZER)


@pytest.fixture
def model() -> BinderModel:
    return copy.deepcopy(_MODEL)


@pytest.fixture
def checkpoint(tmp_path, model, tokenizer):
    """Return a folder with the tiny model and its tokenizer."""
    folder = tmp_path / "checkpoint"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def hub(monkeypatch) -> LocalHub:
    """Return an empty local Hub. The test process is logged in as the user alice."""
    HUB.start()
    HUB.reset()
    monkeypatch.setenv("HF_TOKEN", "hf_alice")
    return HUB


@pytest.fixture
def recipe(tmp_path, tokenizer):
    """Return the path of a training recipe with a tiny encoder and a tiny corpus."""
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
