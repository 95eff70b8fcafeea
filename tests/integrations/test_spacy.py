"""Tests of the spaCy component "binder_ner"."""

import re
import warnings
from collections import Counter

import pytest
import spacy
from spacy.tokens import Doc, DocBin, Span
from spacy.training import Corpus, Example

from modeling_binder.finetuning import Document, Mention, read_documents, write_format
from modeling_binder.integrations.spacy import BinderNer, Settings
from tests.fresh_process import ROOT, run
from tests.integrations.spacy_texts import HANDWRITTEN, TEXTS, spans
from tests.tiny import TYPES


def entity(text, word, label="X", score=0.9):
    """Return an entity in the format of the pipeline's output."""
    start = text.index(word)
    return {"entity_group": label, "score": score, "word": word, "start": start, "end": start + len(word)}


def annotated(doc, entities, **settings):
    """Write handwritten entities into a document with a new component. Return the component."""
    component = BinderNer(Settings(HANDWRITTEN, **settings))
    component.set_annotations([doc], [entities])
    return component


def found_by(component, text):
    """Return the start, end, label and score of each entity that the pipeline of a component finds."""
    entities = component.load()(text, **component.settings.arguments)
    return [(e["start"], e["end"], e["entity_group"], e["score"]) for e in entities]


def written(group, scores):
    """Return the start, end, label and score of each span."""
    return [(s.start_char, s.end_char, s.label_, score) for s, score in zip(group, scores, strict=True)]


# ---- entities and spans in documents ----


def test_flat_entities_are_written_with_their_scores(build):
    nlp = build()
    doc = nlp(TEXTS[0])
    expected = found_by(nlp.get_pipe("binder_ner"), TEXTS[0])
    assert expected and written(doc.ents, [ent._.binder_score for ent in doc.ents]) == expected
    assert written(doc.spans["binder"], doc.spans["binder"].attrs["scores"]) == expected
    assert doc[0:1]._.binder_score is None
    assert nlp.get_pipe("binder_ner").labels == tuple(TYPES)


def test_nested_spans_are_written_with_their_scores(build):
    nlp = build(decoding="nested", spans_key="mine", types=["Gene", "Cell", "gene of a cell"], threshold={"Cell": 0.4})
    component = nlp.get_pipe("binder_ner")
    doc = nlp(TEXTS[0])
    expected = found_by(component, TEXTS[0])
    assert len(expected) > 2 and written(doc.spans["mine"], doc.spans["mine"].attrs["scores"]) == expected
    assert [span._.binder_score for span in doc.spans["mine"]] == doc.spans["mine"].attrs["scores"]
    assert not doc.ents and set(doc.spans) == {"mine"}
    assert component.labels == ("Gene", "Cell", "gene of a cell")


def test_settings_can_be_given_for_a_call(build):
    nlp = build()
    other = {"binder_ner": {"types": ["Place"], "decoding": "nested", "threshold": 0.0}}
    doc = nlp(TEXTS[0], component_cfg=other)
    assert {span.label_ for span in doc.spans["binder"]} == {"Place"} and not doc.ents
    (piped,) = nlp.pipe(TEXTS[:1], component_cfg=other)
    again = nlp(TEXTS[0], component_cfg=other)
    assert spans(piped.spans["binder"]) == spans(again.spans["binder"]) == spans(doc.spans["binder"])
    assert spans(nlp(TEXTS[0]).ents) != [], "the settings of the component are unchanged"
    for wrong in ("model", "type"):
        with pytest.raises(ValueError, match=rf"a call does not accept \['{wrong}'\]; it accepts types, decoding, "):
            nlp(TEXTS[0], component_cfg={"binder_ner": {wrong: "x"}})


@pytest.mark.parametrize("text", ["", " ", "\n \n"])
def test_texts_without_words_have_no_entities(build, text):
    for decoding in ("flat", "nested"):
        doc = build(decoding=decoding)(text)
        assert (doc.text, list(doc.spans["binder"]), doc.ents) == (text, [], ())


