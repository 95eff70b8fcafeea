"""Run the command line in a separate process."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.fresh_process import HANGS

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def start(*arguments, **options):
    """Start `binder-ner` with arguments and return the process. Ctrl-C (SIGINT) ends the process, as in a terminal.

    Background jobs of a script ignore SIGINT, and processes inherit this setting. Therefore the setting is replaced.
    Otherwise, the process would not raise KeyboardInterrupt if the tests run in the background.
    """
    line = [sys.executable, "-m", "modeling_binder", *map(str, arguments)]
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(line, **{"env": ENVIRONMENT, **options})
    finally:
        signal.signal(signal.SIGINT, handler)


def run(*arguments, stdin=""):
    """Run `binder-ner` with arguments. Return its exit code, stdout and stderr."""
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    process = start(*arguments, text=True, encoding="utf-8", **pipes)
    stdout, stderr = process.communicate(stdin, timeout=HANGS)
    return process.returncode, stdout, stderr
