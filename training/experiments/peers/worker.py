"""Train and evaluate one contender, in its own environment.

    python -m training.experiments.peers.worker OUTPUT_FOLDER

The folder holds settings.json, see `Settings`. The worker writes the predictions at each evaluation, and at the end
run.json with the facts of the run.
"""

import json
import sys
import time
from dataclasses import fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from . import CONTENDERS, make
from .base import Contender, Run, Settings

ROOT = Path(__file__).resolve().parents[3]
FINISHED = "run.json"
SETTINGS = "settings.json"


def read_settings(output: Path) -> Settings:
    """Read the settings of a run."""
    values = json.loads((output / SETTINGS).read_text(encoding="utf-8"))
    names = {field.name for field in fields(Settings)}
    known = {name: value for name, value in values.items() if name in names}
    return Settings(**{**known, "shares": tuple(values["shares"])})


def train(contender: Contender) -> dict[str, Any]:
    """Train a contender within the time of its run and return the facts of the run."""
    run = contender.run
    began = time.perf_counter()
    contender.import_libraries()
    imported = time.perf_counter() - began
    run.clock.resume()
    contender.train()
    if not run.points or run.points[-1]["share"] != run.settings.shares[-1]:
        raise RuntimeError("the training ended before its time was over")
    return {
        "points": run.points,
        "settings": contender.chosen,
        "versions": {name: _version(name) for name in contender.libraries},
        "import_seconds": imported,
        "peak_memory_mb": _peak_memory_mb(),
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _peak_memory_mb() -> int:
    import resource

    unit = 1 if sys.platform == "darwin" else 1024  # the unit of ru_maxrss in bytes
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6)


def hide_project() -> None:
    """Remove this project's folder from `sys.path`; the modules of the contender are imported already.

    If the project is installed in editable mode, its folder contains metadata of binder-ner. spaCy would find the
    component `binder_ner` in them, and import it, which fails in an environment with an older version of transformers.
    """
    sys.path[:] = [path for path in sys.path if Path(path).resolve() != ROOT]


def main() -> None:
    output = Path(sys.argv[1])
    settings = read_settings(output)
    contender = make(settings.contender, Run(settings, output))
    if CONTENDERS[settings.contender].environment:
        hide_project()
    import torch

    torch.set_num_threads(settings.threads)
    facts = train(contender)
    finished = output / FINISHED
    unfinished = finished.with_suffix(".tmp")  # so that an interrupted run leaves no incomplete file
    unfinished.write_text(json.dumps(facts, indent=1), encoding="utf-8")
    unfinished.replace(finished)


if __name__ == "__main__":
    main()
