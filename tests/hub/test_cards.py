"""Cards of models and datasets: the whole page, its metadata, and hostile text in them."""

import re

import pytest
import yaml
from huggingface_hub import DatasetCard, EvalResult, ModelCard, metadata_load, metadata_update
from transformers import AutoModel, TrainingArguments

import hub_cards
from hub_cards.markdown import escape, fence, table
from modeling_binder.finetuning import BinderTrainer, Corpus, load_corpus
from modeling_binder.hub import prepare_model, push_dataset
from tests.tiny import TYPES, build_model, corpus, small_model

HOSTILE = (
    '<script>alert("1")</script> | **bold** `code` [x](javascript:alert(1))\n---\nlicense: other\n# Heading $x$ ~~s~~'
)
NUMBER = r"[\d,]+"
PERCENT = r"\d{1,3}\.\d\d"


def row(*cells):
    return r"\| " + r" \| ".join(cells) + r" \|\n"


def scores(name):
    return row(name, PERCENT, PERCENT, PERCENT, NUMBER, NUMBER)


CARD = (
    r"""---
base_model: google/bert_uncased_L-2_H-128_A-2
datasets:
- alice/corpus
language: en
library_name: binder-ner
license: apache-2\.0
metrics:
- precision
- recall
- f1
pipeline_tag: token-classification
tags:
- binder
- named-entity-recognition
- nested-ner
- transformers
- custom_code
- biology
widget:
- text: the il-2 gene of cells in oslo
model-index:
- name: alice/tiny
  results:
  - task:
      type: token-classification
      name: Named Entity Recognition
    dataset:
      name: Our tiny corpus
      type: alice/corpus
      split: test
    metrics:
    - type: precision
      value: [\d.]+
      name: Precision
    - type: recall
      value: [\d.]+
      name: Recall
    - type: f1
      value: [\d.]+
      name: F1
---

# tiny

A named-entity recogniser: it finds entities, also inside one another, in running text and gives each
a type, its character offsets and a score\. (?:.+\n)+
## What it finds

\| type \| description \|
\|---\|---\|
\| Gene \| A region of DNA that codes for a protein\. \|
\| Cell \| A cell type or a cell line\. \|
\| Place \| A city or a country\. \|

## How to use it

With the package `binder-ner` installed:

```python
import modeling_binder
from transformers import pipeline

ner = pipeline\("binder-ner", model="alice/tiny"\)
for entity in ner\("the il-2 gene of cells in oslo"\):
    print\(.+\)
```

prints

```text
(?:(?:Gene|Cell|Place) '.+' [01]\.\d{3} \d+ \d+\n)+```

Without it, transformers runs the code that this repository brings:

```python
from transformers import pipeline

ner = pipeline\("binder-ner", model="alice/tiny", trust_remote_code=True\)
```

(?:.+\n)+
## Results

Exact match of span and type on Our tiny corpus; nested decoding, span inference\.

On the test set:

\|  \| precision \| recall \| F1 \| mentions \| found \|
\|---\|---:\|---:\|---:\|---:\|---:\|
"""
    + scores("all types")
    + scores("nested mentions")
    + scores("Gene")
    + scores("Cell")  # there is no Place in it, so none was measured
    + r"""
## Training data

Our tiny corpus \(dataset `alice/corpus` on the Hub\)\.

\|  \| train \| dev \| test \|
\|---\|---:\|---:\|---:\|
(?:\| [^|]+ \| [\d,]+ \| [\d,]+ \| [\d,]+ \|\n)+
## Training

\|  \|  \|
\|---\|---\|
\| hardware \| .+ \|
\| minutes of training \| \d+\.\d \|
\| epochs run \| \d+ \|
\| optimizer steps \| 30 \|

\| hyper-parameter \| value \|
\|---\|---\|
\| text encoder \| bert, \d layers, 32 wide \|
(?:\| .+ \| .+ \|\n)+
\| software \| version \|
\|---\|---\|
\| Python \| 3.+ \|
(?:\| .+ \| .+ \|\n)+
## Limits

- It was trained on text in this language: en\. Nothing was measured on others\.
- An entity is at most 12 tokens wide; wider ones are not found\.
(?:.+\n)+
## Citation

```bibtex
@inproceedings\{zhang2023binder,
(?:.+\n)+```
"""
)


