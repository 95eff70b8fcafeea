"""A model with MPNet as the text encoder and BERT as the type encoder.

MPNet differs from BERT in its relative positions, its tokenizer, and the id of its padding token, which is 1.
"""

import hashlib
import json
import zipfile
from pathlib import Path

import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from transformers import AutoTokenizer, BertModel, MPNetModel, pipeline

from modeling_binder import BinderModel, BinderWindower, load_tokenizers
from modeling_binder.backends import export
from modeling_binder.finetuning import BinderTrainer, EntityType, Mix, MixPart, PackedMix, write_jsonl
from modeling_binder.finetuning.batches import MixBatches
from modeling_binder.finetuning.mix import MixSettings
from tests.tiny import (
    TYPES,
    assert_same_entities,
    build_mpnet_tokenizer,
    build_tokenizer,
    corpus,
    tiny_encoder_config,
    tiny_mpnet_config,
)
from training.arguments import BinderTrainingArguments
from training.encoders import hub_ids, resolve_encoder
from training.finetune import main
from training.split_archive import SplitArchive

CONFIGS = ("config.json", "tokenizer_config.json", "README.md")
TEXT = "the IL-2 gene promoter of cells in oslo"
TEXTS = [TEXT, "cells", "the gene of the p5 cells. " * 18, "Cells of the (naïve) Æ gene 🙂!", ""]


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    """Save an MPNet for texts and a BERT for types with their tokenizers, and return the two folders."""
    folder = tmp_path_factory.mktemp("encoders")
    torch.manual_seed(5)
    MPNetModel(tiny_mpnet_config()).save_pretrained(folder / "mpnet")
    build_mpnet_tokenizer().save_pretrained(folder / "mpnet")
    BertModel(tiny_encoder_config()).save_pretrained(folder / "bert")
    build_tokenizer().save_pretrained(folder / "bert")
    return str(folder / "mpnet"), str(folder / "bert")


def build(encoders, **options):
    torch.manual_seed(7)
    settings = {
        "entity_types": TYPES,
        "type_pooling": "mean",
        "projection_size": 16,
        "projection_dropout": 0.0,
        "max_span_width": 12,
        "max_length": 64,
        "stride": 16,
        **options,
    }
    return BinderModel.from_encoders(*encoders, **settings)


def mix_of(documents=None):
    types = tuple(EntityType(name, (text,)) for name, text in TYPES.items())
    return Mix([MixPart("one", documents or corpus(), types)], MixSettings(tokens_per_batch=80))


@pytest.fixture(scope="module")
def trained(encoders, tmp_path_factory):
    """Train a model on a mix, and return the folder of the checkpoint, the losses, and the trainer."""
    folder = tmp_path_factory.mktemp("trained")
    arguments = BinderTrainingArguments(
        output_dir=str(folder), max_steps=50, learning_rate=3e-3, logging_steps=1, eval_strategy="no",
        save_strategy="no", load_best_model_at_end=False, use_cpu=True, disable_tqdm=True, report_to=[], seed=3,
    )  # fmt: skip
    trainer = BinderTrainer(
        build(encoders),
        arguments,
        train_dataset=mix_of(),
        processing_class=load_tokenizers(*encoders)[0],
        freeze=["type_encoder"],
    )
    trainer.train()
    trainer.save_model()
    return folder, [entry["loss"] for entry in trainer.state.log_history if "loss" in entry], trainer


def test_each_encoder_has_its_tokenizer_and_texts_have_at_most_64_tokens(encoders):
    model = build(encoders).eval()
    assert model.max_positions == 64, "the encoder has 66 positions, and the first token has position 2"
    ids = [tokenizer("the gene")["input_ids"] for tokenizer in (load_tokenizers(*encoders)[0], model.type_tokenizer)]
    assert ids == [build_mpnet_tokenizer()("the gene")["input_ids"], build_tokenizer()("the gene")["input_ids"]]
    assert ids[0] != ids[1] and ids[0][0] == 0 and ids[1][0] == 2
    longest = torch.randint(4, 80, (1, 64))
    assert torch.isfinite(model.encode_text(longest)).all()
    with pytest.raises(IndexError):
        model.encode_text(torch.randint(4, 80, (1, 65)))


