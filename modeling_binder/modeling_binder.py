"""BINDER as a transformers model: a text encoder, a type encoder and three heads that compare them.

Zhang et al., "Optimizing Bi-Encoder for Named Entity Recognition via Contrastive Learning", ICLR 2023.

Dimensions: B windows, T types, L tokens, W widths, H hidden size, D projection size.
"""

import inspect
import math
import os
import shutil
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import MODEL_MAPPING, AutoConfig, AutoModel, PreTrainedModel
from transformers import initialization as init
from transformers.configuration_utils import PreTrainedConfig
from transformers.utils import ModelOutput, cached_file, logging

from .configuration_binder import BinderConfig
from .decoding_binder import Proposals, beating, candidate_spans, with_both_ends
from .losses_binder import BinderLosses, binder_losses
from .onnx_binder import OnnxEncoder
from .processing_binder import BinderProcessor
from .scoring_binder import SpanParts, past_the_end

logger = logging.get_logger(__name__)

# Arguments of from_pretrained that say where a file is
_WHERE = ("cache_dir", "force_download", "local_files_only", "proxies", "revision", "subfolder", "token")

TYPES_AT_ONCE = 1024  # compared with a batch at a time
PRODUCTS_AT_ONCE = 2**23  # of its tokens with types, held at a time
# Scores held at a time: on a CPU what fits into its cache, elsewhere what keeps it busy
SCORES_AT_ONCE = {True: 2**18, False: 2**24}


@dataclass
class BinderOutput(ModelOutput):
    """What `BinderModel.forward` returns.

    Args:
        loss: the weighted sum of the six terms below, a scalar; None without labels, like the terms.
        start_loss, end_loss, span_loss: mention losses.
        start_threshold_loss, end_threshold_loss, span_threshold_loss: threshold losses.
        start_scores, end_scores: [B, T, L], with the learned scale; position 0 is the threshold.
        span_scores: [B, T, L, W], W = min(max_span_width, L); entry (i, w) is the span of tokens i..i+w, entry (0, 0)
            the threshold; spans past the end are -inf.
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


class Head(nn.Module):
    """One of the three comparisons: projects both sides and holds the scale.

    All arithmetic is in float32, also under autocast and in half-precision models: norms and softmax need it, and next
    to the encoder its cost is small.
    """

    def __init__(self, text_size: int, type_size: int, config: BinderConfig) -> None:
        super().__init__()
        self.text_projection = nn.Linear(text_size, config.projection_size)
        self.type_projection = nn.Linear(type_size, config.projection_size)
        self.scale = nn.Parameter(torch.empty(()))
        self.dropout = nn.Dropout(config.projection_dropout)

    def types(self, anchors: Tensor) -> Tensor:
        """Unit vectors of types from their [CLS] states: [T, H] -> [T, D]."""
        return nn.functional.normalize(self.dropout(_linear(anchors, self.type_projection)), dim=-1)


class PositionHead(Head):
    """Compares single tokens with types: the start and the end of a mention."""

    def forward(self, hidden: Tensor, types: Tensor) -> Tensor:
        """Scores [B, T, L] of hidden states [B, L, H] and unit type vectors [T, D]."""
        tokens = nn.functional.normalize(self.dropout(_linear(hidden, self.text_projection)), dim=-1)
        return self.scale.float().exp() * (types @ tokens.transpose(-1, -2))


class SpanHead(Head):
    """Compares spans with types, by the exact factored score of `scoring_binder`."""

    def __init__(self, text_size: int, type_size: int, config: BinderConfig) -> None:
        width_size = config.projection_size if config.use_span_width_embedding else 0
        super().__init__(2 * text_size + width_size, type_size, config)
        self.text_size = text_size
        self.max_span_width = config.max_span_width
        # Row 0 is padding, row 1 a span of one token, as in the released checkpoints.
        self.width_embedding = (
            nn.Embedding(config.max_span_width + 1, width_size, padding_idx=0) if width_size else None
        )

    def parts(self, hidden: Tensor) -> SpanParts:
        """The start, end and width vectors of a batch of texts [B, L, H], which any types can be compared with."""
        width = min(self.max_span_width, hidden.shape[1])
        weight, bias = self.text_projection.weight.float(), self.text_projection.bias.float()
        hidden = hidden.float()
        starts = nn.functional.linear(hidden, weight[:, : self.text_size], bias)  # [B, L, D]
        ends = nn.functional.linear(hidden, weight[:, self.text_size : 2 * self.text_size])  # [B, L, D]
        widths = None
        if self.width_embedding is not None:
            embedded = self.width_embedding.weight[1 : width + 1].float()  # [W, E]
            widths = self.dropout(nn.functional.linear(embedded, weight[:, 2 * self.text_size :]))  # [W, D]
        return SpanParts(self.dropout(starts), self.dropout(ends), widths, width)

    def forward(self, parts: SpanParts, types: Tensor) -> Tensor:
        """Scores [B, T, L, W] of a batch's spans and unit type vectors [T, D]; -inf past the end."""
        scores = self.scale.float().exp() * parts.cosine(types)
        gone = past_the_end(parts.starts.shape[1], parts.width, scores.device)
        return scores.masked_fill(gone, float("-inf"))


