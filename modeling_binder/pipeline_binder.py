"""The "binder-ner" pipeline, which finds the entities of texts."""

import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.pipelines.base import ChunkPipeline
from transformers.utils import logging

from .decoding_binder import flat_spans, probability, required_margin
from .numbers_binder import whole_number
from .processing_binder import BinderWindower, TextWindow
from .results_binder import Entities, ResultFormats
from .streaming_binder import (
    CPU_BATCH_SIZE,
    DEVICE_BATCH_SIZE,
    MAX_BATCH_TOKENS,
    MAX_PADDING_TOKENS,
    Entity,
    EntityStream,
    TextReader,
    as_words,
    collate_windows,
)
from .thresholds_binder import required_margins, type_temperatures
from .types_binder import EncodedTypes, EntityType, EntityTypes, TypeCache, find_broader, resolve_entity_types
from .words_binder import join_words

logger = logging.get_logger(__name__)

# Maximum number of windowers in the cache of a pipeline. Each pair of max_length and stride needs a windower. Clients
# of a server choose these numbers, so the cache needs a limit.
MAX_WINDOWERS = 16
_CALL_ARGUMENTS = "entity_types, threshold, decoding, inference, max_length, stride, is_split_into_words, batch_size"
_CONSTRUCTOR_ARGUMENTS = "backend, compile, type_cache (deprecated)"


