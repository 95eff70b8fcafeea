"""Checkpoints with OpenVINO encoders find the same spans as the original, whatever else is in the batch."""

import copy
import os
import pickle
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, pipeline

from modeling_binder.backends import ExportError, disagreements, export
from modeling_binder.backends.__main__ import main
from modeling_binder.backends.openvino import MAX_CALIBRATION_WINDOWS, calibration_windows
from tests.backends.compare import (
    TEXT,
    TEXTS,
    assert_same_results,
    files,
    results_of_forked_processes,
    write_found,
)
from tests.tiny import build_model, build_tokenizer

FILES = {"text_encoder.xml", "text_encoder.bin"}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Return a folder with the checkpoints torch, fp32 (an OpenVINO encoder) and int8 (in int8 with frozen types).

    Texts and types share an encoder, because each encoder takes seconds to export.
    """
    folder = tmp_path_factory.mktemp("openvino")
    build_model(share_encoders=True).save_pretrained(folder / "torch")
    build_tokenizer().save_pretrained(folder / "torch")
    export(str(folder / "torch"), folder / "fp32", backend="openvino")
    write_found(folder / "data.jsonl", pipeline("binder-ner", model=str(folder / "torch")))
    data = ["--data", str(folder / "data.jsonl"), "--max-loss", "60"]
    main(["openvino", str(folder / "torch"), str(folder / "int8"), "--int8", "--freeze-types", *data])
    return folder


def load(folder, **options):
    return pipeline("binder-ner", model=str(folder), **options)


def test_openvino_finds_what_torch_finds(exported):
    one, two = load(exported / "torch"), load(exported / "fp32", backend="openvino")
    assert two.model.backend == "openvino" and len(two.model.exported_encoders()) == 1
    assert disagreements(one, two, TEXTS) == []
    new = {"Drug": "A chemical that heals.", "Cell": "A cell."}
    assert_same_results(one(TEXTS, entity_types=new), two(TEXTS, entity_types=new))


@pytest.mark.parametrize("name", ["fp32", "int8"])
def test_entities_do_not_depend_on_the_other_texts_of_the_batch(exported, name):
    """The scores differ by at most 2e-7 in float32. In int8 they are equal, because the scales are constants."""
    pipe = load(exported / name)
    texts = [TEXT, *(f"{TEXT} and the gene of cells in oslo {index} " * index for index in range(1, 6))]
    together = pipe(texts, threshold=0.1, batch_size=len(texts))
    alone = [pipe(text, threshold=0.1, batch_size=1) for text in texts]
    assert all(alone)
    assert_same_results(together, alone, tolerance=0 if name == "int8" else 1e-6)


def test_int8_is_small_and_frozen(exported):
    sizes = [len(files(exported / name)["text_encoder.bin"]) for name in ("fp32", "int8")]
    assert sizes[1] < sizes[0]
    pipe = load(exported / "int8")
    assert pipe.model.config.frozen_types and pipe(TEXTS)[0]


def test_an_openvino_checkpoint_is_copied_saved_and_loaded_again(exported, tmp_path):
    pipe = load(exported / "fp32")
    pipe.save_pretrained(tmp_path / "again")
    assert FILES | {"openvino_binder.py", "exported_binder.py"} <= set(files(tmp_path / "again"))
    assert_same_results(load(tmp_path / "again")(TEXTS), pipe(TEXTS))
    for twin in (copy.deepcopy(pipe.model), pickle.loads(pickle.dumps(pipe.model))):
        assert_same_results(pipeline("binder-ner", model=twin, tokenizer=pipe.tokenizer)(TEXTS), pipe(TEXTS))


def test_an_openvino_checkpoint_is_uploaded(exported, hub, tmp_path):
    load(exported / "fp32").model.save_pretrained(tmp_path / "model", push_to_hub=True, repo_id="alice/openvino")
    assert FILES | {"config.json", "model.safetensors", "openvino_binder.py"} <= set(hub.files("alice/openvino"))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no os.fork")
def test_a_forked_child_finds_the_same_entities_without_the_package(exported, tmp_path):
    """The children compute with the encoder of the parent: OpenVINO cannot load another one in a forked process."""
    options = {"trust_remote_code": True, "backend": "openvino", "loads": False}
    assert results_of_forked_processes(exported / "fp32", tmp_path, package=False, **options) == [0] * 3


def test_threads_share_an_encoder(exported):
    pipe = load(exported / "int8")
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(pipe, TEXTS * 4)) == [pipe(text) for text in TEXTS] * 4


def test_files_of_other_weights_raise_an_error(exported, tmp_path):
    shutil.copytree(exported / "int8", tmp_path / "mixed")
    for file in ("text_encoder.xml", "text_encoder.bin"):
        shutil.copyfile(exported / "fp32" / file, tmp_path / "mixed" / file)
    message = r"text_encoder.xml and text_encoder.bin do not belong to model.safetensors: .* binder-ner export openvino"
    with pytest.raises(ValueError, match=message):
        AutoModel.from_pretrained(tmp_path / "mixed")


def test_a_checkpoint_without_digests_loads(exported, tmp_path):
    """Checkpoints that were exported by older versions have no digests."""
    shutil.copytree(exported / "fp32", tmp_path / "old")
    weights = load_file(tmp_path / "old" / "model.safetensors")
    digests = [name for name in weights if name.endswith(".digest")]
    kept = {name: weight for name, weight in weights.items() if name not in digests}
    save_file(kept, tmp_path / "old" / "model.safetensors", {"format": "pt"})
    pipe = load(tmp_path / "old")
    assert_same_results(pipe(TEXTS), load(exported / "fp32")(TEXTS))
    assert len(digests) == 1
    assert all(torch.equal(pipe.model.state_dict()[name], weights[name]) for name in digests)


def test_missing_packages_are_named(exported, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "nncf", None)
    data = str(exported / "data.jsonl")
    with pytest.raises(ExportError, match=r"nncf.*: pip install 'binder-ner\[openvino\]' to export"):
        export(str(exported / "torch"), tmp_path / "out", backend="openvino", int8=True, data=data)
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ImportError, match="OpenVINO files and need OpenVINO: pip install openvino"):
        AutoModel.from_pretrained(exported / "fp32")
    assert list(tmp_path.iterdir()) == []


def test_calibration_windows_are_spread_over_the_texts(model, tokenizer):
    texts = [f"cell {number}" for number in range(MAX_CALIBRATION_WINDOWS + 100)]
    windows = calibration_windows(model, tokenizer, ["", *texts])
    assert windows[0] == tokenizer(texts[0])["input_ids"] and windows[1] == tokenizer(texts[2])["input_ids"]
    assert len(windows) == 200
    with pytest.raises(ValueError, match="all texts of --data are empty"):
        calibration_windows(model, tokenizer, ["", " "])


def test_other_backends_raise_an_error(exported, tmp_path):
    with pytest.raises(ValueError, match="backend must be 'onnx', 'openvino' or 'torch', got 'tpu'"):
        export(str(exported / "torch"), tmp_path / "out", backend="tpu")
    with pytest.raises(ValueError, match=r"backend='onnx' does not match .*, which runs on openvino"):
        load(exported / "fp32", backend="onnx")
    with pytest.raises(ValueError, match="runs on openvino already: export the original"):
        export(str(exported / "fp32"), tmp_path / "out")


def test_old_names_warn(exported, tmp_path):
    with pytest.warns(FutureWarning, match=r"onnx_encoders\(\) is now exported_encoders\(\)"):
        assert load(exported / "fp32").model.onnx_encoders() == []
    with pytest.warns(FutureWarning, match=r"export\(onnx=...\) is now export\(backend="):
        export(str(exported / "torch"), tmp_path / "frozen", onnx=False)
    assert load(tmp_path / "frozen").model.config.frozen_types
