"""Fine-tune adapters (LoRA) instead of all weights."""

import os
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modeling_binder import BinderModel
from modeling_binder.adapters_binder import check_folder
from modeling_binder.finetuning import lora_config

BASE_FOLDER = "base"  # in the output folder of a training
_ADAPTABLE = {"text_encoder", "type_encoder", "heads"}  # parts that `lora_config` can freeze


@dataclass
class LoraArguments:
    """Arguments for LoRA: only adapters in the encoders, and the heads, are trained and saved. Requires peft."""

    lora_r: int | None = field(
        default=None, metadata={"help": "rank of LoRA adapters, such as 16; default: train all weights, without LoRA"}
    )
    lora_alpha: int | None = field(
        default=None, metadata={"help": "with --lora-r: weight of the adapters; default: 2 * r"}
    )
    lora_target: list[str] | None = field(
        default=None,
        metadata={"help": "with --lora-r: linear layers that get adapters, such as query value; default: all"},
    )
    lora_dropout: float = field(default=0.0, metadata={"help": "with --lora-r: dropout on the inputs of the adapters"})

    def __post_init__(self) -> None:
        if self.lora_r is None and (self.lora_alpha is not None or self.lora_target or self.lora_dropout):
            raise ValueError("--lora-alpha, --lora-target and --lora-dropout need --lora-r, the rank of the adapters.")

    def adapt(self, model: BinderModel, tokenizer: Any, frozen: list[str], output: Path, pushed: bool) -> Any:
        """Add new adapters to a model, and return it as a `PeftModel`. If `lora_r` is None, return the model itself.

        An adapter contains the folder, or the id on the Hub, of its base model. A model that was built from bare
        encoders, or merged, has no such folder or id. So it is saved in the subfolder `base` of the output folder.

        Args:
            model: the base model.
            tokenizer: tokenizer of the model.
            frozen: parts of the model that are not trained.
            output: output folder of the training.
            pushed: whether the result is pushed to the Hub.

        Raises:
            ModuleNotFoundError: peft is not installed.
            ValueError: a setting is invalid; an adapter would be saved in a folder with a complete model, or vice
                versa; or the adapter would be pushed although its base is not on the Hub.
        """
        check_folder(output, adapter=self.lora_r is not None)
        if self.lora_r is None:
            return model
        config = lora_config(
            model, self.lora_r, self.lora_alpha, self.lora_target, self.lora_dropout, freeze=set(frozen) & _ADAPTABLE
        )
        is_on_hub = model.name_or_path and not os.path.exists(model.name_or_path)
        if pushed and not is_on_hub:
            raise ValueError(
                "an adapter is pushed without its base model, and the base of this run is not on the Hub: push it "
                "first and start from it with --init_from user/base, or leave out --push_to_hub."
            )
        if not model.name_or_path:
            base = (output / BASE_FOLDER).resolve()
            if not (base / "model.safetensors").exists() and int(os.environ.get("RANK", "0")) == 0:
                model.save_pretrained(base)
                tokenizer.save_pretrained(base)
            model.name_or_path = str(base)
        with warnings.catch_warnings():  # peft uses a deprecated property of transformers
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
            from peft import get_peft_model

            return get_peft_model(model, config)
