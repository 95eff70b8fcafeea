"""Tests of pushed checkpoints with two tokenizers. They are loaded in fresh processes with an empty cache."""

import json

import pytest
from huggingface_hub import HfApi
from transformers import pipeline

from modeling_binder import BinderModel
from tests.fresh_process import run
from tests.tiny import assert_same_entities, build_multilingual_tokenizer, build_tokenizer, build_two_tokenizer_model

TEXT = "the il-2 gene promoter of cells in oslo"
LOAD = """
    import json
    {package}
    from transformers import pipeline
    pipe = pipeline("binder-ner", model={model!r}, {trust} {options})
    print(json.dumps([pipe({text!r}), pipe.model.type_tokenizer("gene")["input_ids"]]))
"""


@pytest.fixture
def cache(tmp_path):
    folder = tmp_path / "cache"
    folder.mkdir()
    return folder


def load(cache, model="alice/two", package=False, options="", **where):
    """Load the model in a fresh process. Return the entities that it finds, and the token ids of a description."""
    code = LOAD.format(
        package="import modeling_binder" if package else "",
        model=model,
        trust="" if package else "trust_remote_code=True,",
        options=options,
        text=TEXT,
    )
    return run(code, package=package, cache=cache, **where)


def push(model, repo_id="alice/two", **options):
    """Push a model. Return the commit and the expected result of `load`."""
    commit = model.push_to_hub(repo_id, tokenizer=build_tokenizer(), **options)
    found = pipeline("binder-ner", model=model, tokenizer=build_tokenizer())(TEXT)
    return commit, [found, model.type_tokenizer("gene")["input_ids"]]


def assert_same(one, two):
    """Check that two results of `load` are equal."""
    assert_same_entities(one[0], two[0], 1e-6)
    assert one[1] == two[1]


def test_a_checkpoint_with_two_tokenizers_loads_in_every_way(hub, cache):
    _, expected = push(build_two_tokenizer_model())
    assert {"type_tokenizer/tokenizer.json", "type_tokenizer/tokenizer_config.json", "tokenizers_binder.py"} <= set(
        hub.files("alice/two")
    )
    assert_same(load(cache, HF_TOKEN=None), expected)
    requests = len(hub.log)
    assert_same(load(cache, offline=True, HF_TOKEN=None), expected)
    assert_same(load(cache, package=True, offline=True, HF_TOKEN=None), expected)
    assert len(hub.log) == requests, "no request is sent offline"
    assert_same(load(cache, package=True, options="revision='main'", HF_TOKEN=None), expected)


def test_each_revision_has_its_own_type_tokenizer(hub, cache):
    first, expected = push(build_two_tokenizer_model())
    other = build_two_tokenizer_model()
    other.type_tokenizer = build_multilingual_tokenizer(["gene cell city of a region"])
    _, changed = push(other)
    assert expected[1] != changed[1]
    assert_same(load(cache, options=f"revision={first.oid!r}"), expected)
    assert_same(load(cache), changed)
    assert_same(load(cache, package=True, offline=True, options=f"revision={first.oid!r}"), expected)


def test_the_access_token_also_applies_to_the_type_tokenizer_of_a_private_repository(hub, cache):
    _, expected = push(build_two_tokenizer_model())
    hub.repos["model", "alice/two"].private = True
    assert_same(load(cache, options="token='hf_alice'", HF_TOKEN=None), expected)


def test_pushing_a_model_with_one_tokenizer_removes_the_type_tokenizer(hub, model, cache):
    push(build_two_tokenizer_model())
    model.push_to_hub("alice/two", tokenizer=build_tokenizer())
    assert not [name for name in hub.files("alice/two") if name.startswith("type_tokenizer/")]
    assert json.loads(hub.files("alice/two")["config.json"])["type_tokenizer"] is False


def test_a_missing_type_tokenizer_raises_an_error(hub, tmp_path):
    push(build_two_tokenizer_model())
    HfApi().delete_file("type_tokenizer/tokenizer.json", "alice/two")
    with pytest.raises(OSError, match=r"alice/two: type_tokenizer/tokenizer\.json cannot be loaded"):
        BinderModel.from_pretrained("alice/two", cache_dir=tmp_path)


def test_a_copy_pushed_without_the_package_keeps_the_type_tokenizer(hub, cache):
    _, expected = push(build_two_tokenizer_model())
    code = """
        import json
        from transformers import pipeline
        pipe = pipeline("binder-ner", model="alice/two", trust_remote_code=True)
        print(json.dumps(pipe.push_to_hub("alice/copy").oid))
    """
    assert run(code, package=False, cache=cache)
    assert "type_tokenizer/tokenizer.json" in hub.files("alice/copy")
    assert_same(load(cache, model="alice/copy"), expected)
