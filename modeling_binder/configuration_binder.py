"""Configuration of a BINDER model: two encoders, three heads, the entity types and the decoding."""

import copy
import os
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig
from transformers.configuration_utils import PreTrainedConfig, SubConfigSpec

from .numbers_binder import as_number

CUSTOM_PIPELINES = {"binder-ner": {"impl": "pipeline_binder.BinderNerPipeline", "pt": ["AutoModel"], "type": "text"}}

# A configuration file must not decide which code runs or which file is loaded. So these keys are dropped when the file
# is read. For example, attn_implementation may load a kernel from the Hub. You can still pass it to from_pretrained.
_EXECUTION_KEYS = {
    "trust_remote_code",
    "code_revision",
    "attn_implementation",
    "_attn_implementation",
    "experts_implementation",
    "_experts_implementation",
    "transformers_weights",
}
_ENCODER_EXECUTION_KEYS = _EXECUTION_KEYS | {"auto_map", "custom_pipelines"}

# Real encoders are far below these limits. A larger size is a mistake, or an attempt to exhaust the memory.
_MAX_SIZES = {
    "hidden_size": 2**16,
    "intermediate_size": 2**18,
    "num_hidden_layers": 2**10,
    "num_attention_heads": 2**12,
    "vocab_size": 2**24,
    "max_position_embeddings": 2**24,
    "type_vocab_size": 2**16,
    "embedding_size": 2**16,
    # sizes of tables of relative positions (MPNet, DeBERTa)
    "relative_attention_num_buckets": 2**16,
    "position_buckets": 2**16,
    "max_relative_positions": 2**24,
}
_MAX_PARAMETERS = 10**11


