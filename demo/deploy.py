"""Put the Gradio Space on the Hub, for a model that is there.

python -m demo.deploy user/space --model user/name
"""

import argparse
import re
import shutil
import sys
import tempfile
from importlib.metadata import requires
from pathlib import Path

from huggingface_hub import CommitInfo, HfApi
from huggingface_hub.errors import HFValidationError

from hub_cards import space_card
from modeling_binder.hub import PushError, check_access, explained, push_files

ROOT = Path(__file__).resolve().parent.parent
# What the page and the model's own code import; gradio comes with the Space
LAUNCHER = '''"""Starts the page, whose code is in demo/."""

from demo.app import main

main()
'''
_NEEDED = ("torch", "transformers", "huggingface-hub", "safetensors")


def pinned(package: str) -> str:
    """The version of a package in constraints.txt."""
    match = re.search(rf"^{re.escape(package)}==([\w.]+)", (ROOT / "constraints.txt").read_text("utf-8"), re.MULTILINE)
    if match is None:
        raise ValueError(f"constraints.txt pins no {package}: add {package}==VERSION.")
    return match[1]


def requirements() -> str:
    """requirements.txt of the Space: the bounds of this package's own dependencies."""
    bounds = {re.split(r"[<>=!~ ;]", line)[0]: line for line in requires("binder-ner") or [] if "extra ==" not in line}
    return "".join(f"{bounds[name]}\n" for name in _NEEDED)


def deploy(
    space_id: str,
    model_id: str,
    private: bool | None = None,
    license: str | None = "apache-2.0",
    token: str | None = None,
    commit_message: str = "Deploy the demo",
) -> CommitInfo:
    """Create or update a Space that shows a model, as one commit.

    Raises:
        PushError: nothing was changed on the Hub; the message says what to do.
        ValueError: the model's repository does not bring the code that the Space runs.
    """
    space_id = check_access(space_id, token)
    api = HfApi(token=token)
    with explained(model_id):
        files = api.list_repo_files(model_id)
    if "pipeline_binder.py" not in files:
        raise ValueError(
            f"{model_id} brings no code to run (pipeline_binder.py): push it with model.push_to_hub({model_id!r})."
        )
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "demo").mkdir()
        for path in sorted(Path(__file__).parent.glob("*.py")):
            if path.name != "deploy.py":
                shutil.copyfile(path, Path(folder, "demo", path.name))
        card = space_card(space_id, model_id, pinned("gradio"), license)
        for name, content in (
            ("README.md", str(card)),
            ("requirements.txt", requirements()),
            ("app.py", LAUNCHER),
            ("demo/model_id.txt", f"{model_id}\n"),
        ):
            Path(folder, name).write_text(content, encoding="utf-8")
        return push_files(
            folder,
            space_id,
            api=api,
            repo_type="space",
            private=private,
            space_sdk="gradio",
            commit_message=commit_message,
        )


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m demo.deploy", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("space", help="user/name of the Space; made if it is not there")
    parser.add_argument("--model", required=True, help="user/name of the model, on the Hub already")
    parser.add_argument("--private", action="store_true", help="of a Space that is made")
    parser.add_argument("--license", default="apache-2.0", help="of the Space (default: apache-2.0)")
    arguments = parser.parse_args(argv)
    try:
        commit = deploy(arguments.space, arguments.model, arguments.private or None, arguments.license)
    except (PushError, ValueError, HFValidationError) as error:
        sys.exit(f"error: {error}")
    print(f"Deployed: {commit.commit_url}")


if __name__ == "__main__":
    main()
