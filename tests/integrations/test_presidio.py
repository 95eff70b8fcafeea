"""Tests of the recognizer for Presidio, with presidio-analyzer and presidio-anonymizer."""

import itertools
import logging

import pytest
import spacy
import yaml
from presidio_analyzer import AnalyzerEngine, BatchAnalyzerEngine, RecognizerRegistry
from presidio_analyzer.nlp_engine import NlpEngineProvider, SpacyNlpEngine
from presidio_analyzer.predefined_recognizers import CreditCardRecognizer
from presidio_analyzer.recognizer_registry import RecognizerRegistryProvider
from presidio_anonymizer import AnonymizerEngine

from modeling_binder.integrations.presidio import DEFAULT_ENTITY_MAPPING, BinderRecognizer
from modeling_binder.loading import load_pipeline
from tests.fresh_process import ROOT
from tests.tiny import build_pipeline

MAPPING = {"Gene": "GENE", "Cell": "CELL", "A city or a country.": "LOCATION", "the": "LOCATION"}
TEXT = "the IL-2 gene promoter of the cells"
LETTER = """Dear Ms. Katarina Novak,

thank you for your call on 3 May 2021. We have sent the card 3558331500082481 to Leeds. If it does not arrive,
please write to k.novak@example.org or call 07700 063 966.

Jonas Weber"""
REDACTED = """Dear Ms. <PERSON>,

thank you for your call on <DATE_TIME>. We have sent the card <CREDIT_CARD> to <LOCATION>. If it does not arrive,
please write to <EMAIL_ADDRESS> or call <PHONE_NUMBER>.

<PERSON>"""


@pytest.fixture(scope="module")
def demo():
    return load_pipeline(str(ROOT / "demo" / "model"))


@pytest.fixture
def tiny():
    return build_pipeline()


def nlp_engine(*languages):
    models = [{"lang_code": language, "model_name": "no_op"} for language in languages or ("en",)]
    return NlpEngineProvider(nlp_configuration={"nlp_engine_name": "no_op", "models": models}).create_engine()


def analyzer(*recognizers):
    return AnalyzerEngine(RecognizerRegistry(list(recognizers)), nlp_engine())


def spans(results):
    return sorted((result.entity_type, result.start, result.end) for result in results)


def recorded(recognizer):
    """Let the recognizer's pipeline record the entity types of each call, and return the list of records."""
    calls, pipeline = [], recognizer.pipeline

    def record(text, **options):
        calls.append(options["entity_types"])
        return pipeline(text, **options)

    record.model = pipeline.model
    recognizer.pipeline = record
    return calls


def test_a_letter_is_redacted(demo):
    engine = analyzer(BinderRecognizer(demo), CreditCardRecognizer())
    found = engine.analyze(LETTER, language="en")
    assert AnonymizerEngine().anonymize(LETTER, found).text == REDACTED


def test_a_name_is_found_in_every_window_of_a_long_letter(demo):
    """Some recognizers process only the beginning of a text, so names in the rest stay visible."""
    firsts = ["Anna", "Peter", "Julia", "Thomas", "Laura", "Martin", "Sophie", "David"]
    lasts = ["Keller", "Novak", "Fischer", "Moreau", "Rossi", "Svensson", "Taylor", "Larsen", "Bauer"]
    names = [f"{first} {last}" for first, last in itertools.product(firsts, lasts)]
    sentences = [
        f"Then {name} called our office, asked about the bill for the repair of the roof, and promised to pay it "
        "before the end of the month. We wrote a note about it and put it into the file with the other letters."
        for name in names
    ]
    letter = " ".join(sentences)
    tokens = len(demo.tokenizer(letter, verbose=False).input_ids)
    windows = range(0, tokens, demo.model.config.max_length - demo.model.config.stride)
    assert tokens > 3000 and len(names) > 2 * len(windows), "each window contains a name"

    def visible(text, names, results):
        return [name for name in names if not any(name in text[result.start : result.end] for result in results)]

    recognizer = BinderRecognizer(demo, {"person": "PERSON"})
    for name, sentence in zip(names[:9], sentences, strict=False):
        assert visible(sentence, [name], recognizer.analyze(sentence)) == [], (
            "the model must find each name in a single sentence"
        )
    assert visible(letter, names, analyzer(recognizer).analyze(letter, language="en")) == []


