"""A recognizer of Presidio (presidio-analyzer) that finds personal data with a BINDER model.

After an import of this module, Presidio's YAML files for recognizers may also contain `BinderRecognizer`.
"""

import inspect
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

from presidio_analyzer import AnalysisExplanation, LocalRecognizer, RecognizerResult
from presidio_analyzer.nlp_engine import NlpArtifacts
from transformers import Pipeline
from transformers import pipeline as make_pipeline

from .. import __version__
from ..loading import load_pipeline
from ..pipeline_binder import BinderNerPipeline

# Entity type of the model -> entity of Presidio
DEFAULT_ENTITY_MAPPING: dict[str, str] = {
    "person": "PERSON",
    "email address": "EMAIL_ADDRESS",
    "phone number": "PHONE_NUMBER",
    "location": "LOCATION",
    "street address": "LOCATION",
    "postal code": "LOCATION",
    "date": "DATE_TIME",
    "time": "DATE_TIME",
    "age": "AGE",
    "nationality": "NRP",
    "organization": "ORGANIZATION",
    "credit card number": "CREDIT_CARD",
    "IBAN": "IBAN_CODE",
    "IP address": "IP_ADDRESS",
    "website": "URL",
    "social security number": "US_SSN",
    "driver's license number": "US_DRIVER_LICENSE",
}

# Arguments of `pipeline` that are missing in its signature, because transformers reads them from **kwargs
_KEYWORDS_OF_PIPELINES = {"batch_size", "code_revision", "num_workers", "torch_dtype"}

# Presidio creates one recognizer per language. Recognizers with the same model share one pipeline from this cache.
_pipelines: "weakref.WeakValueDictionary[str, BinderNerPipeline]" = weakref.WeakValueDictionary()


