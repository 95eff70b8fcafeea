"""The corpus training/open_types: its content, its notation and its checks.

Every text of the corpus lists the entity types that the text was annotated for.
"""

import json
from pathlib import Path

import pytest
from huggingface_hub import snapshot_download

from hub_cards.counts import MAX_TYPES_SHOWN
from modeling_binder.finetuning import Corpus, DataError, Document, EntityType, Mention, load_corpus
from modeling_binder.hub.dataset import push_dataset
from training.open_types.__main__ import main as check
from training.open_types.__main__ import review_table
from training.open_types.checks import counts_table, find_problems
from training.open_types.compact import distinct_phrasings, parse, read_compact
from training.open_types.compact import main as convert

FOLDER = Path(__file__).resolve().parents[2] / "training" / "open_types"

# A mention is written as [text|type; type]. The types after ## have no mention in the text.
TEXTS = """\
[Marta Rossi|person; potter] fires her [stoneware|material] in [Faenza|city]. ## glaze; river

The [[Faenza|city] Kiln Society|club] meets on [Mondays|weekday]. ## person
In [chess|board game], [Marta|person; chess player] opens with the [English|chess opening]. ## city
"""
TYPES = """\
person\tA named human being.
person\tSomeone with a name.
potter\tA person who makes vessels of clay.
material\tWhat things are made of.
city\tA large town.
glaze\tA glassy coating of pottery.
river\tA stream of water with a name.
club\tA group that people join.
weekday\tA day of the week.
board game\tA game played on a board.
chess player\tA person who plays chess.
chess opening\tThe first moves of a game of chess.
"""


@pytest.fixture
def sources(tmp_path):
    """Write the source files of a corpus: texts with mentions, and descriptions of the types."""
    folder = tmp_path / "sources"
    folder.mkdir()
    (folder / "mine.txt").write_text(TEXTS, encoding="utf-8")
    (folder / "mine.types.tsv").write_text(TYPES, encoding="utf-8")
    return folder


# ---- the corpus ----


@pytest.fixture(scope="module")
def corpus():
    return load_corpus(FOLDER)


def test_the_corpus_has_no_problems(corpus):
    assert find_problems(corpus) == []


def test_the_card_shows_the_counts_and_the_review(corpus):
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert counts_table(corpus) in page
    assert review_table(FOLDER) in page


def test_almost_half_of_the_types_of_the_test_set_are_not_in_the_training_set(corpus):
    trained = {name for document in corpus.train for name in document.types}
    tested = {name for document in corpus.test for name in document.types}
    assert len(tested - trained) > 0.45 * len(tested)
    assert all(document.types for document in corpus.test)


def test_most_types_have_several_phrasings(corpus):
    several = sum(len(entity_type.phrasings) > 1 for entity_type in corpus.types)
    assert several > len(corpus.types) / 2


# ---- the notation ----


def test_a_line_becomes_a_document():
    document = parse("[[Boston|city] University|school; club] won. ## river; lake", "x-1")
    assert document.text == "Boston University won."
    assert document.entities == (Mention(0, 17, "club"), Mention(0, 17, "school"), Mention(0, 6, "city"))
    assert document.types == ("club", "school", "city", "river", "lake")
    assert parse("a | b").text == "a | b"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[Boston|city is", "expected '|type]' at column 8"),
        ("[Boston|] is", "expected '|type]'"),
        ("[Boston is", "the bracket before 'Boston is' is not closed"),
        ("Boston] is", "']' at column 7 closes no mention"),
        ("[Boston |city] is", "begin or end with a blank, got 'Boston '"),
        ("[|city] is", "must not be empty"),
        ("[Boston|city] is ## river; city", "'city' is marked in the text and listed as absent"),
    ],
)
def test_malformed_lines_raise_an_error(line, message):
    with pytest.raises(DataError) as error:
        parse(line)
    assert message in str(error.value)


