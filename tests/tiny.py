"""Builders of tiny tokenizers, models and corpora for tests. They need no network and no pretrained weights."""

import string

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertConfig, MPNetConfig, MPNetTokenizer, PreTrainedTokenizerFast, RobertaConfig, pipeline

from modeling_binder import BinderConfig, BinderModel, BinderNerPipeline
from modeling_binder.finetuning import Document, Mention

TYPES = {
    "Gene": "A region of DNA that codes for a protein.",
    "Cell": "A cell type or a cell line.",
    "Place": "A city or a country.",
}


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Build a WordPiece tokenizer. Its vocabulary is mostly single letters, so most words have several tokens."""
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = list(string.ascii_lowercase + string.digits + string.punctuation)
    pieces = ["the", "gene", "cell", "##s", "il", "pro", "##mo", "##ter", "##ing", "of", "in"]
    vocabulary = [*specials, *letters, *(f"##{letter}" for letter in letters), *pieces]
    tokenizer = Tokenizer(
        models.WordPiece({token: index for index, token in enumerate(dict.fromkeys(vocabulary))}, unk_token="[UNK]")
    )
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=128,
    )


def build_byte_tokenizer() -> PreTrainedTokenizerFast:
    """Build a byte-level tokenizer with `<s>` and `</s>`, like RoBERTa's. Each byte is a token."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate(["<s>", "<pad>", "</s>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), trim_offsets=True)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        cls_token="<s>",
        bos_token="<s>",
        eos_token="</s>",
        sep_token="</s>",
        pad_token="<pad>",
        model_max_length=96,
    )


def build_mpnet_tokenizer() -> MPNetTokenizer:
    """Build an MPNet tokenizer. It adds `<s>` and `</s>`. Its tokens are those of `build_tokenizer`, with other ids."""
    pieces = [piece for piece in build_tokenizer().get_vocab() if piece == "[" or not piece.startswith("[")]
    vocabulary = ["<s>", "<pad>", "</s>", "<unk>", *sorted(pieces), "[UNK]", "<mask>"]
    return MPNetTokenizer(vocab={token: index for index, token in enumerate(vocabulary)}, model_max_length=128)


def tiny_mpnet_config(**overrides) -> MPNetConfig:
    """Return the configuration of an MPNet with two layers, 48 dimensions and at most 64 tokens."""
    sizes = {
        "vocab_size": len(build_mpnet_tokenizer()),
        "hidden_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 96,
        "max_position_embeddings": 66,
        "pad_token_id": 1,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }
    return MPNetConfig(**{**sizes, **overrides})


def build_multilingual_tokenizer(texts) -> PreTrainedTokenizerFast:
    """Train a Unigram tokenizer on texts. Like XLM-RoBERTa's tokenizer, it adds `<s>` and `</s>` and has no [CLS]."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    specials = ["<s>", "<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(
        vocab_size=400, special_tokens=specials, unk_token="<unk>", show_progress=False, max_piece_length=4
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        sep_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>",
        model_max_length=128,
    )


def tiny_encoder_config(**overrides) -> BertConfig:
    """Return the configuration of a BERT with two layers and 32 dimensions."""
    sizes = {
        "vocab_size": 256,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "max_position_embeddings": 128,
    }
    return BertConfig(**{**sizes, **overrides})


def build_model(**overrides) -> BinderModel:
    """Build a tiny BINDER with three types.

    The large initial weights spread the scores, so that some spans exceed their threshold.
    """
    torch.manual_seed(7)
    options = {
        "text_config": tiny_encoder_config().to_dict(),
        "projection_size": 16,
        "max_span_width": 12,
        "max_length": 64,
        "stride": 16,
        "entity_types": [{"name": name, "description": text} for name, text in TYPES.items()],
        "initializer_range": 0.5,
    }
    return BinderModel(BinderConfig(**{**options, **overrides})).eval()


SENTENCES = ["the IL-2 gene promoter", "cells of the gene", "the p5 gene in cells", "of the in"]


def corpus(copies=4):
    """Build a corpus of four short sentences. It contains each sentence `copies` times."""
    documents = []
    for index, text in enumerate(SENTENCES * copies):
        mentions = []
        if "gene" in text:
            end = text.index("gene") + 4
            mentions.append(Mention(text.rindex("the", 0, end), end, "Gene"))
        if "cells" in text:
            start = text.index("cells")
            mentions.append(Mention(start, start + 5, "Cell"))
        if "promoter" in text:
            mentions.append(Mention(0, len(text), "Gene"))
        documents.append(Document(f"d{index}", text, tuple(mentions)))
    return documents


def small_model(**overrides):
    """Build a tiny model for training. It has no dropout and small initial weights."""
    encoder = build_model().config.text_config.to_dict()
    encoder |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    options = {"text_config": encoder, "projection_dropout": 0.0, "initializer_range": 0.1}
    return build_model(**{**options, **overrides})


def build_two_tokenizer_model(**overrides) -> BinderModel:
    """Build a tiny model. Its text encoder is a BERT. Its type encoder is a RoBERTa with a separate tokenizer."""
    type_config = RobertaConfig(
        vocab_size=300,
        hidden_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=98,
    )
    model = build_model(type_config=type_config.to_dict(), **overrides)
    model.type_tokenizer = build_byte_tokenizer()
    return model


def build_pipeline(options=None, **overrides) -> BinderNerPipeline:
    """Build a pipeline with a tiny model.

    Args:
        options: arguments of `pipeline(...)`.
        overrides: fields of the model's configuration.
    """
    return pipeline("binder-ner", model=build_model(**overrides), tokenizer=build_tokenizer(), **(options or {}))


def build_trainer(model, tokenizer, folder, train=None, dev=None, **arguments):
    """Return a trainer that runs on the CPU. `arguments` are passed to `TrainingArguments`."""
    from transformers import TrainingArguments

    from modeling_binder.finetuning import BinderTrainer

    settings = {"report_to": "none", "use_cpu": True, "disable_tqdm": True, **arguments}
    return BinderTrainer(model, TrainingArguments(str(folder), **settings), train, dev, processing_class=tokenizer)


def keys(entities):
    """Return the label, the start and the end of each entity in a pipeline's output."""
    return [(e["entity_group"], e["start"], e["end"]) for e in entities]


def assert_same_entities(one, two, tolerance=1e-5):
    """Check that two pipeline outputs have the same entities, with the same scores up to `tolerance`."""
    assert keys(one) == keys(two)
    assert [e["score"] for e in one] == pytest.approx([e["score"] for e in two], abs=tolerance)