def test_results_equal_the_entities_of_the_pipeline(tiny):
    recognizer = BinderRecognizer(tiny, MAPPING)
    expected = tiny(TEXT, entity_types=list(MAPPING), decoding="nested")
    results = analyzer(recognizer).analyze(TEXT, language="en", return_decision_process=True)
    scores = {(MAPPING[found["entity_group"]], found["start"], found["end"]): found["score"] for found in expected}
    assert results and {*spans(results)} <= {*scores}
    for result in results:
        score = scores[result.entity_type, result.start, result.end]
        assert result.analysis_explanation.recognizer == result.recognition_metadata["recognizer_name"]
        assert result.analysis_explanation.original_score == result.score
        assert result.score == pytest.approx(score, abs=1e-5) or result.entity_type == "LOCATION"
        assert result.analysis_explanation.textual_explanation.startswith(f"Identified as {result.entity_type} by ")
    for entity, start, end in scores:  # Presidio drops results that are inside a result of the same entity
        assert any(r.entity_type == entity and r.start <= start and r.end >= end for r in results)


def test_the_pipeline_gets_only_the_types_of_the_requested_entities(tiny):
    recognizer = BinderRecognizer(tiny, MAPPING)
    calls = recorded(recognizer)
    engine = analyzer(recognizer, CreditCardRecognizer())
    everything = engine.analyze(TEXT, language="en")
    cells = engine.analyze(TEXT, language="en", entities=["CELL", "CREDIT_CARD"])
    engine.analyze(TEXT, language="en", entities=["LOCATION"])
    assert recognizer.analyze(TEXT, ["CREDIT_CARD"]) == [] and recognizer.analyze(TEXT, ["LOCATIONS"]) == []
    assert calls == [list(MAPPING), ["Cell"], ["A city or a country.", "the"]]
    assert spans(recognizer.analyze(TEXT, "CELL")) == spans(cells)
    assert spans(cells) == [span for span in spans(everything) if span[0] == "CELL"]


def test_the_threshold_can_be_one_number_or_a_number_for_each_entity(tiny):
    default = BinderRecognizer(tiny, MAPPING).analyze(TEXT)
    high = BinderRecognizer(tiny, MAPPING, threshold=0.999).analyze(TEXT)
    mixed = BinderRecognizer(tiny, MAPPING, threshold={"LOCATION": 0.999}).analyze(TEXT)
    assert spans(high) == spans(result for result in default if result.score > 0.999)
    expected = [result for result in default if result.entity_type != "LOCATION" or result.score > 0.999]
    assert spans(mixed) == spans(expected) and len(high) < len(mixed) < len(default)


def test_supported_entities_restrict_the_mapping(tiny):
    recognizer = BinderRecognizer(tiny, supported_entities=["LOCATION"], supported_language="de")
    assert recognizer.get_supported_entities() == ["LOCATION"] and recognizer.get_supported_language() == "de"
    assert list(recognizer.entity_mapping) == ["location", "street address", "postal code"]
    assert BinderRecognizer(tiny, supported_entities="LOCATION").entity_mapping == recognizer.entity_mapping
    assert set(BinderRecognizer(tiny).supported_entities) == set(DEFAULT_ENTITY_MAPPING.values())


def test_recognizers_of_several_languages_from_yaml_share_a_model(checkpoint, tmp_path):
    path = tmp_path / "recognizers.yaml"
    options = {"model": str(checkpoint), "entity_mapping": MAPPING, "threshold": 0.2, "batch_size": 4}
    own = {"name": "genes", "class_name": "BinderRecognizer", "type": "predefined", **options}
    card = {"name": "CreditCardRecognizer", "type": "predefined", "supported_languages": ["en"]}
    path.write_text(yaml.safe_dump({"supported_languages": ["en", "de"], "recognizers": [own, card]}))
    registry = RecognizerRegistryProvider(conf_file=path).create_recognizer_registry()
    english, german = (found for found in registry.recognizers if isinstance(found, BinderRecognizer))
    assert english.pipeline is german.pipeline and english.pipeline._batch_size == 4
    assert (english.name, english.threshold, english.entity_mapping) == ("genes", 0.2, MAPPING)
    engine = AnalyzerEngine(registry, nlp_engine("en", "de"), supported_languages=["en", "de"])
    assert spans(engine.analyze(TEXT, language="de")) == spans(engine.analyze(TEXT, language="en")) != []
    options["treshold"] = options.pop("threshold")
    path.write_text(
        yaml.safe_dump({"supported_languages": ["en"], "recognizers": [{"name": "BinderRecognizer", **options}]})
    )
    with pytest.raises(ValueError, match=r"^unknown arguments: treshold; BinderRecognizer accepts model, entity_mapp"):
        RecognizerRegistryProvider(conf_file=path).create_recognizer_registry()