def test_errors_contain_the_file_and_the_line(tmp_path):
    path = tmp_path / "bad.txt"
    path.write_text("fine\n\n[open\nfine\n", encoding="utf-8")
    with pytest.raises(DataError) as error:
        read_compact(path)
    assert f"{path}:3: the bracket" in str(error.value) and f"{path}:4: the same text as line 1" in str(error.value)


def test_a_description_that_two_types_share_is_kept_for_one_type():
    phrasings = {"compound": ["A substance.", "Two elements."], "material": ["a substance."], "matter": ["Stuff."]}
    assert distinct_phrasings(phrasings) == {
        "compound": ("Two elements.",),
        "material": ("a substance.",),
        "matter": ("Stuff.",),
    }
    both = distinct_phrasings({"a": ["Same.", "One."], "b": ["Same.", "Two."]})
    assert both == {"a": ("Same.", "One."), "b": ("Two.",)}


# ---- the commands ----


def test_texts_are_converted_and_divided_into_splits(sources, tmp_path, capsys):
    folder = tmp_path / "corpus"
    convert([str(sources / "mine.txt"), "--out", str(folder)])
    corpus = load_corpus(folder)
    assert [document.id for document in corpus.train] == ["mine-1", "mine-3"]
    assert [document.id for document in corpus.dev] == ["mine-4"]  # chess is a domain of the development set
    assert corpus.types[0].name == "board game" and corpus.test == []
    assert dict(corpus.entity_types)["person"] == "A named human being."
    assert next(t for t in corpus.types if t.name == "person").phrasings[1] == "Someone with a name."
    assert "| texts | 2 | 1 | 3 |" in capsys.readouterr().out
    check([str(folder)])


def test_append_adds_texts_and_replaces_texts_of_the_same_file(sources, tmp_path):
    folder = tmp_path / "corpus"
    convert([str(sources / "mine.txt"), "--out", str(folder)])
    (sources / "yours.txt").write_text("[Lena|person] swims in the [Elbe|river]. ## lake\n", encoding="utf-8")
    (sources / "yours.types.tsv").write_text("person\tAn individual.\nlake\tStill water.\n", encoding="utf-8")
    (sources / "yours.domains.tsv").write_text("1\tsport\n", encoding="utf-8")
    for _ in range(2):  # the second call replaces the texts of the first call
        convert([str(sources / "yours.txt"), "--out", str(folder), "--append"])
    corpus = load_corpus(folder)
    assert [document.id for document in corpus.train] == ["mine-1", "mine-3", "yours-1"] and len(corpus.dev) == 1
    person = next(t for t in corpus.types if t.name == "person")
    assert person.phrasings == ("A named human being.", "Someone with a name.", "An individual.")
    assert json.loads((folder / "train.jsonl").read_text().splitlines()[-1])["domain"] == "sport"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--append"], "--append needs --out"),
        (["--test", "other"], "--test lists 'other', but the files are mine"),
    ],
)
def test_invalid_arguments_raise_an_error(sources, arguments, message):
    with pytest.raises(SystemExit, match=message):
        convert([str(sources / "mine.txt"), *arguments])


@pytest.mark.parametrize(
    ("types", "message"),
    [
        (TYPES.replace("river\tA stream of water with a name.\n", ""), "the type 'river' has no description"),
        (TYPES + "lake\n", "expected a type, a tab and a description, got 'lake'"),
        (
            TYPES.replace("A day of the week.", "A large town"),
            "'city' and 'weekday' have the same description",
        ),
    ],
)
def test_invalid_tables_of_types_raise_an_error_and_no_file_is_written(sources, tmp_path, types, message):
    (sources / "mine.types.tsv").write_text(types, encoding="utf-8")
    with pytest.raises(SystemExit, match=message):
        convert([str(sources / "mine.txt"), "--out", str(tmp_path / "corpus")])
    assert not (tmp_path / "corpus").exists()


# ---- checks ----

VALID_DOCUMENT = Document("a-1", "Ann swims in lakes.", (Mention(0, 3, "person"),), types=("person", "lake"))


