"""Tests of models with two tokenizers: one for texts, and one of the type encoder for descriptions."""

import copy
import json
import os
import shutil

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer, RobertaModel, TrainingArguments, pipeline

from modeling_binder import BinderConfig, BinderModel, load_tokenizers
from modeling_binder.backends import export
from modeling_binder.finetuning import BinderTrainer
from tests.fresh_process import run
from tests.tiny import (
    TYPES,
    assert_same_entities,
    build_byte_tokenizer,
    build_model,
    build_tokenizer,
    build_two_tokenizer_model,
    corpus,
    tiny_encoder_config,
)

TEXT = "the IL-2 gene promoter of cells in oslo"


@pytest.fixture
def two(tmp_path):
    """Return the folder of a checkpoint with two tokenizers."""
    folder = tmp_path / "two"
    build_two_tokenizer_model().save_pretrained(folder)
    build_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def encoders(tmp_path):
    """Return the folders of a BERT and of a RoBERTa, each with its tokenizer."""
    model = build_two_tokenizer_model(
        text_config=tiny_encoder_config(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0).to_dict(),
        initializer_range=0.1,
    )
    for name, encoder, tokenizer in (
        ("text", model.text_encoder, build_tokenizer()),
        ("types", model.type_encoder, build_byte_tokenizer()),
    ):
        encoder.save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
    return str(tmp_path / "text"), str(tmp_path / "types")


def expected_vectors(model):
    """Compute the type vectors of the descriptions with the byte-level tokenizer."""
    rows = []
    for text in model.config.type_descriptions.values():
        ids = torch.tensor([build_byte_tokenizer()(text)["input_ids"]])
        assert ids.shape[1] == len(text) + 2
        with torch.no_grad():
            rows.append(model.encode_types(ids, torch.ones_like(ids))[0])
    return torch.stack(rows)


# ---- saving and loading ----


def test_a_checkpoint_keeps_both_tokenizers(two):
    config = json.loads((two / "config.json").read_text())
    assert config["type_tokenizer"] is True
    assert {"tokenizer.json", "tokenizer_config.json"} <= set(os.listdir(two / "type_tokenizer"))
    pipe = pipeline("binder-ner", model=str(two))
    torch.testing.assert_close(pipe.type_vectors(), expected_vectors(pipe.model))
    text = pipe.tokenizer(TEXT)["input_ids"]
    assert text == build_tokenizer()(TEXT)["input_ids"] != build_byte_tokenizer()(TEXT)["input_ids"]
    assert pipe(TEXT)


def test_saving_again_keeps_both_tokenizers(two, tmp_path):
    pipe = pipeline("binder-ner", model=str(two))
    pipe.save_pretrained(tmp_path / "again")
    again = pipeline("binder-ner", model=str(tmp_path / "again"))
    assert again(TEXT) == pipe(TEXT)
    copied = copy.deepcopy(pipe.model)
    assert copied.type_tokenizer("gene")["input_ids"] == pipe.model.type_tokenizer("gene")["input_ids"]


def test_checkpoints_of_earlier_versions_load_with_one_tokenizer(tmp_path):
    model = build_model()
    model.save_pretrained(tmp_path)
    build_tokenizer().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["type_tokenizer"]  # as in checkpoints of earlier versions
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert not (tmp_path / "type_tokenizer").exists()
    pipe = pipeline("binder-ner", model=str(tmp_path))
    assert pipe.model.type_tokenizer is None and pipe.model.config.type_tokenizer is False
    ids = torch.tensor([build_tokenizer()(TYPES["Gene"])["input_ids"]])
    with torch.no_grad():
        torch.testing.assert_close(pipe.type_vectors(["Gene"]), model.encode_types(ids))


def found_without_the_package(model, cache, options="", offline=False):
    """Return the entities in `TEXT` and the ids of a description, found in a process without the package."""
    code = f"""
        import json
        from transformers import pipeline
        pipe = pipeline("binder-ner", model={str(model)!r}, trust_remote_code=True{options})
        print(json.dumps([pipe({TEXT!r}), pipe.model.type_tokenizer("gene")["input_ids"]]))
    """
    return run(code, package=False, cache=cache, offline=offline)