@pytest.mark.parametrize(
    ("language", "text", "words"),
    [
        (
            "en",
            "Caf\N{LATIN SMALL LETTER E}\N{COMBINING ACUTE ACCENT}  in\r\nOslo 👩\u200d🔬 now",
            ["in", "Oslo", "now"],
        ),
        ("en", "\n\n  The IL-2 gene\t🧬🧬 of T cells.", ["The IL-2 gene", "T cells"]),
        ("de", "Die Müllers aus  Köln 🎉 flogen\nnach Zürich.", ["Müllers", "Köln", "Zürich"]),
        ("zh", "🎉 王小明住在  北京。\n他爱茶", ["王小明", "北京", "茶"]),
        ("ja", "佐藤さんは  東京に🎉住んでいる。", ["佐藤", "東京"]),
    ],
)
def test_entities_have_the_offsets_of_the_text(language, text, words):
    if language == "ja":
        pytest.importorskip("sudachipy")
    doc = spacy.blank(language)(text)
    entities = [entity(text, word) for word in words]
    component = annotated(doc, entities)
    assert [span.text for span in doc.ents] == [span.text for span in doc.spans["binder"]] == words
    assert [span.start_char for span in doc.ents] == [entity["start"] for entity in entities]
    assert component.num_misaligned == 0


@pytest.mark.filterwarnings("ignore:.*does not consist of whole tokens")
def test_each_entity_is_written_or_listed_as_misaligned(build):
    text = "the gene  🧬 基因\nthe cells"
    for language in ("en", "de", "zh"):
        nlp = build(language, decoding="nested", threshold=0.2)
        doc = nlp(text)
        exact = found_by(nlp.get_pipe("binder_ner"), text)
        listed = [(e["start"], e["end"], e["label"], e["score"]) for e in doc.spans["binder"].attrs["misaligned"]]
        group = written(doc.spans["binder"], doc.spans["binder"].attrs["scores"])
        assert set(group) | set(listed) >= set(exact) and exact


# ---- alignment with the tokens ----


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("expand", ["IL2mediated"]), ("contract", []), ("strict", [])],
)
def test_entities_inside_a_token_are_listed_and_cause_one_warning(mode, expected):
    nlp = spacy.blank("en")
    text = "an IL2mediated signal"
    entities = [entity(text, "IL2", "Gene", 0.8)]
    component = BinderNer(Settings(HANDWRITTEN, alignment_mode=mode), "finder")
    doc, other = nlp(text), nlp(text)
    with pytest.warns(UserWarning, match=rf"^finder: the Gene 'IL2' does not .* \['IL2mediated'\].*'{mode}'"):
        component.set_annotations([doc], [entities])
    component.set_annotations([other], [entities])
    for each in (doc, other):
        assert [span.text for span in each.ents] == expected
        assert each.spans["binder"].attrs["misaligned"] == [{"start": 3, "end": 6, "label": "Gene", "score": 0.8}]
    assert component.num_misaligned == 2


def test_contracted_entities_consist_of_the_tokens_inside_them():
    text = "an IL2mediated signal"
    doc = spacy.blank("en")(text)
    with pytest.warns(UserWarning, match="whole tokens"):
        annotated(doc, [entity(text, "2mediated signal")], alignment_mode="contract")
    assert spans(doc.ents) == [("signal", "X")]


