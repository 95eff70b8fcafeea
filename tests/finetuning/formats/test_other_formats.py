"""Reading CoNLL-U, spaCy's DocBin, WebAnno TSV 3 and PubMed XML."""

import gzip

import pytest

from modeling_binder.finetuning import DataError, Document, read_documents
from modeling_binder.finetuning.formats import (
    detect_format,
    read_conllu,
    read_docbin,
    read_pubmed,
    read_splits,
    read_webanno,
)
from tests.finetuning.formats.helpers import found, write

# ---- CoNLL-U ----

CONLLU = """# global.columns = ID FORM LEMMA NER
1	The	the	O
2-3	cannot	_	_
2	can	can	O
3	not	not	O
4	Rome	Rome	B-LOC

"""


def conllu_sentence(*rows):
    """Return a sentence in CoNLL-U. Each item of `rows` is (ID, FORM, MISC), the columns that the reader uses."""
    return "".join(f"{number}\t{form}\t_\t_\t_\t_\t_\t_\t_\t{value}\n" for number, form, value in rows) + "\n"


@pytest.mark.parametrize(
    ("text", "words", "mentions"),
    [
        (CONLLU, "The cannot Rome", ["Rome"]),
        (conllu_sentence((1, "Rome", "SpaceAfter=No|NER=B-LOC"), (2, "!", "_")), "Rome !", ["Rome"]),
        (conllu_sentence((1, "Rome", "name=B-LOC"), (2, "!", "name=O")), "Rome !", ["Rome"]),
        (
            conllu_sentence((1, "Rome", "ner=B-LOC|SpaceAfter=No"), ("1.1", "e", "NER=B-X")),
            "Rome",
            ["Rome"],
        ),  # the second row is an empty node, which is not a token
        # multi-word tokens whose own row contains the tag
        (
            conllu_sentence((1, "Port", "NER=B-L"), ("2-3", "du", "ner=I-L"), (2, "de", "_"), (3, "le", "_")),
            "Port du",
            ["Port du"],
        ),
        (
            conllu_sentence(("1-2", "Du", "NER=B-L"), (1, "de", "_"), (2, "le", "_"), (3, "x", "NER=I-L")),
            "Du x",
            ["Du x"],
        ),
        (conllu_sentence(("1-2", "Du", "_"), (1, "de", "_"), (2, "le", "_"), (3, "x", "NER=B-L")), "Du x", ["x"]),
        # multi-word tokens whose words have the tags
        (
            conllu_sentence(("1-2", "Du", "_"), (1, "de", "NER=B-L"), (2, "le", "NER=I-L"), (3, "x", "NER=I-L")),
            "Du x",
            ["Du x"],
        ),
        (
            conllu_sentence(("1-2", "Du", "_"), (1, "de", "NER=B-L"), (2, "le", "NER=E-L"), (3, "x", "NER=O")),
            "Du x",
            ["Du"],
        ),
        # the mention starts inside a multi-word token, so the text contains the words instead of the token
        (
            conllu_sentence(("1-2", "do", "_"), (1, "de", "NER=O"), (2, "o", "NER=B-L"), (3, "x", "NER=I-L")),
            "de o x",
            ["o x"],
        ),
        (conllu_sentence((1, "20 000", "NER=B-N"), (2, "a\u2028b", "NER=O")), "20 000 a\u2028b", ["20 000"]),
        ("\ufeff# text = Rome\r\n" + conllu_sentence((1, "Rome", "NER=B-L")).replace("\n", "\r\n"), "Rome", ["Rome"]),
    ],
)
def test_conllu_is_read(text, words, mentions, tmp_path):
    (document,) = read_documents(write(tmp_path, "a.conllu", text))
    assert document.text == words and [text for text, _ in found(document)] == mentions
    assert document.id == "a-1"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (conllu_sentence((1, "Rome", "Gloss=x")), "no token has a tag"),
        (conllu_sentence((1, "Rome", "NER=City")), r"a\.conllu:1: unknown tag 'City'"),
        ("# text = x\n1\tRome\n", r"a\.conllu:2: expected 10 columns separated by tabs, got 2"),
        (conllu_sentence(("x", "Rome", "NER=O")), r"a\.conllu:1: expected a number in the column ID"),
        ("# global.columns = ID NER\n1\tO\n", r"a\.conllu:2: expected a number in the column ID and a word in FORM"),
    ],
)
def test_malformed_conllu_raises_an_error(text, message, tmp_path):
    with pytest.raises(DataError, match=message):
        read_conllu(write(tmp_path, "a.conllu", text))


