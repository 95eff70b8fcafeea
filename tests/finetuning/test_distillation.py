"""Distillation: training with a teacher, which is a larger model whose scores the trained model learns to predict."""

import pytest
import torch
from transformers import BertConfig, TrainingArguments

from modeling_binder import BinderModel
from modeling_binder.finetuning import BinderTrainer, EntityType, Mix, MixPart, MixSettings, Teacher
from modeling_binder.finetuning.distillation import distributions, translate_ids
from tests.tiny import (
    TYPES,
    build_byte_tokenizer,
    build_model,
    build_mpnet_tokenizer,
    corpus,
    small_model,
    tiny_mpnet_config,
)

TEXTS = ["the IL-2 gene promoter in cells", "cells of the p5 gene"]


def batch(tokenizer):
    """Return TEXTS as a batch. Every token except the first token is a word of its text."""
    inputs = tokenizer(TEXTS, return_tensors="pt", padding=True)
    words = inputs["attention_mask"].bool().clone()
    words[:, 0] = False
    return {**inputs, "word_start_mask": words, "word_end_mask": words}


def distillation_loss(student, teacher, tokenizer, texts, draw=1):
    """Return the distillation loss of the student for the phrasings `texts`."""
    teacher.prepare(texts, tokenizer, torch.device("cpu"))
    inputs = batch(tokenizer)
    hidden = student.encode_text(inputs["input_ids"], inputs["attention_mask"])
    encoded = tokenizer(texts, return_tensors="pt", padding=True)
    states = student.encode_type_states(encoded["input_ids"], encoded["attention_mask"])
    return teacher.loss(student, hidden, states, inputs, draw)


def test_a_model_that_equals_its_teacher_has_no_distillation_loss(tokenizer):
    loss = distillation_loss(build_model(), Teacher(build_model(), tokenizer), tokenizer, list(TYPES.values()))
    assert loss.item() == pytest.approx(0, abs=1e-5)


def test_the_loss_is_the_weighted_divergence_of_the_start_end_and_span_distributions(tokenizer):
    teacher, student, texts = build_model(), small_model(), list(TYPES.values())
    loss = distillation_loss(student, Teacher(teacher, tokenizer, weight=3.0), tokenizer, texts)
    inputs = batch(tokenizer)
    encoded = tokenizer(texts, return_tensors="pt", padding=True)
    expected = 0.0
    pairs = []
    for model in (teacher, student):
        output = model(
            inputs["input_ids"],
            inputs["attention_mask"],
            type_input_ids=encoded["input_ids"],
            type_attention_mask=encoded["attention_mask"],
        )
        pairs.append((output.start_scores, output.end_scores, output.span_scores))
    lengths = inputs["attention_mask"].sum(1).tolist()
    for window, length in enumerate(lengths):
        for type_id in range(len(texts)):
            for head, weight in enumerate((0.2, 0.2, 0.6)):
                probabilities = []
                for scores in (pairs[0][head], pairs[1][head]):
                    row = scores[window, type_id]
                    if head < 2:
                        values = row[:length]
                    else:
                        spans = [row[i, w] for i in range(1, length) for w in range(row.shape[1]) if i + w < length]
                        values = torch.stack([row[0, 0], *spans])
                    probabilities.append(values.softmax(0))
                expected += weight * (probabilities[0] * (probabilities[0] / probabilities[1]).log()).sum().item()
    config = student.config
    assert (config.start_loss_weight, config.end_loss_weight, config.span_loss_weight) == (0.2, 0.2, 0.6)
    assert loss.item() == pytest.approx(3 * expected / (len(lengths) * len(texts)), rel=1e-4)


