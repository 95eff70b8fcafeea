"""The table of training runs on many corpora."""

import json

import pytest

from training.experiments.open_types_runs import MARKER, main, runs_table
from training.experiments.tables import NOT_RUN

PAGE = f"before\n<!-- {MARKER} -->\n<!-- /{MARKER} -->\nafter"


def write_run(folder, f1, changed="", **options):
    metrics = {"eval_f1": 0.5, "eval_precision": 0.5}
    for name, value in f1.items():
        metrics |= {f"eval_{name}_f1": value, f"eval_{name}_precision": value}
    results = {
        "recipe": "open-types-minilm",
        "model": "binder",
        "variant": "",
        "changed": changed,
        "seed": 7,
        "steps": 1200,
        "metrics": metrics,
        "mix": [{"name": "own", "drawn": 0.2}, {"name": "news", "drawn": 0.8}],
        **options,
    }
    folder.mkdir(exist_ok=True)
    (folder / "results.json").write_text(json.dumps(results))
    return str(folder)


def test_a_row_shows_the_mean_over_the_sets_that_are_not_in_the_mix(tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    options = ["--json", str(tmp_path / "runs.json"), "--page", str(page)]
    first = write_run(tmp_path / "one", {"own": 0.6, "law": 0.3, "chess": 0.4}, "prepared=folder, max_types=8")
    second = write_run(tmp_path / "two", {"own": 0.5, "law": 0.2, "chess": 0.4}, recipe="open-types-mpnet")
    main([first, *options])
    main([second, *options])
    lines = page.read_text().split("\n")
    assert lines[2].startswith("| recipe | text encoder | teacher | steps | law | chess | own | mean of the first 2 |")
    assert lines[4] == "| open-types-minilm with max\\_types=8 | minilm |  | 1,200 | 30.0 | 40.0 | 60.0 | 35.0 |"
    assert lines[5] == "| open-types-mpnet | mpnet |  | 1,200 | 20.0 | 40.0 | 50.0 | 30.0 |"
    again = write_run(tmp_path / "three", {"own": 0.1, "law": 0.5, "chess": 0.5}, recipe="open-types-mpnet")
    assert [run["f1"]["law"] for run in main([again, *options])] == [30.0, 50.0]
    assert "50.0" in capsys.readouterr().out


def test_without_runs_the_page_says_so():
    assert runs_table([]) == NOT_RUN


@pytest.mark.parametrize(
    ("options", "message"),
    [({"mix": None}, "not from training.finetune_mix"), ({"metrics": {"eval_f1": 0.3}}, "was not evaluated")],
)
def test_results_of_another_kind_are_refused(tmp_path, options, message):
    folder = write_run(tmp_path / "run", {"law": 0.5}, **options)
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    results = {key: value for key, value in results.items() if value is not None}
    (tmp_path / "run" / "results.json").write_text(json.dumps(results))
    with pytest.raises(SystemExit, match=message):
        main([folder, "--json", str(tmp_path / "runs.json"), "--page", str(tmp_path / "page.md")])
    assert not (tmp_path / "runs.json").exists()


def test_a_folder_without_results_is_named(tmp_path):
    with pytest.raises(SystemExit, match=r"nowhere.*results\.json"):
        main([str(tmp_path / "nowhere"), "--json", str(tmp_path / "runs.json")])