def test_padding_does_not_change_the_states_of_a_window(encoders):
    """Batches of a mix are padded, and MPNet counts positions only over tokens that are not padding."""
    model, tokenizer = build(encoders).eval(), load_tokenizers(*encoders)[0]
    windower = BinderWindower.for_model(model, tokenizer)
    mix = PackedMix.prepare(mix_of(), windower, 12, progress=False)
    tokenized = [model.type_tokenizer(text)["input_ids"] for text in mix.table.texts]
    batches = MixBatches(mix, tokenizer.pad_token_id, model.type_tokenizer.pad_token_id, tokenized)
    batch = batches.__getitems__([1, *range(len(mix))])
    lengths = batch["attention_mask"].sum(1).tolist()
    assert len(set(lengths)) > 2, "there must be windows of several lengths"
    with torch.no_grad():
        together = model.encode_text(batch["input_ids"], batch["attention_mask"])
        vectors = model.encode_types(batch["type_input_ids"], batch["type_attention_mask"])
        for index, length in enumerate(lengths):
            window = batch["input_ids"][index, :length]
            text = mix_of().parts[0].documents[index].text
            assert window.tolist() == build_mpnet_tokenizer()(text)["input_ids"]
            alone = model.encode_text(window[None])
            torch.testing.assert_close(together[index, :length], alone[0], atol=1e-5, rtol=1e-4)
        for index, length in enumerate(batch["type_attention_mask"].sum(1).tolist()):
            alone = model.encode_types(batch["type_input_ids"][index, :length][None])
            torch.testing.assert_close(vectors[index], alone[0], atol=1e-5, rtol=1e-4)


def test_training_on_a_mix_lowers_the_loss_and_the_model_learns_the_corpus(trained):
    _, losses, trainer = trained
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])
    assert trainer.score(corpus(1)).micro.f1 > 0.9


def test_a_saved_checkpoint_finds_entities_with_exact_offsets(trained):
    folder, _, trainer = trained
    pipe = pipeline("binder-ner", model=str(folder))
    assert type(pipe.tokenizer).__name__ == "MPNetTokenizer"
    assert pipe.model.config.text_config.model_type == "mpnet"
    documents = corpus(1)
    found = pipe([document.text for document in documents])
    expected = trainer.predict(documents).predictions
    for document, one, other in zip(documents, found, expected, strict=True):
        assert {(e["start"], e["end"], e["entity_group"]) for e in one} == {
            (e["start"], e["end"], e["label"]) for e in other
        }
        assert all(document.text[e["start"] : e["end"]] == e["word"] for e in one)
    assert sum(map(len, found)) >= 4


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_the_pipeline_finds_the_same_entities_in_a_batch_and_in_single_texts(trained, batch_size):
    """One of the texts has several windows, and the batches are padded."""
    pipe = pipeline("binder-ner", model=str(trained[0]))
    assert len(pipe.tokenizer(TEXTS[2])["input_ids"]) > 2 * pipe.model.max_positions
    together = pipe(TEXTS, batch_size=batch_size)
    for text, entities in zip(TEXTS, together, strict=True):
        assert_same_entities(entities, pipe(text), 1e-4)
        assert all(text[e["start"] : e["end"]] == e["word"] for e in entities)
    assert len(together[2]) >= 18


def test_the_onnx_export_finds_the_same_entities(trained, tmp_path):
    export(str(trained[0]), tmp_path / "onnx", freeze_types=True)
    exported, whole = (pipeline("binder-ner", model=str(folder)) for folder in (tmp_path / "onnx", trained[0]))
    for one, other in zip(exported(TEXTS, batch_size=2), whole(TEXTS), strict=True):
        assert_same_entities(one, other, 1e-4)


# ---- the commands ----