class BinderRecognizer(LocalRecognizer):
    """A recognizer of Presidio that finds entities with a BINDER model.

    Texts may have any length, because the pipeline splits a text into overlapping windows. No text is logged.

    Example:
        >>> from presidio_analyzer import AnalyzerEngine
        >>> from modeling_binder.integrations.presidio import BinderRecognizer
        >>> analyzer = AnalyzerEngine()  # doctest: +SKIP
        >>> analyzer.registry.add_recognizer(BinderRecognizer("user/name"))  # doctest: +SKIP
        >>> analyzer.analyze("Please call Katarina Novak.", language="en")  # doctest: +SKIP
        [type: PERSON, start: 12, end: 26, score: 0.99]

    Args:
        model: folder, id on the Hub, or a loaded "binder-ner" pipeline.
        entity_mapping: dictionary from entity types of the model to entities of Presidio. A key is the name or the
            description of an entity type, as in `entity_types` of the pipeline. Several keys may have the same value.
            Defaults to `DEFAULT_ENTITY_MAPPING`.
        supported_entities: an entity of Presidio, or a list of entities. Only the items of the mapping with these
            values are used. Defaults to all items.
        threshold: lowest score of a result. It is a probability, or a dictionary from entities of Presidio to
            probabilities. Defaults to the tuned thresholds of the model if it has any, otherwise to 0.5. The
            `score_threshold` of `AnalyzerEngine.analyze` removes results after this threshold.
        decoding: "nested" returns every span above its threshold, even if it overlaps an entity of another type. "flat"
            returns entities that do not overlap.
        name, supported_language, version, context: see `presidio_analyzer.EntityRecognizer`.
        pipeline_options: other arguments of `pipeline(...)`, such as `device`, `revision` or `batch_size`. They cannot
            be combined with a loaded pipeline.

    Raises:
        ValueError: the model cannot be loaded, or an argument is invalid.
    """

    name: str  # Presidio's classes declare no type for this attribute

    def __init__(
        self,
        model: str | BinderNerPipeline,
        entity_mapping: Mapping[str, str] | None = None,
        supported_entities: str | Sequence[str] | None = None,
        threshold: float | Mapping[str, float] | None = None,
        decoding: str = "nested",
        name: str = "BinderRecognizer",
        supported_language: str = "en",
        version: str = __version__,
        context: list[str] | None = None,
        **pipeline_options: Any,
    ) -> None:
        _check_names(pipeline_options)
        if isinstance(model, BinderNerPipeline) and pipeline_options:
            raise ValueError(
                f"the arguments {sorted(pipeline_options)} cannot be combined with a loaded pipeline; pass them to "
                "pipeline('binder-ner', ...)."
            )
        self.model = model
        mapping = DEFAULT_ENTITY_MAPPING if entity_mapping is None else entity_mapping
        self.entity_mapping = _choose(mapping, _as_list(supported_entities))
        entities = list(dict.fromkeys(self.entity_mapping.values()))
        if isinstance(threshold, Mapping) and (unknown := sorted(set(threshold) - set(entities))):
            raise ValueError(
                f"threshold has keys that are not among the entities: {unknown}. The entities are {entities}."
            )
        self.threshold = threshold
        self.decoding = decoding
        self.pipeline_options = pipeline_options
        super().__init__(  # calls self.load()
            supported_entities=entities,
            name=name,
            supported_language=supported_language,
            version=version,
            context=context,
        )

    def load(self) -> None:
        """Load the model, encode the entity types, and check the arguments. The constructor calls this method."""
        if isinstance(self.model, BinderNerPipeline):
            self.pipeline = self.model
        else:
            key = repr((self.model, sorted(self.pipeline_options.items())))
            loaded = _pipelines.get(key)
            self.pipeline = loaded or load_pipeline(self.model, **self.pipeline_options)
            _pipelines[key] = self.pipeline
        self._find("", list(self.entity_mapping))

    def analyze(
        self, text: str, entities: str | Sequence[str] | None = None, nlp_artifacts: NlpArtifacts | None = None
    ) -> list[RecognizerResult]:
        """Return the entities of a text.

        Args:
            text: a text of any length.
            entities: an entity of Presidio, or a list of entities. The model searches only for their entity types.
                Entities of other recognizers are ignored. Defaults to all entities of this recognizer.
            nlp_artifacts: not used.

        Raises:
            TypeError: `text` is not a string.
        """
        if not isinstance(text, str):  # check here, because the error of the pipeline would contain the text
            raise TypeError(f"expected a text (str), got {type(text).__name__}.")
        requested = set(_as_list(entities) or self.supported_entities)
        labels = [label for label, entity in self.entity_mapping.items() if entity in requested]
        if not labels:
            return []
        results: list[RecognizerResult] = self.remove_duplicates([self._result(e) for e in self._find(text, labels)])
        return results

    def to_dict(self) -> dict[str, Any]:
        """Return the arguments of this recognizer for `from_dict`. A loaded pipeline becomes the name of its model."""
        loaded = isinstance(self.model, BinderNerPipeline)
        model = self.pipeline.model.config._name_or_path if loaded else self.model
        own = {"model": model, "entity_mapping": self.entity_mapping, "threshold": self.threshold}
        return {**super().to_dict(), **own, "decoding": self.decoding, **self.pipeline_options}

    def _find(self, text: str, labels: list[str]) -> list[dict[str, Any]]:
        threshold: Any = self.threshold
        if isinstance(threshold, Mapping):
            by_entity = {label: threshold.get(self.entity_mapping[label]) for label in labels}
            threshold = {label: value for label, value in by_entity.items() if value is not None}
        found: list[dict[str, Any]] = self.pipeline(
            text, entity_types=labels, threshold=threshold, decoding=self.decoding
        )
        return found

    def _result(self, found: Mapping[str, Any]) -> RecognizerResult:
        label, score = found["entity_group"], found["score"]
        entity = self.entity_mapping[label]
        explanation = AnalysisExplanation(
            recognizer=self.name,
            original_score=score,
            textual_explanation=f"Identified as {entity} by {self.pipeline.model.config._name_or_path} ({label!r})",
        )
        metadata = {
            RecognizerResult.RECOGNIZER_NAME_KEY: self.name,
            RecognizerResult.RECOGNIZER_IDENTIFIER_KEY: self.id,
        }
        return RecognizerResult(entity, found["start"], found["end"], score, explanation, metadata)


