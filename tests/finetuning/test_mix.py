"""Mixes of corpora with different entity types: data, batches, losses and training.

A phrasing is a text that describes an entity type to the model: a name, a description, or both.
"""

import numpy as np
import pytest
import torch
from transformers import TrainingArguments

from modeling_binder import BinderWindower
from modeling_binder.finetuning import BinderTrainer, DataError, Document, EntityType, Mention, Mix, MixPart, PackedMix
from modeling_binder.finetuning.augment import augmented
from modeling_binder.finetuning.batches import MixBatches, MixSampler
from modeling_binder.finetuning.mix import MixSettings, TypedDocuments
from modeling_binder.losses_binder import binder_losses
from tests.tiny import TYPES, build_model, corpus, small_model

DESCRIBED = tuple(EntityType(name, (text,)) for name, text in TYPES.items())


def mix_part(name="one", documents=None, types=DESCRIBED, **options):
    """Return a corpus of a mix. The default is the tiny corpus with all its types."""
    return MixPart(name, corpus() if documents is None else documents, types, **options)


def packed(tokenizer, *parts, **settings):
    """Return a mix of these corpora, prepared for training."""
    mix = Mix(parts or (mix_part(),), MixSettings(**{"tokens_per_batch": 60, **settings}))
    return PackedMix.prepare(mix, BinderWindower(tokenizer, 64, 16), 12, progress=False)


def arguments(folder, **options):
    return TrainingArguments(
        **{
            "output_dir": str(folder),
            "report_to": "none",
            "disable_tqdm": True,
            "save_strategy": "no",
            "use_cpu": True,
            "logging_steps": 1,
            "max_steps": 3,
            "learning_rate": 5e-3,
            **options,
        }
    )


def test_a_mix_of_one_corpus_has_the_same_loss_as_a_list_of_its_documents(tokenizer):
    """Every window is compared with all descriptions, in the mix and in the list of documents."""
    mix = packed(tokenizer, name=0.0, named_description=0.0, description=1.0, tokens_per_batch=10**6)
    windows = list(range(len(mix)))
    tokenized = [tokenizer(text)["input_ids"] for text in mix.table.texts]
    batch = MixBatches(mix, 0, 0, tokenized).__getitems__([1, *windows])
    batch.pop("counts")
    model = small_model().eval()
    trainer = BinderTrainer(model, arguments("unused"), train_dataset=corpus(), processing_class=tokenizer)
    plain = trainer.data_collator([trainer.train_dataset[index] for index in windows])
    plain.pop("owned"), plain.pop("window")
    expected = model(**plain)
    found = model(**batch)
    assert [name for name, value in found.items() if not value.equal(expected[name])] == []


def test_types_of_other_windows_do_not_change_the_loss_of_a_window(tokenizer):
    """A window has the same loss if another window of the batch is compared with additional entity types."""
    model = small_model().eval()
    documents = [Document("a", "the gene", (Mention(0, 8, "Gene"),), types=("Gene",))]
    both = packed(tokenizer, mix_part(documents=documents), mix_part("two"), foreign_types=0)
    alone = packed(tokenizer, mix_part(documents=documents), foreign_types=0)

    def run(mix, *windows):
        batches = MixBatches(mix, 0, 0, [tokenizer(text)["input_ids"] for text in mix.table.texts])
        batch = batches.__getitems__([5, *windows])
        batch.pop("counts")
        return batch, model(**batch)

    batch, output = run(both, 0, 1)
    assert (batch["type_index"][0] >= 0).tolist() == [True, False, False]
    single, expected = run(alone, 0)
    assert expected.start_scores.shape[1] == 1 and len(single["labels"]) == 1
    asked = batch["type_index"] >= 0
    labels = batch["labels"]
    kept = labels[labels[:, 0] == 0]
    masks = {name: batch[name][:1] for name in ("word_start_mask", "word_end_mask")}
    scores = (output.start_scores[:1], output.end_scores[:1], output.span_scores[:1])
    padded = binder_losses(*scores, **masks, labels=kept, asked=asked[:1])
    bare = binder_losses(*(score[:, :1] for score in scores), **masks, labels=kept)
    assert torch.stack(padded).tolist() == torch.stack(bare).tolist()


def test_a_mention_counts_once_for_each_ancestor_of_its_type(tokenizer):
    types = (
        EntityType("person", ("a person",)),
        EntityType("politician", ("a person in politics",), "person"),
        EntityType("mayor", ("the head of a city",), "politician"),
    )
    documents = [
        Document("a", "ann", (Mention(0, 3, "mayor"),)),
        Document("b", "bob", (Mention(0, 3, "mayor"), Mention(0, 3, "person"))),
        Document("c", "cat", (Mention(0, 3, "mayor"),), types=("mayor", "person")),
    ]
    mix = packed(tokenizer, mix_part(documents=documents, types=types))
    rows = [mix.row_types[mix.row_first[i] : mix.row_first[i + 1]].tolist() for i in range(3)]
    assert [sorted(row) for row in rows] == [[0, 1, 2], [0, 1, 2], [0, 2]]


