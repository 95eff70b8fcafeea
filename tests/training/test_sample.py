"""The sample corpus: its generator, its splits and its mentions."""

import subprocess
import sys
from pathlib import Path

from modeling_binder.finetuning import load_corpus
from modeling_binder.finetuning.metrics import nested_flags
from modeling_binder.words_binder import split_words
from training.sample.generate import load

SAMPLE = Path(__file__).resolve().parents[2] / "training" / "sample"


def test_generator_reproduces_the_files_in_the_repository(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "training.sample.generate", str(tmp_path)],
        check=True,
        capture_output=True,
        cwd=SAMPLE.parents[1],
    )
    for split in ("train", "dev", "test"):
        assert (tmp_path / f"{split}.jsonl").read_bytes() == (SAMPLE / f"{split}.jsonl").read_bytes()


def test_splits_share_neither_sentences_nor_templates():
    corpus = load_corpus(SAMPLE)
    splits = [corpus.train, corpus.dev, corpus.test]
    texts = [document.text for documents in splits for document in documents]
    assert len(texts) == len(set(texts)) == 700
    templates = [template for split in load("templates.json").values() for template in split]
    assert len(templates) == len(set(templates))


def test_mentions_are_at_word_boundaries_and_every_type_occurs():
    corpus = load_corpus(SAMPLE)
    for documents in (corpus.train, corpus.dev, corpus.test):
        assert {m.label for d in documents for m in d.entities} == set(corpus.entity_types)
        flags = [flag for d in documents for flag in nested_flags(d.entities)]
        assert 0.3 < sum(flags) / len(flags) < 0.7
        assert 0.1 < sum(not d.entities for d in documents) / len(documents) < 0.3
        for document in documents:
            words = split_words(document.text)
            starts, ends = {start for start, _ in words}, {end for _, end in words}
            assert all(m.start in starts and m.end in ends for m in document.entities)