@pytest.fixture
def pushed(hub, tokenizer, tmp_path):
    """A trained, evaluated and pushed model."""
    trainer = BinderTrainer(
        small_model(),
        TrainingArguments(
            str(tmp_path / "run"),
            report_to="none",
            use_cpu=True,
            disable_tqdm=True,
            max_steps=30,
            learning_rate=5e-3,
            per_device_train_batch_size=16,
            hub_model_id="alice/tiny",
        ),
        corpus(6),
        corpus(1),
        processing_class=tokenizer,
    )
    trainer.train()
    trainer.score(corpus(2), "test")
    trainer.push_to_hub(
        language="en",
        license="apache-2.0",
        dataset="Our tiny corpus",
        dataset_tags="alice/corpus",
        finetuned_from="google/bert_uncased_L-2_H-128_A-2",
        examples=["the il-2 gene of cells in oslo"],
        tags="biology",
    )
    return trainer


def test_the_whole_card(hub, pushed):
    card = hub.files("alice/tiny")["README.md"].decode()
    assert re.fullmatch(CARD, card), card
    for name in ("learning_rate", "seed", "max_span_width", "projection_size", "lr_scheduler_type", "bf16"):
        assert f"| {escape(name)} | " in card
    assert f"| learning\\_rate | {pushed.args.learning_rate} |" in card


def test_its_numbers_are_those_of_the_evaluation(hub, pushed):
    metrics = pushed.score(corpus(2), "test")
    card = ModelCard(hub.files("alice/tiny")["README.md"].decode())
    values = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert values == {name: round(getattr(metrics.micro, name), 4) for name in ("precision", "recall", "f1")}
    micro = metrics.micro
    cells = [f"{100 * value:.2f}" for value in (micro.precision, micro.recall, micro.f1)]
    assert f"| all types | {' | '.join(cells)} | {micro.gold} | {micro.predicted} |" in str(card)


def test_its_example_is_what_the_checkpoint_prints(hub, pushed, tokenizer, capsys):
    from transformers import pipeline

    card = hub.files("alice/tiny")["README.md"].decode()
    code, printed = re.search(r"```python\n(.*?)\n```\n\nprints\n\n```text\n(.*?)```", card, re.DOTALL).groups()
    exec(code, {"pipeline": pipeline})
    assert capsys.readouterr().out == printed


def test_the_hubs_own_tools_read_and_write_it(hub, pushed, tmp_path):
    card = ModelCard.load("alice/tiny")
    card.validate()
    assert card.data.base_model == "google/bert_uncased_L-2_H-128_A-2"
    assert card.data.model_name == "alice/tiny" and len(card.data.eval_results) == 3
    card.save(tmp_path / "README.md")
    again = ModelCard.load(tmp_path / "README.md")
    assert str(again) == str(card) and again.data.to_dict() == card.data.to_dict()
    update = EvalResult("token-classification", "alice/other", "Other", "f1", 0.5, task_name="Named Entity Recognition")
    card.data.eval_results.append(update)
    metadata_update("alice/tiny", {"license": "mit"}, overwrite=True)
    changed = ModelCard.load("alice/tiny", ignore_metadata_errors=False)
    assert changed.data.license == "mit" and changed.text == ModelCard(str(again)).text
    assert metadata_load(tmp_path / "README.md")["pipeline_tag"] == "token-classification"


def test_what_is_not_known_has_no_row(model, tokenizer, tmp_path):
    prepare_model(model, tmp_path, "alice/tiny", tokenizer=tokenizer)
    card = (tmp_path / "README.md").read_text()
    data = yaml.safe_load(card.split("---")[1])
    assert set(data) == {"library_name", "tags", "pipeline_tag", "widget"}
    for heading in ("Results", "Training data", "Training", "Language"):
        assert f"## {heading}" not in card
    assert "None" not in card and "language" not in card.lower()
    assert len(data["widget"]) == 3 and all(example["text"] in hub_cards.EXAMPLES for example in data["widget"])


def test_a_model_without_types_and_a_flat_one(tokenizer, tmp_path):
    prepare_model(build_model(entity_types=None, decoding="flat"), tmp_path, "alice/tiny", tokenizer=tokenizer)
    card = (tmp_path / "README.md").read_text()
    assert "pass `entity_types`" in card and "prints" not in card and "flat-ner" in card
    assert 'unless you ask for `decoding="nested"`' in card


