"""The zero-shot experiment: the wordings of entity types, the figures, and the command on tiny corpora.

A wording is the text that describes a type to the model, such as its name or its description.
"""

import json

import pytest

from modeling_binder.finetuning import Corpus, Document, EntityType, Mention, write_jsonl
from training.experiments.zero_shot import (
    Task,
    Wording,
    false_mentions,
    figures,
    main,
    measure,
    measure_corpus,
    predict,
    spread,
    summarise,
    wordings,
)

TYPES = (
    EntityType("Person", ("human being: somebody with a name.", "An individual.")),
    EntityType("Poet", ("A person who writes poems.",), parent="Person"),
    EntityType("time_span", ("time span",)),
)
DOCUMENTS = [
    Document("1", "Ada met Basho.", (Mention(0, 3, "Person"), Mention(8, 13, "Poet"))),
    Document("2", "Nothing here.", types=("Person",)),
]
TASK = Task("test", DOCUMENTS, TYPES)


class Recognizer:
    """A pipeline that finds a known name if the type of the name is passed. It records its calls."""

    KNOWN = {"Ada": "Person", "Basho": "Poet"}

    def __init__(self, further=()):
        self.calls, self.further = [], further

    def __call__(self, texts, entity_types, decoding):
        self.calls.append((texts, entity_types, decoding))
        return [list(self.entities(text, entity_types)) for text in texts]

    def entities(self, text, entity_types):
        for name, label in [*self.KNOWN.items(), *self.further]:
            if name in text and label in entity_types:
                start = text.index(name)
                yield {"start": start, "end": start + len(name), "entity_group": label, "score": 0.9}


def test_wordings_are_the_name_each_description_and_the_name_with_the_description():
    ways = {wording.name: wording.texts for wording in wordings(TYPES)}
    assert list(ways) == ["name", "description", "description 2", "name and description"]
    assert ways["name"] == {"Person": "human being", "Poet": "Poet", "time_span": "time span"}
    assert ways["description"]["Person"] == "somebody with a name."
    assert ways["description 2"] == {**ways["description"], "Person": "An individual."}
    assert ways["name and description"]["Poet"] == "Poet: A person who writes poems."


def test_at_most_three_descriptions_are_evaluated():
    many = (EntityType("tool", ("saw: one", "two", "three", "four")), EntityType("food", ("bread: eaten",)))
    ways = {wording.name: wording.texts for wording in wordings(many)}
    assert list(ways) == ["name", "description", "description 2", "description 3", "name and description"]
    assert ways["description 3"] == {"tool": "three", "food": "eaten"}


def test_types_with_the_same_name_are_passed_with_name_and_description():
    same = (EntityType("A1", ("bank: for money.",)), EntityType("A2", ("bank: of a river.",)))
    ways = {wording.name: wording.texts for wording in wordings(same)}
    assert list(ways) == ["name", "description", "name and description"]
    assert ways["name"] == {"A1": "bank: for money.", "A2": "bank: of a river."}


def test_a_document_is_searched_only_for_the_types_that_it_lists():
    recognizer = Recognizer()
    found = predict(recognizer, TASK, wordings(TYPES)[0], "flat")
    assert found == [[(0, 3, "Person", 0.9), (8, 13, "Poet", 0.9)], []]
    assert [list(searched) for _, searched, _ in recognizer.calls] == [["Person", "Poet", "time_span"], ["Person"]]


def test_parents_are_passed_only_if_they_are_searched_too():
    recognizer = Recognizer()
    predict(recognizer, TASK, wordings(TYPES)[0], "flat", parents=True)
    assert recognizer.calls[0][1]["Poet"] == {"description": "Poet", "parent": "Person"}
    alone = Task("test", [Document("1", "Basho.", types=("Poet",))], TYPES)
    predict(recognizer, alone, wordings(TYPES)[0], "flat", parents=True)
    assert recognizer.calls[-1][1] == {"Poet": "Poet"}


def test_false_mentions_are_predictions_of_types_without_a_gold_mention_in_the_text():
    found = [[(0, 3, "Person"), (4, 7, "Person"), (8, 13, "time_span")], [(0, 7, "Person")]]
    assert false_mentions(DOCUMENTS, found) == 1000.0