def test_a_type_that_may_apply_to_a_mention_is_not_used_as_a_negative(tokenizer):
    """One text labels a mention as politician and human. So "human" may also apply to a politician in another text."""
    types = tuple(EntityType(name, (f"about {name}",)) for name in ("human", "politician", "stone", "moon"))
    documents = [
        Document("a", "ann", (Mention(0, 3, "politician"), Mention(0, 3, "human")), types=("politician", "human")),
        Document("b", "bob", (Mention(0, 3, "politician"),), types=("politician",)),
        Document("c", "the moon", (Mention(4, 8, "moon"),), types=("moon", "stone")),
    ]
    mix = packed(tokenizer, mix_part(documents=documents, types=types), foreign_types=4)
    assert mix.related.tolist() == [0 * 4 + 1, 1 * 4 + 0]
    drawn = [set(), set(), set()]
    for seed in range(30):
        batch = MixBatches(mix, 0, 0).__getitems__([seed, 0, 1, 2])
        for window, places in enumerate(batch["type_index"].tolist()):
            texts = [mix.table.texts[batch["type_phrasings"][place]] for place in places if place >= 0]
            drawn[window] |= {
                name for name in ("human", "politician", "stone", "moon") for text in texts if name in text
            }
    assert drawn[0] == {"human", "politician", "stone", "moon"}
    assert drawn[1] == {"politician", "stone", "moon"}
    assert drawn[2] == {"moon", "stone", "human", "politician"}


def test_labels_in_a_batch_have_the_right_type_and_tokens(tokenizer):
    mix = packed(tokenizer, mix_part(), mix_part("two", types=DESCRIBED[:2]), max_types=1, tokens_per_batch=200)
    for keys in MixSampler(mix, 200, 3, lambda: 0.0):
        batch = MixBatches(mix, 0, 0).__getitems__(keys)
        tokens = batch["input_ids"].numel()
        assert tokens <= 200 or len(keys) == 2
        for window, place, first, last in batch["labels"].tolist():
            phrasing = batch["type_phrasings"][batch["type_index"][window, place]]
            index = keys[1 + window]
            rows = mix.windows.rows[mix.row_first[index] : mix.row_first[index + 1]]
            names = [TYPE_NAMES[row[0]] for row in rows if (row[1], row[2]) == (first, last)]
            assert any(mix.table.texts[phrasing].split(":")[0] in (name, TYPES[name]) for name in names)
        assert batch["counts"].tolist() == [len(batch["labels"]), int((batch["type_index"] >= 0).sum())]


TYPE_NAMES = list(TYPES)


def test_shares_determine_how_many_windows_of_each_corpus_an_epoch_contains(tokenizer):
    mix = packed(tokenizer, mix_part(), mix_part("two", documents=corpus(16)), mix_part("three", share=0.5))
    assert mix.shares.tolist() == pytest.approx([0.5 / 3, 1 / 3, 0.5])
    sampler = MixSampler(mix, 60, 3, lambda: 0.0)
    drawn = np.concatenate([np.concatenate(sampler.plan(epoch)) for epoch in range(4)])
    assert np.bincount(mix.part[drawn], minlength=3) / len(drawn) == pytest.approx(mix.shares, abs=0.02)
    counts = np.bincount(drawn, minlength=len(mix))
    for number in range(3):  # no window is repeated before all windows of its corpus were used
        own = counts[mix.part == number]
        assert own.max() - own.min() <= 1


def test_the_batches_of_an_epoch_are_divided_between_processes(tokenizer):
    mix = packed(tokenizer)
    single = list(MixSampler(mix, 60, 3, lambda: 1.0))
    first, second = (list(MixSampler(mix, 60, 3, lambda: 1.0, rank, 2)) for rank in range(2))
    assert [keys for pair in zip(first, second, strict=True) for keys in pair] == single[: 2 * len(first)]


def test_a_mix_is_unchanged_by_saving_and_loading(tokenizer, tmp_path):
    mix = packed(
        tokenizer, mix_part(), mix_part("two", documents=[Document("a", "cell", types=("Cell",))], negative_rate=0.5)
    )
    mix.save(tmp_path)
    loaded = PackedMix.load(tmp_path)
    keys = [7, *range(len(mix))]
    one, two = (MixBatches(each, 0, 0).__getitems__(keys) for each in (mix, loaded))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert loaded.report() == mix.report()
    with pytest.raises(DataError, match="max_span_width 12, but this model has 3"):
        loaded.check(BinderWindower(tokenizer, 64, 16), 3)


