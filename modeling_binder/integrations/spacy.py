"""The spaCy component "binder_ner", which finds entities and writes them to `doc.ents` and `doc.spans`.

spaCy imports this module whenever it creates a pipeline, because the package registers it as an entry point. So this
module must be imported quickly. It imports torch and transformers only when a component is created.
"""

import os
import pickle
import re
import shutil
import tempfile
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import srsly
from spacy.language import Language
from spacy.pipeline import Pipe
from spacy.pipeline.spancat import spancat_score
from spacy.scorer import get_ner_prf
from spacy.tokens import Doc, Span, SpanGroup
from spacy.training import Example
from spacy.util import load_config_from_str, minibatch
from thinc.api import Config

from .spacy_spans import align, binder_score, set_ents

if TYPE_CHECKING:
    from ..pipeline_binder import BinderNerPipeline
    from ..types_binder import EntityTypes

# spaCy checks the values of a config against these annotations, so they are concrete types instead of `Mapping`.
Types = str | list[str | dict[str, str | None]] | dict[str, str | dict[str, str | None] | None]
_CONSTRUCTOR_SETTINGS = ("model", "revision", "device", "dtype")
_COMPONENT_SETTINGS = ("types", "alignment_mode", "spans_key", "overwrite_ents")


@dataclass(frozen=True)
class Settings:
    """The settings of a component, from the config of the spaCy pipeline.

    Args:
        model: folder, or id on the Hub.
        types: the entity types, in any form that `BinderNerPipeline` accepts as `entity_types`. None means the types of
            the model.
        decoding: "flat" writes `doc.ents` and `doc.spans`, "nested" writes only `doc.spans`.
        threshold, inference, max_length, stride: arguments of a call, see `BinderNerPipeline`.
        batch_size: number of windows in a batch of the model. The argument `batch_size` of `nlp.pipe` is a number of
            documents.
        alignment_mode: how to change an entity that begins or ends inside a token of spaCy, as in `Doc.char_span`.
            "expand" adds the rest of this token to the entity. "contract" removes this token from the entity. "strict"
            leaves out the entity.
        spans_key: the key in `doc.spans` for the found spans.
        overwrite_ents: in flat decoding, let found entities replace overlapping entities of `doc.ents`. If false, the
            existing entities are kept.
        revision: branch, tag or commit on the Hub.
        device: device of the model. Defaults to the first GPU, if there is one.
        dtype: data type of the weights. Defaults to the data type of the checkpoint.

    Raises:
        ValueError: a value is invalid, or `model` is a folder without a BINDER model.
        TypeError: a value has a wrong type.
    """

    model: str
    types: "EntityTypes | None" = None
    decoding: str = "flat"
    threshold: float | dict[str, float] | None = None
    inference: str | None = None
    max_length: int | None = None
    stride: int | None = None
    batch_size: int | None = None
    alignment_mode: str = "expand"
    spans_key: str = "binder"
    overwrite_ents: bool = False
    revision: str | None = None
    device: int | str | None = None
    dtype: str | None = None

    def __post_init__(self) -> None:
        from ..decoding_binder import required_margin
        from ..types_binder import resolve_entity_types

        for name, choices in (
            ("decoding", ("flat", "nested")),
            ("inference", (None, "span", "joint")),
            ("alignment_mode", ("strict", "contract", "expand")),
            ("dtype", (None, "auto", "float32", "float16", "bfloat16")),
        ):
            if (value := getattr(self, name)) not in choices:
                raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}.")
        for name, minimum in (("max_length", 1), ("stride", 0), ("batch_size", 1)):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < minimum):
                raise ValueError(f"{name} must be an integer and at least {minimum}, got {value!r}.")
        if not self.spans_key:
            raise ValueError("spans_key must not be empty: it is the key of doc.spans.")
        labels = None if self.types is None else [each.label for each in resolve_entity_types(self.types, None)]
        thresholds = self.threshold if isinstance(self.threshold, Mapping) else {"all types": self.threshold}
        if labels is not None and isinstance(self.threshold, Mapping) and not set(thresholds) <= set(labels):
            unknown = [name for name in thresholds if name not in labels]
            raise ValueError(f"threshold has keys that are not among the types: {unknown}. The types are {labels}.")
        if values := [value for value in thresholds.values() if value is not None]:
            required_margin(values, len(values))
        config = Path(self.model, "config.json")
        if os.path.isdir(self.model) and (
            not config.is_file() or srsly.read_json(config).get("model_type") != "binder"
        ):
            raise ValueError(
                f"the folder {self.model!r} contains no BINDER model: its config.json is missing, or has another "
                "model_type than 'binder'."
            )

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments for calls of the pipeline."""
        other = (*_CONSTRUCTOR_SETTINGS, *_COMPONENT_SETTINGS)
        given = {name: value for name, value in vars(self).items() if name not in other and value is not None}
        return given if self.types is None else {**given, "entity_types": self.types}

    def load(self, folder: str | None = None) -> "BinderNerPipeline":
        """Load the model from `folder`, or by default from the folder or repository in the settings."""
        from ..loading import load_pipeline

        revision = self.revision if folder is None else None
        options = {"revision": revision, "device": self.device, "dtype": self.dtype or "auto"}
        return load_pipeline(folder or self.model, **options)


class BinderNer(Pipe):
    """A spaCy component that finds entities with a BINDER model.

    The component writes found spans to `doc.spans[spans_key]`, with their scores in the list `attrs["scores"]` of this
    span group. In flat decoding, it also writes them to `doc.ents`. `span._.binder_score` is the score of a found span.

    An entity is misaligned if it begins or ends inside a token of spaCy. The setting `alignment_mode` determines how a
    misaligned entity is changed. If a changed entity overlaps another entity, flat decoding keeps the unchanged entity.
    If both were changed, it keeps the entity with the higher score. Misaligned entities are listed in
    `doc.spans[spans_key].attrs["misaligned"]` and counted in `num_misaligned`. The first one causes a warning.

    A new component has not loaded its model yet, because `spacy.load` creates a component before it reads the model
    from the folder of the spaCy pipeline. The model is loaded with the first text, by `load`, or by `nlp.initialize()`.

    Args:
        settings: the model and its options.
        name: name of the component in the pipeline.
    """

    def __init__(self, settings: Settings, name: str = "binder_ner") -> None:
        self.settings, self.name = settings, name
        self.num_misaligned = 0
        self._has_warned_about_gold = False
        self._pipeline: BinderNerPipeline | None = None
        self._files: _TemporaryFolder | None = None  # exported encoders from `from_bytes`

    def load(self) -> "BinderNerPipeline":
        """Load the model if it is not loaded yet, check the settings, and return the pipeline.

        Raises:
            ValueError: the model cannot be loaded, or a setting is invalid.
        """
        if self._pipeline is None:
            self._pipeline = self._checked(self.settings.load())
        return self._pipeline

    def _checked(self, pipeline: "BinderNerPipeline") -> "BinderNerPipeline":
        pipeline("", **self.settings.arguments)  # raises if an argument is invalid for this model
        return pipeline

    def initialize(
        self, get_examples: Callable[[], Iterable[Example]] | None = None, *, nlp: Language | None = None
    ) -> None:
        """Load the model."""
        self.load()

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the entity types. Empty if `types` is None and the model is not loaded yet."""
        from ..types_binder import resolve_entity_types

        if self.settings.types is None and self._pipeline is None:
            return ()
        own = self._pipeline.model.config.entity_types if self._pipeline is not None else None
        return tuple(each.label for each in resolve_entity_types(self.settings.types, own))

    def __call__(self, doc: Doc, *, batch_size: int = 1, **overrides: Any) -> Doc:
        """Find the entities of a document, and write them to the document.

        Args:
            doc: the document.
            batch_size: ignored. It is accepted because `nlp.pipe` adds it to the dictionary `component_cfg`, which may
                later be passed to a call.
            overrides: settings for this call, as in `nlp(text, component_cfg={"binder_ner": {"types": [...]}})`.
        """
        settings = self._settings_of_call(overrides)
        self.load()  # outside of `try`, because the error handler is only for errors of a document
        try:
            self.set_annotations([doc], self.predict([doc], settings), settings)
        except Exception as error:
            self.get_error_handler()(self.name, self, [doc], error)
        return doc

    def pipe(self, stream: Iterable[Doc], *, batch_size: int = 128, **overrides: Any) -> Iterator[Doc]:
        """Find the entities of a stream of documents.

        A document that causes an error is passed to the error handler, and is not yielded. The other documents of its
        batch are yielded.

        Args:
            stream: documents.
            batch_size: number of documents in one call of the pipeline. The pipeline sorts the windows of these
                documents by length.
            overrides: settings for this call, as in `nlp.pipe(texts, component_cfg={"binder_ner": {...}})`.
        """
        settings = self._settings_of_call(overrides)
        self.load()  # outside of `try`, because the error handler is only for errors of a document
        for docs in minibatch(stream, batch_size):
            try:
                found = self.predict(docs, settings)
            except Exception as error:
                if len(docs) == 1:
                    self.get_error_handler()(self.name, self, docs, error)
                    continue
                found = None
            for index, doc in enumerate(docs):
                try:
                    entities = self.predict([doc], settings) if found is None else [found[index]]
                    self.set_annotations([doc], entities, settings)
                except Exception as error:
                    self.get_error_handler()(self.name, self, [doc], error)
                else:
                    yield doc

    def _settings_of_call(self, overrides: Mapping[str, Any]) -> Settings:
        fixed = (*_CONSTRUCTOR_SETTINGS, "batch_size")  # in a call, batch_size is a number of documents
        accepted = [field.name for field in fields(Settings) if field.name not in fixed]
        if unknown := [name for name in overrides if name not in accepted]:
            raise ValueError(f"{self.name}: a call does not accept {unknown}; it accepts {', '.join(accepted)}.")
        return replace(self.settings, **overrides) if overrides else self.settings

    def predict(self, docs: Sequence[Doc], settings: Settings | None = None) -> list[list[dict[str, Any]]]:
        """Return the entities of documents, in the form of `BinderNerPipeline`, without changing the documents."""
        return self.load()([doc.text for doc in docs], **(settings or self.settings).arguments)

    def set_annotations(
        self, docs: Iterable[Doc], found: Iterable[list[dict[str, Any]]], settings: Settings | None = None
    ) -> None:
        """Write entities to documents.

        Args:
            docs: the documents.
            found: the entities of each document, as `predict` returns them.
            settings: settings to use. Defaults to the settings of the component.
        """
        settings = settings or self.settings
        for doc, entities in zip(docs, found, strict=True):
            aligned, misaligned = align(doc, entities, settings.alignment_mode, settings.decoding == "flat")
            spans = [entity.span for entity in aligned]
            attributes = {"scores": [entity.score for entity in aligned], "misaligned": misaligned}
            doc.spans[settings.spans_key] = SpanGroup(doc, name=settings.spans_key, spans=spans, attrs=attributes)
            if settings.decoding == "flat":
                set_ents(doc, spans, settings.overwrite_ents)
            if misaligned:
                self._count(doc, misaligned, settings)

    def _count(self, doc: Doc, misaligned: Sequence[Mapping[str, Any]], settings: Settings) -> None:
        is_first = not self.num_misaligned
        self.num_misaligned += len(misaligned)
        if is_first:
            start, end, label = (misaligned[0][name] for name in ("start", "end", "label"))
            around = doc.char_span(start, end, alignment_mode="expand")
            warnings.warn(
                f"{self.name}: the {label} {doc.text[start:end]!r:.60} does not consist of whole tokens of spaCy (they "
                f"are {[token.text for token in around or ()]!r:.100}), so the setting alignment_mode="
                f"{settings.alignment_mode!r} is applied ('expand', 'contract' or 'strict'). This warning appears only "
                f"once. doc.spans[{settings.spans_key!r}].attrs['misaligned'] lists all such entities of a document, "
                f"and nlp.get_pipe({self.name!r}).num_misaligned counts them.",
                stacklevel=2,
            )

    def score(self, examples: Iterable[Example], **kwargs: Any) -> dict[str, Any]:
        """Return precision, recall and F1 of `doc.ents` (flat decoding) or `doc.spans[spans_key]` (nested decoding)."""
        if self.settings.decoding == "flat":
            return get_ner_prf(examples)
        examples = list(examples)
        self._check_gold([example.reference for example in examples])
        return spancat_score(examples, spans_key=self.settings.spans_key, allow_overlap=True)

    def _check_gold(self, docs: Sequence[Doc]) -> None:
        key = self.settings.spans_key
        others = sorted({other for doc in docs for other, group in doc.spans.items() if len(group)})
        if others and not self._has_warned_about_gold and not any(key in doc.spans for doc in docs):
            self._has_warned_about_gold = True
            warnings.warn(
                f"{self.name}: the examples have no gold spans in doc.spans[{key!r}], so the scores are None; they "
                f"have spans under {', '.join(map(repr, others))}. Write them with write_format(documents, path, "
                f"'docbin', group={key!r}), or add the component with spans_key={others[0]!r}.",
                stacklevel=3,
            )

    def to_disk(self, path: str | Path, *, exclude: Iterable[str] = ()) -> None:
        """Save the model in a folder, which transformers can load too. spaCy saves the settings in its config file.

        Raises:
            ValueError: spaCy's config files cannot represent the settings.
        """
        self._check_config()
        self.load().save_pretrained(str(path))

    def from_disk(self, path: str | Path, *, exclude: Iterable[str] = ()) -> "BinderNer":
        """Load the model from a folder. If the folder has no model, the component uses the model in its settings."""
        if Path(path, "config.json").is_file():
            self._pipeline = self._checked(self.settings.load(str(path)))
        return self

    def to_bytes(self, *, exclude: Iterable[str] = ()) -> bytes:
        """Return the files of the model as bytes.

        Raises:
            ValueError: spaCy's config files cannot represent the settings.
        """
        with tempfile.TemporaryDirectory() as folder:
            self.to_disk(folder)
            files = [path for path in Path(folder).rglob("*") if path.is_file()]
            return srsly.msgpack_dumps({path.relative_to(folder).as_posix(): path.read_bytes() for path in files})

    def from_bytes(self, data: bytes, *, exclude: Iterable[str] = ()) -> "BinderNer":
        """Load the model from bytes.

        Raises:
            ValueError: the bytes contain a file whose path is outside the folder of the model.
        """
        files = _TemporaryFolder()
        try:
            _write_files(srsly.msgpack_loads(data), Path(files.name).resolve())
            self.from_disk(files.name)
            if self._pipeline is not None and self._pipeline.model.exported_encoders():
                self._files = files  # keep the folder: to_disk and pickled copies read the files in it
        finally:
            if self._files is not files:
                files.cleanup()
        return self

    def _check_config(self) -> None:
        settings = {"types": self.settings.types, "threshold": self.settings.threshold}
        try:
            read = load_config_from_str(Config({"settings": settings}).to_str())["settings"]
            same = {name: _collapse_dollars(value) for name, value in read.items()} == settings
        except ValueError:
            same = False
        if not same:
            raise ValueError(
                f"a config file of spaCy cannot represent the types or the threshold of {self.name}: {settings!r:.200}"
                ". Pass the types as a list, [{'name': ..., 'description': ...}], if a name contains '=', ':' or other "
                "special characters of config files. Do not use '${'."
            )

    def __reduce__(self) -> Any:
        # `nlp.pipe(n_process=...)` pickles components if it spawns processes. Then torch would move the weights to
        # shared memory, and containers often have little of it. So the model is pickled to bytes here.
        state = {**self.__dict__, "_pipeline": self._pipeline and pickle.dumps(self._pipeline), "_files": None}
        return _unpickle, (type(self), state)