# ---- DocBin ----


@pytest.fixture
def docbin(tmp_path):
    """Return a function that writes a DocBin with one document. Its argument `annotate` adds spans to the document."""
    import spacy
    from spacy.tokens import DocBin

    def build(text, annotate):
        doc = spacy.blank("en")(text)
        annotate(doc)
        DocBin(docs=[doc]).to_disk(tmp_path / "train.spacy")
        return tmp_path / "train.spacy"

    return build


def test_docbin_entities_and_span_groups_are_read(docbin):
    def annotate(doc):
        doc.ents = [doc.char_span(4, 13, "Gene")]
        doc.spans["sc"] = [doc.char_span(17, 25, "Cell"), doc.char_span(4, 13, "Gene")]

    (document,) = read_documents(docbin("The IL-2 gene of  T cells.", annotate))
    assert found(document) == [("IL-2 gene", "Gene"), ("T cells", "Cell")], "blanks at the edges are trimmed"
    assert all(document.text[start:end].strip() for start, end in document.words)


def test_docbin_spans_without_labels_raise_an_error(docbin):
    from spacy.tokens import Span

    def annotate(doc):
        doc.spans["clusters"] = [Span(doc, 0, 1)]
        doc.spans["sc"] = [Span(doc, 1, 2, "Place")]

    path = docbin("In Oslo", annotate)
    with pytest.raises(DataError, match=r"document 1: the span 'In' of 'clusters' has no label.*groups="):
        read_docbin(path)
    assert found(read_docbin(path, groups=["sc"])[0]) == [("Oslo", "Place")]
    with pytest.raises(DataError, match="no document has a span group 'sd'; the groups in this file are: clusters, sc"):
        read_docbin(path, groups=["sd"])


@pytest.mark.parametrize("content", [b"nothing", b"", gzip.compress(b"nothing", mtime=0)])
def test_a_docbin_file_with_other_content_raises_an_error(tmp_path, content):
    with pytest.raises(DataError, match="this is not a DocBin that spaCy"):
        read_docbin(write(tmp_path, "a.spacy", content))


# ---- WebAnno TSV 3 ----

WEBANNO = """#FORMAT=WebAnno TSV 3.3
#T_SP=de.tudarmstadt.ukp.dkpro.core.api.lexmorph.type.pos.POS|PosValue
#T_SP=de.tudarmstadt.ukp.dkpro.core.api.ner.type.NamedEntity|identifier|value
#T_RL=webanno.custom.Rel|kind|BT_webanno.custom.X


#Text=🎉 Anna Li's IL-2\\\\x
1-1\t0-2\t🎉\tX\t_\t_\t_\t_\t
1-2\t3-7\tAnna\tNNP\t*[1]\tPER[1]\t_\t_\t
1-3\t8-12\tLi's\tNNP\t_\t_\t_\t_\t
1-3.1\t8-10\tLi\tNNP\t*[1]\tPER[1]\t_\t_\t
1-4\t13-19\tIL-2\\\\x\tNN\t*|*[2]\tGene|Pro\\_tein[2]\t_\t_\t

#Text=In Oslo .
2-1\t20-22\tIn\tIN\t_\t_\t_\t_\t
2-2\t23-27\tOslo\tNNP\thttp://x\tLOC\t_\t_\t
2-3\t28-29\t.\t.\t_\t_\t_\t_\t
"""