def test_a_frozen_type_encoder_encodes_each_phrasing_once(tokenizer, tmp_path):
    model = small_model()
    read = []
    forward = model.type_encoder.forward
    model.type_encoder.forward = lambda *args, **options: read.append(1) or forward(*args, **options)
    mix = packed(tokenizer)
    trainer = BinderTrainer(
        model, arguments(tmp_path), train_dataset=mix, processing_class=tokenizer, freeze=["type_encoder"]
    )
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trainer.train()
    lengths = {len(tokenizer(text)["input_ids"]) for text in mix.table.texts}
    assert len(read) == len(lengths)
    changed = {name.split(".")[0] for name, value in model.state_dict().items() if not value.equal(before[name])}
    assert changed == {"text_encoder", "start_head", "end_head", "span_head"}


def test_a_model_learns_from_a_mix_and_evaluation_returns_the_mean_over_data_sets(tokenizer, tmp_path):
    genes = [Document(d.id, d.text, tuple(m for m in d.entities if m.label == "Gene")) for d in corpus()]
    cells = [Document(d.id, d.text, tuple(m for m in d.entities if m.label == "Cell")) for d in corpus()]
    mix = Mix(
        [mix_part("genes", genes, DESCRIBED[:1]), mix_part("cells", cells, DESCRIBED[1:2])],
        MixSettings(tokens_per_batch=100),
    )
    dev = {"both": TypedDocuments(corpus(1), DESCRIBED[:2]), "cells": TypedDocuments(cells[:4], DESCRIBED[1:2])}
    trainer = BinderTrainer(
        small_model(),
        arguments(tmp_path, max_steps=60),
        train_dataset=mix,
        eval_dataset=dev,
        processing_class=tokenizer,
        learning_rates={"heads": 1e-2},
    )
    trainer.train()
    metrics = trainer.evaluate()
    assert metrics["eval_f1"] == (metrics["eval_both_f1"] + metrics["eval_cells_f1"]) / 2
    assert metrics["eval_f1"] > 0.9
    assert {group["initial_lr"] for group in trainer.optimizer.param_groups} == {1e-2, 5e-3}


def one_batch(mix, seed=1):
    """Return one batch with all windows of a mix."""
    return MixBatches(mix, 0, 0).__getitems__([seed, *range(len(mix))])


def phrasings_of(mix, batch, window):
    """Return the phrasings that a window is compared with."""
    index = batch["type_index"][window] if "type_index" in batch else range(len(batch["type_phrasings"]))
    return [mix.table.texts[batch["type_phrasings"][i]] for i in index if i >= 0]


def test_a_partially_annotated_corpus_has_few_negatives_outside_its_mentions(tokenizer):
    document = Document("a", "the cell in the gene of the cell " * 3, (Mention(4, 8, "Cell"), Mention(16, 28, "Gene")))
    whole, partly, none = (
        one_batch(packed(tokenizer, mix_part(documents=[document] * 40, negative_rate=rate)))
        for rate in (1.0, 0.2, 0.0)
    )
    marked = torch.zeros_like(whole["word_start_mask"])
    for window, _, first, last in whole["labels"].tolist():
        marked[window, first : last + 1] = True
    for name in ("word_start_mask", "word_end_mask"):
        assert torch.equal(partly[name] & marked, whole[name] & marked)
        kept = (partly[name] & ~marked).sum() / (whole[name] & ~marked).sum()
        assert 0.15 < kept < 0.25
        assert torch.equal(none[name], whole[name] & marked)


def test_undecided_spans_are_excluded_for_every_type_of_the_window(tokenizer):
    gene = Mention(0, 8, "Gene")
    document = Document("a", "the gene in cells", (gene,), undecided=((12, 17),), types=("Gene", "Cell"))
    batch = one_batch(packed(tokenizer, mix_part(documents=[document]), foreign_types=0))
    (mention,) = batch["labels"].tolist()
    assert [row[1] for row in batch["excluded"].tolist()] == [0, 1]
    assert len({tuple(row[2:]) for row in batch["excluded"].tolist()}) == 1
    wide = PackedMix.prepare(
        Mix([mix_part(documents=[document])]), BinderWindower(tokenizer, 64, 16), max_span_width=1, progress=False
    )
    batch = one_batch(wide)
    assert batch["labels"].shape == (0, 4), "a mention that is too wide has no score"
    assert mention in batch["excluded"].tolist()


