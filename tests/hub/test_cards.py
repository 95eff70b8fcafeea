"""Tests of model cards: all sections, the metadata, mixes of corpora, and escaping of malicious text."""

import re

import pytest
import yaml
from huggingface_hub import EvalResult, ModelCard, metadata_load, metadata_update
from transformers import AutoModel, TrainingArguments

import hub_cards
from hub_cards.markdown import escape, fence, table
from modeling_binder.finetuning import BinderTrainer
from modeling_binder.hub import find_examples, fingerprint, prepare_model, rewrite_card
from tests.tiny import TYPES, build_model, corpus, small_model

HOSTILE = (
    '<script>alert("1")</script> | **bold** `code` [x](javascript:alert(1))\n---\nlicense: other\n# Heading $x$ ~~s~~'
)
NUMBER = r"[\d,]+"
PERCENT = r"\d{1,3}\.\d\d"


def row(*cells):
    """Return a regular expression for a row of a table."""
    return r"\| " + r" \| ".join(cells) + r" \|\n"


def scores(name):
    """Return a regular expression for a row of the table of results."""
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

This model finds named entities in text\. Each entity type has a description\. (?:.+\n)+Entities may lie inside other .+

It is a BINDER model (?:.+\n)+
## How to use it

```sh
pip install .+
```

```python
import modeling_binder
from transformers import pipeline

ner = pipeline\("binder-ner", model="alice/tiny"\)
for entity in ner\("the il-2 gene of cells in oslo"\):
    print\(.+\)
```

This code prints:

```text
(?:(?:Gene|Cell|Place) '.+' [01]\.\d{3} \d+ \d+\n)+```

### Your own types

Pass the names of the types, or a dictionary with names and descriptions:

```python
ner\(
(?:.+\n)+```

(?:.+\n)+
### Arguments and output

(?:.*\n)+
### Without the package

If binder-ner is not installed, transformers can run the code in this repository:

```python
from transformers import pipeline

ner = pipeline\("binder-ner", model="alice/tiny", trust_remote_code=True\)
```

## Entity types

\| type \| description \|
\|---\|---\|
\| Gene \| A region of DNA that codes for a protein\. \|
\| Cell \| A cell type or a cell line\. \|
\| Place \| A city or a country\. \|

## Results

A prediction is correct if an annotated mention has exactly the same span and type\.

Test set of Our tiny corpus, nested decoding, span inference:

\|  \| precision \| recall \| F1 \| mentions \| found \|
\|---\|---:\|---:\|---:\|---:\|---:\|
"""
    + scores("all types")
    + scores("nested mentions")
    + scores("Gene")
    + scores("Cell")  # Place has neither a mention nor a prediction, so it has no row
    + r"""
## Training data

Our tiny corpus \(alice/corpus on the Hub\)\.

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

- \*\*Language\.\*\* The model was trained on English text\. It was not evaluated on other languages\.
- \*\*Case\.\*\* The model ignores the case of letters, .+
(?:.+\n)+- \*\*Length of entities\.\*\* The model does not find entities with more than 12 tokens\.
- \*\*Length of texts\.\*\* Texts are split into windows of 64 tokens\. Neighbouring windows share 16 tokens\. (?:.+\n)+
## Licence

The model: apache-2\.0\.

## Citation

