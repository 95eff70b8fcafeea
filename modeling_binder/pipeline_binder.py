"""The "binder-ner" pipeline: texts in, entities out."""

import math
import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers.pipelines.base import ChunkPipeline
from transformers.utils.logging import tqdm

from .cache_binder import TypeVectorCache, beside
from .decoding_binder import flat_spans, probability, required_margin
from .processing_binder import BinderProcessor, resolve_entity_types

Entity = dict[str, Any]
BATCH_SIZE = {True: 16, False: 64}  # windows that a CPU, or anything else, reads at once where nobody says otherwise
TYPES_KEPT = 2**14  # vectors of types that a pipeline holds, the latest ones: 25 MB of them
READ_AHEAD = 16  # batches that are read ahead and sorted by length
PADDING = 64  # tokens of padding that a CPU reads in a batch at most: more take longer than another batch
TOKENS = 2**11  # tokens that a CPU reads in a batch at most: what follows from more does not fit into its caches
_END = object()


@dataclass
class _Reading:
    """A text on its way: what was found in its windows, by their number where there was anything."""

    text: str
    spans: dict[int, tuple[Tensor, ...]] = field(default_factory=dict)
    windows: int = 0
    read: int = 0
    complete: bool = False


def _progress(descriptions: Sequence[str]) -> Iterable[str]:
    """With a bar where it takes a while."""
    bar: Iterable[str] = tqdm(descriptions, desc="Encoding types", unit="type", disable=len(descriptions) < 200)
    return bar


def cut_into_batches(
    lengths: Sequence[int], size: int, padding: float = PADDING, tokens: float = TOKENS
) -> Iterator[slice]:
    """Batches of at most `size` windows and `tokens` tokens, of which at most `padding` are padding.

    A window of more tokens is a batch of its own.

    Args:
        lengths: of the windows, from the longest to the shortest.
    """
    begin, padded = 0, 0
    for index, length in enumerate(lengths):
        rows = index - begin
        padded += lengths[begin] - length
        if rows == size or padded > padding or (rows and (rows + 1) * lengths[begin] > tokens):
            yield slice(begin, index)
            begin, padded = index, 0
    if lengths:
        yield slice(begin, len(lengths))


class EntityStream:
    """The results of texts, one after the other; has a length where the texts have one."""

    def __init__(self, found: Iterator[list[Entity]], length: int | None) -> None:
        self._found, self._length = found, length

    def __iter__(self) -> Iterator[list[Entity]]:
        return self._found

    def __next__(self) -> list[Entity]:
        return next(self._found)

    def __len__(self) -> int:
        if self._length is None:
            raise TypeError("nobody knows how many texts a generator will give")
        return self._length