def test_webanno_is_read(tmp_path):
    path = write(tmp_path, "a.tsv", WEBANNO)
    assert detect_format(path) == "webanno"
    (document,) = read_documents(path)
    assert document.text == "🎉 Anna Li's IL-2\\x In Oslo ."
    assert found(document) == [("Anna Li", "PER"), ("IL-2\\x", "Gene"), ("IL-2\\x", "Pro_tein"), ("Oslo", "LOC")]
    assert document.id == "a"


def test_webanno_with_code_points_and_sentences_of_several_lines_is_read(tmp_path):
    content = WEBANNO.split("#Text")[0] + (
        "#Text=🎉 Anna\n#Text=Li\n1-1\t0-1\t🎉\tX\t_\t_\t_\t_\t\n1-2\t2-6\tAnna\tX\t*[1]\tPER[1]\t_\t_\t\n"
        "1-3\t7-9\tLi\tX\t*[1]\tPER[1]\t_\t_\t\n"
    )
    (document,) = read_webanno(write(tmp_path, "a.tsv", content))
    assert document.text == "🎉 Anna\nLi" and found(document) == [("Anna\nLi", "PER")]


def webanno_file(*layers, cell="X"):
    """Return a WebAnno file with one token. The token has the same value in all columns of the given layers."""
    columns = sum(max(1, layer.count("|")) for layer in layers)
    header = "".join(f"#T_SP={layer}\n" for layer in layers)
    return f"#FORMAT=WebAnno TSV 3.2\n{header}\n\n#Text=Oslo\n1-1\t0-4\tOslo\t" + "\t".join([cell] * columns) + "\t\n"


@pytest.mark.parametrize(
    ("content", "options", "mentions"),
    [
        (webanno_file("webanno.custom.Drug|kind"), {}, [("Oslo", "X")]),
        (webanno_file("webanno.custom.Drug|", cell="*"), {}, [("Oslo", "Drug")]),
        (webanno_file("webanno.custom.A|x", "webanno.custom.B|y"), {"layer": "B"}, [("Oslo", "X")]),
        (webanno_file("webanno.custom.A|x|y"), {"feature": "y"}, [("Oslo", "X")]),
        (webanno_file("webanno.custom.A|x", cell="_"), {}, []),
        (webanno_file().replace("\t\t\n", "\n"), {}, []),  # a file without annotations has no layers
        (webanno_file("webanno.custom.A|x", cell="a\\|b\\[1\\]"), {}, [("Oslo", "a|b[1]")]),
    ],
)
def test_custom_layers_of_webanno_are_read(tmp_path, content, options, mentions):
    assert found(read_webanno(write(tmp_path, "a.tsv", content), **options)[0]) == mentions


