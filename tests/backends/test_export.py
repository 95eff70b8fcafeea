"""Tests of exports with frozen types and of exports to ONNX. An export must find the same spans as the original."""

import copy
import json
import os
import pickle
import shutil
import stat
import sys
import time
from collections import Counter
from pathlib import Path

import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from transformers import AutoModel, ModernBertConfig, pipeline

from modeling_binder import BinderModel, exported_binder
from modeling_binder.backends import disagreements, export
from modeling_binder.backends.__main__ import main
from modeling_binder.onnx_binder import OnnxEncoder
from tests.backends.compare import (
    TEXT,
    TEXTS,
    assert_same_results,
    files,
    found_without_the_package,
    results_of_forked_processes,
    write_found,
)
from tests.tiny import TYPES, build_model, build_tokenizer

# ---- frozen types ----


def test_a_frozen_checkpoint_has_no_type_encoder_and_finds_the_same_entities(checkpoint, tmp_path):
    main(["frozen", str(checkpoint), str(tmp_path / "frozen")])
    tensors = load_file(tmp_path / "frozen" / "model.safetensors")
    assert not any(name.startswith("type_encoder") for name in tensors)
    assert tensors["frozen_type_vectors"].shape == (3, 3, 16)
    size = [os.path.getsize(folder / "model.safetensors") for folder in (checkpoint, tmp_path / "frozen")]
    assert size[1] < 0.6 * size[0]
    frozen = pipeline("binder-ner", model=str(tmp_path / "frozen"))
    assert frozen.model.type_encoder is None
    whole = pipeline("binder-ner", model=str(checkpoint))
    assert_same_results(frozen(TEXTS), whole(TEXTS))
    assert_same_results(frozen(TEXTS, entity_types=["Cell"]), whole(TEXTS, entity_types=["Cell"]))
    renamed = {"Zelle": TYPES["Cell"]}
    assert_same_results(frozen(TEXTS, entity_types=renamed), whole(TEXTS, entity_types=renamed))
    with pytest.raises(ValueError, match=r"types .* are frozen: .* finds only Gene, Cell, Place"):
        frozen(TEXT, entity_types={"Drug": "A chemical that heals."})
    inputs = {"input_ids": torch.tensor([[2, 8, 9, 3]])}
    expected = whole.model(**inputs, type_vectors=whole.type_vectors(TYPES)).span_scores
    torch.testing.assert_close(frozen.model(**inputs).span_scores, expected)
    again = frozen.model.freeze_types(None)
    assert again is frozen.model, "the types are already frozen"


def test_a_frozen_checkpoint_loads_without_the_package(checkpoint, tmp_path):
    export(str(checkpoint), tmp_path / "frozen", backend="torch")
    expected = pipeline("binder-ner", model=str(checkpoint))(TEXT)
    assert_same_results([found_without_the_package(tmp_path / "frozen", tmp_path)], [expected])


def test_a_model_without_entity_types_cannot_be_frozen():
    with pytest.raises(ValueError, match="no entity types to freeze"):
        build_model(entity_types=None).freeze_types(build_tokenizer())