def test_no_expanded_entities_overlap():
    nlp = spacy.blank("en")
    text = "see IL2mediated in Oslobased labs"
    entities = [
        entity(text, "see IL", "A", 0.6),
        entity(text, "2mediated", "B", 0.9),
        entity(text, "Oslobased", "C", 0.3),
        entity(text, "based labs", "D", 0.99),
    ]
    doc = nlp(text)
    with pytest.warns(UserWarning, match="whole tokens"):
        annotated(doc, entities)
    assert spans(doc.ents) == spans(doc.spans["binder"]), "doc.ents allows no overlap"
    assert len(doc.ents) == 2 and {"B", "C"} == {ent.label_ for ent in doc.ents}, "exact entities have priority"
    assert [ent._.binder_score for ent in doc.ents] == [0.9, 0.3]
    assert [each["label"] for each in doc.spans["binder"].attrs["misaligned"]] == ["A", "B", "D"]

    doc = nlp(text)
    twice = [entity(text, "IL", "A", 0.6), entity(text, "2mediated", "A", 0.7), entity(text, "2", "B", 0.5)]
    with pytest.warns(UserWarning, match="whole tokens"):
        annotated(doc, twice, decoding="nested")
    assert written(doc.spans["binder"], doc.spans["binder"].attrs["scores"]) == [(4, 15, "A", 0.7), (4, 15, "B", 0.5)]


# ---- entities of other components ----


@pytest.mark.parametrize("overwrite", [False, True])
def test_existing_entities_are_kept_or_overwritten(overwrite):
    text = "Anna Berg met Carl in Oslo in May"
    doc = spacy.blank("en")(text)
    old = [Span(doc, 1, 4, "OLD", span_id="q1", kb_id="Q1"), Span(doc, 7, 8, "MONTH", span_id="q2")]
    doc.set_ents(old, blocked=[doc[5:6]])
    annotated(doc, [entity(text, "Anna Berg"), entity(text, "Carl"), entity(text, "Oslo")], overwrite_ents=overwrite)
    assert len(doc.spans["binder"]) == 3, "the span group has all found entities"
    if overwrite:
        assert spans(doc.ents) == [("Anna Berg", "X"), ("Carl", "X"), ("Oslo", "X"), ("May", "MONTH")]
        assert [ent.id_ for ent in doc.ents] == ["", "", "", "q2"] and not doc.ents[0].kb_id_
    else:
        assert spans(doc.ents) == [("Berg met Carl", "OLD"), ("May", "MONTH")]
        assert [ent.id_ for ent in doc.ents] == ["q1", "q2"] and doc.ents[0].kb_id_ == "Q1"
        assert (doc[5].ent_iob_, doc[5].ent_type) == ("B", 0), "blocked tokens stay blocked"


@pytest.mark.parametrize("overwrite", [False, True])
def test_annotating_a_document_twice_keeps_its_entities(overwrite):
    doc = spacy.blank("en")("Carl left Oslo")
    for _ in range(2):
        annotated(doc, [entity(doc.text, "Carl"), entity(doc.text, "Oslo")], overwrite_ents=overwrite)
        assert spans(doc.ents) == [("Carl", "X"), ("Oslo", "X")]


# ---- streams, processes, errors ----


def test_nlp_pipe_calls_the_pipeline_with_batches(build, monkeypatch):
    nlp = build()
    component = nlp.get_pipe("binder_ner")
    sizes, pipeline = [], component.load()

    def read(texts, **options):
        sizes.append(len(texts))
        return pipeline(texts, **options)

    monkeypatch.setattr(component, "load", lambda: read)
    texts = [*TEXTS, ""]
    docs = list(nlp.pipe(iter(texts), batch_size=2))
    assert sizes == [2, 2, 1] and [doc.text for doc in docs] == texts
    monkeypatch.undo()
    assert [spans(doc.ents) for doc in docs] == [spans(nlp(text).ents) for text in texts]
    assert [context for _, context in nlp.pipe([("of", 1), ("in", 2)], as_tuples=True)] == [1, 2]


