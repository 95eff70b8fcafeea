"""Comparison with the implementation that the authors of the paper released.

With the same weights and inputs, the scores, losses, gradients and spans must be the same. The environment variable
`BINDER_PARITY` is a folder with recorded outputs of the released implementation. Without it, these tests are skipped.
"""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig

from modeling_binder.decoding_binder import propose_spans, required_margin
from training.convert_reference import convert

FOLDER = os.environ.get("BINDER_PARITY")
pytestmark = pytest.mark.skipif(not FOLDER, reason="BINDER_PARITY is not set to the folder with recorded runs")


@pytest.fixture(params=["bert_width", "bert_nowidth"])
def recorded(request):
    """Return the model with the recorded weights, its inputs, all recorded tensors and the expected values."""
    folder = Path(FOLDER) / request.param
    expected = json.loads((folder / "expected.json").read_text())
    batch = load_file(folder / "batch.safetensors")
    weights = expected["weights"]
    model = convert(
        load_file(folder / "reference_state.safetensors"),
        AutoConfig.from_pretrained(folder / "encoder_config.json"),
        max_span_width=24,
        start_loss_weight=weights["start"],
        end_loss_weight=weights["end"],
        span_loss_weight=weights["span"],
        mention_loss_weight=weights["ner"],
        threshold_loss_weight=weights["threshold"],
    )
    inputs = {k: batch[k] for k in ("input_ids", "attention_mask", "type_input_ids", "type_attention_mask")}
    return model, inputs, batch, expected


def as_labels(mentions, windows):
    """Convert mentions to the padded labels of `binder_losses`.

    Args:
        mentions: a row (window, type, first token, last token) for each of N mentions, [N, 4].
        windows: number of windows, B.

    Returns:
        Labels, [B, M, 3], where M is the largest number of mentions in a window.
    """
    rows = [mentions[mentions[:, 0] == window][:, 1:] for window in range(windows)]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-100)


def run(model, inputs, batch):
    return model(
        **inputs,
        word_start_mask=batch["token_start_mask"],
        word_end_mask=batch["token_end_mask"],
        labels=as_labels(batch["mentions"], len(batch["input_ids"])),
    )


def test_scores_equal_the_recorded_scores(recorded):
    model, inputs, batch, _ = recorded
    with torch.no_grad():
        output = model(**inputs)
    torch.testing.assert_close(output.start_scores, batch["start_scores"], atol=1e-5, rtol=0)
    torch.testing.assert_close(output.end_scores, batch["end_scores"], atol=1e-5, rtol=0)
    length = batch["input_ids"].shape[1]
    first, last = torch.triu_indices(length, length)
    torch.testing.assert_close(
        output.span_scores[..., first, last - first], batch["span_scores"][..., first, last], atol=1e-5, rtol=0
    )


def test_losses_equal_the_recorded_losses(recorded):
    model, inputs, batch, expected = recorded
    with torch.no_grad():
        output = run(model, inputs, batch)
    terms = {name: output[f"{name}_loss"].item() for name in expected["loss_terms"]}
    assert terms == pytest.approx(expected["loss_terms"], abs=1e-5)
    assert output.loss.item() == pytest.approx(expected["loss"], abs=1e-5)


def test_gradient_norms_equal_the_recorded_norms(recorded):
    model, inputs, batch, expected = recorded
    run(model, inputs, batch).loss.backward()
    parameters = dict(model.named_parameters())
    ours = {}
    from training.convert_reference import rename

    for name in expected["gradient_norms"]:
        ours[name] = parameters[next(iter(rename({name: torch.empty(0)})))].grad.norm().item()
    assert ours == pytest.approx(expected["gradient_norms"], rel=1e-4)


def test_predicted_spans_equal_the_recorded_spans(recorded):
    model, inputs, batch, expected = recorded
    with torch.no_grad():
        output = model(**inputs)
    found = propose_spans(
        output.span_scores,
        batch["token_start_mask"],
        batch["token_end_mask"],
        required_margin(0.5, output.span_scores.shape[1]),
    )
    assert sorted(torch.stack(found[:4], 1).tolist()) == sorted(expected["predicted_spans"])
