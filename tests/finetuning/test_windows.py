"""Token windows of the training data, batches of windows, and the sampler.

Labels are at the right tokens, and lost mentions are reported.
"""

import pytest
import torch

from modeling_binder import BinderWindower
from modeling_binder.finetuning import DataError, Document, Mention, WindowDataset, data_report
from modeling_binder.finetuning.report import SplitReport
from modeling_binder.finetuning.windows import LengthGroupedSampler, Loss, WindowCollator

TEXT = "the IL-2 gene promoter of cells"


def dataset(tokenizer, *documents, max_length=64, stride=16, max_span_width=12, types=("Gene", "Cell")):
    """Return the token windows of documents with their labels."""
    return WindowDataset(documents, BinderWindower(tokenizer, max_length, stride), types, max_span_width)


def test_labels_of_every_window_are_the_tokens_of_its_mentions(tokenizer):
    text = (TEXT + ". ") * 6
    mentions = tuple(Mention(4 + 33 * i, 13 + 33 * i, "Gene") for i in range(6))
    data = dataset(tokenizer, Document("a", text, mentions), max_length=32, stride=12)
    assert len(data) > 2
    seen = set()
    for window, labels in zip(data.windows, data.labels, strict=True):
        for type_id, first, last in labels:
            assert type_id == 0
            seen.add((window.starts[first], window.ends[last]))
    assert seen == {(m.start, m.end) for m in mentions} and not data.lost


def test_lost_mentions_are_reported_with_the_reason(tokenizer):
    document = Document(
        "doc",
        TEXT,
        (Mention(5, 8, "Gene"), Mention(0, 31, "Cell"), Mention(26, 31, "Cell")),
    )
    data = dataset(tokenizer, document, max_span_width=8)
    assert [(lost.mention.start, lost.reason) for lost in data.lost] == [(5, Loss.WORD_BOUNDARY), (0, Loss.SPAN_WIDTH)]
    cut = dataset(tokenizer, Document("b", TEXT, (Mention(0, 31, "Gene"),)), max_length=10, stride=2, max_span_width=99)
    assert [lost.reason for lost in cut.lost] == [Loss.WINDOW]
    report = data_report({"train": data})
    assert "2 (66.7%)" in report and "not at a word boundary" in report
    assert "doc [5:8] Gene: the I[L-2] gene promoter" in report


def test_windows_without_mentions_are_kept(tokenizer):
    data = dataset(tokenizer, Document("a", TEXT), Document("b", ""))
    report = SplitReport.of("train", data)
    assert (report.documents, report.windows, report.empty_windows) == (2, 2, 2)
    assert report.to_dict()["mentions"] == {"Gene": 0, "Cell": 0}


def test_the_report_counts_nested_mentions_and_documents_with_overlap(tokenizer):
    nested = Document("a", TEXT, (Mention(4, 8, "Gene"), Mention(4, 13, "Gene")))
    crossing = Document("b", TEXT, (Mention(4, 13, "Gene"), Mention(9, 22, "Cell")))
    report = SplitReport.of("train", dataset(tokenizer, nested, crossing))
    assert (report.nested, report.overlapping_documents, report.total) == (2, 2, 4)


def test_unknown_labels_raise_an_error(tokenizer):
    with pytest.raises(DataError, match=r"document 'a'.*'IL-2'.*'Protein'.*not one of the entity types"):
        dataset(tokenizer, Document("a", TEXT, (Mention(4, 8, "Protein"),)))


def test_batches_are_padded_to_their_longest_window(tokenizer):
    data = dataset(tokenizer, Document("a", TEXT, (Mention(4, 8, "Gene"), Mention(4, 13, "Gene"))), Document("b", "x"))
    types = BinderWindower(tokenizer).encode_types(["a gene", "a cell"])
    batch = WindowCollator(tokenizer.pad_token_id, types)([data[0], data[1]])
    length = len(data.windows[0].input_ids)
    assert batch["input_ids"].shape == batch["word_start_mask"].shape == (2, length)
    assert batch["attention_mask"].sum(1).tolist() == [length, 3]
    assert batch["labels"].shape == (2, 2, 3) and (batch["labels"][1] == -100).all()
    assert batch["type_input_ids"].shape[0] == 2
    alone = WindowCollator(tokenizer.pad_token_id, types)([data[1]])
    assert alone["input_ids"].shape == (1, 3) and alone["labels"].shape == (1, 1, 3)


def test_the_sampler_groups_windows_by_length_and_is_deterministic():
    lengths = torch.randint(3, 100, (1003,)).tolist()
    orders = {}
    for epoch in (0, 1):
        sampler = LengthGroupedSampler(lengths, 8, seed=5, epoch=lambda epoch=epoch: epoch)
        orders[epoch] = list(sampler)
        assert sorted(orders[epoch]) == list(range(1003)) and list(sampler) == orders[epoch]
    assert orders[0] != orders[1]
    batches = [orders[0][i : i + 8] for i in range(0, 1000, 8)]
    spread = [max(lengths[i] for i in b) - min(lengths[i] for i in b) for b in batches]
    assert sum(spread) / len(spread) < 5
    firsts = [lengths[b[0]] for b in batches[:50]]
    assert firsts != sorted(firsts, reverse=True)  # the batches are shuffled, so their lengths are not sorted