class _TemporaryFolder:
    """A folder that is deleted with this object, but never by a fork of the process: the parent still needs it."""

    def __init__(self) -> None:
        self.name = tempfile.mkdtemp()
        self.cleanup = weakref.finalize(self, _delete, self.name, os.getpid())


def _delete(folder: str, process: int) -> None:
    if os.getpid() == process:
        shutil.rmtree(folder, ignore_errors=True)


def _write_files(files: Mapping[str, bytes], folder: Path) -> None:
    for name, content in files.items():
        path = (folder / name).resolve()
        if not path.is_relative_to(folder):
            raise ValueError(f"the bytes contain a file outside the folder of the model: {name!r}.")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _unpickle(component: type[BinderNer], state: dict[str, Any]) -> BinderNer:
    restored = component.__new__(component)
    restored.__dict__.update(state, _pipeline=state["_pipeline"] and pickle.loads(state["_pipeline"]))
    return restored


def _collapse_dollars(value: Any) -> Any:
    """Replace "$$" by "$". spaCy writes "$" to config files as "$$", but does not replace "$$" when it reads them."""
    if isinstance(value, str):
        return re.sub(r"\$+", "$", value)
    if isinstance(value, Mapping):
        return {_collapse_dollars(name): _collapse_dollars(item) for name, item in value.items()}
    return [_collapse_dollars(item) for item in value] if isinstance(value, list) else value


