"""Add entities to Hugging Face datasets. Users call the method `as_map` of the pipeline."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any
from weakref import WeakValueDictionary

import pyarrow as pa

from ..annotating.annotator import ENTITIES
from ..hub.checkpoint import fingerprint
from ..loading import load_pipeline
from ..types_binder import EntityType

# The maps of this process, digest -> map. A forked process inherits them, so it does not load the model again.
_MAPS: "WeakValueDictionary[str, EntityMap]" = WeakValueDictionary()


class EntityMap:
    """A function for `Dataset.map` that adds a column with the entities of each text.

    The pickle of this function contains the arguments that load the model, and a digest of everything that changes the
    entities. `datasets` hashes the pickle. So its cache recognises the same model with the same arguments. With
    `num_proc`, a forked process uses the model that it inherited. A spawned process loads the model from its folder or
    from the Hub.

    Args:
        ner: a `BinderNerPipeline`.
        text_column: name of the column of texts.
        entities_column: name of the new column.
        arguments: arguments for calls of the pipeline.

    Raises:
        ValueError: an argument is invalid.
        TypeError: an argument is unknown.
    """

    def __init__(self, ner: Any, text_column: str, entities_column: str, arguments: Mapping[str, Any]) -> None:
        if text_column == entities_column:
            raise ValueError(f"the columns of texts and entities must have different names, got {text_column!r} twice.")
        self.pipeline, self.text_column, self.entities_column = ner, text_column, entities_column
        self.arguments = dict(arguments)
        ner([], **self.arguments)  # raises if an argument is invalid
        self._is_split: bool = _parameters(ner, self.arguments)[0].get("is_split_into_words", False)
        _MAPS[self.digest()] = self

    def __call__(self, batch: Any) -> Any:
        """Return the entities of a batch, or of a single row if `Dataset.map` is called without `batched=True`.

        For a dataset with the format "arrow", return the batch as a table with the new column, as `datasets` expects.

        Raises:
            ValueError: the column of texts is missing, the new column exists already, a text is neither a string nor
                null, or the format of the dataset is "pandas" or "polars".
        """
        if not isinstance(batch, (Mapping, pa.Table)):
            raise ValueError(
                f"expected a mapping from columns to lists, or an Arrow table, got {type(batch).__name__}: call map on "
                "dataset.with_format(None), and without input_columns."
            )
        names = batch.column_names if isinstance(batch, pa.Table) else list(batch)
        if self.text_column not in names:
            raise ValueError(f"the dataset has no column {self.text_column!r}; choose the text_column from {names}.")
        if self.entities_column in names:
            raise ValueError(
                f"the dataset has a column {self.entities_column!r} already; choose another name for the new "
                f"column, as in as_map({self.text_column!r}, entities_column='found')."
            )
        if isinstance(batch, pa.Table):
            found = self._find(batch[self.text_column].to_pylist())
            return batch.append_column(self.entities_column, pa.array(found, ENTITIES))
        texts = batch[self.text_column]
        if texts is None or isinstance(texts, str) or (self._is_split and all(isinstance(word, str) for word in texts)):
            return {self.entities_column: next(iter(self._find([texts])))}
        return {self.entities_column: EntityColumn(self._find(texts))}

    def _find(self, texts: Iterable[str | None]) -> Iterable[list[dict[str, Any]] | None]:
        texts = list(texts)
        found = iter(self.pipeline([text for text in texts if text is not None], **self.arguments))
        for text in texts:
            yield (
                None if text is None else [{name: entity[key] for name, key in _KEYS.items()} for entity in next(found)]
            )

    def digest(self) -> str:
        """Return a hash of everything that changes the entities: weights, configuration, tokenizers and arguments."""
        ner = self.pipeline
        config = ner.model.config
        tokenizers = [ner.tokenizer, ner.model.type_tokenizer]
        facts = [
            fingerprint(ner.model),
            {name: value for name, value in config.to_dict().items() if name not in _NOT_HASHED},
            [None if tokenizer is None else _as_json(tokenizer) for tokenizer in tokenizers],
            _parameters(ner, self.arguments),
            [self.text_column, self.entities_column],
        ]
        return hashlib.blake2b(json.dumps(facts, sort_keys=True, default=str).encode(), digest_size=16).hexdigest()

    def __reduce__(self) -> tuple[Any, ...]:
        config = self.pipeline.model.config
        loading = {
            "model": config._name_or_path,
            "revision": getattr(config, "_commit_hash", None),
            "device": str(self.pipeline.device),
            "dtype": str(self.pipeline.model.dtype).removeprefix("torch."),
            "batch_size": self.arguments.get("batch_size", self.pipeline._batch_size),
        }
        digest = self.digest()
        _MAPS[digest] = self
        parameters = _parameters(self.pipeline, self.arguments)
        return _restore, (digest, loading, parameters, self.text_column, self.entities_column)


class EntityColumn(list[Any]):
    """A column of entities whose Arrow type is always complete.

    `datasets` infers the type of a column from its first batch. If this batch contains no entities, the type of a plain
    list would be incomplete.
    """

    def __arrow_array__(self, type: Any = None) -> pa.Array:
        return pa.array(list(self), type or ENTITIES)


_NOT_HASHED = (
    "_name_or_path",
    "_commit_hash",
    "transformers_version",
    "dtype",
)  # The first three do not change the entities. The hash of the weights includes `dtype`.
_KEYS = {"start": "start", "end": "end", "label": "entity_group", "score": "score", "word": "word"}


def _restore(
    digest: str, loading: Mapping[str, Any], parameters: Any, text_column: str, entities_column: str
) -> EntityMap:
    """Return the map that has this digest. If this process does not have the map, load the model and create it.

    Raises:
        RuntimeError: the model cannot be loaded, or the loaded model differs from the pickled model.
    """
    if (found := _MAPS.get(digest)) is not None:
        return found
    problem = "the model was not loaded from a folder or from the Hub"
    if loading["model"]:
        ner = load_pipeline(**loading)
        preprocess, forward, postprocess = parameters
        types = [EntityType(*fields) for fields in forward["types"]]
        ner._preprocess_params, ner._forward_params, ner._postprocess_params = (
            preprocess,
            {**forward, "types": types},
            postprocess,
        )
        restored = EntityMap(ner, text_column, entities_column, {})
        if restored.digest() == digest:
            return restored
        problem = f"the model in memory differs from the model in {loading['model']}"
    raise RuntimeError(
        f"another process cannot load the model: {problem}. Save it with ner.save_pretrained(folder), load it with "
        "pipeline('binder-ner', model=folder), and use this pipeline."
    )


def _parameters(ner: Any, arguments: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the parameters of the pipeline's steps: preprocess, forward and postprocess.

    The arguments of a call replace the defaults of the pipeline. Entity types are returned as tuples with the fields of
    `EntityType`.
    """
    given = {name: value for name, value in arguments.items() if name != "batch_size"}
    defaults = (ner._preprocess_params, ner._forward_params, ner._postprocess_params)
    steps = ner._sanitize_parameters(**given)
    preprocess, forward, postprocess = ({**before, **after} for before, after in zip(defaults, steps, strict=True))
    types = [tuple(entity_type) for entity_type in forward.get("types") or ner._resolve(None)]
    return [preprocess, {**forward, "types": types}, postprocess]


def _as_json(tokenizer: Any) -> Any:
    """Return the definition of a tokenizer, without padding and truncation, because calls change these two settings."""
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    return {name: value for name, value in content.items() if name not in ("padding", "truncation")}
