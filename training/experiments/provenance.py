"""Where a result comes from: recipe, what was changed in it, command, commit, machine."""

import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modeling_binder.machine import hardware

# What says where and how a run is written, and not what it is
_INCIDENTAL = {
    "output_dir",
    "seed",
    "restart",
    "disable_tqdm",
    "logging_steps",
    "report_to",
    "save_total_limit",
    "push_to_hub",
}


def provenance(
    module: str, argv: list[str], recipe: str | None, given: Mapping[str, Any], model: str, variant: str = ""
) -> dict[str, Any]:
    """What `results.json` tells of its own origin; `training.experiments.results` collects by it.

    Args:
        module, argv: the command, as `python -m MODULE ARGV`.
        recipe: name of the recipe, without folder and suffix; None where there was none.
        given: settings that differ from the recipe's.
        model: what was trained: "binder", "token classifier", "ablation" or "held-out types".
        variant: which of several, in words.
    """
    changed = [
        f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in given.items()
        if name not in _INCIDENTAL
    ]
    return {
        "recipe": recipe,
        "model": model,
        "variant": variant,
        "changed": ", ".join(changed),
        "command": shlex.join(["python", "-m", module, *argv]),
        "commit": commit(),
        "device": hardware(),
    }


def commit() -> str | None:
    """The commit that this code is, "-dirty" where it was changed since; None outside a clone."""
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--exclude", "*"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return described.stdout.strip() or None
