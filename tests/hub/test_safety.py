"""Tests of safety: no file from the Hub is unpickled, and a configuration cannot choose the code that is run."""

import json
import pickle

import pytest
from huggingface_hub.errors import StrictDataclassFieldValidationError
from transformers import AutoConfig, AutoModel, pipeline

from modeling_binder import BinderConfig, BinderModel
from tests.fresh_process import run
from tests.tiny import build_model, tiny_encoder_config

EVIL = """
import pathlib
pathlib.Path({mark!r}).write_text("ran")
from transformers import BertConfig, BertModel
class Evil(BertModel): pass
class EvilConfig(BertConfig): pass
"""


class Bomb:
    """An object that creates a file when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (open, (self.mark, "w"))


@pytest.fixture
def mark(tmp_path):
    """Return the path of a file that the malicious code writes if it is run."""
    return tmp_path / "it-ran"


def change_config(folder, change):
    """Change the config.json of a checkpoint with a function."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))


@pytest.mark.parametrize("has_safetensors", [True, False])
def test_loading_never_unpickles(has_safetensors, checkpoint, mark):
    for name in ("pytorch_model.bin", "training_args.bin", "adapter_model.bin"):
        (checkpoint / name).write_bytes(pickle.dumps(Bomb(str(mark))))
    change_config(checkpoint, lambda config: config.update(transformers_weights="adapter_model.bin"))
    if has_safetensors:
        assert pipeline("binder-ner", model=str(checkpoint))("the gene") is not None
    else:
        (checkpoint / "model.safetensors").unlink()
        with pytest.raises(OSError, match=r"model\.safetensors"):
            AutoModel.from_pretrained(checkpoint)
        with pytest.raises(ValueError, match="a pickle can run code"):
            BinderModel.from_pretrained(checkpoint, use_safetensors=False)
    assert not mark.exists()


def test_loading_from_the_hub_never_unpickles(hub, model, tokenizer, mark):
    model.push_to_hub("alice/tiny", tokenizer=tokenizer)
    hub.commit("alice/tiny", {"model.safetensors": None, "pytorch_model.bin": pickle.dumps(Bomb(str(mark)))})
    with pytest.raises(OSError, match="safetensors"):
        AutoModel.from_pretrained("alice/tiny")
    assert not mark.exists()
    assert not any("pytorch_model.bin" in line and line.startswith("GET") for line in hub.log)


def set_all_keys_that_choose_code(config):
    """Set every key of a configuration that could choose the code that is run."""
    elsewhere = {"AutoModel": "mallory/evil--evil.Evil", "AutoConfig": "mallory/evil--evil.EvilConfig"}
    config["trust_remote_code"] = True
    for part in (config["text_config"], config["type_config"]):
        part.update(
            auto_map=elsewhere,
            trust_remote_code=True,
            custom_pipelines={"binder-ner": {"impl": "mallory/evil--evil.Evil", "pt": ["AutoModel"]}},
            attn_implementation="mallory/kernel",
            _attn_implementation="mallory/kernel",
            _name_or_path="mallory/evil",
        )
    config["attn_implementation"] = config["_attn_implementation"] = "mallory/kernel"


@pytest.mark.parametrize("package", [True, False])
def test_a_configuration_cannot_enable_remote_code(package, hub, checkpoint, mark, tmp_path):
    """`trust_remote_code` applies to the repository itself, but not to repositories that its configuration names."""
    hub.commit("mallory/evil", {"evil.py": EVIL.format(mark=str(mark)), "config.json": "{}"})
    change_config(checkpoint, set_all_keys_that_choose_code)
    (tmp_path / "cache").mkdir()
    found = run(
        f"""
        import json
        {"import modeling_binder" if package else ""}
        from transformers import pipeline
        pipe = pipeline("binder-ner", model={str(checkpoint)!r}{"" if package else ", trust_remote_code=True"})
        encoder = pipe.model.text_encoder
        print(json.dumps([len(pipe("the gene")), type(encoder).__module__, encoder.config._attn_implementation]))
        """,
        package=package,
        cache=tmp_path / "cache",
    )
    assert found[0] > 0 and found[1].startswith("transformers.") and found[2] in ("sdpa", "eager")
    assert not mark.exists()
    assert not any("mallory" in line for line in hub.log)


