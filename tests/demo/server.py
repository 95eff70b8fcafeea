"""A page that runs in a process of its own, and a browser to look at it."""

import os
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def serve(command: list[str], folder: str, **environment: str) -> Iterator[str]:
    """Run a command that serves a Gradio page; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with subprocess.Popen(
        command,
        cwd=folder,
        env={
            **os.environ,
            "HF_TOKEN": "",
            "GRADIO_SERVER_PORT": str(port),
            "GRADIO_ANALYTICS_ENABLED": "False",
            "PYTHONUNBUFFERED": "1",
            **environment,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        lines = []
        # Whoever prints into a pipe that nobody reads stands still when it is full.
        reader = threading.Thread(target=lambda: lines.extend(process.stdout))
        try:
            for line in process.stdout:
                lines.append(line)
                if re.search(r"running on.*http", line, re.IGNORECASE):
                    break
            else:
                raise AssertionError("".join(lines))
            reader.start()
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()
            if reader.is_alive():
                reader.join()


@contextmanager
def chromium() -> Iterator[object]:
    """Debian's chromium, or another one that is installed; skips the test without one, unless one was promised."""
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        if os.environ.get("BINDER_REQUIRE_BROWSER"):
            pytest.fail("there is no chromium on this machine, and BINDER_REQUIRE_BROWSER is set")
        pytest.skip("there is no chromium on this machine: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()
