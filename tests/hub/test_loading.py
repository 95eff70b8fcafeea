"""Tests that load a pushed model by its repository id, in a fresh process with an empty cache."""

import json

import pytest
from transformers import pipeline

from tests.fresh_process import run
from tests.tiny import build_model, tiny_encoder_config
from training.finetune import main as finetune

TEXT = "the il-2 gene promoter of cells in oslo"
LOAD = "pipe = pipeline('binder-ner', model={model!r}, trust_remote_code=True{options})"


@pytest.fixture
def cache(tmp_path):
    folder = tmp_path / "cache"
    folder.mkdir()
    return folder


def load_in_fresh_process(
    cache, model="alice/tiny", options="", text=TEXT, then="pipe({text!r})", package=False, **where
):
    """Load the model in a fresh process and return the value of the expression `then`, by default the entities.

    If `package` is false, the process cannot import anything from this project.
    """
    code = ["import json", "import modeling_binder" if package else "", "from transformers import pipeline"]
    code += [LOAD.format(model=str(model), options=options), f"print(json.dumps({then.format(text=text)}))"]
    if package:
        code[3] = code[3].replace(", trust_remote_code=True", "")
    return run("\n".join(code), package=package, cache=cache, **where)


def found_by(model, tokenizer, folder):
    """Save a model to a folder, load the model again, and return the entities that it finds.

    Tests compare exact scores. The last bits of a score depend on the memory alignment of the weights. So both compared
    models must be loaded from a folder.
    """
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return pipeline("binder-ner", model=str(folder))(TEXT)


@pytest.fixture
def pushed(hub, recipe, tmp_path):
    """Fine-tune and push a model with `training.finetune`, and return its predictions."""
    output = ["--output_dir", str(tmp_path / "run"), "--num_train_epochs", "10"]
    finetune([str(recipe), *output, "--push-to-hub", "alice/tiny"])
    found = pipeline("binder-ner", model=str(tmp_path / "run"))(TEXT)
    assert found
    return found


def test_a_pushed_model_has_the_same_predictions_in_every_way_to_load_it(pushed, hub, cache):
    """The model is loaded without the package, offline from the cache, and with the package."""
    assert load_in_fresh_process(cache, HF_TOKEN=None) == pushed
    assert any("GET" in line for line in hub.log)
    requests = len(hub.log)
    assert load_in_fresh_process(cache, offline=True, HF_TOKEN=None) == pushed
    assert len(hub.log) == requests, "no request is sent offline"
    assert load_in_fresh_process(cache, package=True, HF_TOKEN=None) == pushed


def test_the_handler_of_a_pushed_repository_answers_requests(pushed, cache):
    """Inference Endpoints import handler.py from the repository's folder, in a process without the package."""
    code = """
    import importlib.util, json
    from huggingface_hub import snapshot_download

    folder = snapshot_download("alice/tiny")
    spec = importlib.util.spec_from_file_location("handler", f"{folder}/handler.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    handler = module.EndpointHandler(folder)
    text = TEXT
    answers = {
        "text": handler({"inputs": text}),
        "list": handler({"inputs": [text, ""]}),
        "empty": handler({"inputs": []}),
        "words": handler({"inputs": text.split(), "parameters": {"is_split_into_words": True}}),
        "all": handler({"inputs": [text], "parameters": {
            "entity_types": {"Gene": "A region of DNA that codes for a protein."}, "threshold": {"Gene": 0.5},
            "decoding": "flat", "inference": "joint", "max_length": 32, "stride": 4, "batch_size": 2,
            "is_split_into_words": False}}),
        "none": handler({"inputs": text, "parameters": None}),
    }
    errors = {}
    for name, request in {
        "no inputs": {"text": "x"}, "no object": ["x"], "a number": {"inputs": 3}, "mixed": {"inputs": ["x", 3]},
        "unknown": {"inputs": "x", "parameters": {"treshold": 1}},
        "range": {"inputs": "x", "parameters": {"threshold": 7}},
        "choice": {"inputs": "x", "parameters": {"decoding": "both"}}, "list": {"inputs": "x", "parameters": [1]},
        "type": {"inputs": "x", "parameters": {"max_length": "ten"}},
        "types": {"inputs": "x", "parameters": {"entity_types": 5}},
        "stride": {"inputs": "x", "parameters": {"max_length": 16, "stride": 16}},
        "words": {"inputs": "x y", "parameters": {"is_split_into_words": True}},
    }.items():
        try:
            handler(request)
        except ValueError as error:
            errors[name] = str(error)
    print(json.dumps([answers, errors]))
    """.replace("TEXT", repr(TEXT))
    answers, errors = run(code, package=False, cache=cache)
    assert answers["text"] == answers["none"] == answers["words"] == pushed
    assert answers["list"] == [pushed, []] and answers["empty"] == []
    assert {entity["entity_group"] for entity in answers["all"][0]} <= {"Gene"}
    expected = {
        "no inputs": "the keys ['text']",
        "no object": "got list",
        "a number": "must be a text or a list of texts, got 3",
        "mixed": "must be a text or a list of texts",
        "unknown": "unknown parameters: treshold. Known are entity_types",
        "range": "threshold must lie between 0 and 1, got 7",
        "choice": "decoding must be one of 'nested', 'flat', got 'both'",
        "list": '"parameters" must be an object',
        "type": "max_length must be a whole number, got 'ten'",
        "types": "a parameter has a wrong type",
        "stride": "stride",
        "words": "must be a list of words",
    }
    assert set(errors) == set(expected)
    for name, message in expected.items():
        assert message in errors[name], name