# ---- ONNX ----


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Return a folder with three checkpoints: torch, fp32 (ONNX) and int8 (ONNX in int8, with frozen types)."""
    folder = tmp_path_factory.mktemp("onnx")
    build_model().save_pretrained(folder / "torch")
    build_tokenizer().save_pretrained(folder / "torch")
    export(str(folder / "torch"), folder / "fp32")
    write_found(folder / "data.jsonl", pipeline("binder-ner", model=str(folder / "torch")))
    data = ["--data", str(folder / "data.jsonl"), "--max-loss", "60"]
    main(["onnx", str(folder / "torch"), str(folder / "int8"), "--int8", "--freeze-types", *data])
    return folder


def test_onnx_and_torch_find_the_same_entities(exported):
    one = pipeline("binder-ner", model=str(exported / "torch"))
    two = pipeline("binder-ner", model=str(exported / "fp32"), backend="onnx")
    assert len(two.model.exported_encoders()) == 2
    assert_same_results(one(TEXTS), two(TEXTS))
    new = {"Drug": "A chemical that heals.", "Cell": "A cell."}
    assert_same_results(one(TEXTS, entity_types=new), two(TEXTS, entity_types=new))
    assert disagreements(one, two, TEXTS) == []
    report = json.loads((exported / "fp32" / "export.json").read_text())["check"]
    assert report == "finds the same spans as the original checkpoint on 11 texts"


def operators(path):
    """Count the operators in an ONNX file."""
    return Counter(node.op_type for node in onnx.load(path).graph.node)


def test_exported_attention_needs_no_transpose_or_reshape(exported):
    for name in ("fp32/text_encoder", "fp32/type_encoder", "int8/text_encoder"):
        found = operators(exported / f"{name}.onnx")
        assert found["Attention"] == 2 and found["Transpose"] == found["Reshape"] == 0


def test_an_encoder_with_rotary_position_embeddings_is_exported(tmp_path):
    encoder = ModernBertConfig(
        vocab_size=256,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=128,
        local_attention=8,
        **dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"), 0),
    )
    build_model(text_config=encoder.to_dict()).save_pretrained(tmp_path / "torch")
    build_tokenizer().save_pretrained(tmp_path / "torch")
    export(str(tmp_path / "torch"), tmp_path / "onnx")
    one, two = (pipeline("binder-ner", model=str(tmp_path / name)) for name in ("torch", "onnx"))
    assert_same_results(one(TEXTS, threshold=0.4), two(TEXTS, threshold=0.4))
    assert operators(tmp_path / "onnx" / "text_encoder.onnx")["Transpose"] == 8


_PIPES = {}


@given(st.lists(st.text(alphabet=st.sampled_from("abIL2-. \ngenecells"), max_size=200), min_size=1, max_size=5))
@settings(deadline=None, max_examples=25)
def test_onnx_and_torch_find_the_same_spans_in_any_text(exported, texts):
    for name in ("torch", "fp32"):
        if name not in _PIPES:
            _PIPES[name] = pipeline("binder-ner", model=str(exported / name))
    assert disagreements(_PIPES["torch"], _PIPES["fp32"], texts) == []


def test_onnx_does_not_change_how_torch_treats_subnormal_numbers(exported):
    subnormal = torch.tensor([2e-38])  # 2e-38 / 4 is smaller than the smallest normal float32
    for flush in (False, True):
        torch.set_flush_denormal(flush)
        try:
            pipeline("binder-ner", model=str(exported / "fp32"))(TEXTS)
            assert (subnormal / 4 == 0).item() is flush
        finally:
            torch.set_flush_denormal(False)


@pytest.mark.skipif(exported_binder._openmp() is None, reason="this build of torch does not use GNU OpenMP")
def test_threads_of_torch_end_before_onnxruntime_computes(exported):
    encoder = pipeline("binder-ner", model=str(exported / "fp32")).model.text_encoder
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        many, inputs = torch.ones(1000, 1000), torch.ones(1, 5, dtype=torch.long)
        encoder(inputs)
        time.sleep(0.2)  # a thread that has ended stays in /proc for a moment
        alone = _threads()
        assert (many @ many)[0, 0] == 1000 and _threads() == alone + 2
        encoder(inputs)
        deadline = time.monotonic() + 100
        while _threads() != alone and time.monotonic() < deadline:
            time.sleep(0.01)
        assert _threads() == alone
        assert (many @ many)[0, 0] == 1000 and torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def _threads():
    return len(list(Path("/proc/self/task").iterdir()))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no os.fork")
@pytest.mark.parametrize("name", ["torch", "fp32"])
def test_forked_processes_find_the_same_entities_and_end(exported, tmp_path, name):
    assert results_of_forked_processes(exported / name, tmp_path) == [0] * 4


def test_a_session_whose_threads_were_lost_is_replaced(exported, tmp_path):
    shutil.copy(exported / "fp32" / "text_encoder.onnx", tmp_path / "gone.onnx")
    encoder = OnnxEncoder(None, "text_encoder", 128)
    encoder.replace_session_after_fork()  # has no effect before a file is loaded
    before, inputs = torch.get_num_threads(), torch.tensor([[2, 8, 9, 3]])
    try:
        for threads, file, replaced in (
            (1, exported / "fp32" / "text_encoder.onnx", False),
            (2, tmp_path / "gone.onnx", False),
            (2, exported / "fp32" / "text_encoder.onnx", True),
        ):
            torch.set_num_threads(threads)
            encoder.digest.zero_()
            encoder.load([str(file)])
            session, expected = encoder._session, encoder(inputs).last_hidden_state
            if file.name == "gone.onnx":
                file.unlink()
            encoder.replace_session_after_fork()
            assert encoder._session is (None if replaced else session)
            torch.testing.assert_close(encoder(inputs).last_hidden_state, expected)
    finally:
        torch.set_num_threads(before)


def test_int8_encoders_are_smaller_and_types_can_be_frozen(exported):
    assert not (exported / "int8" / "type_encoder.onnx").exists()
    sizes = [(exported / name / "text_encoder.onnx").stat().st_size for name in ("fp32", "int8")]
    assert sizes[1] < sizes[0]
    pipe = pipeline("binder-ner", model=str(exported / "int8"))
    assert pipe.model.type_encoder is None and pipe(TEXTS)[0]


def test_an_onnx_checkpoint_is_copied_saved_and_loaded_again(exported, tmp_path):
    pipe = pipeline("binder-ner", model=str(exported / "fp32"))
    pipe.save_pretrained(tmp_path / "again")
    assert {"text_encoder.onnx", "type_encoder.onnx", "onnx_binder.py"} <= set(files(tmp_path / "again"))
    assert_same_results(pipeline("binder-ner", model=str(tmp_path / "again"))(TEXTS), pipe(TEXTS))
    for another in (pickle.loads(pickle.dumps(pipe)), copy.deepcopy(pipe)):  # the pipeline has encoded types before
        assert_same_results(another(TEXTS), pipe(TEXTS))
    twin = copy.deepcopy(pipe.model)
    assert_same_results(pipeline("binder-ner", model=twin, tokenizer=pipe.tokenizer)(TEXTS), pipe(TEXTS))
    with pytest.raises(NotImplementedError, match="embeddings are not accessible"):
        twin.get_input_embeddings()


@pytest.mark.parametrize("again", [False, True])
def test_encoders_are_uploaded_with_the_checkpoint(exported, hub, tmp_path, again):
    """If `again` is true, a model is saved to the folder from which it was loaded. The folder has the files already."""
    model = pipeline("binder-ner", model=str(exported / "fp32")).model
    model.save_pretrained(tmp_path / "onnx", push_to_hub=True, repo_id="alice/onnx")
    if again:
        loaded = AutoModel.from_pretrained(tmp_path / "onnx")
        loaded.save_pretrained(tmp_path / "onnx", push_to_hub=True, repo_id="alice/onnx-2")
    uploaded = hub.files("alice/onnx-2" if again else "alice/onnx")
    expected = {"config.json", "model.safetensors", "text_encoder.onnx", "type_encoder.onnx", "modeling_binder.py"}
    assert expected <= set(uploaded)
    assert uploaded["text_encoder.onnx"] == (exported / "fp32" / "text_encoder.onnx").read_bytes()


@pytest.mark.skipif(os.name != "posix", reason="only POSIX systems have modes of files")
def test_all_files_of_an_export_have_the_mode_of_config_json(exported):
    for folder in ("fp32", "int8"):
        modes = {stat.S_IMODE(path.stat().st_mode) for path in (exported / folder).iterdir()}
        assert modes == {stat.S_IMODE((exported / folder / "config.json").stat().st_mode)}


def test_embeddings_of_onnx_encoders_cannot_be_resized(exported):
    model = BinderModel.from_pretrained(exported / "fp32")
    with pytest.raises(ValueError, match="run in onnx, so their token embeddings cannot be resized"):
        model.resize_token_embeddings(300)


def test_an_onnx_checkpoint_loads_without_the_package(exported, tmp_path):
    found = found_without_the_package(exported / "fp32", tmp_path)
    assert_same_results([found], [pipeline("binder-ner", model=str(exported / "torch"))(TEXT)])


def test_a_backend_that_does_not_match_the_checkpoint_raises_an_error(exported):
    with pytest.raises(
        ValueError, match=r"backend='onnx' does not match .*, which runs on torch.*binder-ner export onnx"
    ):
        pipeline("binder-ner", model=str(exported / "torch"), backend="onnx")
    with pytest.raises(ValueError, match="runs on onnx"):
        pipeline("binder-ner", model=str(exported / "fp32"), backend="torch")


def test_the_error_without_onnxruntime_has_the_command_to_install_it(exported, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ImportError, match="pip install onnxruntime"):
        AutoModel.from_pretrained(exported / "fp32")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--int8"], "is checked on documents with gold mentions: add --data dev.jsonl"),
        (["--int8", "--data", "DATA", "--max-loss", "-1"], r"int8 loses .* at most -1 are allowed \(F1 "),
        (["--data", "nothing.jsonl"], "nothing.jsonl"),
    ],
)
def test_an_export_that_fails_leaves_no_files(exported, tmp_path, arguments, message):
    arguments = [str(exported / "data.jsonl") if argument == "DATA" else argument for argument in arguments]
    with pytest.raises(SystemExit, match=message):
        main(["onnx", str(exported / "torch"), str(tmp_path / "out"), *arguments])
    assert list(tmp_path.iterdir()) == []


def test_an_export_that_finds_other_spans_is_not_written(checkpoint, tmp_path, monkeypatch):
    whole = BinderModel.save_pretrained

    def spoiled(self, folder, **options):
        self.span_head.text_projection.weight.data += 1
        whole(self, folder, **options)

    monkeypatch.setattr(BinderModel, "save_pretrained", spoiled)
    with pytest.raises(
        SystemExit, match=r"the scores of \d+ spans on 11 texts differ between the original and .* nothing was written"
    ):
        main(["frozen", str(checkpoint), str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_an_existing_folder_is_replaced_only_with_overwrite(exported, checkpoint, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(SystemExit, match="already exists: choose another folder, or add --overwrite"):
        main(["frozen", str(checkpoint), str(tmp_path / "mine")])
    assert (tmp_path / "mine" / "notes.txt").read_text() == "keep"
    main(["frozen", str(checkpoint), str(tmp_path / "mine"), "--overwrite"])
    assert "model.safetensors" in files(tmp_path / "mine") and "notes.txt" not in files(tmp_path / "mine")
    with pytest.raises(SystemExit, match="runs on onnx already"):
        main(["onnx", str(exported / "fp32"), str(tmp_path / "twice")])


def test_a_shared_encoder_is_exported_once(tmp_path):
    build_model(share_encoders=True).save_pretrained(tmp_path / "shared")
    build_tokenizer().save_pretrained(tmp_path / "shared")
    export(str(tmp_path / "shared"), tmp_path / "onnx")
    assert "type_encoder.onnx" not in files(tmp_path / "onnx")
    one, two = (pipeline("binder-ner", model=str(tmp_path / name)) for name in ("shared", "onnx"))
    assert_same_results(one(TEXTS, entity_types=["A new type"]), two(TEXTS, entity_types=["A new type"]))


def test_a_configuration_with_unknown_encoders_raises_an_error(checkpoint):
    config = json.loads((checkpoint / "config.json").read_text())
    with pytest.raises(ValueError, match=r"onnx has unknown keys: \['../x'\]"):
        BinderModel.config_class(**{**config, "onnx": {"../x": 3}})
    with pytest.raises(ValueError, match="frozen_types=True needs entity_types"):
        BinderModel.config_class(**{**config, "frozen_types": True, "entity_types": None})