def test_the_code_of_the_repository_is_not_run_if_the_package_is_imported(hub, checkpoint, mark, tmp_path):
    """The code of the package is used. The auto_map and the custom pipeline of the repository are ignored."""
    hub.commit("mallory/evil", {"evil.py": EVIL.format(mark=str(mark)), "config.json": "{}"})

    def elsewhere(config):
        config["auto_map"] = {"AutoModel": "mallory/evil--evil.Evil", "AutoConfig": "mallory/evil--evil.EvilConfig"}
        config["custom_pipelines"]["binder-ner"]["impl"] = "mallory/evil--evil.Evil"

    change_config(checkpoint, elsewhere)
    (tmp_path / "cache").mkdir()
    for trust in ("", ", trust_remote_code=True"):
        modules = run(
            f"""
            import json, modeling_binder
            from transformers import pipeline
            pipe = pipeline("binder-ner", model={str(checkpoint)!r}{trust})
            print(json.dumps([type(pipe).__module__, type(pipe.model).__module__]))
            """,
            package=True,
            cache=tmp_path / "cache",
        )
        assert modules == ["modeling_binder.pipeline_binder", "modeling_binder.modeling_binder"]
    assert not mark.exists()


def test_an_encoder_with_an_unknown_model_type_is_rejected(checkpoint):
    def unknown(config):
        config["text_config"] = {"model_type": "evil", "auto_map": {"AutoConfig": "mallory/evil--evil.EvilConfig"}}

    change_config(checkpoint, unknown)
    with pytest.raises(ValueError, match="Unrecognized model type"):
        AutoConfig.from_pretrained(checkpoint)


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        (None, "max_span_width", 10**12),
        (None, "projection_size", 10**9),
        (None, "max_length", 10**15),
        ("text_config", "hidden_size", 10**9),
        ("text_config", "num_hidden_layers", 10**9),
        ("text_config", "vocab_size", 10**12),
        ("text_config", "vocab_size", -5),
        ("text_config", "max_position_embeddings", 10**14),
        ("type_config", "intermediate_size", 10**12),
        ("type_config", "type_vocab_size", 10**12),
        ("text_config", "embedding_size", 10**12),
        ("text_config", "relative_attention_num_buckets", 10**12),
        ("type_config", "position_buckets", 10**12),
        ("type_config", "max_relative_positions", 10**12),
    ],
)
def test_sizes_that_are_too_large_are_rejected_before_the_model_is_built(part, name, value, checkpoint):
    change_config(checkpoint, lambda config: (config[part] if part else config).update({name: value}))
    with pytest.raises(ValueError, match=name):
        AutoModel.from_pretrained(checkpoint)


def test_a_number_of_parameters_that_is_too_large_is_rejected():
    encoder = tiny_encoder_config(hidden_size=2**16, num_hidden_layers=1000, num_attention_heads=64)
    with pytest.raises(ValueError, match="parameters, which must be a mistake"):
        BinderConfig(text_config=encoder.to_dict())


@pytest.mark.parametrize(
    "types",
    [
        "Gene",
        [1],
        [{"name": 1, "description": "x"}],
        [{"name": "Gene", "description": ["x"]}],
        [{"name": "Gene", "description": {"$ref": "x"}}],
        [{"name": " ", "description": "x"}],
        {"Gene": "x"},
    ],
)
def test_invalid_entity_types_are_rejected(types, checkpoint):
    change_config(checkpoint, lambda config: config.update(entity_types=types))
    with pytest.raises((ValueError, StrictDataclassFieldValidationError), match="entity_types"):
        AutoConfig.from_pretrained(checkpoint)


def test_arguments_of_from_pretrained_take_effect(checkpoint):
    model = AutoModel.from_pretrained(checkpoint, attn_implementation="eager")
    assert model.text_encoder.config._attn_implementation == "eager"


def test_a_malformed_facts_file_does_not_stop_a_push(checkpoint, hub, caplog):
    """The model_card.json of a downloaded checkpoint may have any content."""
    (checkpoint / "model_card.json").write_text(
        json.dumps({"weights": "other", "license": {"a": 1}, "results": 5, "language": ["<script>"], "examples": [""]})
    )
    AutoModel.from_pretrained(checkpoint).push_to_hub("alice/tiny")
    assert "<script>" not in hub.files("alice/tiny")["README.md"].decode().split("\n---\n", 1)[1]
    for content in ("{", "[]", '"text"', "null"):
        (checkpoint / "model_card.json").write_text(content)
        AutoModel.from_pretrained(checkpoint).push_to_hub("alice/tiny")


def test_encoders_are_built_without_remote_code(monkeypatch):
    """`AutoModel.from_config` is called with trust_remote_code=False for both encoders."""
    asked = []
    original = AutoModel.from_config.__func__

    def watched(cls, config, **options):
        asked.append(options["trust_remote_code"])
        return original(cls, config, **options)

    monkeypatch.setattr(AutoModel, "from_config", classmethod(watched))
    build_model()
    assert asked == [False, False]