class BlankNlpEngine(SpacyNlpEngine):
    """Presidio's default engine with a blank spaCy pipeline. The default pipeline would have to be downloaded."""

    def load(self):
        self.nlp = {"en": spacy.blank("en")}


def test_default_recognizers_and_context_words_work_with_a_spacy_engine(tiny):
    engine = AnalyzerEngine(nlp_engine=BlankNlpEngine())
    engine.registry.add_recognizer(BinderRecognizer(tiny, MAPPING, threshold=0.2, context=["assay"]))
    text = f"{TEXT} 4111 1111 1111 1111"
    alone = engine.analyze(text, "en", entities=["GENE", "CREDIT_CARD"])
    assert {"GENE", "CREDIT_CARD"} == {result.entity_type for result in alone}
    helped = engine.analyze(text, "en", entities=["GENE"], context=["Assay"], return_decision_process=True)
    assert helped and all(result.analysis_explanation.supportive_context_word == "assay" for result in helped)


def test_batches_and_dictionaries_of_texts_are_analyzed(tiny):
    batch = BatchAnalyzerEngine(analyzer(BinderRecognizer(tiny, MAPPING)))
    texts = [TEXT, "", "cells of the gene"]
    found = batch.analyze_iterator(texts, language="en", batch_size=2)
    assert [spans(results) for results in found] == [
        spans(BinderRecognizer(tiny, MAPPING).analyze(text)) if text else [] for text in texts
    ]
    (column,) = batch.analyze_dict({"note": texts}, language="en")
    assert [spans(results) for results in column.recognizer_results] == [spans(results) for results in found]


def test_from_dict_restores_the_arguments_of_to_dict(checkpoint):
    recognizer = BinderRecognizer(str(checkpoint), MAPPING, threshold={"GENE": 0.2}, name="mine", batch_size=2)
    again = BinderRecognizer.from_dict(recognizer.to_dict())
    assert again.to_dict() == recognizer.to_dict() and again.pipeline is recognizer.pipeline
    assert spans(again.analyze(TEXT)) == spans(recognizer.analyze(TEXT))
    loaded = BinderRecognizer(recognizer.pipeline, MAPPING)
    assert spans(BinderRecognizer.from_dict(loaded.to_dict()).analyze(TEXT)) == spans(loaded.analyze(TEXT))


def test_texts_are_not_logged(tiny, caplog):
    secret = "the zyxwv gene of the cells " * 30
    with caplog.at_level(logging.DEBUG):
        results = analyzer(BinderRecognizer(tiny, MAPPING)).analyze(secret, "en", return_decision_process=True)
        with pytest.raises(TypeError, match=r"^expected a text \(str\), got bytes\.$"):
            BinderRecognizer(tiny, MAPPING).analyze(secret.encode())
    assert results and caplog.records and "zyxwv" not in caplog.text
    assert not any("zyxwv" in result.analysis_explanation.textual_explanation for result in results)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"entity_mapping": {}}, "entity_mapping must be a dictionary"),
        ({"entity_mapping": ["person"]}, "entity_mapping must be a dictionary"),
        ({"entity_mapping": {"person": " "}}, "entity_mapping must be a dictionary"),
        ({"supported_entities": ["PERSON", "SHOE_SIZE"]}, r"\{'description of the type': 'SHOE_SIZE'\}"),
        ({"threshold": {"PERSONS": 0.5}}, r"not among the entities: \['PERSONS'\]"),
        ({"threshold": 1.5}, "threshold must lie between 0 and 1, got 1.5"),
        ({"threshold": "0.2"}, "threshold must be a number between 0 and 1, got '0.2'"),
        ({"threshold": {"PERSON": "0.2"}}, "threshold must be a number between 0 and 1, got '0.2'"),
        (
            {"entity_map": {}},
            "^unknown arguments: entity_map; BinderRecognizer accepts model, entity_mapping, supported",
        ),
        ({"entity_types": ["person"]}, "does not accept entity_types: pass entity_mapping"),
        ({"decoding": "both"}, "decoding must be one of"),
        ({"device": "cpu"}, r"\['device'\] cannot be combined with a loaded pipeline"),
    ],
)
def test_the_constructor_rejects_invalid_arguments(tiny, arguments, message):
    with pytest.raises(ValueError, match=message):
        BinderRecognizer(tiny, **arguments)
