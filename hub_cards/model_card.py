"""The model card: metadata that the Hub indexes, and a page for readers. What was not measured has no row."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from .markdown import environment

CITATION = """@inproceedings{zhang2023binder,
  title     = {Optimizing Bi-Encoder for Named Entity Recognition via Contrastive Learning},
  author    = {Sheng Zhang and Hao Cheng and Jianfeng Gao and Hoifung Poon},
  booktitle = {The Eleventh International Conference on Learning Representations},
  year      = {2023},
  url       = {https://arxiv.org/abs/2208.14565}
}"""

_LINES = 20
# What the Hub's own split names are called in a card
_SPLITS = {"train": "train", "dev": "validation", "test": "test"}


@dataclass(frozen=True)
class Example:
    """A text and what the checkpoint found in it: dictionaries as the pipeline returns them."""

    text: str
    entities: Sequence[Mapping[str, Any]]

    @property
    def output(self) -> str:
        """What the card's code prints for this example; of very much the beginning."""
        lines = [f"{e['entity_group']} {e['word']!r} {e['score']:.3f} {e['start']} {e['end']}" for e in self.entities]
        if len(lines) > _LINES:
            lines = [*lines[:_LINES], f"... and {len(lines) - _LINES} more"]
        return "\n".join(lines) or "(nothing: the model finds no entity in this sentence)"


def model_card(
    repo_id: str,
    config: Any,
    facts: Mapping[str, Any] | None = None,
    examples: Sequence[Example] = (),
    tags: Sequence[str] = (),
) -> ModelCard:
    """The README.md of a model repository.

    Args:
        repo_id: "user/name", as the code on the card names the model.
        config: the model's `BinderConfig`.
        facts: what is known of this checkpoint, every key optional: `language` (a code or a list), `license`,
            `base_model` (ids on the Hub), `dataset` ({"name", "id"}), `data` (split -> counts, see
            `SplitReport.to_dict`), `results` (split -> `SpanMetrics.to_dict`), `hyper_parameters`, `training`
            (`hardware`, `minutes`, `epochs`, ...), `versions`.
        examples: shown in the order given: the first as the output of the card's code, all as widget examples.
        tags: further tags.
    """
    facts = facts or {}
    results: Mapping[str, Any] = facts.get("results") or {}
    dataset = facts.get("dataset") or {}
    dataset_name = dataset.get("name") or dataset.get("id") or "the author's own corpus"
    evaluated = "test" if "test" in results else next(iter(results), None)
    evaluations = []
    if evaluated is not None:
        evaluations = [
            EvalResult(
                task_type="token-classification",
                task_name="Named Entity Recognition",
                dataset_type=dataset.get("id") or _slug(dataset_name),
                dataset_name=dataset_name,
                dataset_split=_SPLITS.get(evaluated, evaluated),
                metric_type=metric,
                metric_name=name,
                metric_value=round(results[evaluated]["micro"][metric], 4),
            )
            for metric, name in (("precision", "Precision"), ("recall", "Recall"), ("f1", "F1"))
        ]
    data = ModelCardData(
        language=facts.get("language") or None,
        license=facts.get("license") or None,
        library_name="binder-ner",
        pipeline_tag="token-classification",
        base_model=facts.get("base_model") or None,
        datasets=[dataset["id"]] if dataset.get("id") else None,
        metrics=["precision", "recall", "f1"] if evaluations else None,
        tags=list(
            dict.fromkeys(
                ["binder", "named-entity-recognition", f"{config.decoding}-ner", "transformers", "custom_code", *tags]
            )
        ),
        widget=[{"text": example.text} for example in examples] or None,
        eval_results=evaluations or None,
        model_name=repo_id if evaluations else None,
    )
    page = (
        environment()
        .get_template("model_card.md")
        .render(
            metadata=data.to_yaml().strip(),
            repo_id=repo_id,
            config=config,
            types=[[entity_type["name"], entity_type["description"]] for entity_type in config.entity_types or []],
            dataset=dataset,
            dataset_name=dataset_name,
            dataset_id=dataset.get("id"),
            results={_SPLITS.get(split, split): _result_rows(metrics) for split, metrics in results.items()},
            example=examples[0] if examples else None,
            code=_code(repo_id, examples[0].text if examples else "..."),
            remote_code=f'ner = pipeline("binder-ner", model={json.dumps(repo_id)}, trust_remote_code=True)',
            languages=[facts["language"]] if isinstance(facts.get("language"), str) else facts.get("language"),
            split_names=list(facts.get("data") or {}),
            counts=_counts(facts.get("data") or {}),
            lost=_lost(facts.get("data") or {}),
            training=list((facts.get("training") or {}).items()),
            hyper_parameters=list((facts.get("hyper_parameters") or {}).items()),
            versions=list((facts.get("versions") or {}).items()),
            citation=CITATION,
        )
    )
    return ModelCard(page)


def _code(repo_id: str, text: str) -> str:
    return f"""import modeling_binder
from transformers import pipeline

ner = pipeline("binder-ner", model={json.dumps(repo_id)})
for entity in ner({json.dumps(text, ensure_ascii=False)}):
    print(entity["entity_group"], repr(entity["word"]), f"{{entity['score']:.3f}}", entity["start"], entity["end"])"""


def _result_rows(metrics: Mapping[str, Any]) -> list[list[str]]:
    """Rows of a table of results: all types together, those of nested mentions alone, each type."""
    rows = [("all types", metrics["micro"])]
    nested = metrics.get("nested")
    if nested and (nested["gold"] or nested["predicted"]):
        rows.append(("nested mentions", nested))
    rows += [(label, score) for label, score in metrics["per_type"].items() if score["gold"] or score["predicted"]]
    return [
        [
            name,
            *(f"{100 * score[key]:.2f}" for key in ("precision", "recall", "f1")),
            *(f"{score[key]:,}" for key in ("gold", "predicted")),
        ]
        for name, score in rows
    ]


def _slug(name: str) -> str:
    return "-".join("".join(letter if letter.isalnum() else " " for letter in name.lower()).split()) or "corpus"


def _counts(data: Mapping[str, Any]) -> list[list[str]]:
    """Rows of the table of the data: one a count, one column a split."""
    if not data:
        return []
    labels = list(next(iter(data.values()))["mentions"])
    rows = [["documents", "documents"], ["windows", "windows"], ["windows without a mention", "empty_windows"]]
    cells = [[title, *(f"{split[key]:,}" for split in data.values())] for title, key in rows]
    cells.append(["mentions", *(f"{sum(split['mentions'].values()):,}" for split in data.values())])
    cells += [[f"– {label}", *(f"{split['mentions'][label]:,}" for split in data.values())] for label in labels]
    cells.append(["nested mentions", *(f"{split['nested']:,}" for split in data.values())])
    return cells


def _lost(data: Mapping[str, Any]) -> list[str]:
    """Sentences on mentions that no window can give back."""
    return [
        f"{count:,} of the {sum(split['mentions'].values()):,} mentions of {name} are {reason}"
        for name, split in data.items()
        for reason, count in split["lost"].items()
    ]
