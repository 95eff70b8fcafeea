"""The BINDER model: a text encoder, a type encoder and three heads that compare their outputs.

Zhang et al., "Optimizing Bi-Encoder for Named Entity Recognition via Contrastive Learning", ICLR 2023.

Dimensions: B windows, T types, L tokens, W widths, H hidden size, D projection size.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.utils import ModelOutput

from .breadth_binder import BreadthNetwork
from .configuration_binder import BinderConfig
from .decoding_binder import Proposals, above_threshold, candidate_spans, with_both_ends
from .encoders_binder import build_encoder, encode, load_encoder, max_positions
from .heads_binder import PositionHead, SpanHead, without_autocast
from .losses_binder import BinderLosses, binder_losses
from .pretrained_binder import BinderPreTrainedModel
from .scoring_binder import SpanParts
from .tokenizers_binder import find_type_tokenizer
from .types_binder import EncodedTypes, encode_descriptions

# `find_spans` compares a batch with the types in blocks. These numbers limit the memory that a block needs.
MAX_TYPES_PER_BLOCK = 1024
MAX_TOKEN_PRODUCTS = 2**23  # number of tokens in the batch times number of types in the block
CPU_BLOCK_SCORES = 2**18  # span scores computed at once on a CPU: as many as fit into its cache
DEVICE_BLOCK_SCORES = 2**24  # span scores computed at once on other devices: enough to keep the device busy


@dataclass
class BinderOutput(ModelOutput):
    """Output of `BinderModel.forward`.

    Args:
        loss: scalar, the weighted sum of the six terms below. Loss and terms are None if there are no labels.
        start_loss, end_loss, span_loss: mention losses.
        start_threshold_loss, end_threshold_loss, span_threshold_loss: threshold losses.
        start_scores, end_scores: [B, T, L], with the learned scale; position 0 is the threshold.
        span_scores: [B, T, L, W] with W = min(max_span_width, L). Entry (i, w) is the score of the span of tokens
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
    """The BINDER model: finds the spans of a text that are closer to an entity type than the [CLS] token of the text.

    `BinderModel.from_encoders("google-bert/bert-base-uncased", ...)` builds a model to fine-tune; `from_pretrained`
    loads a checkpoint.

    Args:
        config: configuration, see `BinderConfig`.
        text_encoder, type_encoder: encoders to use instead of freshly initialised ones (`from_encoders` passes them).
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
        if config.frozen_types:  # in the order of the entity types
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
        """Build a model to fine-tune from pretrained encoders, with newly initialised heads.

        Args:
            text_encoder: id on the Hub or local folder of the text encoder.
            type_encoder: id on the Hub or local folder of the type encoder. Defaults to `text_encoder`, loaded a second
                time, so that the two encoders have separate weights. The tokenizer of the type encoder becomes
                `model.type_tokenizer` if it differs from the tokenizer of the text encoder.
            encoder_options: passed to `AutoModel.from_pretrained` (`revision`, `token`, `attn_implementation`, ...).
            config: fields of `BinderConfig`; `entity_types` may be a dictionary name -> description, or name ->
                `{"description": ..., "parent": ...}`.

        Raises:
            ValueError: an encoder cannot be used; the message says why.

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
        """Number of tokens that the text encoder accepts, special tokens included; None if it has no limit."""
        return max_positions(self.text_encoder)

    @property
    def max_type_positions(self) -> int | None:
        """Number of tokens that the type encoder accepts, special tokens included; None if it has no limit."""
        return max_positions(self.type_encoder if self.type_encoder is not None else self.text_encoder)

    def encode_text(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None
    ) -> Tensor:
        """Encode windows of text [B, L]; returns the hidden states of the text encoder, [B, L, H]."""
        return encode(self.text_encoder, input_ids, attention_mask, token_type_ids)

    def encode_types(
        self,
        type_input_ids: Tensor,
        type_attention_mask: Tensor | None = None,
        type_token_type_ids: Tensor | None = None,
    ) -> Tensor:
        """Encode entity types from their tokenised descriptions; `forward` accepts the result as `type_vectors`.

        Args:
            type_input_ids, type_attention_mask, type_token_type_ids: [T, length of the longest description].

        Returns:
            [T, 3, D]: unit vectors for the start, the end and the span head.
        """
        return self.project_types(self.encode_type_states(type_input_ids, type_attention_mask, type_token_type_ids))

    def encode_type_states(
        self,
        type_input_ids: Tensor,
        type_attention_mask: Tensor | None = None,
        type_token_type_ids: Tensor | None = None,
    ) -> Tensor:
        """Encode tokenised descriptions and pool the states of their tokens (`config.type_pooling`); returns [T, H].

        If the type encoder is not trained, the states are the same in every training step and can be computed once.

        Args:
            type_input_ids, type_attention_mask, type_token_type_ids: [T, length of the longest description].

        Raises:
            ValueError: the checkpoint has no type encoder.
        """
        if self.type_encoder is None and not self.config.share_encoders:
            raise ValueError(
                "the entity types of this checkpoint are frozen: it has no type encoder and finds only "
                f"{', '.join(self.config.type_descriptions)}. For other types load the checkpoint this one was made of."
            )
        encoder = self.type_encoder if self.type_encoder is not None else self.text_encoder
        states = encode(encoder, type_input_ids, type_attention_mask, type_token_type_ids)  # [T, L, H]
        if self.config.type_pooling == "cls":
            return states[:, 0]
        if type_attention_mask is None:
            return states.mean(1)
        weights = type_attention_mask[..., None].to(states.dtype)
        return (states * weights).sum(1) / weights.sum(1)

    def project_types(self, type_states: Tensor) -> Tensor:
        """Project pooled states of types [T, H] with the three heads; returns unit vectors, [T, 3, D]."""
        with without_autocast(type_states.device):
            return torch.stack(
                [head.types(type_states) for head in (self.start_head, self.end_head, self.span_head)], 1
            )

    @torch.no_grad()
    def freeze_types(self, tokenizer: Any) -> "BinderModel":
        """Store the vectors of the model's own types and remove the type encoder, which halves the size of the model.

        Args:
            tokenizer: tokenizer of the model.

        Returns:
            The model itself.

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
            if self.config.onnx:
                self.config.onnx.pop("type_encoder", None)
        return self

    @torch.no_grad()
    def encode_descriptions(self, tokenizer: Any, descriptions: Sequence[str]) -> EncodedTypes:
        """Encode the descriptions of types in batches; returns their vectors and breadths. See `types_binder`."""
        return encode_descriptions(self, tokenizer, descriptions)

    def encode_type(self, tokenizer: Any, description: str) -> Tensor:
        """Encode the description of one type; returns its vectors, [3, D]."""
        return self.encode_descriptions(tokenizer, [description]).vectors[0]

    def span_parts(self, hidden: Tensor) -> SpanParts:
        """Project encoded texts [B, L, H] to start, end and width vectors; see `scoring_binder.SpanParts`."""
        with without_autocast(hidden.device):
            return self.span_head.parts(hidden)

    def score(self, hidden: Tensor, type_vectors: Tensor, parts: SpanParts) -> tuple[Tensor, Tensor, Tensor]:
        """Compare encoded texts with types.

        Args:
            hidden: [B, L, H] from `encode_text`. type_vectors: [T, 3, D] from `encode_types`, or [B, T, 3, D],
                different types for each window. parts: from `span_parts`.

        Returns:
            Start, end and span scores, as in `BinderOutput`. The scores of a type do not depend on the other types, so
            many types can be scored in blocks.
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
        """Find the spans of encoded texts that exceed their dynamic thresholds.

        The result is the same as that of `score` followed by `decoding_binder.propose_spans`, but needs less memory.
        Only spans from the start of a word to the end of a word are scored. They are scored in blocks, and only spans
        above their thresholds are kept. So memory does not grow with the number of types, and it grows no faster with
        the length of the windows than the memory of the encoder.

        Args:
            hidden: [B, L, H] from `encode_text`. type_vectors: [T, 3, D] from `encode_types`.
            word_starts, word_ends: [B, L], nonzero on the first / last token of each word.
            required: [T], margins from `decoding_binder.required_margin`.
            joint: require that the start score and the end score of a span exceed their own thresholds too.
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
                    # Empty blocks are not kept: small tensors between large ones prevent the reuse of memory.
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
        """Score every token and every span of B windows against T types.

        Args:
            input_ids, attention_mask, token_type_ids: [B, L], windows of text whose first token is [CLS].
            type_input_ids, type_attention_mask, type_token_type_ids: tokenised descriptions, [T, ...].
            type_vectors: [T, 3, D] from `encode_types`, instead of descriptions.
            word_start_mask, word_end_mask: [B, L], nonzero on the first / last token of each word; required if there
                are `labels`.
            labels: [B, M, 3], one row (type, first token, last token) per gold mention, padded with -100.
            num_mentions, num_windows: what the losses are divided by, see `binder_losses`.
            type_states: [T, H] from `encode_type_states`, instead of descriptions.
            type_index: [B, T], the types that each window is compared with, as indices of the given types, padded with
                -1. T is then the length of these rows, and `labels` states a type by its position in the row of the
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
            # The gradient of an embedding is cheaper than that of indexing with brackets.
            flat = nn.functional.embedding(type_index.clamp_min(0), type_vectors.flatten(1))
            type_vectors = flat.unflatten(-1, type_vectors.shape[1:])  # [B, T, 3, D]
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
        """Return the vectors of the types, [T, 3, D], computed from the first of the arguments that is given."""
        if type_vectors is not None:
            return type_vectors
        if type_states is not None:
            return self.project_types(type_states)
        if type_input_ids is not None:
            return self.encode_types(type_input_ids, type_attention_mask, type_token_type_ids)
        if self.config.frozen_types:
            return self.frozen_type_vectors
        raise ValueError(
            "BinderModel needs entity types to score the text against: pass type_input_ids (tokenised descriptions) or "
            "type_vectors (from model.encode_types)."
        )

    def weigh(self, terms: BinderLosses) -> Tensor:
        """Compute the total loss: the mention and threshold losses of the heads, weighted by the config."""
        config = self.config
        heads = (config.start_loss_weight, config.end_loss_weight, config.span_loss_weight)
        mention = sum((weight * term for weight, term in zip(heads, terms[:3], strict=True)), torch.zeros(()))
        threshold = sum((weight * term for weight, term in zip(heads, terms[3:], strict=True)), torch.zeros(()))
        return config.mention_loss_weight * mention + config.threshold_loss_weight * threshold

    def make_pipeline(self, tokenizer: Any, **options: Any) -> Any:
        """Create a "binder-ner" pipeline with this model.

        `save_pretrained` follows the import below, and so copies `pipeline_binder.py` into the checkpoint.
        """
        from .pipeline_binder import BinderNerPipeline

        return BinderNerPipeline(model=self, tokenizer=tokenizer, task="binder-ner", **options)


def _renamed(options: dict[str, Any], old: str, new: str, value: Any) -> Any:
    """Return the value of an argument that may still be passed by its old name."""
    if old not in options:
        return value
    if value is not None:
        raise TypeError(f"from_encoders got both {new} and {old}, its old name: leave out {old}.")
    warnings.warn(f"from_encoders({old}=...) is now from_encoders({new}=...).", FutureWarning, stacklevel=3)
    return options.pop(old)