def test_a_checkpoint_loads_without_the_package(two, tmp_path):
    found, ids = found_without_the_package(two, tmp_path)
    assert_same_entities(found, pipeline("binder-ner", model=str(two))(TEXT))
    assert ids == build_byte_tokenizer()("gene")["input_ids"]


def test_a_checkpoint_in_a_subfolder_loads(two, tmp_path):
    expected = pipeline("binder-ner", model=str(two))(TEXT)
    shutil.copytree(two, tmp_path / "many" / "small")
    model = BinderModel.from_pretrained(tmp_path / "many", subfolder="small")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "many", subfolder="small")
    assert_same_entities(pipeline("binder-ner", model=model, tokenizer=tokenizer)(TEXT), expected)
    (tmp_path / "many" / "small" / "type_tokenizer" / "tokenizer.json").unlink()
    with pytest.raises(OSError, match=r"small/type_tokenizer/tokenizer\.json cannot be loaded"):
        BinderModel.from_pretrained(tmp_path / "many", subfolder="small")


@pytest.mark.parametrize("file", ["tokenizer.json", "tokenizer_config.json"])
def test_the_error_names_a_missing_tokenizer_file(two, file):
    (two / "type_tokenizer" / file).unlink()
    message = rf"two: type_tokenizer/{file} cannot be loaded\. According to its config\.json"
    with pytest.raises(OSError, match=message):
        BinderModel.from_pretrained(two)
    with pytest.raises(ValueError, match=message):  # transformers raises a ValueError that quotes the error
        pipeline("binder-ner", model=str(two))


def test_a_model_whose_type_tokenizer_is_not_loaded_cannot_be_used(two):
    bare = BinderModel(BinderConfig.from_pretrained(two)).eval()
    pipe = pipeline("binder-ner", model=bare, tokenizer=build_tokenizer())
    with pytest.raises(ValueError, match=r"config\.type_tokenizer is true, but the tokenizer .* is not loaded"):
        pipe(TEXT)
    bare.type_tokenizer = build_byte_tokenizer()
    assert isinstance(pipe(TEXT), list)


def test_unsuitable_tokenizers_are_rejected():
    class Slow:
        is_fast = False

    model = build_model()
    with pytest.raises(ValueError, match="must be a fast tokenizer, got Slow"):
        model.type_tokenizer = Slow()
    without_cls = build_byte_tokenizer()
    without_cls.backend_tokenizer.post_processor = None
    with pytest.raises(ValueError, match=r"adds no \[CLS\] token before a description"):
        model.type_tokenizer = without_cls
    assert model.type_tokenizer is None and not model.config.type_tokenizer
    build_model(type_pooling="mean").type_tokenizer = without_cls
    with pytest.raises(ValueError, match="with share_encoders=True there is only one encoder"):
        build_model(share_encoders=True).type_tokenizer = build_byte_tokenizer()


# ---- building ----


def test_load_tokenizers_loads_both_tokenizers(encoders):
    text, types = encoders
    tokenizer, type_tokenizer = load_tokenizers(text, types)
    assert tokenizer("gene")["input_ids"] == build_tokenizer()("gene")["input_ids"]
    assert type_tokenizer("gene")["input_ids"] == build_byte_tokenizer()("gene")["input_ids"]
    assert load_tokenizers(text)[1] is None and load_tokenizers(text, text)[1] is None


def test_tokenizers_that_differ_only_in_padding_are_the_same(encoders, tmp_path):
    tokenizer = build_tokenizer()
    tokenizer.backend_tokenizer.enable_padding(length=128)
    tokenizer.backend_tokenizer.enable_truncation(128)
    tokenizer.save_pretrained(tmp_path / "padding")
    assert load_tokenizers(encoders[0], str(tmp_path / "padding"))[1] is None


