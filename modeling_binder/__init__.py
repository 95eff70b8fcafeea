"""BINDER for transformers: `import modeling_binder` registers the model and the "binder-ner" pipeline.

This package imports torch and transformers only when they are needed; see `lazy` and `registration`.
"""

import warnings
from typing import TYPE_CHECKING, Any

from .lazy import lazy_attributes
from .registration import register_on_import

if TYPE_CHECKING:
    from .configuration_binder import BinderConfig
    from .drawing import draw
    from .modeling_binder import BinderModel, BinderOutput
    from .pipeline_binder import BinderNerPipeline
    from .processing_binder import BinderWindower
    from .tokenizers_binder import load_tokenizers
    from .words_binder import split_words

__version__ = "0.1.0"

__all__ = [
    "BinderConfig",
    "BinderModel",
    "BinderNerPipeline",
    "BinderOutput",
    "BinderWindower",
    "draw",
    "load_tokenizers",
    "split_words",
]

if not TYPE_CHECKING:
    _get, __dir__ = lazy_attributes(
        __name__,
        {
            "configuration_binder": ["BinderConfig"],
            "drawing": ["draw"],
            "modeling_binder": ["BinderModel", "BinderOutput"],
            "pipeline_binder": ["BinderNerPipeline"],
            "processing_binder": ["BinderWindower"],
            "tokenizers_binder": ["load_tokenizers"],
            "words_binder": ["split_words"],
        },
    )

    def __getattr__(name: str) -> Any:
        if name == "BinderProcessor":
            warnings.warn("BinderProcessor is now BinderWindower.", FutureWarning, stacklevel=2)
            name = "BinderWindower"
        return _get(name)


register_on_import()