class BinderNerPipeline(ChunkPipeline):
    """Finds the entities of a text, nested or flat, of the model's own types or of types given at call time.

    Example:
        >>> from transformers import pipeline
        >>> import modeling_binder
        >>> ner = pipeline("binder-ner", model="user/name")  # doctest: +SKIP
        >>> ner("IL-2 gene expression", entity_types={"Gene": "A gene."})  # doctest: +SKIP
        [{"entity_group": "Gene", "score": 0.98, "word": "IL-2 gene", "start": 0, "end": 9}]

    Arguments of `pipeline(...)` alone:

        backend: "onnx" or "torch": an error where the checkpoint runs on the other.
        type_cache: file for the vectors of types, so that a description is encoded once and not once a process;
            beside the model if nothing is said, False for none.
        compile: run the text encoder through `torch.compile`, or a dictionary of its options. The first batches take
            longer; worth it on a GPU.

    Call-time arguments (also taken by `pipeline(...)` as defaults):

        entity_types: names, or name -> description. Defaults to the model's own. Vectors of types are computed once.
        threshold: a probability for all types or a dictionary name -> probability; 0.5 is the dynamic threshold.
        decoding: "nested" or "flat". inference: "span" or "joint". Default to the model's configuration.
        max_length, stride: tokens in a window, and tokens that the windows of a long text share.
        is_split_into_words: the input is a list of words (or a list of such lists); offsets are into the words joined
            by single blanks.
        batch_size: windows that the model reads at once, at most; 16 on a CPU and 64 elsewhere if nothing is said. Of
            a list, a generator or a dataset 16 batches are read ahead and sorted by length, and a CPU reads fewer at
            once where they are long or their lengths differ; 1 reads the windows as they come.

    Returns, for each text, a list of dictionaries with `entity_group`, `score` (sigmoid of the span's score minus its
    threshold), `word`, `start` and `end` (characters, end exclusive), in order of position, outer before inner.
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
        type_cache: str | os.PathLike[str] | bool = True,
        compile: bool | Mapping[str, Any] = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        has = "onnx" if self.model.onnx_encoders() else "torch"
        if backend not in (None, has):
            raise ValueError(
                f"backend={backend!r} was asked for, and {self.model.config._name_or_path or 'the model'} runs on "
                f"{has}. An ONNX checkpoint is made by `python -m modeling_binder.backends onnx MODEL OUT` and says "
                "itself what it is: pipeline('binder-ner', model=OUT)."
            )
        path = beside(self.model) if type_cache is True else type_cache
        self._type_cache = TypeVectorCache(path, self.model) if path else None
        if compile:
            # One graph for all lengths and batch sizes; in place, so that saving the model is not affected.
            self.model.text_encoder.compile(**{"dynamic": True, **(compile if isinstance(compile, Mapping) else {})})
        self._batch_size: int = kwargs.get("batch_size") or BATCH_SIZE[self.device.type == "cpu"]
        self._type_vectors: dict[str, Tensor] = {}  # description -> [3, D]
        self._processors: dict[tuple[int | None, int | None], BinderProcessor] = {}

    def _sanitize_parameters(
        self,
        entity_types: str | Sequence[str] | Mapping[str, str] | None = None,
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
                f"unknown arguments: {', '.join(sorted(unknown))}. Known are entity_types, threshold, decoding, "
                "inference, max_length, stride, is_split_into_words and batch_size."
            )
        for name, value, choices in (
            ("decoding", decoding, ("nested", "flat")),
            ("inference", inference, ("span", "joint")),
        ):
            if value is not None and value not in choices:
                raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}.")
        preprocess: dict[str, Any] = {}
        forward: dict[str, Any] = {}
        postprocess: dict[str, Any] = {}
        if max_length is not None:
            preprocess["max_length"] = max_length
        if stride is not None:
            preprocess["stride"] = stride
        if is_split_into_words is not None:
            preprocess["is_split_into_words"] = is_split_into_words
        if entity_types is not None:
            resolved = resolve_entity_types(entity_types, self.model.config.type_descriptions)
            forward["entity_types"] = postprocess["entity_types"] = resolved
        if threshold is not None:
            forward["threshold"] = postprocess["threshold"] = threshold
        if inference is not None:
            forward["inference"] = inference
        if decoding is not None:
            postprocess["decoding"] = decoding
        return preprocess, forward, postprocess

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        """Entities of a text, or of each text of a list, a generator or a dataset; see the class."""
        if isinstance(inputs, (list, tuple)):
            split = kwargs.get("is_split_into_words", self._preprocess_params.get("is_split_into_words", False))
            if not inputs and not split:
                return []
            if split and all(isinstance(word, str) for word in inputs):
                # one text given as its words; the base class would take it for many texts
                return super().__call__([list(inputs)], **kwargs)[0]
            inputs = list(inputs)
        return super().__call__(inputs, **kwargs)

    def push_to_hub(self, repo_id: str, **options: Any) -> Any:
        """Push model, tokenizer, code, card and handler, as one commit; see `BinderModel.push_to_hub`."""
        try:
            from modeling_binder.hub import push_model
        except ImportError:  # remote code without the package: transformers' own push, without card and handler
            return super().push_to_hub(repo_id, **options)
        return push_model(self.model, repo_id, tokenizer=self.tokenizer, **options)

    def _processor(self, max_length: int | None, stride: int | None) -> BinderProcessor:
        key = (max_length, stride)
        if key not in self._processors:
            self._processors[key] = BinderProcessor.for_model(self.model, self.tokenizer, max_length, stride)
        return self._processors[key]

    def get_iterator(
        self,
        inputs: Iterable[Any],
        num_workers: int,
        batch_size: int,
        preprocess_params: dict[str, Any],
        forward_params: dict[str, Any],
        postprocess_params: dict[str, Any],
    ) -> "EntityStream":
        """The results of texts in their order, read as they are asked for; called by the base class.

        The base class would batch windows as they come, each padded to the longest of its batch; here some batches are
        read ahead and sorted by length, which halves the work on sentences. Tokenising takes a hundredth of the time,
        so `num_workers` is not needed.
        """
        found = self._stream(inputs, batch_size, preprocess_params, forward_params, postprocess_params)
        return EntityStream(found, len(inputs) if isinstance(inputs, Sized) else None)

    def _stream(
        self,
        inputs: Iterable[Any],
        batch_size: int,
        preprocess_params: dict[str, Any],
        forward_params: dict[str, Any],
        postprocess_params: dict[str, Any],
    ) -> Iterator[list[Entity]]:
        waiting: deque[_Reading] = deque()  # texts in their order, from the first without a result
        pool: list[tuple[_Reading, int, dict[str, Any]]] = []  # windows that the model has not read
        ahead = READ_AHEAD * batch_size if batch_size > 1 else 1

        def read_pool() -> None:
            pool.sort(key=lambda item: -len(item[2]["input_ids"]))
            lengths = [len(window["input_ids"]) for *_, window in pool]
            limits = (PADDING, TOKENS) if self.device.type == "cpu" else (math.inf, math.inf)
            for part in cut_into_batches(lengths, batch_size, *limits):
                batch = pool[part]
                spans = self.forward(self._collate([window for *_, window in batch]), **forward_params)["spans"]
                for (text, index, _), columns in zip(batch, spans, strict=True):
                    text.read += 1
                    if len(columns[0]):
                        text.spans[index] = columns
            pool.clear()

        def finished() -> Iterator[list[Entity]]:
            while waiting and waiting[0].complete and waiting[0].read == waiting[0].windows:
                text = waiting.popleft()
                spans = [text.spans[index] for index in sorted(text.spans)]
                yield self.postprocess({"text": text.text, "spans": spans}, **postprocess_params)

        failure: Exception | None = None
        texts = iter(inputs)
        while True:
            try:
                text = next(texts, _END)
                if text is _END:
                    break
                for window in self.preprocess(text, **preprocess_params):  # type: ignore[arg-type]
                    if "text" in window:
                        reading = _Reading(window.pop("text"))
                        waiting.append(reading)
                    pool.append((reading, reading.windows, window))
                    reading.windows += 1
                    if len(pool) >= ahead:
                        read_pool()
                reading.complete = True
            except Exception as error:  # what was read before it is not lost
                failure = error
                break
            yield from finished()
        if failure is None or waiting:
            read_pool()
            yield from finished()
        if failure is not None:
            raise failure

    def preprocess(
        self,
        text: str | Sequence[str],
        max_length: int | None = None,
        stride: int | None = None,
        is_split_into_words: bool = False,
    ) -> Iterator[dict[str, Any]]:
        """Yield the windows of a text; at least one, also for an empty text. The first brings the text."""
        processor = self._processor(max_length, stride)
        words: list[tuple[int, int]] | None = None
        if is_split_into_words:
            if isinstance(text, str) or not all(isinstance(word, str) for word in text):
                raise ValueError(f"with is_split_into_words=True each input must be a list of words, got {text!r:.80}.")
            words, position = [], 0
            for word in text:
                if word.strip():
                    words.append((position, position + len(word)))
                position += len(word) + 1
            text = " ".join(text)
        elif not isinstance(text, str):
            raise ValueError(
                f"expected a text (str), got {type(text).__name__}: {text!r:.80}. For a list of words pass "
                "is_split_into_words=True; for a dataset pass its text column, as in pipe(KeyDataset(data, 'text'))."
            )
        for index, window in enumerate(processor.read(text, words)):
            yield {
                "input_ids": window.input_ids,
                "starts": window.starts,
                "ends": window.ends,
                "owned": window.owned,
                **({} if index else {"text": text}),
            }

    def _collate(self, windows: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        """Windows as tensors, padded to the longest of them."""
        length = max(len(window["input_ids"]) for window in windows)

        def pad(name: str, value: int) -> Tensor:
            return torch.tensor([window[name] + [value] * (length - len(window[name])) for window in windows])

        sizes = torch.tensor([[len(window["input_ids"])] for window in windows])
        batch = {
            "input_ids": pad("input_ids", self.tokenizer.pad_token_id or 0),
            "attention_mask": (torch.arange(length) < sizes).long(),
            # Offsets that are masks at the same time: 0 where no word starts or ends.
            "word_starts": pad("starts", -1) + 1,
            "word_ends": pad("ends", -1).clamp_min_(0),
            "owned": torch.tensor([window["owned"] for window in windows]),
        }
        if self.device.type == "cuda":  # the copy runs while the next lines do
            batch = {name: tensor.pin_memory().to(self.device, non_blocking=True) for name, tensor in batch.items()}
        return batch

    def type_vectors(self, entity_types: Mapping[str, str]) -> Tensor:
        """Vectors [T, 3, D] of entity types (name -> description), each description encoded once and kept.

        Each is encoded alone, so a type's vector, and with it what is found of that type, does not depend on the
        other types of the call.
        """
        vectors = {text: self._type_vectors[text] for text in entity_types.values() if text in self._type_vectors}
        missing = [text for text in dict.fromkeys(entity_types.values()) if text not in vectors]
        if missing:
            new = self._encode_types(missing)
            vectors |= new
            self._type_vectors |= new
            while len(self._type_vectors) > TYPES_KEPT:
                self._type_vectors.pop(next(iter(self._type_vectors)), None)
        return torch.stack([vectors[text] for text in entity_types.values()])

    def _encode_types(self, descriptions: Sequence[str]) -> dict[str, Tensor]:
        model = self.model
        if model.config.frozen_types:
            own = dict(zip(model.config.type_descriptions.values(), model.frozen_type_vectors, strict=True))
            if all(text in own for text in descriptions):
                return {text: own[text].float() for text in descriptions}
        if self._type_cache is None:
            return {text: model.encode_type(self.tokenizer, text) for text in _progress(descriptions)}
        keys = {text: self._type_cache.key(self.tokenizer(text, verbose=False).input_ids) for text in descriptions}
        held = self._type_cache.read(keys.values())
        new = {
            text: model.encode_type(self.tokenizer, text)
            for text in _progress([text for text in descriptions if keys[text] not in held])
        }
        if new:
            self._type_cache.write({keys[text]: vector for text, vector in new.items()})
        return {text: new[text] if text in new else held[keys[text]].to(self.device) for text in descriptions}

    def margins(
        self,
        text: str,
        entity_types: str | Sequence[str] | Mapping[str, str] | None = None,
        position: int = 0,
        words: int = 64,
    ) -> tuple[list[tuple[int, int]], dict[str, Tensor]]:
        """How far every span of words clears its dynamic threshold, or falls short of it: why something was found.

        Args:
            text: of any length; one window of it is looked at, and of that some words.
            entity_types: as in a call.
            position: a character that the words should stand around.
            words: how many at most.

        Returns:
            The words as character spans, N of them, and for each type a matrix [N, N]: the margin of the span from word
            i to word j, positive where it is a mention, nan where the model does not look (it ends before it
            starts, or is wider than max_span_width).
        """
        types = resolve_entity_types(entity_types, self.model.config.type_descriptions)
        window = None
        for read in self.preprocess(text):
            if window is None or min((start for start in read["starts"] if start >= 0), default=len(text)) <= position:
                window = read
            if max(read["ends"], default=0) > position:
                break
        if window is None or max(window["starts"]) < 0:
            return [], {name: torch.empty(0, 0) for name in types}
        firsts = [token for token, offset in enumerate(window["starts"]) if offset >= 0]
        # A window may begin inside a word, whose start is elsewhere.
        lasts = [token for token, offset in enumerate(window["ends"]) if offset >= 0 and token >= firsts[0]]
        middle = sum(window["starts"][token] <= position for token in firsts)
        low = max(0, min(middle - words // 2, len(firsts) - words))
        firsts, lasts = firsts[low : low + words], lasts[low : low + words]
        with self.get_inference_context()():
            batch = {name: tensor.to(self.device) for name, tensor in self._collate([window]).items()}
            hidden = self.model.encode_text(batch["input_ids"], batch["attention_mask"])
            vectors = self.type_vectors(types)
            scores = self.model.score(hidden, vectors, self.model.span_parts(hidden))[2][0]  # [T, L, W]
        rows = torch.tensor(firsts)[:, None].expand(-1, len(lasts))
        offsets = torch.tensor(lasts)[None] - rows
        legal = (offsets >= 0) & (offsets < scores.shape[-1])
        margin = (scores - scores[:, :1, :1]).cpu()[:, rows, offsets.clamp(0, scores.shape[-1] - 1)]  # [T, N, N]
        margin = margin.masked_fill(~legal, float("nan"))
        spans = [(window["starts"][first], window["ends"][last]) for first, last in zip(firsts, lasts, strict=False)]
        return spans, dict(zip(types, margin, strict=True))

    def _types(self, entity_types: Mapping[str, str] | None) -> Mapping[str, str]:
        # Types of the call were resolved once, by _sanitize_parameters.
        return entity_types or resolve_entity_types(None, self.model.config.type_descriptions)

    @staticmethod
    def _required(threshold: float | Mapping[str, float], entity_types: Mapping[str, str]) -> Tensor:
        if isinstance(threshold, Mapping):
            unknown = [name for name in threshold if name not in entity_types]
            if unknown:
                raise ValueError(f"threshold names types that were not asked for: {unknown}; asked: {[*entity_types]}.")
            return required_margin([threshold.get(name, 0.5) for name in entity_types], len(entity_types))
        return required_margin(threshold, len(entity_types))

    def _forward(
        self,
        inputs: dict[str, Any],
        entity_types: Mapping[str, str] | None = None,
        threshold: float | Mapping[str, float] = 0.5,
        inference: str | None = None,
    ) -> dict[str, Any]:
        types = self._types(entity_types)
        required = self._required(threshold, types)
        joint = (inference or self.model.config.inference) == "joint"
        vectors = self.type_vectors(types)
        hidden = self.model.encode_text(inputs["input_ids"], inputs["attention_mask"])
        found = self.model.find_spans(
            hidden, vectors, inputs["word_starts"], inputs["word_ends"], required, joint, inputs["owned"]
        )
        order = torch.argsort(found.window, stable=True)
        # Only the spans found leave the device, window by window.
        counts = torch.bincount(found.window, minlength=len(hidden)).tolist()
        starts = inputs["word_starts"][found.window, found.first] - 1
        ends = inputs["word_ends"][found.window, found.last]
        columns = [column[order].cpu().split(counts) for column in (starts, ends, found.type_id, found.margin)]
        return {"spans": list(zip(*columns, strict=True))}

    def postprocess(
        self,
        model_outputs: dict[str, Any],
        entity_types: Mapping[str, str] | None = None,
        threshold: float | Mapping[str, float] = 0.5,
        decoding: str | None = None,
    ) -> list[Entity]:
        """Put the windows of a text together: in order of position, flat if asked for, as dictionaries.

        Args:
            model_outputs: `text`, and `spans` of each window that has any: starts, ends, types and margins.
            entity_types, threshold, decoding: of the call.
        """
        types = self._types(entity_types)
        text = model_outputs["text"]
        if not model_outputs["spans"]:
            return []
        start, end, kind, margin = (torch.cat(columns) for columns in zip(*model_outputs["spans"], strict=True))
        if (decoding or self.model.config.decoding) == "flat":
            kept = flat_spans(start, end, kind, margin, self._required(threshold, types))
        else:
            kept = torch.argsort(start * (len(text) + 1) + (len(text) - end), stable=True)
        names = list(types)
        rows = zip(
            start[kept].tolist(),
            end[kept].tolist(),
            kind[kept].tolist(),
            probability(margin[kept]).tolist(),
            strict=True,
        )
        return [
            {"entity_group": names[kind], "score": score, "word": text[begin:stop], "start": begin, "end": stop}
            for begin, stop, kind, score in rows
        ]