def test_a_pinned_revision_loads_the_old_model(hub, model, tokenizer, cache, tmp_path):
    first = model.push_to_hub("alice/tiny", tokenizer=tokenizer).oid
    before = found_by(model, tokenizer, tmp_path / "first")
    other = build_model(projection_size=8)
    second = other.push_to_hub("alice/tiny", tokenizer=tokenizer).oid
    other.push_to_hub("alice/tiny", tokenizer=tokenizer, revision="next")
    after = found_by(other, tokenizer, tmp_path / "second")
    assert first != second and before != after
    assert load_in_fresh_process(cache, options=f", revision={first!r}") == before
    assert load_in_fresh_process(cache) == after
    assert load_in_fresh_process(cache, options=", revision='next'") == after


def test_code_revision_pins_the_code_but_not_the_weights(hub, model, tokenizer, cache):
    reviewed = model.push_to_hub("alice/tiny", tokenizer=tokenizer).oid
    marked = {
        name: content + b"\nMARK = 'not reviewed'\n"
        for name, content in hub.files("alice/tiny").items()
        if name.endswith("_binder.py")
    }
    hub.commit("alice/tiny", marked)
    then = "[hasattr(__import__('sys').modules[type(part).__module__], 'MARK') for part in (pipe, pipe.model)]"
    assert load_in_fresh_process(cache, then=then) == [True, True]
    assert load_in_fresh_process(cache, then=then, options=f", code_revision={reviewed!r}") == [False, False]


@pytest.mark.parametrize("restriction", ["private", "gated"])
def test_a_restricted_repository_requires_an_access_token(restriction, hub, model, tokenizer, cache):
    model.push_to_hub("alice/tiny", tokenizer=tokenizer)
    setattr(hub.repos["model", "alice/tiny"], restriction, True)
    code = f"""
    import json
    from transformers import pipeline
    try:
        {LOAD.format(model="alice/tiny", options="")}
        print(json.dumps(len(pipe({TEXT!r}))))
    except OSError as error:
        print(json.dumps(str(error)))
    """
    refused = run(code, package=False, cache=cache, HF_TOKEN=None)
    assert "alice/tiny" in refused and ("gated" if restriction == "gated" else "private") in refused
    assert run(code, package=False, cache=cache, HF_TOKEN="hf_alice") > 0


def test_an_interrupted_download_is_resumed(hub, tokenizer, cache, tmp_path):
    """The client stores chunks of 10 MB. The interrupted download has stored one chunk, so it resumes after 10 MB."""
    large = build_model(text_config=tiny_encoder_config(vocab_size=150_000).to_dict(), share_encoders=True)
    large.push_to_hub("alice/tiny", tokenizer=tokenizer)
    hub.fail("GET", "model.safetensors", after=15_000_000)
    assert load_in_fresh_process(cache) == found_by(large, tokenizer, tmp_path / "saved")
    assert hub.ranges == ["bytes=10485760-"]


def test_a_download_that_never_completes_loads_nothing(hub, model, tokenizer, cache, tmp_path):
    model.push_to_hub("alice/tiny", tokenizer=tokenizer)
    hub.fail("GET", "model.safetensors", times=1000)
    code = f"""
    import json, time
    time.sleep = lambda seconds: None
    from transformers import pipeline
    try:
        {LOAD.format(model="alice/tiny", options="")}
        print(json.dumps("loaded"))
    except Exception as error:
        print(json.dumps(type(error).__name__))
    """
    assert run(code, package=False, cache=cache) != "loaded"
    hub.failures.clear()
    assert load_in_fresh_process(cache) == found_by(model, tokenizer, tmp_path / "saved")


def test_a_model_can_be_pushed_without_the_package(hub, model, tokenizer, cache, tmp_path):
    """Without the package, a push contains neither a model card nor a handler. It contains all other files."""
    model.push_to_hub("alice/tiny", tokenizer=tokenizer)
    expected = found_by(model, tokenizer, tmp_path / "saved")
    assert load_in_fresh_process(cache, then="pipe.push_to_hub('alice/copy').oid")
    files = hub.files("alice/copy")
    assert {"config.json", "model.safetensors", "pipeline_binder.py", "modeling_binder.py"} <= set(files)
    assert json.loads(files["config.json"])["auto_map"]["AutoModel"] == "modeling_binder.BinderModel"
    assert load_in_fresh_process(cache, model="alice/copy") == expected
