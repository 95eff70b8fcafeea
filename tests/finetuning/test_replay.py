"""Replay: fine-tuning on a new corpus together with texts of the old corpora, so that the model forgets less."""

import numpy as np
import pytest
from transformers import TrainingArguments

from modeling_binder import BinderWindower
from modeling_binder.finetuning import (
    BinderTrainer,
    DataError,
    Document,
    EntityType,
    Mention,
    Mix,
    MixPart,
    MixSettings,
    PackedMix,
    replay_mix,
)
from modeling_binder.finetuning.batches import MixSampler
from tests.tiny import TYPES, corpus, small_model

DESCRIBED = tuple(EntityType(name, (text,)) for name, text in TYPES.items())


def old_corpus(name="old", count=40, weight=1.0):
    """Return a corpus with the entity type "Protein", which the new corpus does not have."""
    documents = [Document(f"{name}{i}", f"p{i} in cells", (Mention(0, len(f"p{i}"), "Protein"),)) for i in range(count)]
    return MixPart(name, documents, (EntityType("Protein", ("A protein.",)),), weight=weight)


def windows_of_epoch(tokenizer, mix, epoch=0):
    """Return the numbers of the windows in an epoch, one array for each corpus of the mix."""
    packed = PackedMix.prepare(mix, BinderWindower(tokenizer, 64, 8), 12, progress=False)
    windows = np.concatenate(MixSampler(packed, 60, 3, lambda: epoch).plan(epoch))
    return [windows[packed.part[windows] == index] for index in range(len(mix.parts))]


def test_an_epoch_contains_each_new_text_once_and_a_share_of_old_texts(tokenizer):
    new = MixPart("new", corpus(3), DESCRIBED)  # 12 windows
    first, second = (windows_of_epoch(tokenizer, replay_mix(new, [old_corpus()], 0.25), epoch) for epoch in (0, 1))
    for windows in (first, second):
        assert sorted(windows[0]) == list(range(12)) and len(windows[1]) == 4
    assert not set(first[1]) & set(second[1])  # the next epoch continues where the previous epoch ended


def test_the_share_is_divided_between_old_corpora_by_their_weights(tokenizer):
    new = MixPart("new", corpus(3), DESCRIBED, weight=7.0)
    counts = [
        len(windows)
        for windows in windows_of_epoch(tokenizer, replay_mix(new, [old_corpus("a"), old_corpus("b", weight=3.0)], 0.4))
    ]
    assert counts == [12, 2, 6]


def test_without_replay_the_model_gets_only_the_descriptions_of_types(tokenizer):
    mix = replay_mix(MixPart("new", corpus(3), DESCRIBED), share=0)
    assert [part.name for part in mix.parts] == ["new"] and mix.settings.description == 1.0
    assert [len(windows) for windows in windows_of_epoch(tokenizer, mix)] == [12]


@pytest.mark.parametrize(
    ("share", "parts", "message"),
    [
        (1.0, [old_corpus()], "at least 0 and less than 1, got 1.0"),
        (-0.1, [old_corpus()], "at least 0 and less than 1"),
        (0.3, [], "needs at least one old corpus"),
    ],
)
def test_shares_out_of_range_raise_an_error(share, parts, message):
    with pytest.raises(DataError, match=message):
        replay_mix(MixPart("new", corpus(1), DESCRIBED), parts, share)


def test_epoch_of_an_unknown_corpus_raises_an_error():
    with pytest.raises(DataError, match="epoch_of is 'other', but the corpora of the mix are new"):
        Mix([MixPart("new", corpus(1), DESCRIBED)], MixSettings(epoch_of="other"))


def test_a_model_trained_with_replay_forgets_less(tokenizer, tmp_path):
    """A model is trained on one type, then fine-tuned on other types. Replay reduces its loss on the first type."""
    arguments = {"report_to": "none", "disable_tqdm": True, "save_strategy": "no", "use_cpu": True, "seed": 1}
    new = MixPart("new", corpus(2), DESCRIBED)

    def train(model, mix, epochs):
        options = TrainingArguments(str(tmp_path), num_train_epochs=epochs, learning_rate=5e-3, **arguments)
        BinderTrainer(model, options, mix, processing_class=tokenizer).train()
        return model

    def loss(model):
        model.config.entity_types = [{"name": "Protein", "description": "A protein."}]
        trainer = BinderTrainer(
            model,
            TrainingArguments(str(tmp_path), **arguments),
            None,
            old_corpus().documents,
            processing_class=tokenizer,
        )
        return trainer.evaluate()["eval_loss"]

    trained = train(small_model(), replay_mix(old_corpus(), share=0, tokens_per_batch=100), 10)
    state = {name: tensor.clone() for name, tensor in trained.state_dict().items()}
    losses = {}
    for share in (0.0, 0.5):
        model = small_model()
        model.load_state_dict(state)
        losses[share] = loss(train(model, replay_mix(new, [old_corpus()], share, tokens_per_batch=100), 10))
    assert losses[0.5] < losses[0.0] / 2
