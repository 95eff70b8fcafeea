"""Conversion of checkpoints from the released BINDER code, in two file formats."""

import json

import pytest
import torch
from safetensors.torch import save_file

from modeling_binder import BinderModel
from tests.tiny import TYPES, build_model, build_tokenizer, tiny_encoder_config
from training.convert_reference import convert, main, rename


def released_state(model):
    """Return the weights of a model with the names of the released code. That code also saves a pooler."""
    names = {
        **{f"{h}_head.text_projection.{p}": f"{h}_linear.{p}" for h in _HEADS for p in ("weight", "bias")},
        **{f"{h}_head.type_projection.{p}": f"type_{h}_linear.{p}" for h in _HEADS for p in ("weight", "bias")},
        **{f"{h}_head.scale": f"{h}_logit_scale" for h in _HEADS},
        "span_head.width_embedding.weight": "width_embeddings.weight",
    }
    state = {names.get(name, name): tensor.clone() for name, tensor in model.state_dict().items()}
    return state | {"text_encoder.pooler.dense.weight": torch.zeros(1)}


_HEADS = ("start", "end", "span")


@pytest.mark.parametrize("suffix", [".bin", ".safetensors"])
def test_the_command_converts_both_file_formats(tmp_path, suffix, monkeypatch):
    model = build_model()
    encoder = tmp_path / "encoder"
    model.text_encoder.save_pretrained(encoder)
    build_tokenizer().save_pretrained(encoder)
    (tmp_path / "types.json").write_text(json.dumps(TYPES))
    state = tmp_path / f"state{suffix}"
    (torch.save if suffix == ".bin" else save_file)(released_state(model), state)
    output = tmp_path / "out"
    monkeypatch.setattr(
        "sys.argv",
        ["convert", str(state), str(output), "--encoder", str(encoder), "--types", str(tmp_path / "types.json")],
    )
    main()
    converted = BinderModel.from_pretrained(output)
    assert converted.config.max_span_width == 12 and converted.config.type_descriptions == TYPES
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, converted.state_dict()[name])


def test_weights_that_do_not_fit_the_model_raise_an_error():
    state = released_state(build_model())
    with pytest.raises(ValueError, match="not a checkpoint of the released BINDER code"):
        convert({"a": torch.zeros(1)}, tiny_encoder_config())
    with pytest.raises(ValueError, match=r"are unexpected \(first .*layer\.1.*--encoder"):
        convert(state, tiny_encoder_config(num_hidden_layers=1))
    assert not any("pooler" in name for name in rename(state))
