"""Publish a checkpoint, its training corpora and a demo Space on the Hub, all under the same name.

python -m demo.publish user/name --model demo/model --data corpora
"""

import argparse
import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub.errors import HFValidationError
from transformers import AutoModel

import modeling_binder  # noqa: F401 (registers the model)
from modeling_binder.finetuning import Corpus, DataError, load_corpus
from modeling_binder.hub import PushError, check_access, facts_of, push_dataset, push_model

from .deploy import deploy

ROOT = Path(__file__).resolve().parent.parent
MODEL = ROOT / "demo" / "model"
OPEN_TYPES = ROOT / "training" / "open_types"
OWN_CORPUS = {"license": "Apache-2.0", "source": "written for binder-ner", "changes": "none."}


def publish(
    repo_id: str,
    model: str | Path = MODEL,
    data: str | Path | None = None,
    private: bool | None = None,
    license: str = "apache-2.0",
) -> dict[str, str]:
    """Push the corpora (as a dataset), the model and the Space. All three repositories have the same name.

    The dataset contains the corpus training/open_types and, with `data`, the training corpora that the model card
    lists. Corpora whose licence does not clearly allow a published copy are omitted.

    Args:
        repo_id: "user/name", or "name" in your own namespace.
        model: folder of the checkpoint.
        data: folder with the training corpora of the model, each in a sub-folder with the name of the corpus.
        private: whether new repositories are private; ignored for repositories that already exist.
        license: licence of the model and of the Space.

    Returns:
        The addresses of the three commits, with the keys "dataset", "model" and "space".

    Raises:
        PushError: a push failed. Earlier pushes of this call remain. Call the function again to push the rest.
        DataError: a corpus is missing or malformed; nothing was pushed.
        ValueError: the folder contains no checkpoint; nothing was pushed.
    """
    if not Path(model, "config.json").exists():
        raise ValueError(f"{model} has no checkpoint: pass another folder, as in --model checkpoints/quickstart.")
    repo_id = check_access(repo_id)
    loaded = AutoModel.from_pretrained(model)
    facts = facts_of(loaded)
    corpora, origins = _corpora(facts, data)
    description = f"Training corpora of the model {repo_id}." if facts.get("mix") else ""
    dataset = push_dataset(
        corpora, repo_id, language=facts.get("language"), description=description, origins=origins, private=private
    )
    facts = {"license": license, **facts, "datasets": [repo_id]}
    pushed = push_model(loaded, repo_id, facts=facts, private=private)
    space = deploy(repo_id, repo_id, private=private, license=license, datasets=[repo_id])
    return {"dataset": dataset.commit_url, "model": pushed.commit_url, "space": space.commit_url}


def _corpora(
    facts: Mapping[str, Any], data: str | Path | None
) -> tuple[dict[str, Corpus], dict[str, Mapping[str, str]]]:
    """Return the corpora to publish, and the licence and source of each corpus."""
    corpora = {OPEN_TYPES.name: load_corpus(OPEN_TYPES)}
    origins: dict[str, Mapping[str, str]] = {OPEN_TYPES.name: OWN_CORPUS}
    for part in facts.get("mix") or [] if data is not None else []:
        if part["name"] != OPEN_TYPES.name:
            corpora[part["name"]] = load_corpus(Path(str(data), part["name"]))
            origins[part["name"]] = {key: part[key] for key in ("license", "source") if part.get(key)}
    return corpora, origins


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    parser = argparse.ArgumentParser(
        prog="python -m demo.publish", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", help="user/name of the model, the dataset and the Space; created if they do not exist")
    parser.add_argument("--model", default=str(MODEL), help="folder of the checkpoint (default: demo/model)")
    parser.add_argument(
        "--data", help="folder with the corpora that the model card lists (default: omit these corpora)"
    )
    parser.add_argument("--private", action="store_true", help="create private repositories")
    parser.add_argument("--license", default="apache-2.0", help="licence of model and Space (default: apache-2.0)")
    arguments = parser.parse_args(argv)
    try:
        addresses = publish(
            arguments.name, arguments.model, arguments.data, arguments.private or None, arguments.license
        )
    except (DataError, PushError, ValueError, HFValidationError, OSError) as error:
        sys.exit(f"error: {error}")
    for name, address in addresses.items():
        print(f"{name}: {address}")


if __name__ == "__main__":
    main()