class BinderNerPipeline(ResultFormats, ChunkPipeline):
    """Find the entities of texts, nested or flat.

    The pipeline finds the entity types in the model's configuration, or the entity types that you pass in a call.

    Example:
        >>> from transformers import pipeline
        >>> import modeling_binder
        >>> ner = pipeline("binder-ner", model="user/name")  # doctest: +SKIP
        >>> ner("IL-2 gene expression", entity_types={"Gene": "A gene."})  # doctest: +SKIP
        [{"entity_group": "Gene", "score": 0.98, "word": "IL-2 gene", "start": 0, "end": 9}]

    Arguments of `pipeline(...)`:

        backend: "onnx", "openvino" or "torch". Raise an error if the checkpoint uses another backend.
        compile: compile the text encoder with `torch.compile`. A dictionary contains arguments of `torch.compile`. The
            first batches take longer. Later batches take less time, mainly on a GPU.
        type_cache: deprecated and ignored. The vectors of types are cached in memory, and no longer in a file.

    Arguments of a call, which `pipeline(...)` accepts as defaults:

        entity_types: names, name -> description, or name -> `{"description": ..., "parent": name of a broader type}`.
            Defaults to the types in the model's configuration. A name without a description gets the description of the
            model's type with this name, ignoring case, white space and Unicode forms ("gene" finds "Gene"). The vector
            of a type is computed once, and cached until the weights change.
        threshold: lowest score of an entity, as a probability for all types or a dictionary name -> probability. Other
            types have their threshold in `config.thresholds`, or else `config.default_threshold`. 0.5 is the dynamic
            threshold.
        decoding: "nested" or "flat" (no overlaps). Defaults to the model's configuration. If a span is above the
            thresholds of several types, "flat" keeps the narrowest type. Parents, or estimates of the model, determine
            which types are narrower.
        inference: "span" or "joint", see `BinderConfig`. Defaults to the model's configuration.
        max_length: maximum number of tokens in a window.
        stride: number of tokens that neighbouring windows of a long text share.
        is_split_into_words: a text is a list of words. Offsets then refer to the words joined by single spaces.
        batch_size: maximum number of windows in a batch. Defaults to 16 on a CPU and 64 on other devices. The pipeline
            reads the windows of 16 batches ahead and sorts them by length. On a CPU, a batch has fewer windows if these
            are long or differ in length. With a batch size of 1, the pipeline reads no windows ahead.

    The input is a text, a list of texts, or any iterable of texts: a generator, a dataset's text column, a pandas
    Series, a numpy array. The result of a text is a list of dictionaries with `entity_group`, `score`, `word`, `start`
    and `end` (character offsets, end exclusive). They are ordered by position, and outer spans come before inner spans.
    A notebook shows the result of a text as a drawing. The result of a list is a list of results. The result of another
    iterable is an `EntityStream`, which reads the texts while you iterate over it.

    `score` is sigmoid(margin / temperature). The margin is the span score minus the dynamic threshold. The temperature
    is 1, unless the model is calibrated (`config.temperatures` and `config.default_temperature`).
    """

    _load_processor = False
    _load_image_processor = False
    _load_video_processor = False
    _load_feature_extractor = False
    _load_tokenizer = True

    def __init__(
        self,
        *args: Any,
        backend: str | None = None,
        compile: bool | Mapping[str, Any] = False,
        type_cache: str | os.PathLike[str] | bool | None = None,
        **kwargs: Any,
    ) -> None:
        if type_cache is not None:
            warnings.warn(
                "type_cache is ignored: the vectors of types are no longer stored in a file. Leave it out.",
                FutureWarning,
                stacklevel=2,
            )
        self._type_cache = TypeCache()
        self._windowers: dict[Any, BinderWindower] = {}
        self._reported: set[tuple[str, str]] = set()  # warnings that have been logged: label of a call, model's type
        super().__init__(*args, **kwargs)
        if not hasattr(self.model, "backend"):
            raise ValueError(
                f"{self.model.config._name_or_path or type(self.model).__name__} is a {self.model.config.model_type!r} "
                "model, not a BINDER model. BinderModel.from_encoders(...) makes a BINDER model from it, which must be "
                "trained."
            )
        if backend not in (None, self.model.backend):
            raise ValueError(
                f"backend={backend!r} does not match {self.model.config._name_or_path or 'the model'}, which runs on "
                f"{self.model.backend}. `binder-ner export onnx MODEL OUT` creates an ONNX checkpoint, and "
                "`binder-ner export openvino MODEL OUT` creates an OpenVINO checkpoint. "
                "pipeline('binder-ner', model=OUT) runs both without this argument."
            )
        if compile:
            # dynamic=True compiles one graph for all lengths and batch sizes. Module.compile() does not change the
            # names of the weights, so the model can still be saved.
            self.model.text_encoder.compile(**{"dynamic": True, **(compile if isinstance(compile, Mapping) else {})})
        if self._batch_size is None:
            self._batch_size: int = CPU_BATCH_SIZE if self.device.type == "cpu" else DEVICE_BATCH_SIZE

    def _sanitize_parameters(
        self,
        entity_types: EntityTypes | None = None,
        threshold: float | Mapping[str, float] | None = None,
        decoding: str | None = None,
        inference: str | None = None,
        max_length: int | None = None,
        stride: int | None = None,
        is_split_into_words: bool | None = None,
        **unknown: Any,
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        if unknown:
            raise TypeError(
                f"unknown arguments: {', '.join(sorted(unknown))}. A call accepts {_CALL_ARGUMENTS}; "
                f"pipeline(...) also accepts {_CONSTRUCTOR_ARGUMENTS}."
            )
        for name, value, choices in (
            ("decoding", decoding, ("nested", "flat")),
            ("inference", inference, ("span", "joint")),
        ):
            if value is not None and value not in choices:
                raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}.")
        if is_split_into_words not in (None, True, False):
            raise ValueError(f"is_split_into_words must be True or False, got {is_split_into_words!r:.80}.")
        if threshold is not None:
            values = list(threshold.values()) if isinstance(threshold, Mapping) else [threshold]
            required_margin(values, len(values))  # raises an error for invalid thresholds
        types = None if entity_types is None else self._resolve(entity_types)
        lengths = {"max_length": max_length, "stride": stride}
        preprocess: dict[str, Any] = {n: None if v is None else whole_number(n, v) for n, v in lengths.items()}
        preprocess["is_split_into_words"] = is_split_into_words
        forward = {"types": types, "threshold": threshold, "inference": inference}
        postprocess = {"decoding": decoding}
        # Drop arguments that are None, because they must not replace the defaults from the constructor.
        given = [
            {name: value for name, value in parameters.items() if value is not None}
            for parameters in (preprocess, forward, postprocess)
        ]
        return given[0], given[1], given[2]

    def __call__(
        self, inputs: Any, *, batch_size: int | None = None, num_workers: int | None = None, **kwargs: Any
    ) -> Any:
        """Find the entities of a text, or of each text of a list or another iterable.

        Args:
            inputs: a text, a list of texts or any other iterable of texts.
            batch_size, kwargs: see the class.
            num_workers: ignored, because the tokenizer takes only about a hundredth of the time.

        Returns:
            A list of entities for a text, a list of results for a list, and an `EntityStream` for other iterables.

        Raises:
            ValueError: an input or an argument is invalid.
            TypeError: an argument is unknown.
        """
        preprocess, forward, postprocess = (
            {**defaults, **given}
            for defaults, given in zip(
                (self._preprocess_params, self._forward_params, self._postprocess_params),
                self._sanitize_parameters(**kwargs),
                strict=True,
            )
        )
        is_list = isinstance(inputs, (list, tuple))
        is_split = preprocess.get("is_split_into_words", False)
        is_one_text = isinstance(inputs, str) or (
            is_split and is_list and all(isinstance(word, str) for word in inputs)
        )
        stream = self.get_iterator(
            [inputs] if is_one_text else inputs,
            num_workers or 0,
            self._batch_size if batch_size is None else batch_size,
            preprocess,
            forward,
            postprocess,
        )
        if is_one_text:
            return next(stream)
        return list(stream) if is_list else stream

    def push_to_hub(self, repo_id: str, **options: Any) -> Any:
        """Push the model with tokenizer, code, card and handler in one commit; see `BinderModel.push_to_hub`."""
        try:
            from modeling_binder.hub import push_model
        except ImportError:  # the package is not installed: transformers pushes the model without card and handler
            return super().push_to_hub(repo_id, **options)
        return push_model(self.model, repo_id, tokenizer=self.tokenizer, **options)

    def get_iterator(
        self,
        inputs: Iterable[Any],
        num_workers: int,
        batch_size: int,
        preprocess_params: dict[str, Any],
        forward_params: dict[str, Any],
        postprocess_params: dict[str, Any],
    ) -> EntityStream:
        """Return the results of texts as a stream, in the order of the texts. See `TextReader`."""
        if (batch_size := whole_number("batch_size", batch_size)) < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}.")
        types = forward_params.get("types") or self._resolve(None)
        required = self._required(forward_params.get("threshold"), types)
        forward = {
            "descriptions": [entity_type.description for entity_type in types],
            "required": required,
            "joint": (forward_params.get("inference") or self.model.config.inference) == "joint",
        }
        postprocess = {
            "labels": [entity_type.label for entity_type in types],
            "required": required,
            "temperatures": type_temperatures(self.model.config, types),
            "flat": (postprocess_params.get("decoding") or self.model.config.decoding) == "flat",
        }
        if postprocess["flat"]:
            postprocess["broader"] = self._broader(types)
        limits = (MAX_PADDING_TOKENS, MAX_BATCH_TOKENS) if self.device.type == "cpu" else ()
        reader = TextReader(
            lambda text: self.preprocess(text, **preprocess_params),
            lambda windows: self.forward(self._collate(windows), **forward)["spans"],
            lambda text, spans: self.postprocess({"text": text, "spans": spans}, **postprocess),
            batch_size,
            *limits,
        )
        return EntityStream(inputs, reader.read)

    def _resolve(self, entity_types: EntityTypes | None) -> list[EntityType]:
        self.model.config.check_entity_types()
        types = resolve_entity_types(entity_types, self.model.config.entity_types)
        for label, _, _, own_label in types:
            if own_label is not None and own_label != label and (label, own_label) not in self._reported:
                self._reported.add((label, own_label))
                logger.warning("The entity type %r is treated as the model's entity type %r.", label, own_label)
        return types

    def _required(self, threshold: Any, types: Sequence[EntityType]) -> Tensor:
        """Return the margin that a span of each type must exceed, [T]."""
        return required_margins(self.model.config, types, threshold)

    def preprocess(
        self,
        text: str | Sequence[str],
        max_length: int | None = None,
        stride: int | None = None,
        is_split_into_words: bool = False,
    ) -> tuple[str, Iterator[TextWindow]]:
        """Return a text and its windows. A list of words is joined by spaces. An empty text has one window too.

        Raises:
            ValueError: the input is not a text, or not a list of words with `is_split_into_words`.
        """
        words: list[tuple[int, int]] | None = None
        if is_split_into_words:
            text, spans = join_words(as_words(text))
            words = [span for span in spans if span is not None]
        elif not isinstance(text, str):
            raise ValueError(
                f"expected a text (str), got {type(text).__name__}: {text!r:.80}. For a list of words, pass "
                "is_split_into_words=True. For a dataset, pass its text column, as in pipe(dataset['text'])."
            )
        return text, self._windower(max_length, stride).read(text, words)

    def _windower(self, max_length: int | None, stride: int | None) -> BinderWindower:
        model = self.model
        config = model.config
        # Users may change each of these values between calls. The id of a tokenizer is unique here, because a cached
        # windower keeps its tokenizer alive.
        key = (max_length, stride, config.max_length, config.stride, model.max_positions, id(self.tokenizer))
        if key not in self._windowers:
            if len(self._windowers) >= MAX_WINDOWERS:
                self._windowers.clear()
            self._windowers[key] = BinderWindower.for_model(model, self.tokenizer, max_length, stride)
        return self._windowers[key]

    def _collate(self, windows: Sequence[TextWindow]) -> dict[str, Tensor]:
        batch = collate_windows(windows, self.tokenizer.pad_token_id or 0)
        if self.device.type == "cuda":  # with pinned memory, the copy runs in the background
            batch = {name: tensor.pin_memory().to(self.device, non_blocking=True) for name, tensor in batch.items()}
        return batch

    def type_vectors(self, entity_types: EntityTypes | None = None) -> Tensor:
        """Return the vectors of entity types, [T, 3, D]. The vectors of a type do not depend on the other types."""
        return self._encoded([entity_type.description for entity_type in self._resolve(entity_types)]).vectors

    def _encoded(self, descriptions: Sequence[str]) -> EncodedTypes:
        return self._type_cache.get(self.model, self.tokenizer, descriptions, self._encode_types)

    def _broader(self, types: Sequence[EntityType]) -> Tensor | None:
        """Return which types are broader than others, [T, T], or None; see `breadth_binder.broader_types`."""
        breadths = None
        if self.model.config.use_breadth:
            breadths = self._encoded([entity_type.description for entity_type in types]).breadths
        config = self.model.config
        return find_broader(types, breadths, config.breadth_margin, config.breadth_tolerance)

    def _encode_types(self, descriptions: list[str]) -> EncodedTypes:
        model = self.model
        if model.config.frozen_types:
            rows = {text: row for row, text in enumerate(model.config.type_descriptions.values())}
            if all(text in rows for text in descriptions):
                chosen = [rows[text] for text in descriptions]
                breadths = getattr(model, "frozen_type_breadths", None)
                vectors = model.frozen_type_vectors[chosen].float()
                return EncodedTypes(vectors, None if breadths is None else breadths[chosen].float())
        encoded: EncodedTypes = model.encode_descriptions(self.tokenizer, descriptions)
        return encoded

    def _forward(
        self, inputs: dict[str, Any], descriptions: Sequence[str], required: Tensor, joint: bool
    ) -> dict[str, Any]:
        vectors = self._encoded(descriptions).vectors
        hidden = self.model.encode_text(inputs["input_ids"], inputs["attention_mask"])
        found = self.model.find_spans(
            hidden, vectors, inputs["word_starts"], inputs["word_ends"], required, joint, inputs["owned"]
        )
        order = torch.argsort(found.window, stable=True)
        # Copy only the found spans from the device, and split them by window.
        counts = torch.bincount(found.window, minlength=len(hidden)).tolist()
        starts = inputs["word_starts"][found.window, found.first] - 1
        ends = inputs["word_ends"][found.window, found.last]
        columns = [column[order].cpu().split(counts) for column in (starts, ends, found.type_id, found.margin)]
        return {"spans": list(zip(*columns, strict=True))}

    def postprocess(
        self,
        model_outputs: dict[str, Any],
        labels: Sequence[str],
        required: Tensor,
        flat: bool,
        broader: Tensor | None = None,
        temperatures: Tensor | None = None,
    ) -> list[Entity]:
        """Convert the spans found in the windows of a text to entities, ordered by position.

        Args:
            model_outputs: `text`, and `spans` with the starts, ends, type ids and margins of the spans in each window.
            labels: the names of the T types.
            required: [T], the required margins. All spans exceed these margins.
            flat: return only entities that do not overlap.
            broader: [T, T], which types are broader than others; see `decoding_binder.flat_spans`.
            temperatures: [T], see `thresholds_binder`. They change only the scores, not which spans are returned.
        """
        found = Entities(text := model_outputs["text"], labels)
        if not model_outputs["spans"]:
            return found
        start, end, type_id, margin = (torch.cat(columns) for columns in zip(*model_outputs["spans"], strict=True))
        if flat:
            kept = flat_spans(start, end, type_id, margin, required, broader=broader)
        else:
            kept = torch.argsort(start * (len(text) + 1) + (len(text) - end), stable=True)
        score = probability(margin[kept], None if temperatures is None else temperatures[type_id[kept]])
        columns = (start[kept], end[kept], type_id[kept], score)
        found.extend(
            {"entity_group": labels[type_id], "score": score, "word": text[begin:stop], "start": begin, "end": stop}
            for begin, stop, type_id, score in zip(*(column.tolist() for column in columns), strict=True)
        )
        return found

    def margins(
        self,
        text: str,
        entity_types: EntityTypes | None = None,
        position: int = 0,
        words: int = 64,
    ) -> tuple[list[tuple[int, int]], dict[str, Tensor]]:
        """Return the margins of all spans (scores minus thresholds), to explain why entities were found or not.

        Args:
            text: a text of any length. Only the window around `position` is scored.
            entity_types: see the class.
            position: a character offset. The words around this offset are returned.
            words: maximum number of words to return.

        Returns:
            The N words as character spans, and for each type a matrix [N, N]. Entry [i, j] is the margin of the span
            from word i to word j. It is positive for a mention. It is nan if the model does not score the span, because
            j < i or because the span is wider than max_span_width.
        """
        types = self._resolve(entity_types)
        labels = [entity_type.label for entity_type in types]
        window = self._window_at(text, position)
        if max(window.starts) < 0:
            return [], {label: torch.empty(0, 0) for label in labels}
        firsts = [token for token, offset in enumerate(window.starts) if offset >= 0]
        # A window may begin inside a word. Leave out the last token of this word, because its first token is missing.
        lasts = [token for token, offset in enumerate(window.ends) if offset >= 0 and token >= firsts[0]]
        middle = sum(window.starts[token] <= position for token in firsts)
        low = max(0, min(middle - words // 2, len(firsts) - words))
        firsts, lasts = firsts[low : low + words], lasts[low : low + words]
        with self.get_inference_context()():
            batch = {name: tensor.to(self.device) for name, tensor in self._collate([window]).items()}
            hidden = self.model.encode_text(batch["input_ids"], batch["attention_mask"])
            vectors = self._encoded([entity_type.description for entity_type in types]).vectors
            scores = self.model.score(hidden, vectors, self.model.span_parts(hidden))[2][0]  # [T, L, W]
        rows = torch.tensor(firsts)[:, None].expand(-1, len(lasts))
        offsets = torch.tensor(lasts)[None] - rows
        is_scored = (offsets >= 0) & (offsets < scores.shape[-1])
        margin = (scores - scores[:, :1, :1]).cpu()[:, rows, offsets.clamp(0, scores.shape[-1] - 1)]  # [T, N, N]
        margin = margin.masked_fill(~is_scored, float("nan"))
        spans = [(window.starts[first], window.ends[last]) for first, last in zip(firsts, lasts, strict=False)]
        return spans, dict(zip(labels, margin, strict=True))

    def _window_at(self, text: str, position: int) -> TextWindow:
        """Return the first window that contains the character at a position.

        If no window contains it, return the last window before the character, or else the first window.
        """
        _, windows = self.preprocess(text)
        chosen: TextWindow | None = None
        for window in windows:
            if chosen is None or min((start for start in window.starts if start >= 0), default=len(text)) <= position:
                chosen = window
            if max(window.ends) > position:
                break
        assert chosen is not None  # because an empty text has a window too
        return chosen
