"""Reading files with errors.

A reader returns documents that can be written and read again, or it raises DataError.
"""

import copy
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeling_binder.finetuning import DataError, read_documents, read_jsonl, write_jsonl

TEXT = "Great 🎉 news\r\nfrom Oslo"


def region(start, end, key="labels", **value):
    """Return a region of Label Studio, which is a mention with its label."""
    return {"id": "r", "type": key, "value": {"start": start, "end": end, "text": "Oslo", key: ["X"], **value}}


NODE = "/p[1]/b[1]/text()[1]"
HTML = region(NODE, NODE, "hypertextlabels", startOffset=0, endOffset=4, globalOffsets={"start": 3, "end": 7})
TURN = region("0", "0", "paragraphlabels", startOffset=3, endOffset=7)
CHOICE = {"id": "r", "type": "choices", "value": {"start": 20, "end": 24, "choices": ["sure"]}}
JSON_FILES = [
    (
        "label-studio",
        [{"id": 1, "data": {"text": TEXT}, "annotations": [{"id": 2, "result": [region(20, 24), CHOICE]}]}],
    ),
    ("label-studio", [{"id": 1, "text": TEXT, "x": [region(20, 24)["value"]], "annotation_id": 4}]),
    ("label-studio", [{"data": {"html": "<p>In <b>Oslo</b></p>"}, "completions": [{"result": [HTML]}]}]),
    ("label-studio", [{"data": {"chat": [{"author": "a", "text": "In Oslo"}]}, "predictions": [{"result": [TURN]}]}]),
    ("doccano", {"id": 1, "text": TEXT, "label": [[20, 24, "X"]]}),
    ("doccano", {"text": TEXT, "entities": [{"label": "X", "start_offset": 20, "end_offset": 24}], "relations": []}),
    (
        "prodigy",
        {
            "text": "In Oslo",
            "tokens": [{"text": "In", "id": 0}, {"text": "Oslo", "id": 1}],
            "spans": [{"start": 3, "end": 7, "label": "X", "token_start": 1, "token_end": 1}],
            "answer": "accept",
        },
    ),
    (
        "bioc",
        {
            "id": "1",
            "passages": [
                {
                    "offset": 0,
                    "text": "In Oslo",
                    "annotations": [
                        {"infons": {"type": "X"}, "text": "Oslo", "locations": [{"offset": 3, "length": 4}]}
                    ],
                },
                {"offset": 8, "sentences": [{"offset": 8, "text": "Rome", "annotations": []}]},
            ],
        },
    ),
    ("gliner", {"tokenized_text": ["In", "Oslo"], "ner": [[1, 1, "X", "Oslo"]]}),
    ("gliner", {"tokens": ["In", "Oslo"], "entities": [{"start": 1, "end": 2, "type": "X"}]}),
    (
        "jsonl",
        {
            "id": "1",
            "text": "In Oslo",
            "entities": [{"start": 3, "end": 7, "label": "X", "text": "Oslo"}],
            "types": ["X"],
        },
    ),
]
WRONG_VALUES = [None, 3, -1, 2.5, "x", "", [], {}, True, [[]], {"a": 1}, "\ud83d", 10**12, "/p[9]"]


def paths(value, path=()):
    """Yield the path (keys and indices) of every value inside a JSON value."""
    yield path
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from paths(value[key], (*path, key))


def changed(value, path, new):
    """Return a copy with the value `new` at a path. If `new` is KeyError, the value at the path is removed."""
    value = copy.deepcopy(value)
    if not path:
        return new
    parent = value
    for key in path[:-1]:
        parent = parent[key]
    if new is KeyError:
        del parent[path[-1]]
    else:
        parent[path[-1]] = new
    return value


