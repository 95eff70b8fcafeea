"""Tests of loading a checkpoint in a fresh process: with and without the package, offline, and saved again."""

import json

import pytest
from transformers import BertModel, TrainingArguments, pipeline

from modeling_binder import BinderNerPipeline
from modeling_binder.finetuning import BinderTrainer
from tests.fresh_process import run
from tests.tiny import tiny_encoder_config

TEXT = "the IL-2 gene promoter of cells"


@pytest.fixture
def expected(model, tokenizer):
    return BinderNerPipeline(model=model, tokenizer=tokenizer)(TEXT)


@pytest.fixture
def cache(tmp_path):
    folder = tmp_path / "cache"
    folder.mkdir()
    return folder


LOADERS = {
    "with the package": (True, "import modeling_binder\npipe = pipeline('binder-ner', model=path)"),
    "without the package and without a task": (
        False,
        "pipe = pipeline(model=path, trust_remote_code=True)",
    ),
    "without the package": (False, "pipe = pipeline('binder-ner', model=path, trust_remote_code=True)"),
    "with the package and trust": (
        True,
        "import modeling_binder\npipe = pipeline('binder-ner', model=path, trust_remote_code=True)",
    ),
}


def load_and_find(path, loader, cache, offline=False):
    """Load a checkpoint in a fresh process, and return the entities that it finds in `TEXT`."""
    package, line = LOADERS[loader]
    code = f"import json\nfrom transformers import pipeline\npath = {str(path)!r}\n{line}\n"
    code += f"print(json.dumps(pipe({TEXT!r})))"
    return run(code, package=package, cache=cache, offline=offline)


@pytest.mark.parametrize("offline", [False, True])
@pytest.mark.parametrize("loader", LOADERS)
def test_a_saved_folder_loads(checkpoint, loader, offline, cache, expected):
    found = load_and_find(checkpoint, loader, cache, offline)
    assert [(e["entity_group"], e["start"], e["end"]) for e in found] == [
        (e["entity_group"], e["start"], e["end"]) for e in expected
    ]
    assert [e["score"] for e in found] == pytest.approx([e["score"] for e in expected], abs=1e-6)


def test_loading_without_the_package_and_without_trust_fails(checkpoint, cache):
    code = f"""
    import json
    from transformers import pipeline
    try:
        pipeline("binder-ner", model={str(checkpoint)!r}, trust_remote_code=False)
        print(json.dumps("loaded"))
    except (ValueError, KeyError) as error:
        print(json.dumps(str(error)))
    """
    assert run(code, package=False, cache=cache) != "loaded"


def test_a_checkpoint_saved_by_the_trainer_loads(model, tokenizer, cache, expected, tmp_path):
    trainer = BinderTrainer(
        model, TrainingArguments(str(tmp_path / "trained"), report_to="none"), processing_class=tokenizer
    )
    trainer.save_model()
    for loader in LOADERS:
        found = load_and_find(tmp_path / "trained", loader, cache)
        assert [e["word"] for e in found] == [e["word"] for e in expected]


@pytest.mark.parametrize(
    "saver", ["pipe.save_pretrained", "pipe.save_pretrained, loaded with the code in the checkpoint"]
)
def test_a_checkpoint_that_was_saved_a_second_time_loads(checkpoint, saver, cache, expected, tmp_path):
    remote = saver.endswith("loaded with the code in the checkpoint")
    again = tmp_path / "again"
    code = f"""
    import json
    {"" if remote else "import modeling_binder"}
    from transformers import pipeline
    pipe = pipeline("binder-ner", model={str(checkpoint)!r}{", trust_remote_code=True" if remote else ""})
    pipe.save_pretrained({str(again)!r})
    print(json.dumps(sorted(__import__("os").listdir({str(again)!r}))))
    """
    names = run(code, package=not remote, cache=cache)
    assert not [name for name in names if name.endswith((".bin", ".pt"))]
    config = json.loads((again / "config.json").read_text())
    assert config["auto_map"] == {
        "AutoConfig": "configuration_binder.BinderConfig",
        "AutoModel": "modeling_binder.BinderModel",
    }
    assert config["custom_pipelines"]["binder-ner"]["impl"] == "pipeline_binder.BinderNerPipeline"
    for loader in ("with the package", "without the package"):
        found = load_and_find(again, loader, cache)
        assert [e["word"] for e in found] == [e["word"] for e in expected]


def test_auto_model_loads_the_class_of_the_package_without_trust_remote_code(checkpoint, cache):
    code = f"""
    import json
    import modeling_binder
    from transformers import AutoConfig, AutoModel
    model = AutoModel.from_pretrained({str(checkpoint)!r})
    assert type(model) is modeling_binder.BinderModel, type(model)
    assert type(AutoConfig.from_pretrained({str(checkpoint)!r})) is modeling_binder.BinderConfig
    print(json.dumps(True))
    """
    assert run(code, package=True, cache=cache)


def test_a_folder_without_weights_raises_an_error(checkpoint):
    (checkpoint / "model.safetensors").unlink()
    from transformers import pipeline

    with pytest.raises((OSError, ValueError), match=r"no file named model\.safetensors"):
        pipeline("binder-ner", model=str(checkpoint))


def test_another_kind_of_model_is_rejected(tokenizer, tmp_path):
    BertModel(tiny_encoder_config()).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="is a 'bert' model, not a BINDER model"):
        pipeline("binder-ner", model=str(tmp_path), tokenizer=tokenizer)
