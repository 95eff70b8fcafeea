"""The BINDER model: a text encoder, a type encoder and three heads that compare their outputs.

Zhang et al., "Optimizing Bi-Encoder for Named Entity Recognition via Contrastive Learning", ICLR 2023.

Dimensions: B windows, T entity types, L tokens, W span widths, H hidden size, D projection size.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.utils import ModelOutput

from .breadth_binder import BreadthNetwork
from .configuration_binder import BinderConfig
from .decoding_binder import Proposals, above_threshold, candidate_spans, with_both_ends
from .encoders_binder import build_encoder, encode, encode_pooled, load_encoder, max_positions
from .heads_binder import PositionHead, SpanHead, vectors_of_windows, without_autocast
from .losses_binder import BinderLosses, binder_losses
from .pretrained_binder import BinderPreTrainedModel
from .scoring_binder import SpanParts
from .tokenizers_binder import find_type_tokenizer
from .types_binder import EncodedTypes, encode_descriptions

# `find_spans` compares a batch with blocks of entity types. These numbers limit the memory that a block needs.
MAX_TYPES_PER_BLOCK = 1024
MAX_TOKEN_PRODUCTS = 2**23  # number of tokens in the batch times number of types in the block
CPU_BLOCK_SCORES = 2**18  # span scores that are computed at once on a CPU, so that they fit into its cache
DEVICE_BLOCK_SCORES = 2**24  # span scores that are computed at once on other devices, enough to keep a device busy


@dataclass
class BinderOutput(ModelOutput):
    """Output of `BinderModel.forward`.

    Args:
        loss: scalar, the weighted sum of the six losses below. All losses are None without labels.
        start_loss, end_loss, span_loss: mention losses.
        start_threshold_loss, end_threshold_loss, span_threshold_loss: threshold losses.
        start_scores, end_scores: [B, T, L], with the learned scale. Position 0 is the threshold.
        span_scores: [B, T, L, W] with W = min(max_span_width, L). Entry (i, w) is the score of the span of the tokens
            i..i+w, and entry (0, 0) is the threshold. Entries of spans past the end of the window are -inf.
        text_states: [B, L, H], the hidden states of the text encoder; only with `return_text_states`.
    """

    loss: Tensor | None = None
    start_loss: Tensor | None = None
    end_loss: Tensor | None = None
    span_loss: Tensor | None = None
    start_threshold_loss: Tensor | None = None
    end_threshold_loss: Tensor | None = None
    span_threshold_loss: Tensor | None = None
    start_scores: Tensor | None = None
    end_scores: Tensor | None = None
    span_scores: Tensor | None = None
    text_states: Tensor | None = None


class BinderModel(BinderPreTrainedModel):
    """The BINDER model. It finds the spans of a text that are closer to an entity type than the [CLS] token.

    `BinderModel.from_encoders("google-bert/bert-base-uncased", ...)` creates a model for fine-tuning.
    `BinderModel.from_pretrained` loads a checkpoint.

    Args:
        config: configuration, see `BinderConfig`.
        text_encoder, type_encoder: encoders with weights. `None` means newly initialised encoders.
    """

    card_facts: dict[str, Any] | None = None  # facts for the model card, set by the trainer

    def __init__(self, config: BinderConfig, text_encoder: Any = None, type_encoder: Any = None) -> None:
        super().__init__(config)
        self.text_encoder: Any = text_encoder or build_encoder(config, "text_encoder")
        self.type_encoder: Any = None
        if not config.share_encoders and not config.frozen_types:
            self.type_encoder = type_encoder or build_encoder(config, "type_encoder")
        text_config: Any = config.text_config
        type_config: Any = config.type_config or config.text_config
        text_size, type_size = text_config.hidden_size, type_config.hidden_size
        self.start_head = PositionHead(text_size, type_size, config)
        self.end_head = PositionHead(text_size, type_size, config)
        self.span_head = SpanHead(text_size, type_size, config)
        self.breadth: Any = None
        if config.use_breadth and not config.frozen_types:
            self.breadth = BreadthNetwork(type_size).requires_grad_(False)  # it is trained separately
        if config.frozen_types:  # rows are in the order of the entity types
            count = len(config.entity_types or [])
            self.register_buffer("frozen_type_vectors", torch.zeros(count, 3, config.projection_size))  # [T, 3, D]
            if config.use_breadth:
                self.register_buffer("frozen_type_breadths", torch.zeros(count))  # [T]
        self.post_init()

    @classmethod
    def from_encoders(
        cls,
        text_encoder: str | None = None,
        type_encoder: str | None = None,
        *,
        encoder_options: dict[str, Any] | None = None,
        **config: Any,
    ) -> "BinderModel":
        """Create a model for fine-tuning from pretrained encoders, with newly initialised heads.

        Args:
            text_encoder: id on the Hub or local folder of the text encoder.
            type_encoder: id on the Hub or local folder of the type encoder. Defaults to `text_encoder`, which is then
                loaded twice, so that the two encoders have separate weights. If the tokenizers of the two encoders
                differ, `model.type_tokenizer` is the tokenizer of the type encoder.
            encoder_options: arguments of `AutoModel.from_pretrained` (`revision`, `token`, `attn_implementation`, ...).
            config: fields of `BinderConfig`. `entity_types` may be a dictionary name -> description, or name ->
                `{"description": ..., "parent": ...}`.

        Raises:
            ValueError: an encoder cannot be used.

        Example:
            >>> model = BinderModel.from_encoders(
            ...     "google-bert/bert-base-uncased", entity_types={"Disease": "The name of a disease or a syndrome."}
            ... )  # doctest: +SKIP
        """
        text_encoder = _renamed(config, "text", "text_encoder", text_encoder)
        type_encoder = _renamed(config, "type", "type_encoder", type_encoder)
        if text_encoder is None:
            raise TypeError("from_encoders needs a text_encoder, such as 'google-bert/bert-base-uncased'.")
        if isinstance(config.get("entity_types"), dict):
            config["entity_types"] = [
                {"name": name, **(value if isinstance(value, dict) else {"description": value})}
                for name, value in config["entity_types"].items()
            ]
        options = encoder_options or {}
        for_text = load_encoder(text_encoder, **options)
        for_types = None if config.get("share_encoders") else load_encoder(type_encoder or text_encoder, **options)
        binder_config = BinderConfig(
            text_config=for_text.config.to_dict(),
            type_config=None if for_types is None else for_types.config.to_dict(),
            **config,
        )
        model = cls(binder_config, text_encoder=for_text, type_encoder=for_types)
        if for_types is not None and type_encoder not in (None, text_encoder):
            location = {name: options[name] for name in ("revision", "token", "cache_dir") if name in options}
            model.type_tokenizer = find_type_tokenizer(text_encoder, type_encoder, **location)
        return model

    @property
    def max_positions(self) -> int | None:
        """Maximum number of tokens of the text encoder, special tokens included. None means no limit."""
        return max_positions(self.text_encoder)

    @property
    def max_type_positions(self) -> int | None:
        """Maximum number of tokens of the type encoder, special tokens included. None means no limit."""
        return max_positions(self.type_encoder if self.type_encoder is not None else self.text_encoder)

    def encode_text(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None
    ) -> Tensor:
        """Encode windows of text, [B, L]. Return the hidden states of the text encoder, [B, L, H]."""
        return encode(self.text_encoder, input_ids, attention_mask, token_type_ids)

    def encode_types(
        self,
        type_input_ids: Tensor,
        type_attention_mask: Tensor | None = None,
        type_token_type_ids: Tensor | None = None,
    ) -> Tensor:
        """Encode entity types. `forward` accepts the result as `type_vectors`.

        Args:
            type_input_ids, type_attention_mask, type_token_type_ids: tokenised descriptions, [T, length of the longest
                description].

        Returns:
            [T, 3, D]: unit vectors of each type for the start head, the end head and the span head.
        """
        return self.project_types(self.encode_type_states(type_input_ids, type_attention_mask, type_token_type_ids))

    def encode_type_states(
        self,
        type_input_ids: Tensor,
        type_attention_mask: Tensor | None = None,
        type_token_type_ids: Tensor | None = None,
    ) -> Tensor:
        """Encode descriptions, and pool the states of each description to one state, see `config.type_pooling`.

        If the type encoder is not trained, these states are the same in every training step and can be computed once.

        Args:
            type_input_ids, type_attention_mask, type_token_type_ids: see `encode_types`.

        Returns:
            [T, H].

        Raises:
            ValueError: the checkpoint has no type encoder.
        """
        if self.type_encoder is None and not self.config.share_encoders:
            raise ValueError(
                "the entity types of this checkpoint are frozen: it has no type encoder and finds only "
                f"{', '.join(self.config.type_descriptions)}. For other types, load the original checkpoint."
            )
        encoder = self.type_encoder if self.type_encoder is not None else self.text_encoder
        return encode_pooled(
            encoder, type_input_ids, type_attention_mask, type_token_type_ids, self.config.type_pooling
        )

    def project_types(self, type_states: Tensor) -> Tensor:
        """Project the states of entity types, [T, H], with the three heads. Return unit vectors, [T, 3, D]."""
        with without_autocast(type_states.device):
            return torch.stack(
                [head.types(type_states) for head in (self.start_head, self.end_head, self.span_head)], 1
            )

    @torch.no_grad()
    def freeze_types(self, tokenizer: Any) -> "BinderModel":
        """Store the vectors of the model's entity types and remove the type encoder. This halves the size of the model.

        Args:
            tokenizer: tokenizer of the model.

        Returns:
            This model.

        Raises:
            ValueError: the model has no entity types.
        """
        if not self.config.frozen_types:
            self.config.check_entity_types()
            if not self.config.entity_types:
                raise ValueError("the model has no entity types to freeze.")
            encoded = self.encode_descriptions(tokenizer, list(self.config.type_descriptions.values()))
            self.register_buffer("frozen_type_vectors", encoded.vectors)
            if encoded.breadths is not None:
                self.register_buffer("frozen_type_breadths", encoded.breadths)
            self.type_encoder = self.breadth = None
            self.type_tokenizer = None
            self.config.frozen_types = True
            for limits in (self.config.onnx, self.config.openvino):
                (limits or {}).pop("type_encoder", None)
        return self

    @torch.no_grad()
    def encode_descriptions(self, tokenizer: Any, descriptions: Sequence[str]) -> EncodedTypes:
        """Encode descriptions in batches. Return their vectors and breadths, see `types_binder.EncodedTypes`."""
        return encode_descriptions(self, tokenizer, descriptions)

    def encode_type(self, tokenizer: Any, description: str) -> Tensor:
        """Encode one description. Return its vectors, [3, D]."""
        return self.encode_descriptions(tokenizer, [description]).vectors[0]

    def span_parts(self, hidden: Tensor) -> SpanParts:
        """Project encoded texts, [B, L, H], to start, end and width vectors; see `scoring_binder.SpanParts`."""
        with without_autocast(hidden.device):
            return self.span_head.parts(hidden)

    def score(self, hidden: Tensor, type_vectors: Tensor, parts: SpanParts) -> tuple[Tensor, Tensor, Tensor]:
        """Compare encoded texts with entity types.

        Args:
            hidden: [B, L, H] from `encode_text`.
            type_vectors: [T, 3, D] from `encode_types`, or [B, T, 3, D] with different types for each window.
            parts: result of `span_parts`.

        Returns:
            Start, end and span scores, as in `BinderOutput`. The scores of a type do not depend on the other types. So
            you can compare many types in blocks.
        """
        with without_autocast(hidden.device):
            start_types, end_types, span_types = type_vectors.float().unbind(-2)  # [T, D] or [B, T, D] each
            return (
                self.start_head(hidden, start_types),
                self.end_head(hidden, end_types),
                self.span_head(parts, span_types),
            )

    @torch.no_grad()
    def find_spans(
        self,
        hidden: Tensor,
        type_vectors: Tensor,
        word_starts: Tensor,
        word_ends: Tensor,
        required: Tensor,
        joint: bool = False,
        owned: Tensor | None = None,
    ) -> Proposals:
        """Find the spans of encoded texts that are above their thresholds.

        This method gives the same result as `score` and `decoding_binder.propose_spans`, with less memory. It scores
        only spans from the start of a word to the end of a word, in blocks, and keeps only spans above their
        thresholds. So memory does not grow with the number of types. For long windows, it grows no faster than the
        memory of the encoder.

        Args:
            hidden: [B, L, H] from `encode_text`.
            type_vectors: [T, 3, D] from `encode_types`.
            word_starts, word_ends: [B, L], nonzero on the first / last token of each word.
            required: [T], margins from `decoding_binder.required_margin`.
            joint: the start score and the end score of a span must exceed their own thresholds too.
            owned: [B, 2], see `decoding_binder.candidate_spans`.
        """
        parts = self.span_parts(hidden)
        spans = candidate_spans(word_starts, word_ends, parts.width, owned)
        block_scores = CPU_BLOCK_SCORES if hidden.device.type == "cpu" else DEVICE_BLOCK_SCORES
        block_types = max(1, min(MAX_TYPES_PER_BLOCK, MAX_TOKEN_PRODUCTS // word_starts.numel()))
        found = []
        with without_autocast(hidden.device):
            for begin in range(0, len(type_vectors), block_types):
                type_ids = slice(begin, begin + block_types)
                start_types, end_types, span_types = type_vectors[type_ids].float().unbind(1)  # [T, D] each
                ends = (self.start_head(hidden, start_types), self.end_head(hidden, end_types)) if joint else None
                for some, margin in self.span_head(parts, span_types, spans, block_scores):
                    block = above_threshold(margin, required[type_ids], *(column[some] for column in spans))
                    if ends is not None:
                        block = with_both_ends(block, *ends)
                    # Empty blocks are dropped, because small tensors between large tensors prevent the reuse of memory.
                    if len(block.type_id):
                        found.append(block._replace(type_id=block.type_id + begin))
        if not found:
            empty = spans[0][:0]
            return Proposals(empty, empty, empty, empty, hidden.new_empty(0, dtype=torch.float32))
        return Proposals(*(torch.cat(columns) for columns in zip(*found, strict=True)))

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        type_input_ids: Tensor | None = None,
        type_attention_mask: Tensor | None = None,
        type_token_type_ids: Tensor | None = None,
        type_vectors: Tensor | None = None,
        word_start_mask: Tensor | None = None,
        word_end_mask: Tensor | None = None,
        labels: Tensor | None = None,
        num_mentions: Tensor | int | None = None,
        num_windows: Tensor | int | None = None,
        type_states: Tensor | None = None,
        type_index: Tensor | None = None,
        excluded: Tensor | None = None,
        num_asked: Tensor | int | None = None,
        return_text_states: bool = False,
        return_dict: bool | None = None,
    ) -> BinderOutput | tuple[Tensor, ...]:
        """Score every token and every span of B windows for T entity types.

        Args:
            input_ids, attention_mask, token_type_ids: [B, L], windows of text whose first token is [CLS].
            type_input_ids, type_attention_mask, type_token_type_ids: tokenised descriptions, [T, ...].
            type_vectors: [T, 3, D] from `encode_types`, instead of descriptions.
            word_start_mask, word_end_mask: [B, L], nonzero on the first / last token of each word. Required with
                `labels`.
            labels: [B, M, 3], one row (type, first token, last token) per gold mention, padded with -100.
            num_mentions, num_windows: divisors of the losses, see `binder_losses`.
            type_states: [T, H] from `encode_type_states`, instead of descriptions.
            type_index: [B, T], compares each window with different types. A row contains indices of the given types,
                padded with -1. T is then the length of a row, and a type in `labels` is a position in the row of its
                window. The losses ignore the padding.
            excluded, num_asked: see `binder_losses`.
            return_text_states: whether the output contains the hidden states of the text encoder.
            return_dict: if False, return a tuple of the values that are not None.

        Raises:
            ValueError: there are no types, or there are labels but no word masks.
        """
        tokens = type_input_ids, type_attention_mask, type_token_type_ids
        type_vectors = self._type_vectors(type_vectors, type_states, *tokens)
        asked = None
        if type_index is not None:
            asked = type_index >= 0  # [B, T]
            type_vectors = vectors_of_windows(type_vectors, type_index.clamp_min(0))  # [B, T, 3, D]
        hidden = self.encode_text(input_ids, attention_mask, token_type_ids)  # [B, L, H]

        scores = self.score(hidden, type_vectors, self.span_parts(hidden))
        output = BinderOutput(**dict(zip(("start_scores", "end_scores", "span_scores"), scores, strict=True)))
        if labels is not None:
            if word_start_mask is None or word_end_mask is None:
                raise ValueError("labels need word_start_mask and word_end_mask, which define the candidate spans.")
            masks = word_start_mask, word_end_mask
            terms = binder_losses(*scores, *masks, labels, num_mentions, num_windows, excluded, asked, num_asked)
            losses = {f"{name}_loss": term for name, term in terms._asdict().items()}
            output = BinderOutput(loss=self.weigh(terms), **losses, **output)
        if return_text_states:
            output.text_states = hidden
        return output if return_dict is not False else output.to_tuple()

    def _type_vectors(
        self,
        type_vectors: Tensor | None,
        type_states: Tensor | None,
        type_input_ids: Tensor | None,
        type_attention_mask: Tensor | None,
        type_token_type_ids: Tensor | None,
    ) -> Tensor:
        """Return the vectors of the types, [T, 3, D], from the first argument that is not None."""
        if type_vectors is not None:
            return type_vectors
        if type_states is not None:
            return self.project_types(type_states)
        if type_input_ids is not None:
            return self.encode_types(type_input_ids, type_attention_mask, type_token_type_ids)
        if self.config.frozen_types:
            return self.frozen_type_vectors
        raise ValueError(
            "BinderModel needs entity types to compare with the text: pass type_input_ids (tokenised descriptions) or "
            "type_vectors (from model.encode_types)."
        )

    def weigh(self, terms: BinderLosses) -> Tensor:
        """Return the total loss: the sum of the six losses with their weights in the configuration."""
        config = self.config
        heads = (config.start_loss_weight, config.end_loss_weight, config.span_loss_weight)
        mention = sum((weight * term for weight, term in zip(heads, terms[:3], strict=True)), torch.zeros(()))
        threshold = sum((weight * term for weight, term in zip(heads, terms[3:], strict=True)), torch.zeros(()))
        return config.mention_loss_weight * mention + config.threshold_loss_weight * threshold

    def make_pipeline(self, tokenizer: Any, **options: Any) -> Any:
        """Create a "binder-ner" pipeline with this model.

        Because of the import below, `save_pretrained` also copies `pipeline_binder.py` to the checkpoint.
        """
        from .pipeline_binder import BinderNerPipeline

        return BinderNerPipeline(model=self, tokenizer=tokenizer, task="binder-ner", **options)


def _renamed(options: dict[str, Any], old: str, new: str, value: Any) -> Any:
    """Return the value of an argument, which a caller may still pass by its old name."""
    if old not in options:
        return value
    if value is not None:
        raise TypeError(f"from_encoders got both {new} and {old}, its old name: leave out {old}.")
    warnings.warn(f"from_encoders({old}=...) is now from_encoders({new}=...).", FutureWarning, stacklevel=3)
    return options.pop(old)
