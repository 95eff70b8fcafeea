"""Readers of other formats, on files of our own in those formats."""

import io
import json
import tarfile

import pytest

from modeling_binder.finetuning import DataError, load_corpus, read_iob
from training.corpora.__main__ import main
from training.corpora.ace import read_ace
from training.corpora.brat import read_brat
from training.corpora.formats import read_conllu, read_docbin, read_format, read_label_studio
from training.corpora.genia_xml import read_genia_xml
from training.corpora.pubtator import read_pubtator
from training.corpora.token_spans import read_token_spans


def found(document):
    return [(document.text[m.start : m.end], m.label) for m in document.entities]


# ---- PubTator ----

PUBTATOR = """11|t|Aspirin and headache.
11|a|Aspirin relieves a headache.
11	0	7	Aspirin	Chemical	D001
11	12	20	headache	Disease	D002
11	22	29	Aspirin	Chemical	D001	composite|marks
11	CID	D001	D002

12|t|Nothing here.
12|a|

11|t|Aspirin again.
11|a|No ache.
11	2	9	Aspirin	Chemical	D001
11	18	22	fever	Disease	D003
"""


def test_pubtator(tmp_path, caplog):
    path = tmp_path / "a.txt"
    path.write_text(PUBTATOR)
    first, second, third = read_pubtator(path)
    assert first.text == "Aspirin and headache. Aspirin relieves a headache."
    assert found(first) == [("Aspirin", "Chemical"), ("headache", "Disease"), ("Aspirin", "Chemical")]
    assert second.text == "Nothing here. " and not second.entities
    assert third.id == "11-2", "the same record twice"
    assert found(third) == [("Aspirin", "Chemical")], "one moved by two characters, one left out"
    assert "stands at 0, not at 2; moved" in caplog.text and "'fever'; left out" in caplog.text
    assert found(read_pubtator(path, {"Disease": "Illness"})[0]) == [("headache", "Illness")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("11|t|Title only.\n", r"a\.txt:1: expected 'ID\|t\|title' and 'ID\|a\|abstract'"),
        ("11|t|T.\n11|a|A.\n11\t0\t1\n", r"a\.txt:3: expected ID, start, end, text and class"),
    ],
)
def test_broken_pubtator(text, message, tmp_path):
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        read_pubtator(tmp_path / "a.txt")


# ---- BRAT ----


def test_brat_in_a_folder_and_in_an_archive(tmp_path):
    text = "The IL-2 gene\r\nof T cells."
    annotation = (
        "T1\tGene 4 13\tIL-2 gene\nT2\tProtein 4 8\tIL-2\nR1\tPart Arg1:T1 Arg2:T2\nT3\tCell 18 19;20 25\tT cells\n"
    )
    folder = tmp_path / "corpus" / "train"
    folder.mkdir(parents=True)
    (folder / "1.txt").write_bytes(text.encode())
    (folder / "1.ann").write_text(annotation)
    (folder / "2-2.txt").write_text("Empty.")
    (folder / "2-2.ann").write_text("")
    (folder / "3.txt").write_text("Not annotated.")
    documents = read_brat(tmp_path / "corpus")
    assert list(documents) == ["train/1", "train/2-2"]
    assert found(documents["train/1"]) == [("IL-2 gene", "Gene"), ("IL-2", "Protein"), ("T cells", "Cell")]
    with tarfile.open(tmp_path / "corpus.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "corpus", arcname=".")
    archived = read_brat(tmp_path / "corpus.tar.gz")
    assert [document.to_dict() for document in archived.values()] == [d.to_dict() for d in documents.values()]
    splits = read_format("brat", tmp_path / "corpus")
    assert list(splits) == ["train"] and len(splits["train"]) == 2


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        ("T1\tGene 4\tIL-2", r"1\.ann:1: expected 'T1<TAB>Type start end<TAB>text'"),
        ("T1\tGene 0 99\tIL-2", r"1\.ann:1: spans 0..99 in a text of 5 characters"),
        ("T1\tGene 0 2\tIL-2", r"1\.ann:1: the text at 0..2 is 'IL', not 'IL-2'"),
    ],
)
def test_broken_brat(annotation, message, tmp_path):
    (tmp_path / "1.txt").write_text("IL-2.")
    (tmp_path / "1.ann").write_text(annotation)
    with pytest.raises(DataError, match=message):
        read_brat(tmp_path)


