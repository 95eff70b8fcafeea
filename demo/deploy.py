"""Upload the demo page to the Hugging Face Hub as a Gradio Space that uses a model from the Hub.

python -m demo.deploy user/space --model user/name
"""

import argparse
import re
import shutil
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import requires
from pathlib import Path

from huggingface_hub import CommitInfo, HfApi
from huggingface_hub.errors import HFValidationError

from hub_cards import space_card
from modeling_binder.hub import PushError, check_access, explained, push_files

ROOT = Path(__file__).resolve().parent.parent
DRAWING = ROOT / "modeling_binder" / "drawing"
LAUNCHER = '''"""Start the page."""

from demo.app import main

main()
'''
# Packages that the page and the model's code import. The Hub installs gradio itself, in the version on the card.
_REQUIRED = ("torch", "transformers", "huggingface-hub", "safetensors")


def pinned(package: str) -> str:
    """Return the version to which constraints.txt pins a package."""
    match = re.search(rf"^{re.escape(package)}==([\w.]+)", (ROOT / "constraints.txt").read_text("utf-8"), re.MULTILINE)
    if match is None:
        raise ValueError(f"constraints.txt pins no {package}: add {package}==VERSION.")
    return match[1]


def requirements() -> str:
    """Return the requirements.txt of the Space, with the version bounds of this package's dependencies."""
    bounds = {re.split(r"[<>=!~ ;]", line)[0]: line for line in requires("binder-ner") or [] if "extra ==" not in line}
    return "".join(f"{bounds[name]}\n" for name in _REQUIRED)


def deploy(
    space_id: str,
    model_id: str,
    private: bool | None = None,
    license: str | None = "apache-2.0",
    token: str | None = None,
    datasets: Sequence[str] = (),
    commit_message: str = "Deploy the demo",
) -> CommitInfo:
    """Create or update a Space with the demo page, in one commit.

    Args:
        space_id: "user/name" of the Space.
        model_id: "user/name" of the model that the page uses.
        private: whether the Space is private; ignored if the Space already exists.
        license: licence of the Space.
        token: access token; defaults to HF_TOKEN or to the token of `hf auth login`.
        datasets: Hub ids of the datasets on which the model was trained; they are listed on the card of the Space.
        commit_message: title of the commit.

    Raises:
        PushError: the upload failed and nothing was changed on the Hub; the message says why and what to do.
        ValueError: the model's repository does not contain the code that the Space runs.
    """
    space_id = check_access(space_id, token)
    api = HfApi(token=token)
    with explained(model_id):
        files = api.list_repo_files(model_id)
    if "pipeline_binder.py" not in files:
        raise ValueError(
            f"{model_id} has no code to run (pipeline_binder.py): push it with model.push_to_hub({model_id!r})."
        )
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "demo", "drawing_copy").mkdir(parents=True)
        for path in sorted(Path(__file__).parent.glob("*.py")):
            if path.name not in ("deploy.py", "publish.py"):
                shutil.copyfile(path, Path(folder, "demo", path.name))
        for path in sorted(DRAWING.glob("*.py")):
            if path.name != "terminal.py":  # it needs rich
                shutil.copyfile(path, Path(folder, "demo", "drawing_copy", path.name))
        card = space_card(space_id, model_id, pinned("gradio"), license, datasets=datasets)
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
    parser.add_argument("space", help="user/name of the Space; created if it does not exist")
    parser.add_argument("--model", required=True, help="user/name of the model on the Hub")
    parser.add_argument("--private", action="store_true", help="create a private Space")
    parser.add_argument("--license", default="apache-2.0", help="licence of the Space (default: apache-2.0)")
    arguments = parser.parse_args(argv)
    try:
        commit = deploy(arguments.space, arguments.model, arguments.private or None, arguments.license)
    except (PushError, ValueError, HFValidationError) as error:
        sys.exit(f"error: {error}")
    print(f"Deployed: {commit.commit_url}")


if __name__ == "__main__":
    main()