@pytest.mark.slow
def test_several_processes_find_the_same_entities(checkpoint, tmp_path):
    """Processes are forked or spawned. They cannot load the checkpoint again, because the test deletes it."""
    code = f"""
    import json, multiprocessing, shutil, warnings
    warnings.simplefilter("error", UserWarning)
    import spacy, modeling_binder.integrations.spacy
    nlp = spacy.blank("en")
    nlp.add_pipe("binder_ner", config={{"model": {str(checkpoint)!r}, "decoding": "nested"}})
    texts = {TEXTS!r} * 2
    def find(n_process):
        docs = nlp.pipe(texts, n_process=n_process, batch_size=3)
        return [[(str(s), s.label_, round(s._.binder_score, 5)) for s in doc.spans["binder"]] for doc in docs]
    expected = find(1)
    shutil.rmtree({str(checkpoint)!r})
    multiprocessing.set_start_method("fork", force=True)
    forked = find(2)
    multiprocessing.set_start_method("spawn", force=True)
    print(json.dumps([expected, forked, find(2)]))
    """
    expected, forked, spawned = run(code, package=True, cache=tmp_path, OMP_NUM_THREADS="2")
    assert any(expected) and expected == forked == spawned


def test_errors_are_passed_to_the_error_handler_with_their_documents(build, monkeypatch):
    nlp = build()
    component = nlp.get_pipe("binder_ner")
    pipeline, failed = component.load(), []

    def fail(texts, **options):
        if any("gene in the" in text for text in texts):
            raise RuntimeError("out of memory")
        return pipeline(texts, **options)

    monkeypatch.setattr(component, "load", lambda: fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        list(nlp.pipe(TEXTS))
    with pytest.raises(RuntimeError, match="out of memory"):
        nlp(TEXTS[0])
    nlp.set_error_handler(lambda name, proc, docs, error: failed.append((name, [doc.text for doc in docs], str(error))))
    docs = list(nlp.pipe([*TEXTS, TEXTS[0]], batch_size=10))
    assert [doc.text for doc in docs] == TEXTS[1:], "the other texts of the batch are not lost"
    assert failed == [("binder_ner", [TEXTS[0]], "out of memory")] * 2
    assert nlp(TEXTS[0]).text == TEXTS[0] and len(failed) == 3


# ---- settings ----


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"decoding": "deep"}, "decoding"),
        ({"inference": "fast"}, "inference"),
        ({"alignment_mode": "loose"}, "alignment_mode"),
        ({"threshold": 2.0}, "threshold"),
        ({"dtype": "float31"}, "dtype must be one of None, 'auto', 'float32'"),
        ({"threshold": {"x": 0.5}, "types": ["y"]}, r"threshold has keys .* \['x'\]. The types are \['y'\]"),
        ({"types": []}, "there are no entity types"),
        ({"types": {"a": " "}}, "must not be blank"),
        ({"stride": -1}, "stride must be an integer and at least 0, got -1"),
        ({"batch_size": 0}, "batch_size must be an integer and at least 1, got 0"),
        ({"spans_key": ""}, "spans_key must not be empty"),
        ({"overwrite_ents": "sometimes"}, "overwrite_ents"),
        ({"model": str(ROOT / "docs")}, "contains no BINDER model"),
        ({"type": ["x"]}, "type"),
    ],
)
def test_invalid_settings_raise_an_error_when_the_component_is_added(build, config, message):
    with pytest.raises(ValueError, match=message):
        build(**config)


def test_settings_are_checked_against_the_model_when_it_is_loaded(build, hub):
    with pytest.raises(ValueError, match="threshold has keys"):
        build(threshold={"Gen": 0.5})("the gene")
    with pytest.raises(ValueError, match="stride"):
        build(stride=62).initialize()
    with pytest.raises(ValueError, match="cannot load the model 'no-such-folder'"):
        build(model=HANDWRITTEN)("the gene")


def test_settings_are_passed_to_the_pipeline(build):
    nlp = build(dtype="bfloat16", device="cpu", max_length=32, stride=4, batch_size=3, inference="joint")
    component = nlp.get_pipe("binder_ner")
    assert str(component.load().model.dtype) == "torch.bfloat16"
    assert component.settings.arguments == {
        "decoding": "flat",
        "max_length": 32,
        "stride": 4,
        "batch_size": 3,
        "inference": "joint",
    }


