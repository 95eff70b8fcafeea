"""Convert a checkpoint of the released BINDER code (microsoft/binder) into a checkpoint of this package.

    python -m training.convert_reference pytorch_model.bin --encoder google-bert/bert-base-uncased \\
        --types types.json checkpoints/converted
"""

import argparse
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoConfig, AutoTokenizer

from modeling_binder import BinderConfig, BinderModel
from modeling_binder.finetuning.data import read_types

_RENAMED = (
    (r"^(start|end|span)_linear\.", r"\1_head.text_projection."),
    (r"^type_(start|end|span)_linear\.", r"\1_head.type_projection."),
    (r"^(start|end|span)_logit_scale$", r"\1_head.scale"),
    (r"^width_embeddings\.", "span_head.width_embedding."),
)
_UNUSED = re.compile(r"^(text|type)_encoder\.(pooler\.|embeddings\.position_ids$)")


def rename(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the weights of the released code. Remove the weights of the poolers, because BINDER does not use them."""
    renamed = {}
    for name, tensor in state.items():
        if _UNUSED.match(name):
            continue
        for pattern, replacement in _RENAMED:
            name = re.sub(pattern, replacement, name)
        renamed[name] = tensor
    return renamed


def convert(state: Mapping[str, Tensor], encoder_config: Any, **config: Any) -> BinderModel:
    """Build a `BinderModel` with the weights of the released code.

    Args:
        state: state dict of the released code. It determines the sizes of the heads.
        encoder_config: configuration of the encoder that was fine-tuned. Texts and types have equal encoders.
        config: other fields of `BinderConfig`, such as `entity_types`.

    Raises:
        ValueError: the weights do not fit the model. The message names the first missing and the first unexpected
            weight.
    """
    weights = rename(state)
    for name in ("start_head.text_projection.weight", "span_head.text_projection.weight", "span_head.scale"):
        if name not in weights:
            raise ValueError(f"not a checkpoint of the released BINDER code: the weights of {name} are missing.")
    widths = weights.get("span_head.width_embedding.weight")
    options = {
        "projection_size": weights["start_head.text_projection.weight"].shape[0],
        "use_span_width_embedding": widths is not None,
        "share_encoders": not any(name.startswith("type_encoder.") for name in weights),
        **({"max_span_width": widths.shape[0] - 1} if widths is not None else {}),
        **config,
    }
    encoder = encoder_config.to_dict()
    model = BinderModel(BinderConfig(text_config=encoder, type_config=encoder, **options))
    missing, unexpected = model.load_state_dict(weights, strict=False)
    if missing or unexpected:
        raise ValueError(
            f"the weights do not fit the encoder: {len(missing)} are missing (first {missing[:1]}), {len(unexpected)} "
            f"are unexpected (first {unexpected[:1]}). Pass the encoder that was fine-tuned as --encoder."
        )
    return model.eval()


def read_state(path: Path) -> dict[str, Tensor]:
    """Read weights from a .safetensors or .bin file, or from the folder of this file. Never run pickled code."""
    if path.is_dir():
        found = [path / name for name in ("model.safetensors", "pytorch_model.bin") if (path / name).exists()]
        if not found:
            raise FileNotFoundError(f"{path} contains neither model.safetensors nor pytorch_model.bin.")
        path = found[0]
    if path.suffix == ".safetensors":
        return load_file(path)
    state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        prog="python -m training.convert_reference",
    )
    parser.add_argument(
        "state_dict", type=Path, help="pytorch_model.bin or model.safetensors, or the folder of the file"
    )
    parser.add_argument("output", type=Path, help="output folder of the checkpoint")
    parser.add_argument("--encoder", required=True, help="id or folder of the encoder that was fine-tuned")
    parser.add_argument(
        "--types",
        required=True,
        type=Path,
        help="JSON object that maps names of types to descriptions, in the same order as in training",
    )
    parser.add_argument("--max-length", type=int, default=256, help="tokens in a window (default 256)")
    parser.add_argument(
        "--max-span-width", type=int, help="maximum number of tokens in a span, for a model without width embeddings"
    )
    arguments = parser.parse_args()

    types = [{"name": name, "description": text} for name, text in read_types(arguments.types).items()]
    options = {"entity_types": types, "max_length": arguments.max_length}
    if arguments.max_span_width:
        options["max_span_width"] = arguments.max_span_width
    model = convert(read_state(arguments.state_dict), AutoConfig.from_pretrained(arguments.encoder), **options)
    model.save_pretrained(arguments.output)
    AutoTokenizer.from_pretrained(arguments.encoder).save_pretrained(arguments.output)
    print(f"{arguments.output}: {model.num_parameters():,} parameters, {len(types)} entity types")


if __name__ == "__main__":
    main()