def test_hostile_text_is_shown_and_never_interpreted(hub, model, tokenizer):
    model.config.entity_types = [{"name": HOSTILE, "description": HOSTILE}]
    facts = {
        "language": HOSTILE,
        "license": HOSTILE,
        "dataset": {"name": HOSTILE},
        "examples": [HOSTILE + " ```` \n```"],
        "hyper_parameters": {HOSTILE: HOSTILE},
        "training": {HOSTILE: HOSTILE},
        "versions": {HOSTILE: HOSTILE},
        "data": {
            HOSTILE: {
                "documents": 1,
                "windows": 1,
                "empty_windows": 0,
                "mentions": {HOSTILE: 1},
                "nested": 0,
                "lost": {HOSTILE: 1},
            }
        },
    }
    from modeling_binder.hub import push_model

    push_model(model, "alice/tiny", tokenizer=tokenizer, facts=facts)
    card = hub.files("alice/tiny")["README.md"].decode()
    data = yaml.safe_load(re.match(r"---\n(.*?)\n---\n", card, re.DOTALL)[1])
    assert data["license"] == HOSTILE and data["pipeline_tag"] == "token-classification"
    body = card[card.index("\n# tiny") :]
    code = re.compile(r"^(`{3,}).*?^\1$", re.DOTALL | re.MULTILINE)
    prose = code.sub("", body)
    assert "<script" not in prose and "**bold**" not in prose and "[x](" not in prose and "`code`" not in prose
    assert "\n# Heading" not in prose and "&lt;script&gt;" in prose
    assert len(code.findall(body)) == 4, "two of code, one of output, one of the citation"
    ModelCard(card).validate()


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a|b", "a\\|b"),
        ("<i>", "&lt;i&gt;"),
        ("two\n lines", "two lines"),
        ("IL-2", "IL-2"),
        (3.5, "3.5"),
        ("_x_", "\\_x\\_"),
    ],
)
def test_escape(text, escaped):
    assert escape(text) == escaped


def test_fence_and_table():
    assert fence("```", "text") == "````text\n```\n````"
    assert table(["a", "b"], [["|", 1]], numbers=1) == "| a | b |\n|---|---:|\n| \\| | 1 |"


# ---- datasets ----


def test_a_corpus_is_shared_with_its_types(hub, tmp_path):
    from datasets import load_dataset
    from huggingface_hub import snapshot_download

    documents = Corpus(entity_types=TYPES, train=corpus(3), dev=[], test=corpus(1))
    push_dataset(documents, "alice/corpus", language=["en"], license="cc-by-4.0", description="Ours. <b>", private=True)
    files = hub.files("alice/corpus", repo_type="dataset")
    assert set(files) == {".gitattributes", "README.md", "train.jsonl", "test.jsonl", "types.json"}
    assert hub.repos["dataset", "alice/corpus"].private
    card = DatasetCard(files["README.md"].decode())
    card.validate()
    assert card.data.configs[0]["data_files"] == [
        {"split": "train", "path": "train.jsonl"},
        {"split": "test", "path": "test.jsonl"},
    ]
    assert card.data.task_ids == ["named-entity-recognition"] and card.data.size_categories == ["n<1K"]
    assert (
        "Ours. &lt;b&gt;" in card.text
        and f"| documents | {len(documents.train)} | {len(documents.test)} |" in card.text
    )

    folder = snapshot_download("alice/corpus", repo_type="dataset")
    (tmp_path / "x").mkdir()
    assert load_corpus(folder) == documents
    loaded = load_dataset("json", data_files={"train": f"{folder}/train.jsonl"}, cache_dir=str(tmp_path / "x"))
    assert loaded["train"][0]["text"] == documents.train[0].text


def test_an_empty_corpus_is_not_pushed(hub):
    with pytest.raises(ValueError, match="nothing to push"):
        push_dataset(Corpus(entity_types=TYPES, train=[], dev=[], test=[]), "alice/corpus")
    assert not hub.repos


def test_a_card_is_written_with_every_save(tokenizer, tmp_path):
    trainer = BinderTrainer(
        small_model(),
        TrainingArguments(str(tmp_path / "run"), report_to="none", use_cpu=True),
        processing_class=tokenizer,
    )
    trainer.save_model()
    assert 'model="your-name/run"' in (tmp_path / "run" / "README.md").read_text()
    assert type(AutoModel.from_pretrained(tmp_path / "run")).__name__ == "BinderModel"
