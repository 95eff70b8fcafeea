"""The experiment on the breadth of entity types.

A network learns from pairs of types which type of a pair is broader. The margin is the difference in breadth from
which a type counts as broader.
"""

import json
import random

import pytest
import torch
from transformers import AutoModel, pipeline

from modeling_binder.breadth_binder import BreadthNetwork, broader_types
from modeling_binder.finetuning import Corpus, Document, EntityType, Mention, load_corpus, write_jsonl
from tests.tiny import corpus as tiny_corpus
from training.experiments.breadth import (
    MARGINS,
    TOLERANCES,
    NestedResults,
    PhrasedTypes,
    Training,
    best_margin,
    chosen_margin,
    flatten,
    main,
    train_network,
)
from training.experiments.breadth_pairs import Pair, count_pairs, held_out, texts_of
from training.experiments.zero_shot import Task


def document(text, labels, types=None, identifier="d"):
    """Return a document whose words are mentions. `labels` contains the list of labels of each word."""
    mentions, position = [], 0
    for word, found in zip(text.split(), labels, strict=True):
        mentions += [Mention(position, position + len(word), label) for label in found]
        position += len(word) + 1
    return Document(identifier, text, tuple(mentions), types=types)


def a_corpus(*documents, types=("person", "poet", "city")):
    """Return a corpus with a training set. Each type has a description."""
    described = tuple(EntityType(name, (f"What a {name} is.",)) for name in types)
    return Corpus({t.name: t.description for t in described}, list(documents), [], [], described)


def test_two_types_are_a_pair_if_fine_spans_are_often_broad_and_broad_spans_are_rarely_fine():
    people = document("Ada Bo Cy Di", [["person", "poet"], ["person"], ["person"], ["person"]])
    assert count_pairs([a_corpus(people)]) == [Pair("person", "poet")]
    # Two of four persons are poets. This is more than 30%, so "person" is not broader than "poet".
    two = document("Ada Bo Cy Di", [["person", "poet"], ["person", "poet"], ["person"], ["person"]])
    assert count_pairs([a_corpus(two)]) == []
    # One of two poets is a person. This is 50%, the minimum share.
    other = document("Ada Bo Cy Di Ed", [["person", "poet"], ["person"], ["person"], ["person"], ["poet"]])
    assert count_pairs([a_corpus(other)]) == [Pair("person", "poet")]
    assert count_pairs([a_corpus(other)], min_broad_given_fine=0.6) == []


def test_only_documents_that_were_annotated_for_both_types_count():
    mixed = document("Ada Bo Cy Di", [["person", "poet"], ["person"], ["person"], ["person"]], ("person", "poet"))
    poets = document("Ed Flo", [["poet"], ["poet"]], ("poet",), "e")  # this text was not annotated for persons
    assert count_pairs([a_corpus(mixed, poets)]) == [Pair("person", "poet")]
    searched = document("Ed Flo", [["poet"], ["poet"]], ("poet", "person"), "e")
    assert count_pairs([a_corpus(mixed, searched)]) == []


def test_a_type_and_its_parent_are_a_pair():
    people = document("Ada Bo Cy Di", [["poet"], ["person"], ["person"], ["person"]])
    corpus = a_corpus(people)
    with_parent = tuple(EntityType(t.name, t.phrasings, "person" if t.name == "poet" else None) for t in corpus.types)
    assert count_pairs([corpus]) == []
    assert count_pairs([Corpus(corpus.entity_types, corpus.train, [], [], with_parent)]) == [Pair("person", "poet")]


def test_texts_of_a_type_are_its_name_each_description_and_the_name_with_each_description():
    types = [EntityType("person", ("human being: somebody.", "An individual.")), EntityType("city", ("A town.",))]
    both = ["human being: somebody.", "human being: An individual."]
    assert texts_of(types, ["person"]) == {"person": ["human being", "somebody.", "An individual.", *both]}


def test_pairs_with_a_held_out_type_are_used_only_for_testing():
    pairs = [Pair("a", "b"), Pair("a", "c"), Pair("d", "c")]
    assert held_out(pairs, ["c"]) == ([Pair("a", "b")], [Pair("a", "c"), Pair("d", "c")])


def types_with_states(labels, size=8):
    """Return types with states from which breadth can be learned.

    The first value of a state grows with the index of its type.
    """
    generator = torch.Generator().manual_seed(1)
    states = torch.randn(2 * len(labels), size, generator=generator) / 4
    states[:, 0] += torch.arange(len(labels)).repeat_interleave(2)
    return PhrasedTypes({label: ["name", "description"] for label in labels}, states)


