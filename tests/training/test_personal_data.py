"""The experiment on personal data: the computed figures, the command on a tiny corpus, and the tables."""

import json

import pytest

from modeling_binder.finetuning import Document, Mention, write_jsonl
from tests.tiny import TYPES, corpus
from training.experiments.personal_data import PRESIDIO, known_texts, main, measure
from training.experiments.personal_data_tables import PAGE, RESULTS, TABLES
from training.experiments.personal_data_tables import main as write_tables

DOCUMENTS = [
    Document(
        "1", "Ada Byron, 36, met Bo.", (Mention(0, 9, "PERSON"), Mention(11, 13, "AGE"), Mention(19, 21, "PERSON"))
    ),
    Document("2", "Write to Bo.", (Mention(9, 11, "PERSON"),)),
    Document("3", "Nothing here.", ()),
]


def test_a_text_leaks_if_a_character_of_a_mention_is_visible():
    # Two spans mask "Ada" and "Byron", so the mention "Ada Byron" is masked. One digit of the mention "36" is visible.
    # The span (12, 21) also masks ", met", which is outside the mentions.
    found = {"Ada Byron, 36, met Bo.": [(0, 3), (4, 9), (12, 21)], "Write to Bo.": [(9, 11), (9, 10)]}
    figures = measure(DOCUMENTS, lambda text: found.get(text, []), lambda mention: len(mention) < 3)
    assert figures == {
        "leaking_texts": 1,
        "leaking_share": 1 / 3,
        "recall": 3 / 4,
        "precision": 13 / 17,
        "visible_mentions": 1,
        "visible_wide_mentions": 1,
        "per_type": {"PERSON": [3, 3], "AGE": [0, 1]},
    }
    nothing = measure(DOCUMENTS[2:], lambda text: [])
    assert (nothing["leaking_texts"], nothing["recall"], nothing["precision"]) == (0, None, None)


def test_a_text_is_known_if_a_training_text_differs_only_in_its_mentions():
    training = [Document("a", "Write to Grace.", (Mention(9, 14, "PERSON"),)), Document("b", "Something here.", ())]
    assert known_texts(DOCUMENTS, training) == 1


def test_the_command_measures_all_analyzers(checkpoint, tmp_path, capsys):
    for split in ("train", "test"):
        write_jsonl(tmp_path / "corpus" / f"{split}.jsonl", corpus(1))
    (tmp_path / "corpus" / "types.json").write_text(json.dumps(TYPES))
    out = tmp_path / "results.json"
    arguments = [str(checkpoint), "--data", str(tmp_path / "corpus"), "--thresholds", "0.5"]
    results = main([*arguments, "--json", str(out)])
    assert json.loads(out.read_text()) == results
    rows = {(row["analyzer"], row["threshold"]): row for row in results["analyzers"]}
    assert [*rows] == [(PRESIDIO, None), ("the model", 0.5), ("both", 0.5)]
    assert results["known_texts"] == results["texts"] == 4
    assert rows[PRESIDIO, None]["leaking_texts"] == 3, "the patterns of Presidio match nothing in the tiny corpus"
    assert rows["both", 0.5]["recall"] >= rows["the model", 0.5]["recall"] > 0
    assert "leaking texts" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="no documents in the split 'dev'"):
        main([*arguments, "--split", "dev"])


def test_the_page_contains_the_tables_of_the_results(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("\n".join(f"<!-- {name} -->\n<!-- /{name} -->" for name in TABLES), encoding="utf-8")
    write_tables(["--page", str(page)])
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    text = PAGE.read_text(encoding="utf-8")
    for name, make in TABLES.items():
        block = f"<!-- {name} -->\n{make(results)}\n<!-- /{name} -->"
        assert block in text and block in page.read_text(encoding="utf-8")
    page.write_text("nothing", encoding="utf-8")
    with pytest.raises(SystemExit, match="expected one line <!-- leaks -->"):
        write_tables(["--page", str(page)])