def test_brat_without_a_text_or_without_anything(tmp_path):
    with pytest.raises(DataError, match=r"there is no \.ann file"):
        read_brat(tmp_path)
    (tmp_path / "1.ann").write_text("")
    with pytest.raises(DataError, match="has no text beside it"):
        read_brat(tmp_path)
    with pytest.raises(DataError, match="neither a folder nor a tar archive"):
        read_brat(tmp_path / "1.ann")


# ---- tokens with spans ----


@pytest.mark.parametrize(
    "row",
    [
        {"tokens": ["The", "IL-2", "gene"], "entities": [{"start": 1, "end": 3, "type": "DNA"}]},
        {"sentence": ["The", "IL-2", "gene"], "ner": [{"index": [1, 2], "type": "DNA"}]},
        {"tokenized_text": ["The", "IL-2", "gene"], "ner": [[1, 2, "DNA"]]},
    ],
)
@pytest.mark.parametrize("form", ["lines", "list"])
def test_token_spans(row, form, tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps([row, row]) if form == "list" else f"{json.dumps(row)}\n\n{json.dumps(row)}\n")
    first, second = read_token_spans(path)
    assert found(first) == [("IL-2 gene", "DNA")] and first.words == ((0, 3), (4, 8), (9, 13))
    assert first.id != second.id


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "there is no row"),
        ('{"tokens": ["a"]}\n{"tokens"', r"a\.json:2: not valid JSON"),
        ('{"words": ["a"]}', "row 1: expected tokens and entities"),
        ('{"tokens": ["a"], "entities": [{"start": 0, "end": 2, "type": "X"}]}', r"spans the tokens 0..1 of 1"),
        ('{"tokens": ["a", " "], "entities": []}', "the token ' ' is blank"),
    ],
)
def test_broken_token_spans(text, message, tmp_path):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError, match=message):
        read_token_spans(tmp_path / "a.json")


# ---- GENIA ----

GENIA = """<?xml version="1.0" encoding="UTF-8"?>
<set>
<article><articleinfo><bibliomisc>MEDLINE:1</bibliomisc></articleinfo>
<title><sentence><cons lex="x" sem="G#other_name"><cons lex="y" sem="G#DNA_domain_or_region"><cons lex="z"
 sem="G#protein_molecule">IL-2</cons> gene</cons> expression</cons> &amp; more.</sentence></title>
<abstract><sentence> <cons sem="(AND G#protein_molecule G#protein_molecule)">NFAT and AP-1</cons> in
<cons sem="(AND G#cell_type G#cell_line)">T cells</cons>. </sentence></abstract></article>
</set>
"""


def test_genia_xml(tmp_path):
    (tmp_path / "GENIAcorpus3.02.xml").write_text(GENIA)
    title, sentence = read_genia_xml(tmp_path / "GENIAcorpus3.02.xml")
    assert title.text == "IL-2 gene expression & more." and title.id == "MEDLINE:1-1"
    assert found(title) == [("IL-2", "protein"), ("IL-2 gene", "DNA")]
    assert sentence.text == "NFAT and AP-1 in\nT cells."
    assert found(sentence) == [("NFAT and AP-1", "protein")], "parts of two types have none"


def test_genia_is_split_by_sentences_in_order(tmp_path):
    sentences = "".join(f"<sentence>Sentence {number}.</sentence>" for number in range(100))
    (tmp_path / "GENIAcorpus3.02.xml").write_text(f"<set><article><abstract>{sentences}</abstract></article></set>")
    main(["genia", str(tmp_path), str(tmp_path / "out")])
    corpus = load_corpus(tmp_path / "out")
    assert [len(split) for split in (corpus.train, corpus.dev, corpus.test)] == [81, 9, 10]
    assert corpus.dev[0].text == "Sentence 81."


@pytest.mark.parametrize(("text", "message"), [("<set>", "not valid XML"), ("<set/>", "no <article>")])
def test_broken_genia(text, message, tmp_path):
    (tmp_path / "a.xml").write_text(text)
    with pytest.raises(DataError, match=message):
        read_genia_xml(tmp_path / "a.xml")


# ---- ACE ----

ACE_TEXT = """<DOC>
<DOCID> OUR.1 </DOCID>
<BODY>
<TEXT>
The head of Smith {amp} Sons, a firm in
Lisbon, met her.
</TEXT>
</BODY>
</DOC>
"""


