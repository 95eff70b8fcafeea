"""The "binder-ner" pipeline: texts in, entities out."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.pipelines.base import ChunkPipeline

from .decoding_binder import Proposals, flat_spans, probability, propose_spans, required_margin
from .processing_binder import BinderProcessor, resolve_entity_types

Entity = dict[str, Any]
SCORES_AT_ONCE = 2**23  # span scores held at a time: 32 MB in float32


class BinderNerPipeline(ChunkPipeline):
    """Finds the entities of a text, nested or flat, of the model's own types or of types given at call time.

    Example:
        >>> from transformers import pipeline
        >>> import modeling_binder
        >>> ner = pipeline("binder-ner", model="user/name")  # doctest: +SKIP
        >>> ner("IL-2 gene expression", entity_types={"Gene": "A gene."})  # doctest: +SKIP
        [{"entity_group": "Gene", "score": 0.98, "word": "IL-2 gene", "start": 0, "end": 9}]

    Call-time arguments (also taken by `pipeline(...)` as defaults):

        entity_types: names, or name -> description. Defaults to the model's own. Vectors of types are computed once.
        threshold: a probability for all types or a dictionary name -> probability; 0.5 is the dynamic threshold.
        decoding: "nested" or "flat". inference: "span" or "joint". Default to the model's configuration.
        max_length, stride: tokens in a window, and tokens that the windows of a long text share.
        is_split_into_words: the input is a list of words (or a list of such lists); offsets are into the words joined
            by single blanks.
        batch_size: windows that the model reads at once.

    Returns, for each text, a list of dictionaries with `entity_group`, `score` (sigmoid of the span's score minus its
    threshold), `word`, `start` and `end` (characters, end exclusive), in order of position, outer before inner.
    """

    _load_processor = False
    _load_image_processor = False
    _load_video_processor = False
    _load_feature_extractor = False
    _load_tokenizer = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.tokenizer.padding_side = "right"  # the threshold stands at position 0
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

    def preprocess(
        self,
        text: str | Sequence[str],
        max_length: int | None = None,
        stride: int | None = None,
        is_split_into_words: bool = False,
    ) -> Iterator[dict[str, Any]]:
        """Yield the windows of a text; at least one, also for an empty text."""
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
        windows = processor.windows(processor.encode(text, words))
        for index, window in enumerate(windows):
            yield {
                "input_ids": torch.tensor([window.input_ids]),
                "attention_mask": torch.ones(1, len(window.input_ids), dtype=torch.long),
                # Offsets that are masks at the same time: 0 where no word starts or ends, also after padding.
                "word_starts": torch.tensor([window.starts]) + 1,
                "word_ends": torch.tensor([window.ends]).clamp_min(0),
                "owned": torch.tensor([window.owned]),
                "text": text if index == 0 else None,
                "is_last": index == len(windows) - 1,
            }

    def type_vectors(self, entity_types: Mapping[str, str]) -> Tensor:
        """Vectors [T, 3, D] of entity types (name -> description), each description encoded once and kept.

        Each is encoded alone, so a type's vector, and with it what is found of that type, does not depend on the
        other types of the call.
        """
        for description in entity_types.values():
            if description not in self._type_vectors:
                inputs = self._processor(None, None).encode_types([description], self.model.max_type_positions)
                inputs = {name: tensor.to(self.device) for name, tensor in inputs.items()}
                self._type_vectors[description] = self.model.encode_types(**inputs)[0]
        return torch.stack([self._type_vectors[description] for description in entity_types.values()])

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
        parts = self.model.span_parts(hidden)
        # Many types are compared in blocks, so that the memory for scores does not grow with them.
        block = max(1, SCORES_AT_ONCE // parts.inverse_norm.numel())
        blocks = []
        for begin in range(0, len(types), block):
            start_scores, end_scores, span_scores = self.model.score(hidden, vectors[begin : begin + block], parts)
            proposals = propose_spans(
                span_scores,
                inputs["word_starts"],
                inputs["word_ends"],
                required[begin : begin + block],
                start_scores=start_scores if joint else None,
                end_scores=end_scores if joint else None,
                owned=inputs["owned"],
            )
            blocks.append(proposals._replace(type=proposals.type + begin))
        found = Proposals(*(torch.cat(columns) for columns in zip(*blocks, strict=True)))
        order = torch.argsort(found.window, stable=True)
        # Only the spans found leave the device, window by window.
        counts = torch.bincount(found.window, minlength=len(hidden)).tolist()
        starts = inputs["word_starts"][found.window, found.first] - 1
        ends = inputs["word_ends"][found.window, found.last]
        columns = [column[order].cpu().split(counts) for column in (starts, ends, found.type, found.margin)]
        return {
            "input_ids": inputs["input_ids"],  # batch first: it tells the base class how many windows there are
            "spans": list(zip(*columns, strict=True)),
            **{key: inputs[key] for key in ("text", "is_last")},
        }

    def postprocess(
        self,
        model_outputs: list[dict[str, Any]],
        entity_types: Mapping[str, str] | None = None,
        threshold: float | Mapping[str, float] = 0.5,
        decoding: str | None = None,
    ) -> list[Entity]:
        """Put the windows of a text together: in order of position, flat if asked for, as dictionaries."""
        types = self._types(entity_types)
        text = model_outputs[0]["text"]
        # The base class takes batches apart; a window that was alone still stands in its list.
        spans = [item[0] if isinstance(item, list) else item for item in (window["spans"] for window in model_outputs)]
        start, end, kind, margin = (torch.cat(columns) for columns in zip(*spans, strict=True))
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