def test_the_network_learns_which_types_are_broader_and_generalises_to_unseen_types():
    labels = [f"t{i}" for i in range(12)]
    types = types_with_states(labels)
    pairs = [Pair(labels[i], labels[j]) for i in range(12) for j in range(12) if i > j]
    seen, unseen = held_out(pairs, ["t5", "t9"])
    torch.manual_seed(0)
    network = train_network(BreadthNetwork(8), seen, types, Training(epochs=40, batch_size=8, learning_rate=5e-3))
    breadth = types.mean_breadth(network)
    right = sum(breadth[pair.broad] > breadth[pair.fine] for pair in unseen)
    assert right > 0.8 * len(unseen)
    assert not network.training and not any(parameter.requires_grad for parameter in network.parameters())


def test_training_uses_all_texts_of_a_type():
    types = types_with_states(["a", "b"])
    drawn = types.draw(["b"] * 50, random.Random(0))
    assert {tuple(row) for row in drawn.tolist()} == {tuple(row) for row in types.states[2:].tolist()}


def test_flat_decoding_prefers_the_finer_type():
    spans = [(0, 3, "person", 0.99), (0, 3, "poet", 0.8), (4, 6, "person", 0.7), (4, 9, "city", 0.9)]
    labels = ["person", "poet", "city"]
    assert flatten(spans, labels, None) == [(0, 3, "person"), (4, 9, "city")]
    broader = broader_types(dict.fromkeys(labels), torch.tensor([9.0, 2.0, 1.0]), 3.0)
    assert flatten(spans, labels, broader) == [(0, 3, "poet"), (4, 9, "city")]
    assert flatten([], labels, broader) == []


def test_the_largest_of_equally_good_margins_is_chosen():
    scores = {"0.0": {"a": 0.2, "b": 0.4}, "1.0": {"a": 0.3, "b": 0.4}, "2.0": {"a": 0.4, "b": 0.3}}
    scores["inf"] = {"a": 0.3, "b": 0.3}
    assert best_margin(scores) == 2.0
    assert best_margin({**scores, "inf": {"a": 0.4, "b": 0.3}}) is None


def test_the_smallest_margin_is_chosen_whose_f1_may_be_lower_by_chance():
    scores = {"0.0": {"a": 0.494}, "1.0": {"a": 0.496}, "2.0": {"a": 0.5}, "inf": {"a": 0.3}}
    assert chosen_margin(scores) == 1.0
    assert chosen_margin({**scores, "inf": {"a": 0.501}}) is None


class Recognizer:
    """A pipeline that returns each text as a person, and the text "ada" also as a poet."""

    def __init__(self, model, tokenizer):
        self.model, self.tokenizer = model, tokenizer

    def __call__(self, texts, entity_types, decoding):
        assert decoding == "nested"
        found = []
        for text in texts:
            entities = [{"entity_group": "person", "score": 0.95, "start": 0, "end": len(text)}]
            if text == "ada":
                entities.append({"entity_group": "poet", "score": 0.6, "start": 0, "end": 3})
            found.append(entities)
        return found


def test_the_margin_is_tuned_on_flat_corpora(model, tokenizer):
    documents = [document("ada", [["poet"]]), document("bo", [["person"]], identifier="e")]
    task = Task("dev", documents, a_corpus(*documents).types)

    class Network(torch.nn.Module):
        def forward(self, states):
            assert states.shape == (3, 32)
            return torch.tensor([4.2, 0.0, 9.0])

    nested = NestedResults(Recognizer(model, tokenizer), Network(), {"people": task})
    scores = {str(margin): nested.scores(margin) for margin in MARGINS}
    assert {margin for margin, found in scores.items() if found["people"] == 1.0} == {
        str(margin) for margin in MARGINS if margin < 4.2
    }
    assert scores["inf"]["people"] == 0.5 and best_margin(scores) == 4.0
    # The margin of the person is larger by logit(0.95) - logit(0.6) = 2.54.
    by_tolerance = {str(limit): nested.scores(4.0, limit) for limit in TOLERANCES}
    assert by_tolerance["2.0"]["people"] == 0.5 and by_tolerance["3.0"]["people"] == 1.0
    assert best_margin(by_tolerance) is None, "without a limit, F1 is as high as with the best limit"


