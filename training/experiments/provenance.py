"""Record the origin of a result: recipe, changed settings, command, commit and machine."""

import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modeling_binder.machine import hardware

# The field "changed" does not list these settings. The seed has a separate field. The other settings do not affect the
# result.
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
    """Return the origin of a result: recipe, model, variant, changed settings, command, commit and machine.

    `training.experiments.results` groups results by recipe, model, variant and changed settings.

    Args:
        module, argv: the command `python -m MODULE ARGV`.
        recipe: name of the recipe, without folder and suffix. None means that there is no recipe.
        given: settings that differ from the recipe.
        model: kind of the model or the experiment, for example "binder", "token classifier", "ablation" or
            "dictionary".
        variant: name of the variant of an ablation or another experiment.
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
        "changed": ", ".join(sorted(changed)),  # the order of options on the command line does not matter
        "command": shlex.join(["python", "-m", module, *argv]),
        "commit": commit(),
        "device": hardware(),
    }


def commit() -> str | None:
    """Return the commit of this clone, with "-dirty" if files have changed. Return None outside a clone."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--exclude", "*"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:  # git is not installed
        return None
    return described.stdout.strip() or None