def ace(folder, name, sgml, mentions, counted):
    """Write a document; `counted` is the text into which its offsets point."""
    plain = counted.replace("<DOC>", "").replace("<DOCID>", "").replace("</DOCID>", "")
    for tag in ("<BODY>", "<TEXT>", "</TEXT>", "</BODY>", "</DOC>"):
        plain = plain.replace(tag, "")
    rows = []
    for number, (kind, extent, head) in enumerate(mentions):
        parts = []
        for part, text in (("extent", extent), ("head", head)):
            start = plain.index(text)
            escaped = text.replace("&amp;", "&").replace("&", "&amp;")
            parts.append(f'<{part}><charseq START="{start}" END="{start + len(text) - 1}">{escaped}</charseq></{part}>')
        rows.append(
            f'<entity ID="{number}" TYPE="{kind}"><entity_mention ID="{number}-1">'
            f"{''.join(parts)}</entity_mention></entity>"
        )
    upper = name.isupper()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}{'.SGM' if upper else '.sgm'}").write_text(sgml)
    xml = f"<source_file><document>{''.join(rows)}</document></source_file>"
    (folder / f"{name}{'_APF.XML' if upper else '.apf.xml'}").write_text(xml)


MENTIONS = [
    ("PER", "The head of Smith {amp} Sons, a firm in\nLisbon", "head"),
    ("ORG", "Smith {amp} Sons, a firm in\nLisbon", "Smith {amp} Sons"),
    ("GPE", "Lisbon", "Lisbon"),
    ("PER", "her", "her"),
]


@pytest.mark.parametrize("entities", ["counted as written", "counted as one character"])
@pytest.mark.parametrize("name", ["ours.1", "OURS.1"])
def test_ace(entities, name, tmp_path):
    """Nested heads, an extent over a line break, an XML entity; both namings, both ways to count."""
    sgml = ACE_TEXT.format(amp="&amp;")
    amp = "&amp;" if entities == "counted as written" else "&"
    mentions = [(kind, extent.format(amp=amp), head.format(amp=amp)) for kind, extent, head in MENTIONS]
    ace(tmp_path, name, sgml, mentions, sgml.replace("&amp;", amp))
    document = read_ace(tmp_path)[name]
    assert "Smith & Sons" in document.text and "<" not in document.text
    assert sorted(found(document)) == sorted((extent.format(amp="&"), kind) for kind, extent, _ in MENTIONS)
    heads = read_ace(tmp_path, "head")[name]
    assert sorted(found(heads)) == sorted((head.format(amp="&"), kind) for kind, _, head in MENTIONS)


def test_ace_takes_one_version_of_a_document_and_splits_by_lists(tmp_path):
    sgml = ACE_TEXT.format(amp="and")
    mentions = [(kind, e.format(amp="and"), h.format(amp="and")) for kind, e, h in MENTIONS]
    for number in range(3):
        ace(tmp_path / "English" / "nw" / "timex2norm", f"ours.{number}", sgml, mentions, sgml)
        ace(tmp_path / "English" / "nw" / "adj", f"ours.{number}", sgml, mentions[:1], sgml)
    lists = tmp_path / "lists"
    lists.mkdir()
    for number, split in enumerate(("train", "dev", "test")):
        (lists / f"{split}.txt").write_text(f"nw/ours.{number}\n")
    main(["ace2005", str(tmp_path / "English"), str(tmp_path / "out"), "--splits", str(lists)])
    corpus = load_corpus(tmp_path / "out")
    assert [d.id for split in (corpus.train, corpus.dev, corpus.test) for d in split] == ["ours.0", "ours.1", "ours.2"]
    assert len(corpus.train[0].entities) == 4 and set(corpus.entity_types) >= {"PER", "WEA"}
    (lists / "dev.txt").write_text("ours.9\n")
    with pytest.raises(SystemExit, match=r"1 of its documents are not in .*ours\.9"):
        main(["ace2005", str(tmp_path / "English"), str(tmp_path / "out"), "--splits", str(lists)])
    with pytest.raises(SystemExit, match="name their folder with --splits"):
        main(["ace2005", str(tmp_path / "English"), str(tmp_path / "out")])


def test_broken_ace(tmp_path):
    with pytest.raises(DataError, match=r"no \.apf\.xml"):
        read_ace(tmp_path)
    (tmp_path / "a.apf.xml").write_text("<source_file/>")
    with pytest.raises(DataError, match=r"its text a\.sgm is not beside it"):
        read_ace(tmp_path)
    (tmp_path / "a.sgm").write_text("<DOC>Her.</DOC>")
    charseq = '<charseq START="{}" END="{}">Her</charseq>'
    entity = '<entity TYPE="PER"><entity_mention ID="1"><extent>{}</extent></entity_mention></entity>'
    (tmp_path / "a.apf.xml").write_text(entity.format(charseq.format(1, 3)))
    with pytest.raises(DataError, match=r"the text at 1..3 is 'er\.', not 'Her'"):
        read_ace(tmp_path)
    (tmp_path / "a.apf.xml").write_text(entity.format(charseq.format(0, 2)))
    assert found(read_ace(tmp_path)["a"]) == [("Her", "PER")]
    with pytest.raises(DataError, match="the mention 1 has no head"):
        read_ace(tmp_path, "head")
    (tmp_path / "a.apf.xml").write_text("<entity>")
    with pytest.raises(DataError, match="not valid XML"):
        read_ace(tmp_path)