@pytest.fixture
def folders(tmp_path):
    """Write a corpus with fine and broad types and a flat corpus, and return the folder that contains both corpora."""
    broad, names = ["being", "thing", "site"], list("abcdefghij")
    types = {label: f"What a {label} is." for label in [*broad, *(f"{b} {n}" for b in broad for n in names)]}
    documents = [
        document("il il il il", [[b, f"{b} {n}"], [b], [b], [b]], (b, f"{b} {n}"), f"{b}-{n}")
        for b in broad
        for n in names
    ]
    write_jsonl(tmp_path / "open" / "train.jsonl", documents)
    (tmp_path / "open" / "types.json").write_text(json.dumps(types))
    flat = [document("the gene", [[], ["gene"]], identifier=str(i)) for i in range(2)]
    write_jsonl(tmp_path / "flat" / "train.jsonl", flat)
    write_jsonl(tmp_path / "flat" / "dev.jsonl", flat)
    (tmp_path / "flat" / "types.json").write_text(json.dumps({"gene": "A gene.", "cell": "A cell."}))
    return tmp_path


def command(folders, checkpoint):
    return [str(checkpoint), str(folders / "open"), "--dev", str(folders / "flat"), "--out", str(folders / "out"),
            "--json", str(folders / "breadth.json"), "--epochs", "2", "--device", "cpu"]  # fmt: skip


def test_the_command_writes_a_checkpoint_with_the_network(checkpoint, folders, monkeypatch, capsys):
    monkeypatch.setattr("training.experiments.breadth.best_margin", lambda scores: 2.5)
    monkeypatch.setattr("training.experiments.breadth.chosen_margin", lambda scores: 2.5)
    results = main(command(folders, checkpoint))
    saved = json.loads((folders / "breadth.json").read_text())
    assert (saved["pairs"], saved["types"], saved["margin"]) == (30, 33, 2.5)
    assert set(saved["f1_by_margin"]) == {str(margin) for margin in MARGINS} and saved["texts"] == {"flat": 2}
    assert 0 <= saved["right_order"] <= 1 and saved["test_pairs"] + saved["training_pairs"] == 30
    assert [saved["by_margin"][margin]["decided"] for margin in ("0.0", "inf")] == [1.0, 0.0]
    assert saved["by_margin"]["0.0"]["right_order"] == saved["right_order"]
    assert list(saved["breadth"].values()) == sorted(saved["breadth"].values(), reverse=True)
    assert "made from 33 types" in capsys.readouterr().out

    model = AutoModel.from_pretrained(folders / "out")
    assert model.config.use_breadth and model.config.breadth_margin == 2.5
    assert model.config.breadth_tolerance == 2.5 and set(saved["f1_by_tolerance"]) == {str(t) for t in TOLERANCES}
    recognizer = pipeline("binder-ner", model=str(folders / "out"))
    texts = ["being", "What a being is.", "being: What a being is."]
    breadths = model.encode_descriptions(recognizer.tokenizer, texts).breadths
    assert float(breadths.mean()) == pytest.approx(results["breadth"]["being"], abs=1e-5)
    assert recognizer("the gene", entity_types=["being", "thing"], decoding="flat") is not None


def test_no_checkpoint_is_written_if_the_network_does_not_improve_f1(checkpoint, folders, capsys):
    # With a single type, the network cannot change which type is chosen.
    (folders / "flat" / "types.json").write_text(json.dumps({"gene": "A gene."}))
    results = main(command(folders, checkpoint))
    assert results["margin"] is None and not (folders / "out").exists()
    assert "no checkpoint was written" in capsys.readouterr().out
    assert {found["flat"] for found in results["f1_by_margin"].values()} == {results["f1_by_margin"]["inf"]["flat"]}


def test_unsuitable_corpora_raise_an_error(checkpoint, folders):
    write_jsonl(folders / "flat" / "dev.jsonl", [document("the gene", [["gene", "cell"], []])])
    with pytest.raises(SystemExit, match="mentions overlap"):
        main(command(folders, checkpoint))
    write_jsonl(folders / "flat" / "dev.jsonl", [document("the gene", [["gene"], []])])
    write_jsonl(folders / "open" / "train.jsonl", tiny_corpus(0) or [document("il", [["being", "being a"]])])
    with pytest.raises(SystemExit, match="0 pairs of types are too few"):
        main(command(folders, checkpoint))


def test_the_open_types_corpus_has_enough_pairs_to_learn_from():
    pairs = count_pairs([load_corpus("training/open_types")])
    assert len(pairs) > 1000
    assert not {(pair.fine, pair.broad) for pair in pairs} & {(pair.broad, pair.fine) for pair in pairs}