```bibtex
@inproceedings\{zhang2023binder,
(?:.+\n)+```
"""
)


@pytest.fixture
def pushed(hub, tokenizer, tmp_path):
    """Train, evaluate and push a model, and return the trainer."""
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


def test_the_card_has_all_sections(hub, pushed):
    card = hub.files("alice/tiny")["README.md"].decode()
    assert re.fullmatch(CARD, card), card
    for name in ("learning_rate", "seed", "max_span_width", "projection_size", "lr_scheduler_type", "bf16"):
        assert f"| {escape(name)} | " in card
    assert f"| learning\\_rate | {pushed.args.learning_rate} |" in card


def test_the_card_shows_the_numbers_of_the_evaluation(hub, pushed):
    metrics = pushed.score(corpus(2), "test")
    card = ModelCard(hub.files("alice/tiny")["README.md"].decode())
    values = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert values == {name: round(getattr(metrics.micro, name), 4) for name in ("precision", "recall", "f1")}
    micro = metrics.micro
    cells = [f"{100 * value:.2f}" for value in (micro.precision, micro.recall, micro.f1)]
    assert f"| all types | {' | '.join(cells)} | {micro.gold} | {micro.predicted} |" in str(card)


def test_the_example_in_the_card_prints_the_output_in_the_card(hub, pushed, tokenizer, capsys):
    from transformers import pipeline

    card = hub.files("alice/tiny")["README.md"].decode()
    blocks = r"```python\n(.*?)\n```\n\nThis code prints:\n\n```text\n(.*?)```"
    code, printed = re.search(blocks, card, re.DOTALL).groups()
    exec(code, {"pipeline": pipeline})
    assert capsys.readouterr().out == printed


def test_huggingface_hub_reads_and_writes_the_card(hub, pushed, tmp_path):
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


def test_unknown_facts_are_not_in_the_card(model, tokenizer, tmp_path):
    prepare_model(model, tmp_path, "alice/tiny", tokenizer=tokenizer)
    card = (tmp_path / "README.md").read_text()
    data = yaml.safe_load(card.split("---")[1])
    assert set(data) == {"library_name", "tags", "pipeline_tag", "widget"}
    for heading in ("Results", "Training data", "Training", "Licence"):
        assert f"## {heading}\n" not in card
    assert "None" not in card and "language" not in card.lower()
    assert len(data["widget"]) == 3 and all(example["text"] in hub_cards.EXAMPLES for example in data["widget"])


def test_the_card_of_a_flat_model_without_types(tokenizer, tmp_path):
    prepare_model(build_model(entity_types=None, decoding="flat"), tmp_path, "alice/tiny", tokenizer=tokenizer)
    card = (tmp_path / "README.md").read_text()
    assert "entities of any type" in card and "## Entity types" not in card and "flat-ner" in card
    assert "Entities do not overlap." in card and 'Pass `decoding="nested"` to get all of them' in card
    assert "types = {" in card and "entity_types=types):" in card, "the example passes entity types in the call"


def test_hostile_text_is_escaped(hub, model, tokenizer):
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
    assert len(code.findall(body)) == 6, "installation, three code blocks, output, citation"
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
def test_special_characters_of_markdown_are_escaped(text, escaped):
    assert escape(text) == escaped


def test_fences_and_tables_are_formatted():
    assert fence("```", "text") == "````text\n```\n````"
    assert table(["a", "b"], [["|", 1]], numbers=1) == "| a | b |\n|---|---:|\n| \\| | 1 |"


# ---- mixes ----


def a_part(name, license, source, drawn, **options):
    """Return the facts about one corpus of a mix."""
    counts = {"documents": 1200, "windows": 1300, "mentions": 3000, "types": 20}
    return {"name": name, "license": license, "source": source, "drawn": drawn, **counts, **options}


MIX = [
    a_part("queries", "CC BY-SA 4.0", "https://example.org/queries", 0.25, negative_rate=0.1),
    a_part("news", "CC BY 4.0", "https://example.org/news", 0.5),
    a_part("open_types", None, None, 0.25),
]
ZERO_SHOT = {
    name: {
        "texts": 500,
        "types": 6,
        "wordings": {"name": {"nested": {"f1": f1}}, "description": {"nested": {"f1": f1 / 2}}},
    }
    for name, f1 in (("chemistry", 0.4), ("archaeology", 0.2))
}


def test_the_card_describes_a_mix(tokenizer, tmp_path):
    facts = {"mix": MIX, "zero_shot": ZERO_SHOT, "license": "apache-2.0", "limits": ["Relative dates are missed."]}
    prepare_model(build_model(entity_types=None), tmp_path, "alice/open", tokenizer=tokenizer, facts=facts)
    card = (tmp_path / "README.md").read_text()
    assert "trained on 3 corpora" in card
    rows = [line for line in card.splitlines() if line.startswith(("| queries", "| news", "| open", "| all |"))]
    assert rows == [
        "| news | CC BY 4.0 | https://example.org/news | 1,200 | 3,000 | 20 | 50.0 % |",
        "| queries | CC BY-SA 4.0 | https://example.org/queries | 1,200 | 3,000 | 20 | 25.0 % |",
        "| open\\_types | not stated | not stated | 1,200 | 3,000 | 20 | 25.0 % |",
        "| all |  |  | 3,600 | 9,000 | 60 |  |",
    ]
    assert "| CC BY-SA 4.0 | queries |" in card and "| not stated | open\\_types |" in card
    assert "Only some of the mentions are annotated in queries" in card
    assert "| chemistry | 500 | 6 | 40.0 | 20.0 |" in card and "| mean |  |  | 30.0 | 15.0 |" in card
    assert "- Relative dates are missed." in card and "zero-shot-ner" in card
    assert "finds types that it was not trained on" in card


def test_rewrite_card_adds_facts_that_belong_to_the_weights(checkpoint, model, caplog):
    rewrite_card(checkpoint, "alice/tiny", license="mit", limits=["No dates."])
    card = (checkpoint / "README.md").read_text()
    assert "license: mit" in card and "- No dates." in card and 'model="alice/tiny"' in card
    rewrite_card(checkpoint, "alice/tiny", mix=MIX, weights="of another model")
    card = (checkpoint / "README.md").read_text()
    assert "license: mit" in card and "3 corpora" not in card and "belong to other weights" in caplog.text
    rewrite_card(checkpoint, "alice/tiny", mix=MIX, weights=fingerprint(model))
    assert "3 corpora" in (checkpoint / "README.md").read_text()
    rewrite_card(checkpoint, "alice/other")
    card = (checkpoint / "README.md").read_text()
    assert "3 corpora" in card and "license: mit" in card and 'model="alice/other"' in card


@pytest.mark.parametrize(
    "change",
    [
        {"decoding": "flat"},
        {"thresholds": {"Gene": 0.9}},
        {"default_threshold": 0.8},
        {"entity_types": [{"name": "Gene", "description": "A person."}]},
    ],
)
def test_results_of_other_settings_are_not_shown(tokenizer, tmp_path, change, caplog):
    model = build_model()
    arguments = TrainingArguments(str(tmp_path / "run"), report_to="none", use_cpu=True)
    trainer = BinderTrainer(model, arguments, corpus(1), corpus(1), processing_class=tokenizer)
    trainer.score(trainer.eval_dataset, "dev")
    trainer.facts()
    trainer.save_model(str(tmp_path / "saved"))
    assert "## Results" in (tmp_path / "saved" / "README.md").read_text()
    rewrite_card(tmp_path / "saved", "alice/tiny")
    assert "## Results" in (tmp_path / "saved" / "README.md").read_text()
    for name, value in change.items():
        setattr(model.config, name, value)
    model.save_pretrained(tmp_path / "saved")
    rewrite_card(tmp_path / "saved", "alice/tiny")
    assert "## Results" not in (tmp_path / "saved" / "README.md").read_text()
    assert "belong to other settings of the model" in caplog.text


def test_examples_may_have_their_own_entity_types(model, tokenizer):
    facts = {"examples": ["the gene", {"text": "cells in oslo", "entity_types": {"City": "A city."}}]}
    plain, typed = find_examples(model, tokenizer, facts)
    assert {entity["entity_group"] for entity in plain.entities} <= set(TYPES) and plain.entity_types is None
    assert {entity["entity_group"] for entity in typed.entities} == {"City"}


def test_the_card_of_a_cased_model_does_not_mention_case(tokenizer, model, tmp_path):
    tokenizer.backend_tokenizer.normalizer = None
    prepare_model(model, tmp_path, "alice/tiny", tokenizer=tokenizer)
    assert "**Case.**" not in (tmp_path / "README.md").read_text()


def test_every_save_writes_a_card(tokenizer, tmp_path):
    trainer = BinderTrainer(
        small_model(),
        TrainingArguments(str(tmp_path / "run"), report_to="none", use_cpu=True),
        processing_class=tokenizer,
    )
    trainer.save_model()
    assert 'model="your-name/run"' in (tmp_path / "run" / "README.md").read_text()
    assert type(AutoModel.from_pretrained(tmp_path / "run")).__name__ == "BinderModel"
