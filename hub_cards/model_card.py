"""Build model cards: metadata that the Hub indexes, and a page for readers. Unknown facts are omitted."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from .counts import HUB_SPLITS, MAX_TYPES_SHOWN, count_rows, shown_types
from .markdown import environment
from .mix_tables import mix_licenses, mix_rows, zero_shot_rows
from .threshold_tables import threshold_values

REPOSITORY = "https://github.com/binder-ner/binder-ner"
CITATION = """@inproceedings{zhang2023binder,
  title     = {Optimizing Bi-Encoder for Named Entity Recognition via Contrastive Learning},
  author    = {Sheng Zhang and Hao Cheng and Jianfeng Gao and Hoifung Poon},
  booktitle = {The Eleventh International Conference on Learning Representations},
  year      = {2023},
  url       = {https://arxiv.org/abs/2208.14565}
}"""
_LANGUAGES = {"en": "English", "de": "German", "fr": "French", "es": "Spanish", "zh": "Chinese", "ja": "Japanese"}
_MERGING = """from modeling_binder import BinderModel
from transformers import AutoTokenizer

BinderModel.from_pretrained({repo_id}).merge_and_unload().save_pretrained("merged")
AutoTokenizer.from_pretrained({repo_id}).save_pretrained("merged")"""
_MAX_LINES = 20  # maximum number of entities in the output of the example


@dataclass(frozen=True)
class Example:
    """A text and the entities that the model found in it.

    Args:
        text: the text.
        entities: the entities in the text, as the pipeline returns them.
        entity_types: the name and the description of each type that was passed to the pipeline. `None` means that the
            types of the model were used.
    """

    text: str
    entities: Sequence[Mapping[str, Any]]
    entity_types: Mapping[str, str] | None = None

    @property
    def output(self) -> str:
        """The text that the code on the card prints for this example, with at most `_MAX_LINES` entities."""
        lines = [f"{e['entity_group']} {e['word']!r} {e['score']:.3f} {e['start']} {e['end']}" for e in self.entities]
        if len(lines) > _MAX_LINES:
            lines = [*lines[:_MAX_LINES], f"... and {len(lines) - _MAX_LINES} more"]
        return "\n".join(lines) or "(nothing: the model finds no entity in this sentence)"


def model_card(
    repo_id: str,
    config: Any,
    facts: Mapping[str, Any] | None = None,
    examples: Sequence[Example] = (),
    tags: Sequence[str] = (),
    uncased: bool = False,
) -> ModelCard:
    """Return the README.md of a model repository.

    Args:
        repo_id: "user/name", used in the example code.
        config: the `BinderConfig` of the model.
        facts: facts about this checkpoint. All keys are optional:

            - `language`: a language code or a list of codes
            - `license`: the licence of the model
            - `base_model`: ids of the encoders on the Hub
            - `adapter`: for an adapter of PEFT, its `base`, `base_license`, `method`, `rank`, `alpha`, `layers` and
              number of `parameters`
            - `limits`: sentences for the section "Limits"
            - `dataset`: `{"name", "id"}` of the training corpus
            - `datasets`: ids of the published training corpora on the Hub
            - `data`: a mapping from each split to its counts, see `SplitReport.to_dict`
            - `mix`: a list with the counts of each corpus of a mix, see `PackedMix.report`
            - `results`: a mapping from each split to its metrics, see `SpanMetrics.to_dict`
            - `zero_shot`: a mapping from corpora to results of `training.experiments.zero_shot`
            - `thresholds`: how the thresholds were tuned, see `TunedThresholds.facts`
            - `hyper_parameters`, `versions`: mappings from names to values
            - `training`: a mapping such as `{"hardware": ..., "minutes": ..., "epochs": ...}`
        examples: texts with their entities. The card shows code and output for the first text; the widget on the Hub
            offers all texts.
        tags: additional tags for the metadata.
        uncased: whether the tokenizer ignores the case of letters.
    """
    facts = facts or {}
    dataset = facts.get("dataset") or {}
    dataset_name = dataset.get("name") or dataset.get("id") or "the author's own corpus"
    metadata = _metadata(repo_id, config, facts, dataset_name, examples, tags)
    types = {entity_type["name"]: entity_type["description"] for entity_type in config.entity_types or []}
    template = environment().get_template("model_card.md")
    page = template.render(
        metadata=metadata.to_yaml().strip(),
        repo_id=repo_id,
        repository=REPOSITORY,
        config=config,
        types=[[name, types[name]] for name in shown_types(list(types), facts.get("data") or {})],
        hidden=max(len(types) - MAX_TYPES_SHOWN, 0),
        adapter=_adapter(facts.get("adapter")),
        dataset=dataset,
        dataset_name=dataset_name,
        dataset_id=dataset.get("id"),
        results=_result_tables(facts.get("results") or {}),
        zero_shot=zero_shot_rows(facts.get("zero_shot") or {}, config.decoding),
        example=examples[0] if examples else None,
        code=_code(repo_id, examples[0] if examples else Example("...", [])),
        merging=_MERGING.format(repo_id=json.dumps(repo_id)),
        languages=_language_names(facts.get("language")),
        uncased=uncased,
        **_training(facts),
        **threshold_values(config, facts.get("thresholds") or {}),
        limits=list(facts.get("limits") or []),
        license=facts.get("license"),
        citation=CITATION,
    )
    return ModelCard(page)


def _training(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of the template that describe the training data (splits, or corpora of a mix) and the run."""
    splits, mix = facts.get("data") or {}, facts.get("mix") or []
    counted = list(next(iter(splits.values()))["mentions"]) if splits else []
    return {
        "split_names": list(splits),
        "counts": count_rows(splits, shown_types(counted, splits)) if splits else [],
        "lost": _lost(splits),
        "mix": mix_rows(mix),
        "mix_size": len(mix),
        "datasets": list(facts.get("datasets") or []),
        "mix_licenses": mix_licenses(mix),
        "partial": [part["name"] for part in mix if part.get("negative_rate", 1) < 1],
        **{key: list((facts.get(key) or {}).items()) for key in ("training", "hyper_parameters", "versions")},
    }


def _metadata(
    repo_id: str,
    config: Any,
    facts: Mapping[str, Any],
    dataset_name: str,
    examples: Sequence[Example],
    tags: Sequence[str],
) -> ModelCardData:
    """Return the metadata block. Its model index has the results of the split "test", or else of the first split."""
    results: Mapping[str, Any] = facts.get("results") or {}
    dataset_id = (facts.get("dataset") or {}).get("id")
    evaluated = "test" if "test" in results else next(iter(results), None)
    evaluations = []
    if evaluated is not None:
        evaluations = [
            EvalResult(
                task_type="token-classification",
                task_name="Named Entity Recognition",
                dataset_type=dataset_id or _slug(dataset_name),
                dataset_name=dataset_name,
                dataset_split=HUB_SPLITS.get(evaluated, evaluated),
                metric_type=metric,
                metric_name=name,
                metric_value=round(results[evaluated]["micro"][metric], 4),
            )
            for metric, name in (("precision", "Precision"), ("recall", "Recall"), ("f1", "F1"))
        ]
    own_tags = ["binder", "named-entity-recognition", f"{config.decoding}-ner", "transformers", "custom_code"]
    adapter = facts.get("adapter")
    relation: dict[str, Any] = {"base_model_relation": "adapter"} if adapter else {}
    if adapter:
        own_tags[-1:] = ["adapter", "peft", str(adapter["method"]).lower()]
    return ModelCardData(
        language=facts.get("language") or None,
        license=facts.get("license") or None,
        library_name="binder-ner",
        pipeline_tag="token-classification",
        base_model=facts.get("base_model") or None,
        **relation,
        datasets=list(facts.get("datasets") or []) + ([dataset_id] if dataset_id else []) or None,
        metrics=["precision", "recall", "f1"] if evaluations else None,
        tags=list(dict.fromkeys([*own_tags, *(["zero-shot-ner"] if facts.get("mix") else []), *tags])),
        widget=[{"text": example.text} for example in examples] or None,
        eval_results=evaluations or None,
        model_name=repo_id if evaluations else None,
    )


def _adapter(adapter: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return the values that the template shows about an adapter. `base` is None if the base is not on the Hub."""
    if adapter is None:
        return None
    base = str(adapter["base"])
    rows = {"method": adapter["method"], "rank": adapter["rank"], "alpha": adapter["alpha"]}
    rows |= {"adapted layers": ", ".join(adapter["layers"]), "trained parameters": f"{adapter['parameters']:,}"}
    return {
        "base": base if re.fullmatch(r"[\w.-]+/[\w.-]+", base) and not os.path.exists(base) else None,
        "license": adapter.get("base_license"),
        "rows": [[name, value] for name, value in rows.items() if value],
    }


def _code(repo_id: str, example: Example) -> str:
    call = f"ner({json.dumps(example.text, ensure_ascii=False)})"
    types = ""
    if example.entity_types is not None:
        types = f"types = {json.dumps(example.entity_types, ensure_ascii=False, indent=4)}\n"
        call = f"{call[:-1]}, entity_types=types)"
    return f"""import modeling_binder
from transformers import pipeline

ner = pipeline("binder-ner", model={json.dumps(repo_id)})
{types}for entity in {call}:
    print(entity["entity_group"], repr(entity["word"]), f"{{entity['score']:.3f}}", entity["start"], entity["end"])"""


def _language_names(language: Any) -> list[str]:
    codes = [language] if isinstance(language, str) else language or []
    return [_LANGUAGES.get(code, code) for code in codes]


def _result_tables(results: Mapping[str, Any]) -> dict[str, list[list[str]]]:
    """Return the table of results of each split."""
    return {HUB_SPLITS.get(split, split): _result_rows(metrics) for split, metrics in results.items()}


def _result_rows(metrics: Mapping[str, Any]) -> list[list[str]]:
    """Return the rows of a table of results: first all types together, then nested mentions, then each type."""
    rows = [("all types", metrics["micro"])]
    nested = metrics.get("nested")
    if nested and (nested["gold"] or nested["predicted"]):
        rows.append(("nested mentions", nested))
    per_type = {label: score for label, score in metrics["per_type"].items() if score["gold"] or score["predicted"]}
    if len(per_type) > MAX_TYPES_SHOWN:
        frequent = sorted(per_type, key=lambda label: -per_type[label]["gold"])[:MAX_TYPES_SHOWN]
        per_type = {label: per_type[label] for label in frequent}
    rows += per_type.items()
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


def _lost(splits: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each split and each reason why the model cannot find some mentions."""
    return [
        f"{count:,} of the {sum(split['mentions'].values()):,} mentions of {name} are {reason}"
        for name, split in splits.items()
        for reason, count in split["lost"].items()
    ]