def _as_list(entities: str | Sequence[str] | None) -> list[str]:
    """Return entities as a list. A string is one entity, not a sequence of letters."""
    return [entities] if isinstance(entities, str) else list(entities or ())


def _check_names(options: Mapping[str, Any]) -> None:
    """Check the names of the arguments for `pipeline(...)`.

    Raises:
        ValueError: `pipeline` has no argument of a name.
    """
    if "entity_types" in options:
        raise ValueError(
            "BinderRecognizer does not accept entity_types: pass entity_mapping, a dictionary from each type to an "
            "entity of Presidio, such as {'person': 'PERSON'}."
        )
    methods = (make_pipeline, Pipeline.__init__, BinderNerPipeline.__init__, BinderNerPipeline._sanitize_parameters)
    accepted = {name for method in methods for name in _arguments(method)} | _KEYWORDS_OF_PIPELINES
    if unknown := sorted(set(options) - accepted):
        own = ", ".join(_arguments(BinderRecognizer.__init__))
        raise ValueError(
            f"unknown arguments: {', '.join(unknown)}; BinderRecognizer accepts {own}, and arguments of pipeline(...) "
            "such as device, dtype, revision, batch_size, inference, max_length and stride."
        )


def _arguments(method: Any) -> list[str]:
    parameters = inspect.signature(method).parameters.values()
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [parameter.name for parameter in parameters if parameter.kind in named and parameter.name != "self"]


def _choose(mapping: Mapping[str, str], entities: Sequence[str] | None) -> dict[str, str]:
    """Return the items of a mapping whose values are in `entities`. Return all items if `entities` is None or empty.

    Raises:
        ValueError: the mapping is empty or malformed, or one of the entities is not a value of the mapping.
    """
    pairs = mapping.items() if isinstance(mapping, Mapping) else [(None, None)]
    if not pairs or not all(isinstance(text, str) and text.strip() for pair in pairs for text in pair):
        raise ValueError(
            "entity_mapping must be a dictionary from entity types of the model to entities of Presidio, such as "
            f"{{'person': 'PERSON'}}, got {mapping!r:.200}."
        )
    if not entities:
        return dict(mapping)
    if unknown := sorted(set(entities) - set(mapping.values())):
        raise ValueError(
            f"supported_entities has {unknown}, which are not values of entity_mapping. Pass entity_mapping="
            f"{{'description of the type': {unknown[0]!r}}}, or choose from {sorted(set(mapping.values()))}."
        )
    return {label: entity for label, entity in mapping.items() if entity in entities}


def _register_in_yaml() -> None:
    """Let Presidio's YAML configuration of recognizers pass arguments to `BinderRecognizer`.

    By default, Presidio drops the keys of the configuration that it does not know. It keeps them if `CONFIG_MODEL_MAP`
    has a pydantic class for the recognizer. Old versions such as 2.2.358 always keep all keys and have no such map.
    """
    try:
        from presidio_analyzer.input_validation.yaml_recognizer_models import (
            CONFIG_MODEL_MAP,
            PredefinedRecognizerConfig,
        )
    except ImportError:
        return

    class BinderRecognizerConfig(PredefinedRecognizerConfig, extra="allow"):
        def model_dump(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
            # Without exclude_none, missing keys would be None and would replace the defaults of the constructor.
            dumped: dict[str, Any] = super().model_dump(*args, **{"exclude_none": True, **kwargs})
            return dumped

    CONFIG_MODEL_MAP[BinderRecognizer.__name__] = BinderRecognizerConfig


_register_in_yaml()
