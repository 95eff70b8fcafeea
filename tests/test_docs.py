"""Tests of README.md and docs/: Python examples run, and links and commands exist.

The examples run with a tiny encoder and a tiny corpus.
"""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from hub_cards.model_card import REPOSITORY
from modeling_binder.finetuning import write_jsonl
from tests.tiny import TYPES, build_tokenizer, corpus, small_model

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "training" / "README.md",
    *sorted(ROOT.glob("docs/**/*.md")),
]
MODULE = re.compile(r"python -m ((?:training|demo|modeling_binder)(?:\.\w+)*)")


def examples(name):
    """Return the ```python blocks of a page. ```py blocks are fragments that cannot run."""
    return re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(encoding="utf-8"), re.DOTALL)


def run(code, names=None):
    """Execute code in a namespace, and return the namespace."""
    names = {} if names is None else names
    exec(compile(code, "example", "exec"), names)
    return names


def relabelled(document, labels):
    """Return a copy of a document with other labels."""
    mentions = (replace(mention, label=labels.get(mention.label, mention.label)) for mention in document.entities)
    return replace(document, entities=tuple(mentions))


@pytest.mark.slow
def test_python_examples_run(hub, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    small_model().text_encoder.save_pretrained("encoder")
    build_tokenizer().save_pretrained("encoder")
    for split in ("train", "dev", "test"):
        write_jsonl(f"my_corpus/{split}.jsonl", corpus(2))
    Path("my_corpus/types.json").write_text(json.dumps(TYPES))
    (load_corpus,) = examples("docs/data-formats.md")
    run(load_corpus)
    (finetune,) = examples("docs/fine-tuning.md")
    names = run(finetune.replace("google-bert/bert-base-uncased", "encoder").replace("3e-5", "5e-3"))
    assert "micro" in capsys.readouterr().out
    assert Path("checkpoints/mine/model.safetensors").exists()
    (finetune_on_mix,) = examples("docs/partial-corpora.md")
    for folder, renamed in (("persons", {}), ("diseases", {"Gene": "Disease"})):
        for split in ("train", "dev"):
            write_jsonl(f"{folder}/{split}.jsonl", [relabelled(document, renamed) for document in corpus(2)])
        types = {renamed.get(label, label): text for label, text in TYPES.items()}
        Path(folder, "types.json").write_text(json.dumps({label: f"{folder}: {text}" for label, text in types.items()}))
    run(finetune_on_mix.replace("google-bert/bert-base-uncased", "encoder").replace("epochs=20", "epochs=1"))
    for find in examples("docs/usage.md"):
        run(find.replace("checkpoints/quickstart", "checkpoints/mine"))

    for folder, label in (("persons", "Gene"), ("diseases", "Cell")):
        documents = [replace(d, entities=tuple(m for m in d.entities if m.label == label)) for d in corpus(2)]
        write_jsonl(f"{folder}/train.jsonl", documents)
        write_jsonl(f"{folder}/dev.jsonl", documents)
        Path(folder, "types.json").write_text(json.dumps({label: TYPES[label]}))
    (both,) = examples("docs/partial-corpora.md")
    run(both.replace("google-bert/bert-base-uncased", "encoder").replace("=20", "=2"))
    assert 0 <= float(capsys.readouterr().out.split()[-1]) <= 1

    push, load = (code.replace("user/name", "alice/name") for code in examples("docs/sharing.md"))
    names["arguments"].hub_model_id = "alice/name"
    run(push, names)
    history = hub.repos["model", "alice/name"].history()
    assert [commit.title for commit in history] == ["End of training", "initial commit"], (
        "pushing the same files again makes no commit"
    )
    assert type(run(load)["ner"]).__name__ == "BinderNerPipeline"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_and_links_exist(page):
    text = page.read_text(encoding="utf-8")
    for module in set(MODULE.findall(text)):
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), module
    for link in re.findall(r"\]\((?!http)([^)]+)\)", text):
        target, _, heading = link.partition("#")
        target = page.parent / target if target else page
        assert target.exists(), link
        headings = re.findall(r"^#+ (.*)", target.read_text(encoding="utf-8"), re.MULTILINE) if heading else []
        assert not heading or heading in [title.lower().replace(" ", "-") for title in headings], link
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"(?:^|`)make ([\w-]+)", text, re.MULTILINE)):
        assert f"\n{target}:" in makefile, target


def test_docs_readme_lists_every_page():
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    for page in ROOT.glob("docs/*.md"):  # tutorials are in a subfolder; the navigation of the site lists them
        name = page.relative_to(ROOT / "docs").as_posix()
        assert name == "README.md" or f"({name})" in index, f"docs/README.md has no link to {name}"


def test_pictures_in_the_readme_have_absolute_urls():
    """A package index shows only README.md. Relative links to pictures would not work there."""
    (repository,) = re.findall(r'Repository = "([^"]+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert f"repository-code: {repository}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert repository == REPOSITORY, "model cards must link to the same address"
    raw = repository.replace("https://github.com/", "https://raw.githubusercontent.com/") + "/main/"
    pictures = re.findall(r"!\[[^]]*\]\(([^)]+)\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert pictures
    for picture in pictures:
        assert picture.startswith(raw) and (ROOT / picture.removeprefix(raw)).exists(), picture


def test_the_readme_has_at_most_110_lines():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 110
