"""Tests of spaCy pipelines with the component "binder_ner" that are saved, pickled and assembled."""

import pickle
import re
import shutil
from pathlib import Path

import pytest
import spacy

from modeling_binder.integrations.spacy import BinderNer, Settings, _TemporaryFolder
from tests.fresh_process import ROOT, run
from tests.integrations.spacy_texts import HANDWRITTEN, TEXTS, spans
from tests.tiny import TYPES


def test_a_saved_pipeline_needs_no_other_files(build, tmp_path, checkpoint):
    types = {"Gene": "A gene, for $5.", "cell": {"description": "A cell.", "parent": None}}
    nlp = build(types=types, decoding="nested", threshold={"Gene": 0.3})
    # A config file writes dictionaries after other values, so the order of the types may change. Then entities with the
    # same span also change their order. So the entities are sorted here.
    expected = [sorted(spans(doc.spans["binder"])) for doc in nlp.pipe(TEXTS)]
    nlp.to_disk(tmp_path / "first")
    shutil.rmtree(checkpoint)
    for one, other in (("first", "second"), ("second", "third")):
        shutil.move(tmp_path / one, tmp_path / "moved")
        loaded = spacy.load(tmp_path / "moved")
        assert [sorted(spans(doc.spans["binder"])) for doc in loaded.pipe(TEXTS)] == expected
        assert loaded.get_pipe("binder_ner").settings.types == types, "spaCy escapes the dollar sign"
        loaded.to_disk(tmp_path / "moved")  # overwrites the files from which it was loaded
        loaded.to_disk(tmp_path / other)
        shutil.rmtree(tmp_path / "moved")
    changed = spacy.load(
        tmp_path / "third", config={"components": {"binder_ner": {"types": ["Place"], "threshold": 0.3}}}
    )
    assert {span.label_ for doc in changed.pipe(TEXTS) for span in doc.spans["binder"]} == {"Place"}


def test_loading_a_saved_pipeline_sends_no_request_to_the_hub(build, tmp_path, checkpoint):
    """The local Hub is not started, so a request to the Hub would fail."""
    nlp = build()
    nlp.to_disk(tmp_path / "saved")
    config = tmp_path / "saved" / "config.cfg"
    config.write_text(config.read_text().replace(f'"{checkpoint}"', '"user/name"'))
    assert spans(spacy.load(tmp_path / "saved")(TEXTS[0]).ents) == spans(nlp(TEXTS[0]).ents) != []


def test_pipelines_from_bytes_and_pickled_components_find_the_same_entities(build, checkpoint):
    nlp = build()
    expected = [spans(doc.ents) for doc in nlp.pipe(TEXTS)]
    data, config = nlp.to_bytes(), nlp.config
    copy = pickle.loads(pickle.dumps(nlp.get_pipe("binder_ner")))
    shutil.rmtree(checkpoint)
    loaded = spacy.blank("en").from_config(config).from_bytes(data)
    assert [spans(doc.ents) for doc in loaded.pipe(TEXTS)] == expected
    assert [spans(copy(nlp.make_doc(text)).ents) for text in TEXTS] == expected


def test_bytes_with_a_file_outside_the_folder_are_rejected():
    import srsly

    with pytest.raises(ValueError, match=r"outside the folder of the model: '\.\./x'"):
        BinderNer(Settings(HANDWRITTEN)).from_bytes(srsly.msgpack_dumps({"../x": b""}))


def test_a_forked_process_does_not_delete_the_files_of_its_parent(monkeypatch):
    folders = [_TemporaryFolder(), _TemporaryFolder()]
    with monkeypatch.context() as child:
        child.setattr("os.getpid", lambda: 0)
        folders[0].cleanup()
    assert Path(folders[0].name).is_dir() and Path(folders[1].name).is_dir()
    shutil.rmtree(folders[0].name)
    deleted = folders.pop().name
    assert not Path(deleted).exists()


@pytest.mark.parametrize("name", ["U.S. state", "a=b", "[x]"])
def test_types_that_a_config_file_cannot_represent_are_not_saved(build, name, tmp_path):
    types = {name: {"description": "A thing."} if "." in name else "A thing."}
    with pytest.raises(ValueError, match=r"cannot represent the types .* Pass the types as a list"):
        build(types=types).to_disk(tmp_path / "saved")
    nlp = build(types=[{"name": name, "description": "A thing."}])
    nlp.to_disk(tmp_path / "saved")
    assert spacy.load(tmp_path / "saved").get_pipe("binder_ner").labels == (name,)


@pytest.mark.slow
def test_spacy_assembles_a_config(build, tmp_path, checkpoint):
    """`spacy assemble` finds the component by the entry point of the package."""
    nlp = build(types={"Gene": TYPES["Gene"], "cell line": "A line of cells."}, threshold=0.4)
    nlp.config.to_disk(tmp_path / "config.cfg")
    (target,) = re.findall(
        r'\[project\.entry-points\.spacy_factories\]\nbinder_ner = "(.*)"', (ROOT / "pyproject.toml").read_text()
    )
    installed = tmp_path / "installed" / "binder_ner-0.dist-info"  # as `pip install` writes it
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: binder-ner\nVersion: 0\n")
    (installed / "entry_points.txt").write_text(f"[spacy_factories]\nbinder_ner = {target}\n")
    code = f"""
    import json, subprocess, sys
    command = [sys.executable, "-m", "spacy", "assemble", "config.cfg", "assembled"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    import spacy
    nlp = spacy.load("assembled")
    print(json.dumps([[[ent.text, ent.label_] for ent in doc.ents] for doc in nlp.pipe({TEXTS!r})]))
    """
    found = run(code, package=True, cache=tmp_path, PYTHONPATH=f"{installed.parent}:{ROOT}")
    assert found == [[list(pair) for pair in spans(doc.ents)] for doc in nlp.pipe(TEXTS)]
    assert any(found)