def test_from_encoders_finds_the_second_tokenizer(encoders):
    text, types = encoders
    model = BinderModel.from_encoders(text, types, entity_types=TYPES).eval()
    assert isinstance(model.type_encoder, RobertaModel) and model.config.type_tokenizer
    pipe = pipeline("binder-ner", model=model, tokenizer=load_tokenizers(text, types)[0])
    torch.testing.assert_close(pipe.type_vectors(), expected_vectors(model))
    assert BinderModel.from_encoders(text, entity_types=TYPES).type_tokenizer is None
    assert BinderModel.from_encoders(text, text, entity_types=TYPES).type_tokenizer is None
    assert BinderModel.from_encoders(text, types, share_encoders=True).type_tokenizer is None


def test_from_encoders_works_without_tokenizers(encoders):
    text, types = encoders
    for file in os.listdir(types):
        if file.startswith("tokenizer"):
            os.remove(os.path.join(types, file))
    with pytest.raises(OSError, match=r"types has no tokenizer"):
        load_tokenizers(text, types)
    assert BinderModel.from_encoders(text, types).type_tokenizer is None


# ---- training ----


def train(folder, model, tokenizer, **arguments):
    """Train a model with two tokenizers, and save it to a folder."""
    settings = {
        "output_dir": str(folder),
        "per_device_train_batch_size": 4,
        "num_train_epochs": 20,
        "learning_rate": 5e-3,
        "report_to": "none",
        "disable_tqdm": True,
        "save_strategy": "no",
        "use_cpu": True,
    }
    trainer = BinderTrainer(model, TrainingArguments(**settings), corpus(), processing_class=tokenizer, **arguments)
    trainer.train()
    trainer.save_model()
    return trainer


def test_the_trainer_uses_and_saves_the_type_tokenizer(encoders, tmp_path):
    text, types = encoders
    tokenizer, type_tokenizer = load_tokenizers(text, types)
    model = BinderModel.from_encoders(
        text,
        types,
        entity_types=TYPES,
        projection_size=16,
        max_span_width=12,
        max_length=64,
        stride=16,
        projection_dropout=0.0,
    )
    model.type_tokenizer = None  # the trainer must set it from the argument type_tokenizer
    trainer = train(tmp_path / "run", model, tokenizer, type_tokenizer=type_tokenizer)
    inputs = trainer.data_collator.type_inputs
    assert inputs["type_attention_mask"].sum(1).tolist() == [len(text) + 2 for text in TYPES.values()]
    assert trainer.score(corpus(1)).micro.f1 > 0.9
    found = pipeline("binder-ner", model=str(tmp_path / "run"))([document.text for document in corpus(1)])
    predicted = trainer.predict(corpus(1)).predictions
    for one, other in zip(found, predicted, strict=True):
        assert {(e["start"], e["end"], e["entity_group"]) for e in one} == {
            (e["start"], e["end"], e["label"]) for e in other
        }


# ---- export ----


def test_an_export_with_frozen_types_has_no_type_tokenizer(two, tmp_path):
    export(str(two), tmp_path / "frozen", backend="torch")
    assert not (tmp_path / "frozen" / "type_tokenizer").exists()
    assert json.loads((tmp_path / "frozen" / "config.json").read_text())["type_tokenizer"] is False
    vectors = load_file(tmp_path / "frozen" / "model.safetensors")["frozen_type_vectors"]
    torch.testing.assert_close(vectors, expected_vectors(BinderModel.from_pretrained(two).eval()))
    frozen, whole = (pipeline("binder-ner", model=str(folder)) for folder in (tmp_path / "frozen", two))
    assert_same_entities(frozen(TEXT), whole(TEXT), 1e-4)


def test_an_onnx_checkpoint_keeps_both_tokenizers(two, tmp_path):
    export(str(two), tmp_path / "onnx")
    config = json.loads((tmp_path / "onnx" / "config.json").read_text())
    assert config["type_tokenizer"] and set(config["onnx"]) == {"text_encoder", "type_encoder"}
    exported = pipeline("binder-ner", model=str(tmp_path / "onnx"))
    types = {**TYPES, "Drug": "A chemical that heals."}
    whole = pipeline("binder-ner", model=str(two))
    assert_same_entities(exported(TEXT, entity_types=types), whole(TEXT, entity_types=types), 1e-4)