# ---- evaluation and training data ----


@pytest.mark.parametrize(("decoding", "key"), [("flat", "ents_f"), ("nested", "spans_binder_f")])
def test_evaluate_scores_the_entities(build, decoding, key):
    nlp = build(decoding=decoding)
    assert key in nlp.config["training"]["score_weights"]
    gold = [doc for doc in nlp.pipe(TEXTS) if doc.spans["binder"]]
    examples = [Example(nlp.make_doc(doc.text), doc) for doc in gold]
    assert nlp.evaluate(examples)[key] == 1.0
    gold[0].ents, gold[0].spans["binder"] = [], []
    assert 0 < nlp.evaluate([Example(nlp.make_doc(doc.text), doc) for doc in gold])[key] < 1


def test_gold_spans_under_another_key_cause_one_warning(build, tmp_path):
    nlp = build(decoding="nested")
    document = Document("a", "the gene in cells", [Mention(4, 8, "Gene")])
    for group, message in (
        ("sc", r"no gold spans in doc.spans\['binder'\].* under 'sc'.* group='binder'"),
        ("binder", ""),
    ):
        write_format([document], tmp_path / f"{group}.spacy", "docbin", language="en", group=group)
        examples = list(Corpus(tmp_path / f"{group}.spacy")(nlp))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            scores = [nlp.evaluate(examples)["spans_binder_f"] for _ in range(2)]
        assert len(caught) == bool(message) and all(re.search(message, str(each.message)) for each in caught)
        assert (scores == [None, None]) == bool(message)


def test_a_single_type_can_be_given_as_a_string(build, tmp_path):
    nlp, other = build(types="Gene"), build()
    expected = [spans(nlp(text).ents) for text in TEXTS]
    assert any(expected) and nlp.get_pipe("binder_ner").labels == ("Gene",)
    called = [other(text, component_cfg={"binder_ner": {"types": "Gene"}}) for text in TEXTS]
    assert [spans(doc.ents) for doc in called] == expected
    nlp.to_disk(tmp_path)
    assert spans(spacy.load(tmp_path)(TEXTS[0]).ents) == expected[0]


def test_found_entities_can_be_read_as_training_data(build, tmp_path):
    """A DocBin stores each entity in `doc.ents` and in `doc.spans`. The document that is read has the entity once."""
    nlp = build()
    docs = list(nlp.pipe(TEXTS))
    DocBin(docs=docs).to_disk(tmp_path / "found.spacy")
    read = read_documents(tmp_path / "found.spacy")
    assert [document.text for document in read] == TEXTS
    for document, doc in zip(read, docs, strict=True):
        expected = Counter((ent.start_char, ent.end_char, ent.label_) for ent in doc.ents)
        assert Counter((m.start, m.end, m.label) for m in document.entities) == expected
    (again, *_) = DocBin().from_disk(tmp_path / "found.spacy").get_docs(nlp.vocab)
    assert [span._.binder_score for span in again.spans["binder"]] == docs[0].spans["binder"].attrs["scores"]
    assert isinstance(again, Doc)


def test_the_factory_declares_the_attributes_that_it_assigns(build):
    analysis = build().analyze_pipes()
    assert "doc.ents" in analysis["summary"]["binder_ner"]["assigns"] and not analysis["problems"]["binder_ner"]


def test_importing_the_module_does_not_import_transformers(tmp_path):
    """spaCy imports the module even for pipelines without the component, so the import must be fast."""
    code = """
    import json, sys
    import spacy, modeling_binder.integrations.spacy
    spacy.blank("en")("text")
    print(json.dumps("transformers" in sys.modules))
    """
    assert run(code, package=True, cache=tmp_path) is False