def check(path, format):
    """Read a file with the given format and with the detected format, and check the documents or the error."""
    for named in (format, None):
        try:
            documents = read_documents(path, named)
        except DataError as error:
            assert path.name in str(error)
            continue
        if documents:
            write_jsonl(path.with_suffix(".out"), documents)
            assert read_jsonl(path.with_suffix(".out")) == documents
        for document in documents:
            for mention in document.entities:
                words = document.text[mention.start : mention.end]
                assert mention.label.strip() and (words == words.strip() != "" or format == "jsonl")


@pytest.mark.parametrize(("format", "value"), JSON_FILES)
def test_json_with_one_wrong_value_is_read_or_raises_a_data_error(tmp_path, format, value):
    assert any(document.entities for document in _read(tmp_path, value, format))
    for path in paths(value):
        for new in [*WRONG_VALUES, *([KeyError] if path else [])]:
            (tmp_path / "a.json").write_text(json.dumps(changed(value, path, new)))
            check(tmp_path / "a.json", format)


def _read(tmp_path, value, format):
    (tmp_path / "a.json").write_text(json.dumps(value))
    return read_documents(tmp_path / "a.json", format)


TEXT_FILES = [
    ("conll", "-DOCSTART- -X- O\n\nAnna NNP B-PER\nB. NNP I-PER\n\nRome NNP B-LOC\n"),
    ("conll", "# text = x\n1\tAnna\tB-PER\t-\n2\tB.\tI-PER\t-\n"),
    ("conllu", "1-2\tDu\t_\tNER=B-L\n1\tde\t_\t_\n2\tle\t_\t_\n3\tx\t_\tNER=I-L\n\n".replace("\t_", 7 * "\t_", 4)),
    ("pubtator", "11|t|In Oslo 🎉\n11|a|More Rome\n11\t3\t7\tOslo\tX\tid\n11\t15\t19\tRome\tX\n11\tCID\ta\tb\n\n"),
    (
        "webanno",
        "#FORMAT=WebAnno TSV 3.3\n#T_SP=de.x.NamedEntity|identifier|value\n\n#Text=🎉 Anna\n1-1\t0-2\t🎉\t_\t_\t\n"
        "1-2\t3-7\tAnna\t*[1]\tPER[1]\t\n1-2.1\t3-5\tAn\t*\tX\t\n",
    ),
    ("brat", "T1\tX 3 7\tOslo\nT2\tY 0 2;3 7\tIn Oslo\n#1\tNote T1\tx\n"),
    (
        "bioc",
        "<collection><document><id>1</id><passage><offset>0</offset><text>In Oslo</text><annotation id='1'>"
        "<infon key='type'>X</infon><location offset='3' length='4'/></annotation></passage></document></collection>",
    ),
    (
        "pubmed",
        "<PubmedArticleSet><PubmedArticle><MedlineCitation><PMID>1</PMID><Article><ArticleTitle>A <i>b</i>"
        "</ArticleTitle></Article></MedlineCitation></PubmedArticle></PubmedArticleSet>",
    ),
]
# The last character is written as a byte that is not valid UTF-8.
CHARACTERS = [*"\t \n\r|09-#x🎉\ufeff\u2028\x00[]\\_*;<>&é", "\udce9"]


@pytest.mark.parametrize(("format", "content"), TEXT_FILES)
@given(st.data())
@settings(deadline=None, max_examples=150)
def test_text_with_changed_characters_is_read_or_raises_a_data_error(format, content, tmp_path_factory, data):
    characters = list(content)
    for _ in range(data.draw(st.integers(0, 3))):
        place = data.draw(st.integers(0, len(characters) - 1))
        characters[place : place + data.draw(st.integers(0, 1))] = data.draw(
            st.lists(st.sampled_from(CHARACTERS), max_size=1)
        )
    path = tmp_path_factory.mktemp("broken") / ("a.xml" if content.startswith("<") else f"a.{format}")
    if format == "brat":
        path = path.with_suffix(".ann")
        path.with_suffix(".txt").write_text("In Oslo")
    path.write_bytes("".join(characters).encode("utf-8", "surrogateescape"))
    check(path, format)