# ---- CoNLL ----

CONLL = """-DOCSTART- -X- O O

Berlin NNP I-NP I-LOC
won VBD I-VP O

Ada NNP I-NP I-PER
Byron NNP I-NP I-PER

-DOCSTART- -X- O O

Rome NNP I-NP I-LOC
"""


def test_conll_with_sentence_and_document_context(tmp_path, caplog):
    for name in ("eng.train", "eng.testa", "eng.testb"):
        (tmp_path / name).write_text(CONLL)
    assert len(read_iob(tmp_path / "eng.train")) == 3
    first, second = read_iob(tmp_path / "eng.train", context="document")
    assert first.text == "Berlin won\nAda Byron" and found(first) == [("Berlin", "LOC"), ("Ada Byron", "PER")]
    assert first.words == ((0, 6), (7, 10), (11, 14), (15, 20)) and found(second) == [("Rome", "LOC")]
    assert "I-LOC opens a mention; the file is read as IO by" in caplog.text
    main(["conll2003", str(tmp_path), str(tmp_path / "out"), "--context", "document"])
    corpus = load_corpus(tmp_path / "out")
    assert len(corpus.test) == 2 and list(corpus.entity_types) == ["PER", "LOC", "ORG", "MISC"]
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert "train, LOC: 2 mentions, not 7,140" in report["differences"]


CONLLU = """# global.columns = ID FORM LEMMA NER
1	The	the	O
2-3	cannot	_	_
2	can	can	O
3	not	not	O
4	Rome	Rome	B-LOC

"""
CONLLU_MISC = "1\tRome\t_\t_\t_\t_\t0\t_\t_\tSpaceAfter=No|NER=B-LOC\n2\t!\t_\t_\t_\t_\t0\t_\t_\t_\n\n"


@pytest.mark.parametrize(("text", "words"), [(CONLLU, "The can not Rome"), (CONLLU_MISC, "Rome !")])
def test_conllu(text, words, tmp_path):
    (tmp_path / "a.conllu").write_text(text)
    (document,) = read_conllu(tmp_path / "a.conllu")
    assert document.text == words and found(document) == [("Rome", "LOC")]


def test_broken_conllu(tmp_path):
    (tmp_path / "a.conllu").write_text(CONLLU_MISC.replace("NER=B-LOC", "Gloss=x"))
    with pytest.raises(DataError, match="no token has a tag"):
        read_conllu(tmp_path / "a.conllu")
    (tmp_path / "a.conllu").write_text(CONLLU_MISC.replace("B-LOC", "City"))
    with pytest.raises(DataError, match=r"a\.conllu: row 0: unknown tag 'City'"):
        read_conllu(tmp_path / "a.conllu")


# ---- what else people bring ----


def test_docbin(tmp_path):
    import spacy
    from spacy.tokens import DocBin, Span

    nlp = spacy.blank("en")
    doc = nlp("The IL-2 gene of  T cells.")
    doc.ents = [Span(doc, 1, 5, "Gene")] if doc[1:5].text == "IL-2 gene" else [doc.char_span(4, 13, "Gene")]
    doc.spans["sc"] = [doc.char_span(18, 25, "Cell"), doc.char_span(4, 13, "Gene")]
    DocBin(docs=[doc]).to_disk(tmp_path / "train.spacy")
    (document,) = read_docbin(tmp_path / "train.spacy")
    assert found(document) == [("IL-2 gene", "Gene"), ("T cells", "Cell")]
    assert all(document.text[start:end].strip() for start, end in document.words)
    (tmp_path / "train.spacy").write_bytes(b"nothing")
    with pytest.raises(DataError, match="no DocBin that spaCy"):
        read_docbin(tmp_path / "train.spacy")


