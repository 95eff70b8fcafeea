"""BINDER for transformers: `import modeling_binder` registers the model and the "binder-ner" pipeline."""

import warnings
from typing import Any

from transformers import AutoConfig, AutoModel
from transformers.pipelines import PIPELINE_REGISTRY

from .configuration_binder import BinderConfig
from .modeling_binder import BinderModel, BinderOutput
from .pipeline_binder import BinderNerPipeline
from .processing_binder import BinderWindower, split_words
from .tokenizers_binder import load_tokenizers

__version__ = "0.1.0"

__all__ = [
    "BinderConfig",
    "BinderModel",
    "BinderNerPipeline",
    "BinderOutput",
    "BinderWindower",
    "load_tokenizers",
    "split_words",
]

AutoConfig.register("binder", BinderConfig, exist_ok=True)
AutoModel.register(BinderConfig, BinderModel, exist_ok=True)
BinderConfig.register_for_auto_class()
BinderModel.register_for_auto_class("AutoModel")
if "binder-ner" not in PIPELINE_REGISTRY.get_supported_tasks():
    PIPELINE_REGISTRY.register_pipeline("binder-ner", pipeline_class=BinderNerPipeline, pt_model=AutoModel, type="text")


def __getattr__(name: str) -> Any:
    if name == "BinderProcessor":
        warnings.warn("BinderProcessor is now BinderWindower.", FutureWarning, stacklevel=2)
        return BinderWindower
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