def test_one_layer_is_read_from_all_webanno_files_of_a_corpus(tmp_path, caplog):
    """Each file has only the layers of its own annotations."""
    entities = "de.tudarmstadt.ukp.dkpro.core.api.ner.type.NamedEntity|value"
    write(tmp_path, "a.tsv", webanno_file(entities, "webanno.custom.Dose|unit"))
    write(tmp_path, "b.tsv", webanno_file("webanno.custom.Dose|unit", cell="mg"))
    write(tmp_path, "c.tsv", webanno_file().replace("\t\t\n", "\n"))
    write(tmp_path, "README.tsv", "something else")
    names = {"train": ["a", "b", "c"]}
    assert [found(document) for document in read_splits(tmp_path, "webanno", names)["train"]] == [
        [("Oslo", "X")],
        [],
        [],
    ]
    assert "only the layer NamedEntity is read; these layers are left out: webanno.custom.Dose" in caplog.text
    doses = read_splits(tmp_path, "webanno", names, layer="Dose")["train"]
    assert [len(document.entities) for document in doses] == [1, 1, 0]
    with pytest.raises(DataError, match="expected the layer Drug of spans; the layers of spans are de"):
        read_splits(tmp_path, "webanno", names, layer="Drug")
    # Files of the folder that are not read do not matter.
    (dose,) = read_splits(tmp_path, "webanno", {"train": ["b"]})["train"]
    assert found(dose) == [("Oslo", "mg")]
    with pytest.raises(DataError, match="expected the layer A of spans; the layers of spans are none"):
        read_webanno(tmp_path / "c.tsv", layer="A")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("#FORMAT=WebAnno TSV 2\n", "expected '#FORMAT=WebAnno TSV 3.x'"),
        (
            webanno_file("webanno.custom.A|x", "webanno.custom.B|y"),
            "the layers of spans are webanno.custom.A, webanno.custom.B",
        ),
        (webanno_file("webanno.custom.A|x|y"), "has the features x, y; choose the one that contains the type, with"),
        (webanno_file("webanno.custom.A|x", cell="*"), r"a\.tsv:6: a span of webanno\.custom\.A has no value"),
        (
            webanno_file("webanno.custom.A|x").replace("0-4", "1-4"),
            r"a\.tsv:6: the text at 0\.\.3 is 'Osl', not 'Oslo'",
        ),
        (
            webanno_file("webanno.custom.A|x").replace("\tX", ""),
            r"a\.tsv:6: expected 4 columns separated by tabs, got 3",
        ),
        (webanno_file("webanno.custom.A|x") + "nonsense\n", r"a\.tsv:7: expected '#Text="),
        (webanno_file("webanno.custom.A|x").partition("1-1")[0], "the sentence 'Oslo' has no tokens"),
    ],
)
def test_malformed_webanno_raises_an_error(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        read_webanno(write(tmp_path, "a.tsv", content))


# ---- PubMed ----

PUBMED = """<?xml version="1.0" encoding="utf-8"?>
<!DOCTYPE PubmedArticleSet PUBLIC "-//NLM//DTD PubMedArticle//EN" "x.dtd">
<PubmedArticleSet>
<PubmedArticle><MedlineCitation><PMID Version="1">11</PMID><Article><ArticleTitle>The <i>IL-2</i>
   gene &amp; more.</ArticleTitle><Abstract><AbstractText Label="AIM">To see.</AbstractText>
<AbstractText>Done.</AbstractText></Abstract></Article></MedlineCitation>
<PubmedData><ReferenceList><Reference><ArticleIdList><ArticleId>9</ArticleId></ArticleIdList></Reference></ReferenceList>
</PubmedData></PubmedArticle>
<PubmedArticle><MedlineCitation><PMID>12</PMID><Article><ArticleTitle>Title alone.</ArticleTitle></Article>
</MedlineCitation></PubmedArticle>
<PubmedBookArticle><BookDocument><PMID>13</PMID><Book><BookTitle>A book</BookTitle></Book><Abstract>
<AbstractText>Short.</AbstractText></Abstract></BookDocument></PubmedBookArticle>
</PubmedArticleSet>
"""


@pytest.mark.parametrize("name", ["a.xml", "a.xml.gz"])
def test_pubmed_articles_are_read_as_texts_without_mentions(tmp_path, name):
    content = PUBMED.encode()
    path = write(tmp_path, name, gzip.compress(content) if name.endswith("gz") else content)
    assert detect_format(path) == "pubmed"
    assert read_documents(path) == [
        Document("11", "The IL-2 gene & more. AIM: To see. Done."),
        Document("12", "Title alone."),
        Document("13", "A book Short."),
    ]


@pytest.mark.parametrize(("content", "message"), [("<a>", "not valid XML"), ("<a/>", "the file contains no article")])
def test_malformed_pubmed_xml_raises_an_error(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        read_pubmed(write(tmp_path, "a.xml", content))
