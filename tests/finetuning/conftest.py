"""Fixtures that build LoRA adapters of the tiny model."""

import pytest
import torch
from peft import get_peft_model
from transformers import AutoModel

from modeling_binder.finetuning import lora_config
from tests.tiny import build_trainer


@pytest.fixture
def base(checkpoint):
    """Return the folder of the base model, to which the adapters belong."""
    return checkpoint


@pytest.fixture
def make_adapter(base, tokenizer, tmp_path):
    """Return a function that saves an adapter with random weights and returns the folder of the adapter."""

    def make(name, seed=1, **config):
        model = AutoModel.from_pretrained(base)
        for field, value in config.items():
            setattr(model.config, field, value)
        torch.manual_seed(seed)
        adapted = get_peft_model(model, lora_config(model, r=4))
        with torch.no_grad():
            for weight in adapted.parameters():
                if weight.requires_grad:
                    weight.add_(0.3 * torch.randn_like(weight))
        build_trainer(adapted, tokenizer, tmp_path / name).save_model()
        return tmp_path / name

    return make