def test_gold_mentions_of_ancestors_count_in_nested_decoding():
    wording = Wording("name", {entity_type.name: entity_type.name for entity_type in TYPES})
    flat, nested = (measure(Recognizer(), TASK, wording, decoding) for decoding in ("flat", "nested"))
    assert flat["f1"] == 1.0 and flat["per_type"]["Person"] == [1, 1, 1]
    assert nested["recall"] == pytest.approx(2 / 3) and nested["per_type"]["Person"] == [1, 1, 2]
    both = measure(Recognizer(further=[("Basho", "Person")]), TASK, wording, "nested")
    assert both["f1"] == 1.0


def test_figures_are_means_and_standard_deviations_over_wordings():
    ways = {name: {"flat": {"f1": f1, "false_mentions_per_1000_texts": 4.0}, "nested": {"f1": 0.0}}
            for name, f1 in (("name", 0.2), ("description", 0.4), ("name and description", 0.6))}  # fmt: skip
    for way in ways.values():
        way["nested"]["false_mentions_per_1000_texts"] = 8.0
    result = {"decoding": "flat", "wordings": ways}
    found = figures(result)
    assert found["all wordings"] == pytest.approx(0.4)
    assert found["spread over wordings"] == pytest.approx((2 * 0.04 / 3) ** 0.5)
    summary = summarise({"a": result, "b": {**result, "decoding": "nested"}})
    assert summary["flat"]["name"] == pytest.approx(0.2) and summary["fitting"]["name"] == pytest.approx(0.1)
    assert summary["fitting"]["false mentions"] == 6.0


def test_nested_mentions_determine_the_decoding_and_a_limit_selects_evenly_spread_documents():
    assert TASK.decoding == "flat"
    nested = Document("3", "Basho", (Mention(0, 5, "Person"), Mention(0, 5, "Poet")))
    assert Task("test", [nested], TYPES).decoding == "nested"
    result = measure_corpus(Recognizer(), TASK)
    assert (result["texts"], result["mentions"], result["types"]) == (2, 2, 3)
    own = [Document("1", "Basho.", types=("Poet",)), Document("2", "Ada.", types=("Person",))]
    corpus = Corpus({t.name: t.description for t in TYPES}, [], [], own, TYPES)
    # The limit of one document keeps only the first document, which lists only the type "Poet".
    assert [t.name for t in Task.of(corpus, "here", None, [], 1).types] == ["Poet"]
    assert spread(range(10), 4) == [0, 2, 5, 7] and spread(range(3), 4) == [0, 1, 2]


@pytest.fixture
def corpora(tmp_path):
    folders = []
    for name, text in (("one", "the IL-2 gene"), ("two", "cells of the gene")):
        folder = tmp_path / name
        write_jsonl(folder / "train.jsonl", [Document("x", "of the in")])
        start = text.index("gene")
        write_jsonl(folder / "test.jsonl", [Document("t", text, (Mention(start, start + 4, "Gene"),))])
        types = {"Gene": {"description": ["gene: DNA.", "A locus."], "parent": "Thing"}, "Thing": "All.", "Other": "-"}
        (folder / "types.json").write_text(json.dumps(types))
        folders.append(str(folder))
    return folders


def test_the_command_compares_two_checkpoints(checkpoint, corpora, tmp_path, capsys):
    other = tmp_path / "other"
    checkpoint.rename(other)
    other.joinpath("copy").symlink_to(other)
    output = tmp_path / "zero_shot.json"
    arguments = [str(other), *corpora, "--against", str(other / "copy"), "--exclude", "Other", "--parents"]
    results = main([*arguments, "--limit", "5", "--device", "cpu", "--json", str(output)])
    saved = json.loads(output.read_text())
    assert saved == json.loads(json.dumps(results))
    first, second = saved["models"].values()
    assert first == second and list(first["corpora"]) == ["one", "two"] and first["corpora"]["one"]["types"] == 2
    assert set(first["corpora"]["one"]["wordings"]) == {
        "name", "description", "description 2", "name and description"
    }  # fmt: skip
    assert "training.experiments.zero_shot" in saved["origin"]["command"]
    printed = capsys.readouterr().out
    assert "F1, flat decoding" in printed and "F1, nested decoding" in printed and "mean" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--split", "dev"], "has no documents in the split 'dev'"),
        (["--exclude", "Gnee"], "--exclude lists 'Gnee', which is not a type of any of the corpora"),
    ],
)
def test_invalid_arguments_raise_an_error(checkpoint, corpora, arguments, message):
    with pytest.raises(SystemExit, match=message):
        main([str(checkpoint), *corpora, *arguments])
    with pytest.raises(SystemExit, match="two corpora are named 'one'"):
        main([str(checkpoint), corpora[0], corpora[0]])
