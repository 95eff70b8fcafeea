"""The command that converts corpora, `python -m training.corpora`: its output and its errors."""

import json

import pytest

from modeling_binder.finetuning import load_corpus
from training.corpora.__main__ import main


def write(folder, name, content):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def found(document):
    """Return the text and the label of each mention."""
    return [(document.text[m.start : m.end], m.label) for m in document.entities]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


CONLL = """-DOCSTART- -X- O O

Berlin NNP I-NP I-LOC
won VBD I-VP O

Ada NNP I-NP I-PER
Byron NNP I-NP I-PER

-DOCSTART- -X- O O

Rome NNP I-NP I-LOC
"""


def test_conll_2003_is_converted_to_one_document_per_news_story(tmp_path):
    for name in ("eng.train", "eng.testa", "eng.testb"):
        write(tmp_path, name, CONLL)
    main(["conll2003", str(tmp_path), str(tmp_path / "out"), "--context", "document"])
    corpus = load_corpus(tmp_path / "out")
    assert len(corpus.test) == 2 and list(corpus.entity_types) == ["PER", "LOC", "ORG", "MISC"]
    assert corpus.dev[0].text == "Berlin won\nAda Byron"
    assert found(corpus.dev[0]) == [("Berlin", "LOC"), ("Ada Byron", "PER")]
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert "train, LOC: 2 mentions, expected 7,140" in report["differences"]


def test_splits_are_recognised_by_names_of_files_and_folders(tmp_path, capsys):
    source = tmp_path / "mine"
    for name in ("train/a.tsv", "train/x.tsv", "valid-1.tsv", "test.tsv"):
        write(source, name, "Rome\tB-LOC\n")
    types = write(tmp_path, "types.json", json.dumps({"LOC": "A place."}))
    main(["iob", str(source), str(tmp_path / "out"), "--types", str(types)])
    corpus = load_corpus(tmp_path / "out")
    assert [len(split) for split in (corpus.train, corpus.dev, corpus.test)] == [2, 1, 1]
    assert corpus.entity_types == {"LOC": "A place."}
    assert "mentions" in capsys.readouterr().out


MINIMAL = '[{"id": 1, "body": "Rome", "x": [{"start": 0, "end": 4, "labels": ["LOC"]}]}]'
WEBANNO = "#FORMAT=WebAnno TSV 3.3\n#T_SP=my.A|x|y\n\n#Text=Rome\n1-1\t0-4\tRome\t*\tLOC\t\n"
PLACE = {"infons": {"type": "LOC"}, "locations": [{"offset": 0, "length": 4}]}
PASSAGE = {"offset": 0, "text": "Rome", "annotations": [PLACE]}


@pytest.mark.parametrize(
    ("name", "file", "content", "options"),
    [
        ("conll", "a.tsv", "1 Rome B-LOC -\n", ["--token-column", "2", "--tag-column", "3"]),
        ("iob", "a.tsv", "Rome\tB\n", ["--label", "LOC"]),
        ("label-studio", "a.json", MINIMAL, ["--text-field", "body"]),
        ("doccano", "a.jsonl", '{"text": "Rome", "label": [[0, 4, "LOC"]]}\n', []),
        ("prodigy", "a.jsonl", '{"text": "Rome", "spans": [{"start": 0, "end": 4, "label": "LOC"}]}\n', []),
        ("pubtator", "a.txt", "1|t|Rome\n1|a|x\n1\t0\t4\tRome\tLOC\n", []),
        ("conllu", "a.conllu", "1\tRome\t_\t_\t_\t_\t_\t_\t_\tname=B-LOC\n", []),
        ("gliner", "a.json", '[{"tokenized_text": ["Rome"], "ner": [[0, 0, "LOC"]]}]', []),
        ("webanno", "a.tsv", WEBANNO, ["--layer", "A", "--feature", "y"]),
        ("bioc", "a.json", json.dumps({"id": "1", "passages": [PASSAGE]}), []),
    ],
)
def test_each_format_is_converted_to_a_corpus_that_can_be_loaded(tmp_path, name, file, content, options):
    write(tmp_path / "in", file, content)
    main([name, str(tmp_path / "in"), str(tmp_path / "out"), *options])
    (document,) = load_corpus(tmp_path / "out").train
    assert found(document) == [("Rome", "LOC")]