def a_corpus(*documents, lake="Still water."):
    """Return a corpus with the types "person" and "lake"."""
    types = (EntityType("person", ("A named human being.",)), EntityType("lake", (lake,)))
    return Corpus({t.name: t.description for t in types}, list(documents), [], [], types)


@pytest.mark.parametrize(
    ("documents", "message"),
    [
        ([Document("b", "Ann is.", (Mention(0, 4, "person"),), types=("person",))], "begins or ends with a blank"),
        ([Document("b", "Anna is.", (Mention(0, 3, "person"),), types=("person",))], "begins or ends inside a word"),
        ([Document("b", "Ann, be.", (Mention(0, 4, "person"),), types=("person",))], "ends with a comma"),
        ([Document("b", "Ann is.", (Mention(0, 3, "person"),))], "does not list the types that it was annotated for"),
        (
            [Document("b", "Ann is.", (Mention(0, 3, "person"),), types=("person", "Person"))],
            "'Person', the same type in another spelling, is listed as absent",
        ),
        ([Document("a-1", "Another text.", types=())], "the id of document 'a-1' occurs 2 times"),
        ([Document("b", "ann SWIMS in lakes", types=())], "the text of document 'a-1' occurs 2 times (a-1, b)"),
        ([Document("b", "Another text.", types=("sea",))], "the type 'sea' has no description"),
    ],
)
def test_checks_find_problems_in_texts(documents, message):
    assert find_problems(a_corpus(VALID_DOCUMENT)) == []
    assert any(message in problem for problem in find_problems(a_corpus(VALID_DOCUMENT, *documents)))


def test_checks_find_problems_in_types():
    assert "have the same description" in find_problems(a_corpus(VALID_DOCUMENT, lake="A named human being"))[0]
    unused = Document("a-1", VALID_DOCUMENT.text, VALID_DOCUMENT.entities, types=("person",))
    assert "'lake' is described, but no text uses it" in find_problems(a_corpus(unused))[0]


def test_the_check_command_writes_the_card_and_raises_an_error_for_a_problem(sources, tmp_path):
    folder = tmp_path / "corpus"
    convert([str(sources / "mine.txt"), "--out", str(folder)])
    marks = "<!-- counts -->\n<!-- /counts -->\n<!-- review -->\n<!-- /review -->\n"
    (folder / "README.md").write_text(marks, encoding="utf-8")
    (folder / "review.json").write_text(
        json.dumps({"lines": 3, "mentions": 10, "lines_changed": 2, "kinds": {"boundary": 2, "missed": 1}})
    )
    check([str(folder), "--card"])
    page = (folder / "README.md").read_text(encoding="utf-8")
    assert "| texts | 2 | 1 | 3 |" in page and "| boundary | 2 | 20.0% |" in page and "| all | 3 | 30.0% |" in page

    types = json.loads((folder / "types.json").read_text())
    (folder / "types.json").write_text(json.dumps({**types, "sea": "Salt water."}))
    with pytest.raises(SystemExit, match="'sea' is described, but no text uses it"):
        check([str(folder)])


# ---- on the Hub ----


def test_the_corpus_is_pushed_with_its_phrasings(hub, corpus):
    some = corpus.train[:40]
    used = {name for document in some for name in document.types}
    types = tuple(entity_type for entity_type in corpus.types if entity_type.name in used)
    assert len(types) > MAX_TYPES_SHOWN
    part = Corpus({t.name: t.description for t in types}, some, [], [], types)
    push_dataset(part, "alice/open-types", language="en", license="apache-2.0")
    card = hub.files("alice/open-types", repo_type="dataset")["README.md"].decode()
    assert f"`types.json` contains {len(types) - MAX_TYPES_SHOWN:,} more" in card
    assert "`types` lists the types for which a text was annotated" in card
    folder = snapshot_download("alice/open-types", repo_type="dataset")
    assert load_corpus(folder) == part
