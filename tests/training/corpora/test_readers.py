"""Readers of formats that only the benchmarks use. The tests write the files that they read."""

import json

import pytest

from modeling_binder.finetuning import DataError, load_corpus, read_iob
from training.corpora.__main__ import main
from training.corpora.ace import read_ace
from training.corpora.genia_xml import read_genia_xml


def found(document):
    """Return the text and the label of each mention."""
    return [(document.text[m.start : m.end], m.label) for m in document.entities]


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


def test_genia_terms_are_reduced_to_five_types(tmp_path):
    (tmp_path / "GENIAcorpus3.02.xml").write_text(GENIA)
    title, sentence = read_genia_xml(tmp_path / "GENIAcorpus3.02.xml")
    assert title.text == "IL-2 gene expression & more." and title.id == "MEDLINE:1-1"
    assert found(title) == [("IL-2", "protein"), ("IL-2 gene", "DNA")]
    assert sentence.text == "NFAT and AP-1 in\nT cells."
    assert found(sentence) == [("NFAT and AP-1", "protein")], "a term whose parts have different types gets no type"


def test_genia_sentences_are_divided_into_splits_in_the_order_of_the_corpus(tmp_path):
    sentences = "".join(
        f'<sentence>Sentence <cons sem="G#RNA_molecule">{number}</cons>.</sentence>' for number in range(100)
    )
    (tmp_path / "GENIAcorpus3.02.xml").write_text(f"<set><article><abstract>{sentences}</abstract></article></set>")
    main(["genia", str(tmp_path), str(tmp_path / "out")])
    corpus = load_corpus(tmp_path / "out")
    assert [len(split) for split in (corpus.train, corpus.dev, corpus.test)] == [81, 9, 10]
    assert corpus.dev[0].text == "Sentence 81."


@pytest.mark.parametrize(("text", "message"), [("<set>", "not valid XML"), ("<set/>", "no <article>")])
def test_malformed_genia_files_raise_an_error(text, message, tmp_path):
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


def write_ace(folder, name, sgml, mentions, counted):
    """Write the two files of a document: the text file and the file with the mentions.

    Args:
        folder: output folder.
        name: name of the files. A name in capitals gets the suffixes of ACE 2004. Any other name gets the suffixes of
            ACE 2005.
        sgml: content of the text file.
        mentions: (type, extent, head) of each mention.
        counted: content of the text file from which the offsets are computed. An XML entity such as `&amp;` is as
            written or is replaced by one character. The offsets do not count tags.
    """
    plain = counted.replace("<DOC>", "").replace("<DOCID>", "").replace("</DOCID>", "")
    for tag in ("<BODY>", "<TEXT>", "</TEXT>", "</BODY>", "</DOC>"):
        plain = plain.replace(tag, "")
    rows = []
    for number, (label, extent, head) in enumerate(mentions):
        parts = []
        for part, text in (("extent", extent), ("head", head)):
            start = plain.index(text)
            escaped = text.replace("&amp;", "&").replace("&", "&amp;")
            parts.append(f'<{part}><charseq START="{start}" END="{start + len(text) - 1}">{escaped}</charseq></{part}>')
        rows.append(
            f'<entity ID="{number}" TYPE="{label}"><entity_mention ID="{number}-1">'
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
def test_ace_mentions_are_nested_and_cross_line_breaks_and_xml_entities(entities, name, tmp_path):
    """Files have the names of ACE 2004 or 2005. Offsets count an XML entity as written or as one character."""
    sgml = ACE_TEXT.format(amp="&amp;")
    amp = "&amp;" if entities == "counted as written" else "&"
    mentions = [(label, extent.format(amp=amp), head.format(amp=amp)) for label, extent, head in MENTIONS]
    write_ace(tmp_path, name, sgml, mentions, sgml.replace("&amp;", amp))
    document = read_ace(tmp_path)[name]
    assert "Smith & Sons" in document.text and "<" not in document.text
    assert sorted(found(document)) == sorted((extent.format(amp="&"), label) for label, extent, _ in MENTIONS)
    heads = read_ace(tmp_path, "head")[name]
    assert sorted(found(heads)) == sorted((head.format(amp="&"), label) for label, _, head in MENTIONS)


def test_one_version_of_each_ace_document_is_read_and_lists_of_ids_determine_the_splits(tmp_path):
    sgml = ACE_TEXT.format(amp="and")
    mentions = [(label, e.format(amp="and"), h.format(amp="and")) for label, e, h in MENTIONS]
    for number in range(3):
        write_ace(tmp_path / "English" / "nw" / "timex2norm", f"ours.{number}", sgml, mentions, sgml)
        write_ace(tmp_path / "English" / "nw" / "adj", f"ours.{number}", sgml, mentions[:1], sgml)
    lists = tmp_path / "lists"
    lists.mkdir()
    for number, split in enumerate(("train", "dev", "test")):
        (lists / f"{split}.txt").write_text(f"nw/ours.{number}\n")
    main(["ace2005", str(tmp_path / "English"), str(tmp_path / "out"), "--splits", str(lists)])
    corpus = load_corpus(tmp_path / "out")
    assert [d.id for split in (corpus.train, corpus.dev, corpus.test) for d in split] == ["ours.0", "ours.1", "ours.2"]
    assert len(corpus.train[0].entities) == 4 and set(corpus.entity_types) >= {"PER", "WEA"}
    (lists / "dev.txt").write_text("ours.9\n")
    with pytest.raises(SystemExit, match=r"1 listed documents are not in .*ours\.9"):
        main(["ace2005", str(tmp_path / "English"), str(tmp_path / "out"), "--splits", str(lists)])
    with pytest.raises(SystemExit, match="pass the folder of the lists as --splits"):
        main(["ace2005", str(tmp_path / "English"), str(tmp_path / "out")])


def test_malformed_ace_files_raise_an_error(tmp_path):
    with pytest.raises(DataError, match=r"no \.apf\.xml"):
        read_ace(tmp_path)
    (tmp_path / "a.apf.xml").write_text("<source_file/>")
    with pytest.raises(DataError, match=r"its text a\.sgm is missing in the same folder"):
        read_ace(tmp_path)
    (tmp_path / "a.sgm").write_text("<DOC>Her.</DOC>")
    charseq = '<charseq START="{}" END="{}">Her</charseq>'
    entity = '<entity TYPE="PER"><entity_mention ID="1"><extent>{}</extent></entity_mention></entity>'
    (tmp_path / "a.apf.xml").write_text(entity.format(charseq.format(1, 3)))
    with pytest.raises(DataError, match=r"the text at 1..3 is 'er\.', the annotation has 'Her'"):
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


def test_conll_is_read_with_one_sentence_or_one_news_story_per_document(tmp_path, caplog):
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
    assert "train, LOC: 2 mentions, expected 7,140" in report["differences"]