def _linear(x: Tensor, layer: nn.Linear) -> Tensor:
    return nn.functional.linear(x.float(), layer.weight.float(), layer.bias.float())


def _encoder_options(config: PreTrainedConfig) -> dict[str, bool]:
    """The pooler is of no use here; encoders that have one can be built without."""
    signature = inspect.signature(MODEL_MAPPING[type(config)].__init__)
    return {"add_pooling_layer": False} if "add_pooling_layer" in signature.parameters else {}


def _encoder(config: BinderConfig, name: str, encoder_config: Any) -> nn.Module:
    if config.onnx and name in config.onnx:
        return OnnxEncoder(encoder_config, name, config.onnx[name])
    return _fresh_encoder(encoder_config)


def _fresh_encoder(config: PreTrainedConfig) -> PreTrainedModel:
    # Whoever trusts this repository's code has not said a word about another's.
    return AutoModel.from_config(config, trust_remote_code=False, **_encoder_options(config))


class BinderPreTrainedModel(PreTrainedModel):
    """What transformers asks of a model: abilities, initialisation, where the embeddings are."""

    config: BinderConfig
    config_class = BinderConfig
    base_model_prefix = "binder"
    main_input_name = "input_ids"
    input_modalities = ("text",)
    supports_gradient_checkpointing = True
    accepts_loss_kwargs = False  # otherwise Trainer takes the loss for already divided by the accumulation steps
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _no_split_modules: list[str] = []

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, Head):
            init.constant_(module.scale, math.log(1 / self.config.init_temperature))