@pytest.fixture
def mpnet_in_packages(encoders, tmp_path, monkeypatch):
    """Let the encoder name "mpnet" mean the tiny encoder. Its archive is split over two packages."""
    folder, _ = encoders
    files = {path.name: path.read_bytes() for path in Path(folder).iterdir()}
    with zipfile.ZipFile(tmp_path / "whole.zip", "w") as target:
        for name, content in files.items():
            target.writestr(f"tiny/{name}", content)
    content = (tmp_path / "whole.zip").read_bytes()
    for number, part in enumerate((content[:5000], content[5000:]), start=1):
        information = tmp_path / "packages" / f"tiny_mpnet_{number}-1.dist-info"
        information.mkdir(parents=True)
        (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: tiny-mpnet-{number}\nVersion: 1\n")
        (tmp_path / "packages" / f"tiny.zip.{number}").write_bytes(part)
    monkeypatch.syspath_prepend(tmp_path / "packages")
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    archive = SplitArchive("tiny", "tiny-mpnet-{}", "1", "tiny.zip.{}", 2, hashes)
    monkeypatch.setattr("training.encoders.MPNET_ARCHIVE", archive)


def test_a_model_is_trained_from_a_recipe_with_mpnet_and_pushed(mpnet_in_packages, encoders, recipe, tmp_path, hub):
    """The card lists both encoders and the licences of the corpora."""
    for name in ("genes", "cells"):
        write_jsonl(tmp_path / name / "train.jsonl", corpus())
        (tmp_path / name / "types.json").write_text(json.dumps(TYPES))
    settings = yaml.safe_load(recipe.read_text())
    for key in ("corpus", "num_train_epochs", "per_device_train_batch_size"):
        del settings[key]
    settings |= {
        "data": str(tmp_path),
        "encoder": "google-bert/bert-base-uncased",
        "type_encoder": encoders[1],
        "type_pooling": "mean",
        "freeze": ["type_encoder"],
        "license": "apache-2.0",
        "max_steps": 3,
        "tokens_per_batch": 200,
        "dev": [],
        "eval_strategy": "no",
        "save_strategy": "no",
        "load_best_model_at_end": False,
        "default_types": TYPES,
        "mix": [{"corpus": "genes", "license": "CC BY 4.0"}, {"corpus": "cells", "license": "MIT"}],
    }
    (tmp_path / "bert.yaml").write_text(yaml.safe_dump(settings))
    (tmp_path / "mpnet.yaml").write_text("inherit: bert.yaml\nencoder: mpnet\n")
    output = tmp_path / "run"
    main([str(tmp_path / "mpnet.yaml"), "--output_dir", str(output), "--push_to_hub", "alice/mpnet"])
    card = ModelCard(hub.files("alice/mpnet")["README.md"].decode())
    assert card.data.base_model == ["sentence-transformers/all-mpnet-base-v2"] and card.data.license == "apache-2.0"
    assert "| CC BY 4.0 | genes |" in card.text and "| MIT | cells |" in card.text
    assert "mpnet, 2 layers, 48 wide" in card.text and "bert, 2 layers, 32 wide" in card.text
    assert resolve_encoder("mpnet") not in "".join(hub.files("alice/mpnet")[name].decode() for name in CONFIGS)
    pipe = pipeline("binder-ner", model="alice/mpnet")
    assert type(pipe.tokenizer).__name__ == "MPNetTokenizer" and isinstance(pipe(TEXT), list)
    assert AutoTokenizer.from_pretrained(output)("a")["input_ids"] == build_mpnet_tokenizer()("a")["input_ids"]


def test_the_card_gets_the_hub_ids_of_the_encoders(tmp_path):
    mpnet, minilm = "sentence-transformers/all-mpnet-base-v2", "sentence-transformers/all-MiniLM-L6-v2"
    assert hub_ids("mpnet", "minilm") == [mpnet, minilm] and hub_ids("mpnet", None) == [mpnet]
    assert hub_ids("google-bert/bert-base-cased", "minilm") == ["google-bert/bert-base-cased", minilm]
    assert hub_ids(str(tmp_path), "mpnet") == [mpnet]
    assert hub_ids("google-bert/bert-base-cased", None) is None, "the configuration already contains the id"