def test_types_whose_names_differ_only_in_case_need_descriptions(tmp_path):
    """A type without a description is described by its name.

    `load_corpus` raises an error if two descriptions differ only in case.
    """
    write(tmp_path, "in/a.tsv", "Rome\tB-LOC\nOslo\tB-Loc\n")
    with pytest.raises(SystemExit, match="types 'LOC' and 'Loc' have the same description"):
        main(["iob", str(tmp_path / "in"), str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_phrasings_and_parents_of_types_are_kept(tmp_path):
    write(tmp_path, "in/a.tsv", "Rome\tB-City\n")
    rows = {"Place": ["A place.", "Where something is."], "City": {"description": "A city.", "parent": "Place"}}
    types = write(tmp_path, "types.json", json.dumps(rows))
    main(["iob", str(tmp_path / "in"), str(tmp_path / "out"), "--types", str(types)])
    assert json.loads((tmp_path / "out" / "types.json").read_text()) == rows


def test_splits_of_an_earlier_conversion_are_removed(tmp_path):
    for name in ("one/train.tsv", "one/dev.tsv", "one/test.tsv", "two/train.tsv"):
        write(tmp_path, name, "Rome\tB-LOC\n")
    main(["iob", str(tmp_path / "one"), str(tmp_path / "out")])
    write(tmp_path, "out/notes.txt", "mine")
    main(["iob", str(tmp_path / "two"), str(tmp_path / "out")])
    assert names(tmp_path / "out") == ["notes.txt", "report.json", "train.jsonl", "types.json"]
    assert load_corpus(tmp_path / "out").dev == []


def test_a_failed_conversion_keeps_the_files_of_an_earlier_conversion(tmp_path):
    write(tmp_path, "in/train.tsv", "Rome\tB-LOC\n")
    main(["iob", str(tmp_path / "in"), str(tmp_path / "out")])
    before = (tmp_path / "out" / "train.jsonl").read_text()
    write(tmp_path, "in/train.tsv", "Rome\tX\n")
    with pytest.raises(SystemExit, match="unknown tag 'X'"):
        main(["iob", str(tmp_path / "in"), str(tmp_path / "out")])
    assert (tmp_path / "out" / "train.jsonl").read_text() == before


def test_the_source_is_not_overwritten(tmp_path):
    write(tmp_path, "train.jsonl", '{"tokenized_text": ["Rome"], "ner": [[0, 0, "LOC"]]}')
    with pytest.raises(SystemExit, match=r"this is the folder of the source, and its train\.jsonl would be replaced"):
        main(["gliner", str(tmp_path), str(tmp_path)])
    write(tmp_path, "train.jsonl", '{"tokenized_text": ["Rome"], "ner": [[0, 0, "LOC"]]}')
    main(["gliner", str(tmp_path), str(tmp_path / "out")])
    write(tmp_path, "columns/train.tsv", "Rome\tB-LOC\n")
    main(["iob", str(tmp_path / "columns"), str(tmp_path / "columns")])
    assert "train.jsonl" in names(tmp_path / "columns")


def test_a_corpus_without_mentions_is_written_only_with_allow_no_mentions(tmp_path):
    write(tmp_path, "in/train.tsv", "Rome\tO\n")
    types = write(tmp_path, "types.json", '{"LOC": "A place."}')
    arguments = ["iob", str(tmp_path / "in"), str(tmp_path / "out")]
    with pytest.raises(SystemExit, match=r"no mention was found in 1 documents.*--allow-no-mentions"):
        main([*arguments, "--types", str(types)])
    assert not (tmp_path / "out").exists()
    with pytest.raises(SystemExit, match="there is no entity type; pass a file with the types as --types"):
        main([*arguments, "--allow-no-mentions"])
    main([*arguments, "--types", str(types), "--allow-no-mentions"])
    assert load_corpus(tmp_path / "out").train[0].text == "Rome"


def test_splits_can_be_passed_by_file_name(tmp_path):
    for name in ("a.tsv", "b.tsv", "c.tsv"):
        write(tmp_path, f"in/{name}", "Rome\tB-LOC\n")
    main(["iob", str(tmp_path / "in"), str(tmp_path / "out"), "--split", "train=a.tsv,b.tsv", "--split", "test=c"])
    corpus = load_corpus(tmp_path / "out")
    assert [len(split) for split in (corpus.train, corpus.dev, corpus.test)] == [2, 0, 1]


def test_a_dataset_is_converted(tmp_path):
    from datasets import ClassLabel, Dataset, Features, Sequence, Value

    tags = Sequence(ClassLabel(names=["O", "B-LOC", "I-LOC"]))
    features = Features({"tokens": Sequence(Value("string")), "ner_tags": tags})
    rows = Dataset.from_dict({"tokens": [["New", "York", "won"]], "ner_tags": [[1, 2, 0]]}, features=features)
    for split in ("train", "validation"):
        rows.to_parquet(tmp_path / "in" / f"{split}.parquet")
    main(["hub", str(tmp_path / "in"), str(tmp_path / "out")])
    corpus = load_corpus(tmp_path / "out")
    assert found(corpus.train[0]) == found(corpus.dev[0]) == [("New York", "LOC")]
    assert corpus.entity_types == {"LOC": "LOC"}


def test_an_empty_split_raises_an_error(tmp_path):
    # All files contain document 1. Documents of the development set are removed from train, so train becomes empty.
    for name in ("Training", "Development", "Test"):
        write(tmp_path, f"in/CDR_{name}Set.PubTator.txt", "1|t|Ill\n1|a|x\n1\t0\t3\tIll\tDisease\n")
    with pytest.raises(SystemExit, match="the split train has no documents; convert the corpus without this split"):
        main(["bc5-disease", str(tmp_path / "in"), str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ncbi", "nowhere"], "there is no such folder"),
        (
            ["ncbi", "."],
            "folder is not a known distribution of ncbi. Expected the files of one of these formats: PubTator: ",
        ),
        (["iob", "nowhere"], "there is no such file or folder"),
        (["docbin", "."], r"there is no file with one of the suffixes \.spacy"),
        (["brat", "."], r"there is no \.ann file"),
        (["iob", "latin.tsv"], r"latin\.tsv:1: not UTF-8: byte 3 is 0xe9"),
        (["iob", "bom.tsv", "--token-column", "x"], "there is no column 'x'"),
        (["iob", "bom.tsv", "--text-field", "x"], "the format conll has no option 'text_field'"),
        (["pubtator", "latin.tsv"], r"latin\.tsv:1: not UTF-8"),
        (["label-studio", "latin.tsv"], r"latin\.tsv:1: not UTF-8"),
        (["hub", "nowhere/nothing"], "the dataset cannot be loaded"),
    ],
)
def test_unreadable_sources_raise_an_error(arguments, message, tmp_path, monkeypatch, hub):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "latin.tsv", "Café\tB-LOC\n".encode("latin-1"))
    write(tmp_path, "bom.tsv", "\ufeffRome\tB-LOC\n")
    name, source, *options = arguments
    with pytest.raises(SystemExit, match=message):
        main([name, source, "out", *options])
    assert not (tmp_path / "out").exists()


def test_a_type_that_is_missing_from_the_given_types_raises_an_error(tmp_path):
    write(tmp_path, "train.tsv", "Rome\tB-LOC\n")
    types = write(tmp_path, "types.json", '{"PER": "A person."}')
    with pytest.raises(SystemExit, match="these types have no description: LOC"):
        main(["iob", str(tmp_path), str(tmp_path / "out"), "--types", str(types)])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["xmi", "x", "y"], "conll2003, ace2004"),
        (
            ["iob", "x", "y", "--split", "training=x"],
            "expected train=NAME[,NAME], dev=NAME[,NAME] or test=NAME[,NAME], got",
        ),
        (["ncbi", "x", "y", "--split", "train=x"], "the benchmark ncbi does not accept these options: split"),
    ],
)
def test_invalid_arguments_raise_an_error(arguments, message, capsys):
    with pytest.raises(SystemExit):
        main(arguments)
    assert message in capsys.readouterr().err