class BinderModel(BinderPreTrainedModel):
    """BINDER: finds the spans of a text that are closer to an entity type than the text's own [CLS] is.

    Build one with `BinderModel.from_encoders("google-bert/bert-base-uncased", ...)` to fine-tune it, load one with
    `from_pretrained`.

    Args:
        config: see `BinderConfig`.
        text_encoder, type_encoder: encoders to use instead of freshly initialised ones (`from_encoders` passes them).
    """

    card_facts: dict[str, Any] | None = None  # what the trainer of these weights knows of them, for the model card

    def __init__(
        self, config: BinderConfig, text_encoder: nn.Module | None = None, type_encoder: nn.Module | None = None
    ) -> None:
        super().__init__(config)
        self.text_encoder: Any = text_encoder or _encoder(config, "text_encoder", config.text_config)
        self.type_encoder: Any = None
        if not config.share_encoders and not config.frozen_types:
            self.type_encoder = type_encoder or _encoder(config, "type_encoder", config.type_config)
        text_config: Any = config.text_config
        type_config: Any = config.type_config or config.text_config
        text_size, type_size = text_config.hidden_size, type_config.hidden_size
        self.start_head = PositionHead(text_size, type_size, config)
        self.end_head = PositionHead(text_size, type_size, config)
        self.span_head = SpanHead(text_size, type_size, config)
        if config.frozen_types:
            vectors = torch.zeros(len(config.entity_types or []), 3, config.projection_size)
            self.register_buffer("frozen_type_vectors", vectors)  # [T, 3, D], in the order of the entity types
        self.post_init()

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        """As `PreTrainedModel.from_pretrained`, but from safetensors alone: loading never unpickles.

        Raises:
            ValueError: pickled weights were asked for.
            OSError: the repository or folder has no safetensors.
        """
        if kwargs.setdefault("use_safetensors", True) is False:
            raise ValueError(
                "a BINDER checkpoint is loaded from safetensors alone, because a pickle can run code: leave out "
                "use_safetensors=False. `python -m training.convert_reference` converts released checkpoints."
            )
        kwargs["use_safetensors"] = True
        loaded = super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        for encoder in model.onnx_encoders():
            where = {name: kwargs[name] for name in _WHERE if name in kwargs}
            where.setdefault("revision", getattr(model.config, "_commit_hash", None))
            encoder.load(cached_file(pretrained_model_name_or_path, f"{encoder.name}.onnx", **where))
        return loaded

    def save_pretrained(self, save_directory: Any, *args: Any, **kwargs: Any) -> None:
        """As `PreTrainedModel.save_pretrained`; encoders that are ONNX files are copied."""
        super().save_pretrained(save_directory, *args, **kwargs)
        for encoder in self.onnx_encoders():
            target = os.path.join(save_directory, f"{encoder.name}.onnx")
            if encoder.path and not (os.path.exists(target) and os.path.samefile(encoder.path, target)):
                shutil.copyfile(encoder.path, target)

    def onnx_encoders(self) -> list[OnnxEncoder]:
        """Those encoders that are ONNX files."""
        return [encoder for encoder in (self.text_encoder, self.type_encoder) if isinstance(encoder, OnnxEncoder)]

    @classmethod
    def from_encoders(
        cls,
        text: str,
        type: str | None = None,
        *,
        encoder_options: dict[str, Any] | None = None,
        **config: Any,
    ) -> "BinderModel":
        """A model to fine-tune: pretrained encoders, fresh heads.

        Args:
            text: id on the Hub or local folder of the text encoder.
            type: the same for the type encoder; defaults to `text`, with weights of its own.
            encoder_options: passed to `AutoModel.from_pretrained` (`revision`, `token`, `attn_implementation`, ...).
            config: fields of `BinderConfig`; `entity_types` may be a name -> description dictionary.

        Example:
            >>> model = BinderModel.from_encoders(
            ...     "google-bert/bert-base-uncased", entity_types={"Disease": "The name of a disease or a syndrome."}
            ... )  # doctest: +SKIP
        """
        if isinstance(config.get("entity_types"), dict):
            config["entity_types"] = [
                {"name": name, "description": description} for name, description in config["entity_types"].items()
            ]
        options = {"dtype": torch.float32, **(encoder_options or {})}

        def load(name: str) -> PreTrainedModel:
            encoder_config = AutoConfig.from_pretrained(
                name, **{key: options[key] for key in ("revision", "token", "cache_dir") if key in options}
            )
            if encoder_config.__class__ not in MODEL_MAPPING:
                raise ValueError(
                    f"{name!r} is a {encoder_config.model_type!r} model, which transformers cannot load as an encoder. "
                    "Name an encoder such as 'google-bert/bert-base-uncased'."
                )
            verbosity = logging.get_verbosity()
            logging.set_verbosity_error()  # or it lists the pooler, which is left out on purpose
            try:
                encoder, loading = AutoModel.from_pretrained(
                    name, config=encoder_config, output_loading_info=True, **_encoder_options(encoder_config), **options
                )
            finally:
                logging.set_verbosity(verbosity)
            if loading["missing_keys"]:
                logger.warning(
                    "%s has no weights for %d tensors of the encoder, which start at random (first: %s).",
                    name,
                    len(loading["missing_keys"]),
                    sorted(loading["missing_keys"])[0],
                )
            return encoder

        text_encoder = load(text)
        type_encoder = None if config.get("share_encoders") else load(type or text)
        binder_config = BinderConfig(
            text_config=text_encoder.config.to_dict(),
            type_config=None if type_encoder is None else type_encoder.config.to_dict(),
            **config,
        )
        return cls(binder_config, text_encoder=text_encoder, type_encoder=type_encoder)

    def get_input_embeddings(self) -> nn.Module:
        embeddings: nn.Module = self.text_encoder.get_input_embeddings()
        return embeddings

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.text_encoder.set_input_embeddings(value)

    @property
    def max_positions(self) -> int | None:
        """Tokens that fit into the text encoder, special tokens included; None where it has no such limit."""
        return _max_positions(self.text_encoder)

    @property
    def max_type_positions(self) -> int | None:
        """The same for the type encoder."""
        return _max_positions(self.type_encoder if self.type_encoder is not None else self.text_encoder)

    def encode_text(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None
    ) -> Tensor:
        """Hidden states of the text encoder, [B, L, H]."""
        return _encode(self.text_encoder, input_ids, attention_mask, token_type_ids)

    def encode_types(
        self,
        type_input_ids: Tensor,
        type_attention_mask: Tensor | None = None,
        type_token_type_ids: Tensor | None = None,
    ) -> Tensor:
        """Vectors of entity types from their tokenised descriptions, computed once and passed to `forward`.

        Args:
            type_input_ids, type_attention_mask, type_token_type_ids: [T, length of the longest description].

        Returns:
            [T, 3, D]: unit vectors for the start, the end and the span head.
        """
        if self.type_encoder is None and not self.config.share_encoders:
            raise ValueError(
                "this checkpoint's types are frozen: it has no type encoder and finds "
                f"{', '.join(self.config.type_descriptions)} alone. Load the checkpoint that it was made of to ask for "
                "other types."
            )
        encoder = self.type_encoder if self.type_encoder is not None else self.text_encoder
        anchors = _encode(encoder, type_input_ids, type_attention_mask, type_token_type_ids)[:, 0]  # [T, H]
        with torch.autocast(anchors.device.type, enabled=False):
            return torch.stack([head.types(anchors) for head in (self.start_head, self.end_head, self.span_head)], 1)

    @torch.no_grad()
    def freeze_types(self, tokenizer: Any) -> "BinderModel":
        """Keep the vectors of the model's own types and let go of the type encoder: half the size, no other types.

        Args:
            tokenizer: of the model.

        Returns:
            The model itself, to be saved.
        """
        if not self.config.frozen_types:
            vectors = [self.encode_type(tokenizer, text) for text in self.config.type_descriptions.values()]
            if not vectors:
                raise ValueError("the model has no entity types to freeze.")
            self.register_buffer("frozen_type_vectors", torch.stack(vectors))
            self.type_encoder = None
            self.config.frozen_types = True
            if self.config.onnx:
                self.config.onnx.pop("type_encoder", None)
        return self

    @torch.no_grad()
    def encode_type(self, tokenizer: Any, description: str) -> Tensor:
        """The vectors [3, D] of one type; alone, so that they depend on no other type."""
        inputs = BinderProcessor(tokenizer).encode_types([description], self.max_type_positions)
        device = self.start_head.scale.device
        return self.encode_types(**{name: tensor.to(device) for name, tensor in inputs.items()})[0]

    def span_parts(self, hidden: Tensor) -> SpanParts:
        """What the spans of encoded texts [B, L, H] are the sums of: made once, compared with any number of types."""
        with torch.autocast(hidden.device.type, enabled=False):
            return self.span_head.parts(hidden)

    def score(self, hidden: Tensor, type_vectors: Tensor, parts: SpanParts) -> tuple[Tensor, Tensor, Tensor]:
        """Compare encoded texts with types.

        Args:
            hidden: [B, L, H] from `encode_text`. type_vectors: [T, 3, D] from `encode_types`. parts: from `span_parts`.

        Returns:
            Start, end and span scores, as in `BinderOutput`. A type's scores do not depend on the other types, so many
            types can be compared in blocks.
        """
        with torch.autocast(hidden.device.type, enabled=False):
            start_types, end_types, span_types = type_vectors.float().unbind(1)  # [T, D] each
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
        """The spans of encoded texts that beat their dynamic thresholds, as `score` and `propose_spans` find them.

        Only spans from the start to the end of a word are scored, some at a time, and only what is found is kept: the
        memory does not grow with the number of types, and with the length of the windows no faster than the encoder's.

        Args:
            hidden: [B, L, H] from `encode_text`. type_vectors: [T, 3, D] from `encode_types`.
            word_starts, word_ends: [B, L], nonzero on the first / last token of each word.
            required: [T], margins from `decoding_binder.required_margin`.
            joint: the start and the end must beat their thresholds too.
            owned: [B, 2], see `decoding_binder.candidate_spans`.
        """
        parts = self.span_parts(hidden)
        spans = candidate_spans(word_starts, word_ends, parts.width, owned)
        scale = self.span_head.scale.float().exp()
        at_once = SCORES_AT_ONCE[hidden.device.type == "cpu"]
        found = []
        with torch.autocast(hidden.device.type, enabled=False):
            types = max(1, min(TYPES_AT_ONCE, PRODUCTS_AT_ONCE // word_starts.numel()))
            for lowest in range(0, len(type_vectors), types):
                kinds = slice(lowest, lowest + types)
                start_types, end_types, span_types = type_vectors[kinds].float().unbind(1)  # [T, D] each
                ends = (self.start_head(hidden, start_types), self.end_head(hidden, end_types)) if joint else None
                for some, above in parts.above_threshold(scale * span_types, *spans, at_once):
                    block = beating(above, required[kinds], *(column[some] for column in spans))
                    if ends is not None:
                        block = with_both_ends(block, *ends)
                    if len(block.type):  # small tensors kept between large ones would keep the allocator from reuse
                        found.append(block._replace(type=block.type + lowest))
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
        return_dict: bool | None = None,
    ) -> BinderOutput | tuple[Tensor, ...]:
        """Compare every token and every span of B windows with T types.

        Args:
            input_ids, attention_mask, token_type_ids: [B, L], windows of text that start with [CLS].
            type_input_ids, type_attention_mask, type_token_type_ids: tokenised descriptions, [T, ...].
            type_vectors: [T, 3, D] from `encode_types`, instead of descriptions.
            word_start_mask, word_end_mask: [B, L], nonzero on the first / last token of each word; with `labels`.
            labels: [B, M, 3], a row (type, first token, last token) per gold mention, padded with -100.
            num_mentions, num_windows: what the losses are divided by instead of this batch's counts.
            return_dict: false for a tuple of what is not None.

        Raises:
            ValueError: no types were given, or labels came without the two word masks.
        """
        if type_vectors is None and type_input_ids is None and self.config.frozen_types:
            type_vectors = self.frozen_type_vectors
        if type_vectors is None:
            if type_input_ids is None:
                raise ValueError(
                    "BinderModel needs entity types to compare the text with: pass type_input_ids (tokenised "
                    "descriptions) or type_vectors (from model.encode_types)."
                )
            type_vectors = self.encode_types(type_input_ids, type_attention_mask, type_token_type_ids)
        hidden = self.encode_text(input_ids, attention_mask, token_type_ids)  # [B, L, H]

        start_scores, end_scores, span_scores = self.score(hidden, type_vectors, self.span_parts(hidden))
        loss, terms = None, None
        if labels is not None:
            if word_start_mask is None or word_end_mask is None:
                raise ValueError("labels need word_start_mask and word_end_mask: they say which spans compete.")
            terms = binder_losses(
                start_scores,
                end_scores,
                span_scores,
                word_start_mask,
                word_end_mask,
                labels,
                num_mentions,
                num_windows,
            )
            loss = self.weigh(terms)

        output = BinderOutput(
            loss=loss,
            **({f"{name}_loss": term for name, term in terms._asdict().items()} if terms is not None else {}),
            start_scores=start_scores,
            end_scores=end_scores,
            span_scores=span_scores,
        )
        return output if return_dict is not False else output.to_tuple()

    def weigh(self, terms: BinderLosses) -> Tensor:
        """The total loss: the heads' mention and threshold losses, weighted by the config."""
        config = self.config
        heads = (config.start_loss_weight, config.end_loss_weight, config.span_loss_weight)
        mention = sum((weight * term for weight, term in zip(heads, terms[:3], strict=True)), torch.zeros(()))
        threshold = sum((weight * term for weight, term in zip(heads, terms[3:], strict=True)), torch.zeros(()))
        return config.mention_loss_weight * mention + config.threshold_loss_weight * threshold

    def push_to_hub(self, repo_id: str, **options: Any) -> Any:
        """Push the checkpoint with its tokenizer, its code, its card and its handler, as one commit.

        Args:
            repo_id: "user/name", or "name" in your own namespace.
            options: `tokenizer`, `private`, `token`, `revision`, `create_pr`, `commit_message`, `commit_description`,
                `tags`, `max_shard_size`; see `hub.push_model` of the package.

        Raises:
            PushError: nothing was changed on the Hub; the message says what to do.
        """
        try:
            from modeling_binder.hub import push_model
        except ImportError:
            logger.warning("the package binder-ner is not installed: the model is pushed without card and handler.")
            options.pop("tokenizer", None)
            return super().push_to_hub(repo_id, **options)
        return push_model(self, repo_id, **options)

    def make_pipeline(self, tokenizer: Any, **options: Any) -> Any:
        """The "binder-ner" pipeline on this model. (Its import also makes `save_pretrained` copy the file.)"""
        from .pipeline_binder import BinderNerPipeline

        return BinderNerPipeline(model=self, tokenizer=tokenizer, task="binder-ner", **options)


def _encode(
    encoder: nn.Module, input_ids: Tensor, attention_mask: Tensor | None, token_type_ids: Tensor | None
) -> Tensor:
    inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
    if token_type_ids is not None and "token_type_ids" in inspect.signature(encoder.forward).parameters:
        inputs["token_type_ids"] = token_type_ids
    return encoder(**inputs).last_hidden_state


def _max_positions(encoder: nn.Module) -> int | None:
    if isinstance(encoder, OnnxEncoder):
        return encoder.max_positions
    limit: int | None = getattr(encoder.config, "max_position_embeddings", None)
    if limit is None or limit <= 0:
        return None
    # RoBERTa and its kin number positions from padding_idx + 1.
    table = getattr(getattr(encoder, "embeddings", None), "position_embeddings", None)
    padding = getattr(table, "padding_idx", None)
    return limit if padding is None else limit - padding - 1
