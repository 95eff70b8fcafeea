"""Fine-tuning and evaluation: documents, readers of corpus files, the data report, the trainer and the metrics.

Example:
    >>> from transformers import AutoTokenizer, TrainingArguments
    >>> from modeling_binder import BinderModel
    >>> from modeling_binder.finetuning import BinderTrainer, load_corpus
    >>> corpus = load_corpus("my_corpus")  # doctest: +SKIP
"""

from typing import TYPE_CHECKING

from ..lazy import lazy_attributes

if TYPE_CHECKING:
    from .bootstrap import BootstrapResult, paired_bootstrap
    from .corpus import Corpus, load_corpus
    from .data import DataError, Document, EntityType, Mention, read_jsonl, read_types, write_jsonl
    from .distillation import Teacher
    from .evaluation import evaluate
    from .formats import read_documents, read_iob, write_format
    from .iob import documents_from_words
    from .lora import lora_config
    from .metrics import SchemeMetrics, SpanMetrics, compute_scheme_metrics, compute_span_metrics
    from .mix import Mix, MixPart, MixSettings, TypedDocuments
    from .packed import PackedMix
    from .replay import replay_mix
    from .report import data_report
    from .thresholds import TunedThresholds, tune_thresholds
    from .trainer import BinderTrainer
    from .tuned_checkpoint import save_tuned
    from .windows import WindowDataset

__all__ = [
    "BinderTrainer",
    "BootstrapResult",
    "Corpus",
    "DataError",
    "Document",
    "EntityType",
    "Mention",
    "Mix",
    "MixPart",
    "MixSettings",
    "PackedMix",
    "SchemeMetrics",
    "SpanMetrics",
    "Teacher",
    "TunedThresholds",
    "TypedDocuments",
    "WindowDataset",
    "compute_scheme_metrics",
    "compute_span_metrics",
    "data_report",
    "documents_from_words",
    "evaluate",
    "load_corpus",
    "lora_config",
    "paired_bootstrap",
    "read_documents",
    "read_iob",
    "read_jsonl",
    "read_types",
    "replay_mix",
    "save_tuned",
    "tune_thresholds",
    "write_format",
    "write_jsonl",
]

if not TYPE_CHECKING:  # readers and writers work without the trainer and its dependencies
    __getattr__, __dir__ = lazy_attributes(
        __name__,
        {
            "bootstrap": ["BootstrapResult", "paired_bootstrap"],
            "corpus": ["Corpus", "load_corpus"],
            "data": ["DataError", "Document", "EntityType", "Mention", "read_jsonl", "read_types", "write_jsonl"],
            "distillation": ["Teacher"],
            "evaluation": ["evaluate"],
            "formats": ["read_documents", "read_iob", "write_format"],
            "iob": ["documents_from_words"],
            "lora": ["lora_config"],
            "metrics": ["SchemeMetrics", "SpanMetrics", "compute_scheme_metrics", "compute_span_metrics"],
            "mix": ["Mix", "MixPart", "MixSettings", "TypedDocuments"],
            "packed": ["PackedMix"],
            "replay": ["replay_mix"],
            "report": ["data_report"],
            "thresholds": ["TunedThresholds", "tune_thresholds"],
            "trainer": ["BinderTrainer"],
            "tuned_checkpoint": ["save_tuned"],
            "windows": ["WindowDataset"],
        },
    )
