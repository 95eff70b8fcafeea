"""Run the demo page in a separate process, and open it in a browser."""

import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def serve(command: list[str], folder: str, **environment: str) -> Iterator[str]:
    """Run a command that serves a Gradio page, and yield the URL of the page. Gradio chooses a free port."""
    with subprocess.Popen(
        command,
        cwd=folder,
        env={
            **os.environ,
            "HF_TOKEN": "",
            "GRADIO_ANALYTICS_ENABLED": "False",
            "PYTHONUNBUFFERED": "1",
            **environment,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        lines = []
        # The thread reads the rest of the output. Otherwise, the process would stop when the pipe is full.
        reader = threading.Thread(target=lambda: lines.extend(process.stdout))
        try:
            for line in process.stdout:
                lines.append(line)
                if address := re.search(r"running on.*(http://[\w.:]+)", line, re.IGNORECASE):
                    break
            else:
                raise AssertionError("".join(lines))
            reader.start()
            yield address[1]
        finally:
            process.kill()
            if reader.is_alive():
                reader.join()


@contextmanager
def chromium() -> Iterator[object]:
    """Yield a running Chromium. If Chromium is not installed, skip the test.

    If the environment variable BINDER_REQUIRE_BROWSER is set, a missing Chromium fails the test.
    """
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        if os.environ.get("BINDER_REQUIRE_BROWSER"):
            pytest.fail("chromium is not installed, and BINDER_REQUIRE_BROWSER is set")
        pytest.skip("chromium is not installed: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()