def test_additional_types_come_from_other_texts_and_share_no_word_with_the_types_of_the_text(tokenizer):
    names = ("old city", "new city", "river", "mountain")
    types = tuple(EntityType(name, (f"what is called {name}",)) for name in names)
    documents = [
        Document(str(index), "the gene", (), types=own)
        for index, own in enumerate([("old city",), ("new city",), ("river",), ("mountain",)] * 4)
    ]
    settings = {"name": 1.0, "named_description": 0.0, "description": 0.0, "foreign_types": 2}
    mix = packed(tokenizer, mix_part(documents=documents, types=types), **settings)
    batch = one_batch(mix)
    sizes = []
    for window, document in enumerate(documents):
        asked = phrasings_of(mix, batch, window)
        assert document.types[0] in asked and len(asked) == len(set(asked))
        assert "city" not in document.types[0] or sum("city" in name for name in asked) == 1
        sizes.append(len(asked))
    assert max(sizes) == 3 and sum(sizes) > 2 * len(sizes)


def test_types_with_the_same_name_are_encoded_with_their_descriptions(tokenizer):
    types = (EntityType("a", ("city: where a bus starts",)), EntityType("b", ("city: where a bus ends",)))
    mix = packed(
        tokenizer, mix_part(documents=[Document("x", "the gene")], types=types, named=True), name=1.0, description=0.0
    )
    for seed in range(5):
        asked = phrasings_of(mix, one_batch(mix, seed), 0)
        assert sorted(asked) == ["city: where a bus ends", "city: where a bus starts"]


def test_phrasings_are_used_in_proportion_to_their_shares(tokenizer):
    types = (EntityType("Gene", ("a gene", "a piece of DNA")),)
    mix = packed(tokenizer, mix_part(documents=[Document(str(i), "the gene") for i in range(2000)], types=types))
    batch = one_batch(mix)
    asked = [phrasings_of(mix, batch, window)[0] for window in range(len(mix))]
    shares = {text: asked.count(text) / len(asked) for text in set(asked)}
    others = ("Gene: a gene", "Gene: a piece of DNA", "a gene", "a piece of DNA")
    assert shares == pytest.approx({"Gene": 0.5, **dict.fromkeys(others, 0.125)}, abs=0.05)


def test_mentions_keep_their_offsets_in_augmented_texts():
    text = "Straße in İzmir: the IL-2 Gene"
    document = Document("a", text, (Mention(21, 25, "Gene"),))
    for shape, expected in (("lower", "straße in İzmir: the il-2 gene"), ("upper", "STRAßE IN İZMIR: THE IL-2 GENE")):
        changed = augmented(document, {shape: 1.0}, "seed")
        assert changed.text == expected and changed.entities == document.entities
    broken = augmented(Document("a", "a b " * 50), {"breaks": 1.0}, "seed").text
    assert broken.replace("\n", " ") == "a b " * 50 and 5 < broken.count("\n") < 40
    shapes = [augmented(Document(str(i), "Ab"), {"lower": 0.3, "upper": 0.2}, "seed").text for i in range(1000)]
    assert 250 < shapes.count("ab") < 350 and 150 < shapes.count("AB") < 250


def test_a_mention_whose_type_is_missing_from_the_types_of_its_document_raises_an_error(tokenizer):
    document = Document("a", "the gene", (Mention(0, 8, "Gene"),), types=("Cell",))
    with pytest.raises(DataError, match=r"'a' has a mention labelled 'Gene', which is missing from the 'types'"):
        packed(tokenizer, mix_part(documents=[document]))


def test_evaluation_predicts_only_the_types_of_a_document(tokenizer, tmp_path):
    """`Document.types` lists the types that a text is annotated for. Other types are not predicted."""
    model = build_model()
    free = [Document(d.id, d.text) for d in corpus(1)]
    bound = [Document(d.id, d.text, types=("Cell",)) for d in corpus(1)]
    trainer = BinderTrainer(model, arguments(tmp_path), train_dataset=corpus(), processing_class=tokenizer)
    everything, cells = (trainer.predict(documents).predictions for documents in (free, bound))
    assert any(entity["label"] == "Gene" for entities in everything for entity in entities)
    for one, two in zip(everything, cells, strict=True):
        kept = [entity for entity in one if entity["label"] == "Cell"]
        assert [(e["start"], e["end"]) for e in kept] == [(e["start"], e["end"]) for e in two]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tokens_per_batch": 0}, "tokens_per_batch must be a whole number of at least 1"),
        ({"max_types": 1.5}, "max_types must be a whole number"),
        (
            {"name": 0, "named_description": 0, "description": 0},
            "description must be at least 0, and at least one of them above 0",
        ),
        ({"augment": {"title": 0.1}}, "augment accepts lower, upper and breaks, got 'title'"),
        ({"augment": {"lower": 0.9, "upper": 0.2}}, "sum to at most 1"),
    ],
)
def test_settings_out_of_range_raise_an_error(settings, message):
    with pytest.raises(ValueError, match=message):
        MixSettings(**settings)