def test_label_studio(tmp_path):
    def value(start, end, label):
        return {"value": {"start": start, "end": end, "text": "x", "labels": [label]}, "type": "labels"}

    export = [
        {
            "id": 7,
            "data": {"text": "IL-2 gene"},
            "annotations": [{"result": [value(0, 4, "Protein"), value(0, 9, "Gene")]}],
        },
        {"id": 8, "data": {"text": "Skipped"}, "annotations": [{"was_cancelled": True, "result": []}]},
        {"id": 9, "data": {"text": "Rated"}, "annotations": [{"result": [{"value": {"choices": ["good"]}}]}]},
    ]
    (tmp_path / "a.json").write_text(json.dumps(export))
    first, second = read_label_studio(tmp_path / "a.json")
    assert first.id == "7" and found(first) == [("IL-2", "Protein"), ("IL-2 gene", "Gene")]
    assert second.id == "9" and not second.entities
    minimal = [
        {"id": 1, "text": "IL-2 gene", "label": [{"start": 0, "end": 4, "labels": ["Protein"]}]},
        {"text": "None"},
    ]
    (tmp_path / "a.json").write_text(json.dumps(minimal))
    assert [found(document) for document in read_label_studio(tmp_path / "a.json")] == [[("IL-2", "Protein")], []]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[", "not valid JSON"),
        ("{}", "expected a list of tasks, got dict"),
        ("[3]", "task 1: expected an object"),
        ('[{"data": {"image": "x.png"}}]', r"task 1: expected a 'text', got the fields \['image'\]"),
        ('[{"text": "ab", "label": [{"start": 0, "end": 9, "labels": ["X"]}]}]', "spans 0..9 in a text of 2"),
    ],
)
def test_broken_label_studio(text, message, tmp_path):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError, match=message):
        read_label_studio(tmp_path / "a.json")


def test_a_dataset_of_the_hub(tmp_path):
    from datasets import ClassLabel, Dataset, DatasetDict, Features, Sequence, Value

    features = Features(
        {"tokens": Sequence(Value("string")), "ner_tags": Sequence(ClassLabel(names=["O", "B-LOC", "I-LOC"]))}
    )
    rows = Dataset.from_dict({"tokens": [["New", "York", "won"]], "ner_tags": [[1, 2, 0]]}, features=features)
    folder = tmp_path / "dataset"
    for split in ("train", "validation"):
        rows.to_parquet(folder / f"{split}.parquet")
    assert DatasetDict  # the folder is loaded as a dataset's repository would be
    main(["hub", str(folder), str(tmp_path / "out")])
    corpus = load_corpus(tmp_path / "out")
    assert found(corpus.train[0]) == found(corpus.dev[0]) == [("New York", "LOC")]
    assert corpus.entity_types == {"LOC": "LOC"}


# ---- the command ----


def test_files_and_folders_are_splits(tmp_path, capsys):
    source = tmp_path / "mine"
    for name in ("train/a.tsv", "valid-1.tsv", "test.tsv", "more.tsv"):
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("Rome\tB-LOC\n")
    types = tmp_path / "types.json"
    types.write_text(json.dumps({"LOC": "A place."}))
    main(["iob", str(source), str(tmp_path / "out"), "--types", str(types)])
    corpus = load_corpus(tmp_path / "out")
    assert [len(split) for split in (corpus.train, corpus.dev, corpus.test)] == [2, 1, 1]
    assert corpus.entity_types == {"LOC": "A place."}
    assert "mentions" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ncbi", "nowhere"], "there is no such folder"),
        (
            ["ncbi", "."],
            "this is no distribution of ncbi that is known. Expected PubTator: NCBItrainset_corpus.txt; or",
        ),
        (["iob", "nowhere"], "there is no such file or folder"),
        (["docbin", "."], r"there is no file with \.spacy"),
    ],
)
def test_what_cannot_be_read(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=message):
        main([*arguments, "out"])
    assert not (tmp_path / "out").exists()


def test_a_type_without_a_description_is_refused(tmp_path):
    (tmp_path / "train.tsv").write_text("Rome\tB-LOC\n")
    types = tmp_path / "types.json"
    types.write_text('{"PER": "A person."}')
    with pytest.raises(SystemExit, match="no description for LOC"):
        main(["iob", str(tmp_path), str(tmp_path / "out"), "--types", str(types)])
    assert not (tmp_path / "out").exists()


def test_an_unknown_name_lists_the_known_ones(capsys):
    with pytest.raises(SystemExit):
        main(["conll", "x", "y"])
    assert "conll2003, ace2004" in capsys.readouterr().err


def test_the_archive_is_not_unpacked(tmp_path):
    """Members are read in memory: a path such as ../../x writes nothing."""
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, content in (("../../x.txt", b"Rome"), ("../../x.ann", b"T1\tLOC 0 4\tRome\n")):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    (document,) = read_brat(tmp_path / "a.tar").values()
    assert found(document) == [("Rome", "LOC")] and not (tmp_path.parent.parent / "x.txt").exists()