if not Span.has_extension("binder_score"):
    Span.set_extension("binder_score", getter=binder_score)


@Language.factory(
    "binder_ner",
    assigns=["doc.ents", "doc.spans", "token.ent_iob", "token.ent_type"],
    default_config={field.name: field.default for field in fields(Settings) if field.name != "model"},
    default_score_weights={
        "ents_f": 0.5,
        "ents_p": 0.0,
        "ents_r": 0.0,
        "ents_per_type": None,
        "spans_binder_f": 0.5,
        "spans_binder_p": 0.0,
        "spans_binder_r": 0.0,
    },
)
def make_binder_ner(
    nlp: Language,
    name: str,
    model: str,
    types: Types | None,
    decoding: Literal["flat", "nested"],
    threshold: float | dict[str, float] | None,
    inference: Literal["span", "joint"] | None,
    max_length: int | None,
    stride: int | None,
    batch_size: int | None,
    alignment_mode: Literal["strict", "contract", "expand"],
    spans_key: str,
    overwrite_ents: bool,
    revision: str | None,
    device: int | str | None,
    dtype: str | None,
) -> BinderNer:
    """Create a component; see `Settings` for the arguments."""
    given = {key: value for key, value in locals().items() if key not in ("nlp", "name")}
    return BinderNer(
        Settings(**{**given, "types": _collapse_dollars(types), "threshold": _collapse_dollars(threshold)}), name
    )