def test_half_of_the_phrasings_of_a_window_have_the_largest_margins_of_the_teacher(tokenizer):
    model, texts = build_model(), [f"{letter}{digit}" for letter in "abcdefgh" for digit in range(5)]
    teacher = Teacher(model, tokenizer, drawn=40, compared=4)
    teacher.prepare(texts, tokenizer, torch.device("cpu"))
    inputs = batch(tokenizer)
    masks = inputs["word_start_mask"], inputs["word_end_mask"]
    hidden = model.encode_text(inputs["input_ids"], inputs["attention_mask"])
    encoded = tokenizer(texts, return_tensors="pt", padding=True)
    vectors = model.encode_types(encoded["input_ids"], encoded["attention_mask"])
    chosen = teacher._choose(model.span_parts(hidden), vectors, masks)
    thresholds, spans = [], []
    parts, every = model.span_parts(hidden), vectors.expand(2, -1, -1, -1)
    for log_probabilities in distributions(model, hidden, parts, every, masks)[2]:
        thresholds.append(log_probabilities[:, 0])
        spans.append(log_probabilities[:, 1:].amax(-1))
    margins = torch.stack(spans) - torch.stack(thresholds)
    for window in range(2):
        first, best = set(chosen[window].tolist()) & {0, 1}, set(chosen[window].tolist()) - {0, 1}
        assert first == {0, 1}  # these two phrasings are the same for all windows
        assert best == set((margins[window, 2:].topk(2).indices + 2).tolist())


def test_token_ids_are_translated_between_bert_and_mpnet(tokenizer):
    mpnet = build_mpnet_tokenizer()
    translated = translate_ids(tokenizer, mpnet)[torch.tensor(tokenizer(TEXTS[0])["input_ids"])]
    assert translated.tolist() == mpnet(TEXTS[0])["input_ids"]


def test_a_teacher_with_other_tokens_raises_an_error(tokenizer):
    with pytest.raises(ValueError, match="choose a teacher whose tokenizer"):
        translate_ids(tokenizer, build_byte_tokenizer())


@pytest.mark.parametrize(
    ("options", "message"),
    [({"weight": 0}, "above 0"), ({"compared": 600}, "600 of 512"), ({"compared": 0}, "0 of 512")],
)
def test_arguments_out_of_range_raise_an_error(tokenizer, options, message):
    with pytest.raises(ValueError, match=message):
        Teacher(build_model(), tokenizer, **options)


def train(folder, tokenizer, teacher, steps=25, **options):
    """Train a student on a mix, and return the student."""
    mix = Mix(
        [MixPart("one", corpus(), tuple(EntityType(name, (text,)) for name, text in TYPES.items()))],
        MixSettings(tokens_per_batch=200),
    )
    student = small_model(type_config=BertConfig(**small_model().config.text_config.to_dict()).to_dict())
    arguments = TrainingArguments(
        str(folder), max_steps=steps, learning_rate=3e-3, report_to="none", disable_tqdm=True, save_strategy="no",
        use_cpu=True,
    )  # fmt: skip
    options = {"freeze": ["type_encoder"], **options}
    trainer = BinderTrainer(student, arguments, mix, processing_class=tokenizer, teacher=teacher, **options)
    trainer.train()
    return student


def test_training_with_an_mpnet_teacher_reduces_the_distillation_loss(tokenizer, tmp_path):
    def mpnet_teacher():
        torch.manual_seed(3)
        config = small_model().config.to_dict() | {"text_config": tiny_mpnet_config().to_dict()}
        config["type_config"] = tiny_mpnet_config().to_dict()
        config["initializer_range"] = 0.5
        model = BinderModel(type(small_model().config).from_dict(config)).eval()
        return Teacher(model, build_mpnet_tokenizer(), weight=5.0)

    texts = list(TYPES.values())
    alone = train(tmp_path / "alone", tokenizer, None)
    taught = train(tmp_path / "taught", tokenizer, mpnet_teacher())
    losses = [distillation_loss(model, mpnet_teacher(), tokenizer, texts).item() for model in (alone, taught)]
    assert losses[1] < 0.5 * losses[0]


def test_a_teacher_without_a_frozen_type_encoder_raises_an_error(tokenizer, tmp_path):
    with pytest.raises(ValueError, match="frozen type encoder"):
        train(tmp_path, tokenizer, Teacher(build_model(), tokenizer), freeze=[])
