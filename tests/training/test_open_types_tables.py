"""The tables on the page docs/how-to-ask-for-a-type.md, which are generated from JSON files with results."""

import json

import pytest

from training.experiments.open_types_tables import (
    PAGE,
    TABLES,
    breadth_table,
    few_shot_table,
    forgetting_table,
    main,
    model_name,
    wording_table,
    zero_shot_table,
)
from training.experiments.tables import NOT_RUN


def wording(f1, false):
    return {decoding: {"f1": f1 / (1 + (decoding == "flat")), "false_mentions_per_1000_texts": false}
            for decoding in ("flat", "nested")}  # fmt: skip


def model(scale):
    result = {
        "decoding": "nested",
        "texts": 1200,
        "types": 7,
        "wordings": {
            "name": wording(0.5 * scale, 1234.4),
            "description": wording(0.4 * scale, 0.0),
            "name and description": wording(0.6 * scale, 0.0),
        },
    }
    means = {"name": 0.5 * scale, "description": 0.4 * scale, "name and description": 0.6 * scale}
    summary = {**means, "all wordings": 0.5 * scale, "spread over wordings": 0.05, "false mentions": 1234.4}
    return {"corpora": {"news": result}, "summary": {"fitting": summary}}


ZERO_SHOT = {"models": {"demo/model": model(1.0), "/a/machine/base": model(0.5)}}
FEW_SHOT = {
    "summary": [
        {"corpus": "news", "size": size, "start": start, "replay": share, "f1": f1, "f1_deviation": deviation,
         "kept_f1": kept, "kept_f1_deviation": None}
        for size, start, share, f1, deviation, kept in (
            (0, "checkpoint", 0.0, 0.3, None, 0.6),
            (10, "checkpoint", 0.0, 0.4, 0.01, 0.2),
            (10, "checkpoint", 0.3, 0.41, 0.02, 0.55),
            (10, "encoder", 0.0, 0.1, None, None),
        )
    ]
}  # fmt: skip
BREADTH = {
    "pairs": 1612, "types": 1407, "hidden_types": 211, "test_pairs": 400, "right_order": 0.95, "margin": 2.0,
    "texts": {"news": 9, "web": 9},
    "by_margin": {margin: {"decided": decided, "right_order": right}
                  for margin, decided, right in (("0.0", 1.0, 0.95), ("2.0", 0.6, 0.99), ("inf", 0.0, None))},
    "f1_by_margin": {margin: {"news": f1, "web": 0.3} for margin, f1 in (("0.0", 0.5), ("2.0", 0.6), ("inf", 0.4))},
}  # fmt: skip


def test_the_zero_shot_table_shows_scores_with_the_decoding_of_the_corpus():
    lines = zero_shot_table(ZERO_SHOT).splitlines()
    assert "demo/model, by name" in lines[0] and "base, by name" in lines[0] and "machine" not in lines[0]
    assert lines[2] == "| news | nested | 1,200 | 7 | 50.0 | 40.0 | 1,234 | 25.0 | 20.0 | 1,234 |"
    assert len(lines) == 3  # one corpus needs no mean
    models = {
        name: {**found, "corpora": {**found["corpora"], "law": found["corpora"]["news"]}}
        for name, found in ZERO_SHOT["models"].items()
    }
    lines = zero_shot_table({"models": models}).splitlines()
    assert lines[4].startswith("| mean |") and lines[4].endswith("| 50.0 | 40.0 | 1,234 | 25.0 | 20.0 | 1,234 |")
    one = zero_shot_table({"models": {"demo/model": model(1.0)}}).splitlines()[0]
    assert one == "| corpus | decoding | texts | types | by name | by description | false mentions |"


def test_the_wording_table_shows_means_and_spread():
    lines = wording_table(ZERO_SHOT).splitlines()
    assert lines[2:] == [
        "| name | 50.0 | 25.0 |",
        "| description | 40.0 | 20.0 |",
        "| name and description | 60.0 | 30.0 |",
        "| mean over all wordings | 50.0 | 25.0 |",
        "| spread over wordings | 5.0 | 5.0 |",
    ]


def test_the_few_shot_and_forgetting_tables_show_f1_by_size_and_replay():
    lines = few_shot_table(FEW_SHOT).splitlines()
    assert "from the checkpoint, replay 0.3" in lines[0]
    assert lines[2:] == ["| news | 0 |  | 30.0 |  |", "| news | 10 | 10.0 | 40.0 ± 1.0 | 41.0 ± 2.0 |"]
    assert forgetting_table(FEW_SHOT).splitlines()[2:] == ["| news | 0 | 60.0 |  |", "| news | 10 | 20.0 | 55.0 |"]


def test_the_breadth_table_shows_f1_by_margin():
    text = breadth_table(BREADTH)
    assert "1,612 pairs of a fine and a broad type, made from 1,407 types" in text
    assert "95.0% of these 400 pairs" in text
    assert "| 2 (chosen) | 60% | 99.0% | 60.0 | 30.0 | 45.0 |" in text
    assert "| no network |  |  | 40.0 | 30.0 | 35.0 |" in text
    assert "(chosen)" not in breadth_table({**BREADTH, "margin": None})
    by_tolerance = {"5.0": {"news": 0.7, "web": 0.3}, "inf": {"news": 0.6, "web": 0.3}}
    text = breadth_table({**BREADTH, "tolerance": 5.0, "f1_by_tolerance": by_tolerance})
    assert "| 5 (chosen) | 70.0 | 30.0 | 50.0 |\n| no limit | 60.0 | 30.0 | 45.0 |" in text


def test_the_command_writes_all_tables_into_the_page(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(PAGE.read_text(encoding="utf-8"), encoding="utf-8")
    for name, results in (("zero_shot", ZERO_SHOT), ("breadth", BREADTH)):
        (tmp_path / f"{name}.json").write_text(json.dumps(results))
    main(["--results", str(tmp_path), "--page", str(page)])
    text = page.read_text(encoding="utf-8")
    assert zero_shot_table(ZERO_SHOT) in text and breadth_table(BREADTH) in text
    assert f"<!-- few-shot -->\n{NOT_RUN}\n<!-- /few-shot -->" in text
    assert all(f"<!-- {marker} -->" in text for marker in TABLES)
    page.write_text("nothing", encoding="utf-8")
    with pytest.raises(SystemExit, match="expected one line <!-- zero-shot -->"):
        main(["--results", str(tmp_path), "--page", str(page)])


def test_absolute_paths_of_checkpoints_are_shortened():
    assert model_name("/home/somebody/base") == "base" and model_name("user/name") == "user/name"
    assert model_name("checkpoints/base") == "base"