@strict
class BinderConfig(PreTrainedConfig):
    """Configuration of a `BinderModel` and of the "binder-ner" pipeline, saved as `config.json`.

    Args:
        text_config: configuration of the text encoder (any encoder of transformers whose position 0 is [CLS]).
        type_config: configuration of the type encoder. It is ignored when `share_encoders` is true.
        share_encoders: encode the descriptions of entity types with the text encoder, not with a separate type encoder.
        projection_size: number of dimensions of the space in which spans and types are compared (128 in the paper).
        projection_dropout: dropout on the projected vectors during training.
        use_span_width_embedding: represent a span not only by its first and its last token, but also by a learned
            vector for its width (number of tokens).
        max_span_width: maximum number of tokens in a span that can be found.
        init_temperature: initial temperature of the scores (0.07 in the paper). The score of a head is a cosine times
            exp(scale). The scale is learned, and its initial value is log(1/init_temperature).
        start_loss_weight, end_loss_weight, span_loss_weight: weights of the three heads in the loss.
        mention_loss_weight, threshold_loss_weight: weights of the mention losses and of the threshold losses.
        entity_types: the types of this model in order, as `[{"name": ..., "description": ...}, ...]`. An entry may have
            a "parent", which is the name of a broader type in the list. If a span is above the thresholds of several
            types, flat decoding keeps the narrowest type.
        thresholds: name of an entity type -> probability. Only spans of this type with a higher score are found. A call
            of the pipeline can pass other thresholds.
        default_threshold: the threshold of all types that are not in `thresholds`, including types that a call of the
            pipeline passes. With 0.5, only the dynamic threshold counts, which is the score of [CLS].
        temperatures: name of an entity type -> temperature of its scores. A score is sigmoid(margin / temperature). See
            `thresholds_binder`.
        default_temperature: the temperature of all types that are not in `temperatures`.
        use_breadth: let the breadth network of the checkpoint estimate which types without parents are broader than
            other types. See `breadth_binder.BreadthNetwork`.
        breadth_margin: a type is broader than another type if its breadth is larger by more than this number. The
            number is in log-odds: 3 means that the type is broader with a probability of 95 %.
        breadth_tolerance: a limit for the margins of a span. The margin of a span for a type is its score minus the
            threshold of the type (`breadth_margin` is a different number). If the margin for the broader type exceeds
            the margin for the narrower type by more than `breadth_tolerance`, the span keeps the broader type. The
            limit applies only to types that the breadth network compares, not to a type and its "parent". `None` means
            no limit.
        decoding: "nested" keeps every span above its threshold. "flat" keeps a set of spans that do not overlap.
        inference: "span" uses only the span scores. "joint" also requires that the start score and the end score of a
            span exceed their own thresholds.
        type_pooling: how to pool the states of a description to one vector. "cls" uses the state of the [CLS] token.
            "mean" uses the mean of all tokens.
        max_length: maximum number of tokens in a window of text, special tokens included.
        stride: number of tokens that neighbouring windows of a long text share.
        initializer_range: standard deviation of newly initialised weights.
        frozen_types: the checkpoint contains the vectors of its entity types instead of a type encoder. So it cannot
            find other types. See `BinderModel.freeze_types`.
        type_tokenizer: the checkpoint has a separate tokenizer for descriptions, in its folder `type_tokenizer/`. See
            `BinderModel.type_tokenizer`.
        onnx, openvino: name of each encoder that runs in onnxruntime or OpenVINO ("text_encoder", "type_encoder") ->
            number of tokens that the encoder accepts. See `modeling_binder.backends`.

    Raises:
        ValueError: a value is out of range.
    """

    model_type = "binder"
    sub_configs_defaults = {
        "text_config": SubConfigSpec(config_class=AutoConfig, model_type="bert"),
        "type_config": SubConfigSpec(config_class=AutoConfig, model_type="bert", optional=True),
    }

    text_config: PreTrainedConfig | dict | None = None
    type_config: PreTrainedConfig | dict | None = None
    share_encoders: bool = False
    projection_size: int = 128
    projection_dropout: float = 0.1
    use_span_width_embedding: bool = True
    max_span_width: int = 64
    init_temperature: float = 0.07
    start_loss_weight: float = 0.2
    end_loss_weight: float = 0.2
    span_loss_weight: float = 0.6
    mention_loss_weight: float = 0.5
    threshold_loss_weight: float = 0.5
    entity_types: list[dict[str, Any]] | None = None
    thresholds: dict[str, Any] | None = None
    default_threshold: float = 0.5
    temperatures: dict[str, Any] | None = None
    default_temperature: float = 1.0
    use_breadth: bool = False
    breadth_margin: float = 3.0
    breadth_tolerance: float | None = None
    decoding: Literal["nested", "flat"] = "nested"
    inference: Literal["span", "joint"] = "span"
    type_pooling: Literal["cls", "mean"] = "cls"
    max_length: int = 256
    stride: int = 32
    initializer_range: float = 0.02
    frozen_types: bool = False
    type_tokenizer: bool = False
    onnx: dict[str, int] | None = None
    openvino: dict[str, int] | None = None

    def __post_init__(self, custom_pipelines: dict[str, Any] | None = None, **kwargs: Any) -> None:
        if self.share_encoders:
            self.type_config = None
        elif self.type_config is None:
            self.type_config = self.text_config
        super().__post_init__(**kwargs)
        # With trust_remote_code, this class is loaded from the repository of a checkpoint. Then pipeline() of
        # transformers finds the pipeline of the repository in the key `custom_pipelines`. The installed package drops
        # the key, because it has registered its own pipeline. With the key, trust_remote_code would be required.
        if type(self).__module__.split(".")[0] == "transformers_modules":
            self.custom_pipelines = custom_pipelines or {}
        self.validate_ranges()
        self.validate_encoders()
        self._set_labels()  # replace id2label of the configuration file, which may differ from the entity types
        if self.frozen_types and not self.entity_types:
            raise ValueError("frozen_types=True needs entity_types: without types, the model can find nothing.")
        for backend in ("onnx", "openvino"):
            unknown = set(getattr(self, backend) or {}) - {"text_encoder", "type_encoder"}
            if unknown:
                raise ValueError(
                    f"{backend} has unknown keys: {sorted(unknown)}. The encoders of BINDER are 'text_encoder' and "
                    "'type_encoder'."
                )

    def validate_ranges(self) -> None:
        """Raise `ValueError` if a number is out of range."""
        for name, largest in (("projection_size", 2**16), ("max_span_width", 2**16), ("max_length", 2**24)):
            if not 1 <= getattr(self, name) <= largest:
                raise ValueError(f"{name} must be at least 1 and at most {largest}, got {getattr(self, name)}.")
        if not 0 <= self.stride < self.max_length:
            raise ValueError(
                f"stride must be at least 0 and less than max_length, got stride={self.stride} and "
                f"max_length={self.max_length}: each window must add new text. "
                f"Try stride={max(0, self.max_length // 8)}."
            )
        if not 0 <= self.projection_dropout < 1:
            raise ValueError(f"projection_dropout must lie in [0, 1), got {self.projection_dropout}.")
        if self.init_temperature <= 0:
            raise ValueError(f"init_temperature must be positive, got {self.init_temperature} (the paper uses 0.07).")
        if not 0 <= self.default_threshold <= 1:
            raise ValueError(f"default_threshold must lie between 0 and 1, got {self.default_threshold}.")
        if not 0 < self.default_temperature < float("inf"):
            raise ValueError(f"default_temperature must be positive, got {self.default_temperature}.")
        if not 0 <= self.breadth_margin < float("inf"):
            raise ValueError(f"breadth_margin must be at least 0, got {self.breadth_margin}.")
        if self.breadth_tolerance is not None and not 0 <= self.breadth_tolerance < float("inf"):
            raise ValueError(f"breadth_tolerance must be at least 0, or None, got {self.breadth_tolerance}.")
        weights = [f"{part}_loss_weight" for part in ("start", "end", "span", "mention", "threshold")]
        for name in weights:
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}.")

    def validate_encoders(self) -> None:
        """Raise `ValueError` if the sizes of an encoder are not plausible. This creates no encoder."""
        for part in ("text_config", "type_config"):
            encoder = getattr(self, part)
            if encoder is None:
                continue
            sizes = {name: getattr(encoder, name, None) for name in _MAX_SIZES}
            if sizes["hidden_size"] is None:
                raise ValueError(
                    f"{part} describes a {encoder.model_type!r} model, which has no hidden_size and is no text encoder."
                )
            for name, largest in _MAX_SIZES.items():
                size = sizes[name]
                if size is not None and (not isinstance(size, int) or not -1 <= size <= largest):
                    raise ValueError(f"{part}.{name} must be a number up to {largest}, got {size!r:.80}.")
            width = sizes["hidden_size"] or 0
            layer = 4 * width**2 + 2 * width * (sizes["intermediate_size"] or 0)
            embeddings = width * ((sizes["vocab_size"] or 0) + (sizes["max_position_embeddings"] or 0))
            parameters = embeddings + layer * (sizes["num_hidden_layers"] or 0)
            if parameters > _MAX_PARAMETERS:
                raise ValueError(
                    f"{part} describes an encoder with {parameters:.0e} parameters, which must be a mistake."
                )

    def validate_entity_types(self) -> None:
        """Raise `ValueError` if an entity type has no unique name, no description or an invalid parent."""
        seen = set()
        for position, entity_type in enumerate(self.entity_types or []):
            if not isinstance(entity_type, dict) or not {"name", "description"} <= set(entity_type):
                raise ValueError(
                    f"entity_types[{position}] must be {{'name': ..., 'description': ...}}, got {entity_type!r}."
                )
            for key in ("name", "description"):
                if not isinstance(entity_type[key], str) or not entity_type[key].strip():
                    raise ValueError(f"entity_types[{position}]: {key} must be a text, got {entity_type[key]!r}.")
            if entity_type["name"] in seen:
                raise ValueError(f"entity_types: the name {entity_type['name']!r} appears twice; names must be unique.")
            seen.add(entity_type["name"])
        parents = self.type_parents
        for label, parent in parents.items():
            if parent is not None and not isinstance(parent, str):
                raise ValueError(f"entity_types: the parent of {label!r} must be the name of a type, got {parent!r}.")
        for label in parents:
            try:
                ancestors(label, parents)
            except ValueError as error:
                raise ValueError(f"entity_types: {error}") from None

    def validate_thresholds(self) -> None:
        """Raise `ValueError` if a threshold is not a probability or does not belong to an entity type."""
        for label, value in self._values_of_types("thresholds"):
            if not _is_number(value) or not 0 <= value <= 1:
                raise ValueError(f"thresholds: the threshold of {label!r} must lie between 0 and 1, got {value!r}.")

    def validate_temperatures(self) -> None:
        """Raise `ValueError` if a temperature is not positive or does not belong to an entity type."""
        for label, value in self._values_of_types("temperatures"):
            if not _is_number(value) or not 0 < value < float("inf"):
                raise ValueError(f"temperatures: the temperature of {label!r} must be positive, got {value!r}.")

    def _values_of_types(self, name: str) -> Iterable[tuple[str, Any]]:
        """Return the items of `thresholds` or `temperatures`. Raise `ValueError` if a key is not an entity type."""
        values = getattr(self, name) or {}
        for label in values:
            if label not in self.type_descriptions:
                raise ValueError(
                    f"{name} has the key {label!r}, which is not an entity type of this model. The types of the model "
                    f"are {', '.join(self.type_descriptions) or 'not given'}."
                )
        return values.items()

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in ("entity_types", "thresholds", "temperatures"):
            return super().__setattr__(name, value)
        if name != "entity_types" and isinstance(value, Mapping):
            value = {label: as_number(number) for label, number in value.items()}
        before = getattr(self, name)
        if name == "entity_types" and before != self._checked_types:  # the list was changed in place
            before = copy.deepcopy(self._checked_types)
        super().__setattr__(name, value)
        try:
            if name == "entity_types":
                self.check_entity_types()
                self._set_labels()
            elif name == "thresholds":
                self.validate_thresholds()
            else:
                self.validate_temperatures()
        except ValueError:
            super().__setattr__(name, before)
            raise

    @property
    def _checked_types(self) -> list[dict[str, Any]] | None:
        """A copy of the entity types that `check_entity_types` accepted in its last call."""
        types: list[dict[str, Any]] | None = self.__dict__.get("_accepted_types")
        return types

    def check_entity_types(self) -> None:
        """Check the entity types after a change, and adapt labels, thresholds and temperatures.

        If the list `entity_types` is changed in place, the configuration does not notice the change. So the pipeline
        calls this method before it uses the types.

        Raises:
            ValueError: the types are malformed, or they have changed although they are frozen.
        """
        before = self._checked_types
        if self.entity_types == before:
            return
        self.validate_entity_types()
        if self.frozen_types and before:
            frozen = [entity_type["description"] for entity_type in before]
            if list(self.type_descriptions.values()) != frozen:
                raise ValueError(
                    "entity_types cannot change, because the checkpoint contains the vectors of its types in their "
                    "order (frozen_types=True). To find some of the types, pass them in the call: pipe(text, "
                    "entity_types=['Disease']). For other types, load the original checkpoint."
                )
        if before and not self.entity_types:
            self.num_labels = 2  # the default of transformers for a configuration without labels
        self._set_labels()
        for field in ("thresholds", "temperatures"):  # drop the values of removed types
            if values := getattr(self, field):
                kept = {label: value for label, value in values.items() if label in self.type_descriptions}
                setattr(self, field, kept or None)
        self.__dict__["_accepted_types"] = copy.deepcopy(self.entity_types)

    def validate_edited_types(self) -> None:
        """Call `check_entity_types`. transformers calls this method before it saves the configuration."""
        self.check_entity_types()

    def _set_labels(self) -> None:
        """Set `id2label` and `label2id` to the names of the entity types."""
        if self.entity_types:
            self.id2label = dict(enumerate(self.type_parents))
            self.label2id = {label: type_id for type_id, label in self.id2label.items()}

    @property
    def has_tuned_values(self) -> bool:
        """Whether a threshold or a temperature differs from its default."""
        defaults = self.default_threshold == 0.5 and self.default_temperature == 1
        return not defaults or bool(self.thresholds) or bool(self.temperatures)

    @property
    def type_descriptions(self) -> dict[str, str]:
        """The entity types in order, as name -> description."""
        return {entity_type["name"]: entity_type["description"] for entity_type in self.entity_types or []}

    @property
    def type_parents(self) -> dict[str, str | None]:
        """The entity types in order, as name -> name of the parent or None."""
        return {entity_type["name"]: entity_type.get("parent") for entity_type in self.entity_types or []}

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """Create a configuration like `PreTrainedConfig.from_dict`, without the keys in `_EXECUTION_KEYS`."""
        safe = {name: value for name, value in config_dict.items() if name not in _EXECUTION_KEYS}
        for part in ("text_config", "type_config"):
            if isinstance(safe.get(part), dict):
                safe[part] = {k: value for k, value in safe[part].items() if k not in _ENCODER_EXECUTION_KEYS}
        return super().from_dict(safe, **kwargs)

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration as a dictionary, with the class of the pipeline in the key `custom_pipelines`.

        The dictionary contains the ids of the encoders on the Hub. It does not contain paths of local folders, because
        these may be private.
        """
        self._set_labels()  # the list of entity types may have been changed in place
        output = super().to_dict()
        output.pop("_accepted_types", None)
        for encoder in (output.get("text_config"), output.get("type_config")):
            if encoder and os.path.exists(encoder.get("_name_or_path") or ""):
                del encoder["_name_or_path"]
        # pipeline() of transformers replaces class names in this dictionary by classes. JSON needs the names again.
        output["custom_pipelines"] = CUSTOM_PIPELINES
        return output


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def ancestors(label: str, parents: Mapping[str, str | None]) -> list[str]:
    """Return the ancestors of an entity type: its parent, the parent of its parent, and so on.

    Args:
        label: the name of the type.
        parents: name of a type -> name of its parent or None, for all types.

    Raises:
        ValueError: a parent is not one of the types, or a type is its own ancestor.
    """
    line = [label]
    while (parent := parents[line[-1]]) is not None:
        if not isinstance(parent, str) or parent not in parents:
            raise ValueError(
                f"the parent of {line[-1]!r} is {parent!r}, which is not an entity type; add it, or leave out the "
                f"parent. The entity types are {', '.join(parents)}."
            )
        line.append(parent)
        if parent in line[:-1]:
            raise ValueError(f"the entity type {parent!r} is its own ancestor: {' -> '.join(line)}.")
    return line[1:]
