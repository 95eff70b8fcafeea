"""The Python of the README runs, on a tiny encoder and a tiny corpus."""

import json
import re
from pathlib import Path

from modeling_binder.finetuning import write_jsonl
from tests.tiny import TYPES, build_tokenizer, corpus, small_model

README = (Path(__file__).resolve().parent.parent / "README.md").read_text(encoding="utf-8")


def test_python_blocks(hub, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    small_model().text_encoder.save_pretrained("encoder")
    build_tokenizer().save_pretrained("encoder")
    for split in ("train", "dev", "test"):
        write_jsonl(f"my_corpus/{split}.jsonl", corpus(2))
    Path("my_corpus/types.json").write_text(json.dumps(TYPES))
    find, finetune, share, load = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    finetune = finetune.replace("google-bert/bert-base-uncased", "encoder").replace("3e-5", "5e-3")
    names = {}
    exec(compile(finetune, "README", "exec"), names)
    assert "micro" in capsys.readouterr().out
    assert Path("checkpoints/mine/model.safetensors").exists()
    find = find.replace("checkpoints/quickstart", "checkpoints/mine")
    exec(compile(find, "README", "exec"), {})

    names["arguments"].hub_model_id = "alice/name"
    exec(compile(share.replace("user/name", "alice/name"), "README", "exec"), names)
    history = hub.repos["model", "alice/name"].history()
    assert [commit.title for commit in history] == ["End of training", "initial commit"], "the second changed nothing"
    exec(compile(load.replace("user/name", "alice/name"), "README", "exec"), names)
    assert type(names["ner"]).__name__ == "BinderNerPipeline"


def test_commands_and_files_exist():
    root = Path(__file__).resolve().parent.parent
    for module in set(re.findall(r"python -m ((?:training|demo|modeling_binder)(?:\.\w+)+)", README)):
        path = root / module.replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists()
    for path in re.findall(r"\]\((?!http)([^)]+)\)", README):
        assert (root / path).exists(), path
    targets = (root / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"^make (\w+)", README, re.MULTILINE)):
        assert f"\n{target}:" in targets
