"""Files of published corpora are read in their original formats.

The numbers of documents and mentions equal the published numbers. The tests need the folder BINDER_DATA and
are skipped if there is no such folder.
"""

import os
from collections import Counter
from pathlib import Path

import pytest

from modeling_binder.finetuning import read_documents
from modeling_binder.finetuning.formats import detect_format

DATA = Path(os.environ.get("BINDER_DATA", "nowhere"))
FILES = [
    ("litbank/brat.tar.gz", "brat", 100, 13912),
    ("bc5cdr/pubtator/CDR_DevelopmentSet.PubTator.txt", "pubtator", 500, 5347 + 4244),
    ("bc5cdr/pubtator/CDR_TestSet.PubTator.txt", "pubtator", 500, 5385 + 4424),
    ("ncbi-disease/pubtator/NCBItestset_corpus.txt", "pubtator", 100, 960),
    ("bc5cdr-distant/train.ALL.txt", "conll", 4560, 5203 + 4182),
    ("genia/dev.jsonl", "gliner", 1669, 5365),
    ("genia/gold_json/test.json", "gliner", 1854, 5506),
]


@pytest.mark.skipif(not DATA.is_dir(), reason="BINDER_DATA is not a folder with published corpora")
@pytest.mark.parametrize(("name", "format", "documents", "mentions"), FILES)
def test_the_format_is_detected_and_counts_equal_published_counts(name, format, documents, mentions):
    assert detect_format(DATA / name) == format
    read = read_documents(DATA / name)
    assert len(read) == documents
    assert sum(Counter(m.label for document in read for m in document.entities).values()) == mentions
