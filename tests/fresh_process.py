"""Run Python code in a fresh process. The package can be hidden from this process."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HANGS = 900  # seconds after which a process counts as hanging, even on a busy machine


def run(code, *, package, cache, offline=False, **variables):
    """Run code in a fresh process and return the JSON value in the last line that it prints.

    Args:
        code: Python code. It may be indented.
        package: whether the process can import the package. If false, `import modeling_binder` fails in the process,
            even if the package is installed.
        cache: folder for downloads, and working directory of the process.
        offline: whether downloads are switched off.
        variables: environment variables; `None` removes a variable.
    """
    guard = "" if package else "import sys; sys.modules['modeling_binder'] = sys.modules['hub_cards'] = None\n"
    environment = {
        **os.environ,
        "HF_HOME": str(cache),
        "PYTHONWARNINGS": "error::UserWarning:transformers_modules",
        "PYTHONPATH": str(ROOT) if package else "",
    }
    environment.pop("HF_HUB_OFFLINE", None)
    if offline:
        environment["HF_HUB_OFFLINE"] = "1"
    for name, value in variables.items():
        environment.pop(name, None)
        if value is not None:
            environment[name] = value
    done = subprocess.run(
        [sys.executable, "-c", guard + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        env=environment,
        cwd=cache,
        timeout=HANGS,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.strip().splitlines()[-1])
