"""Readers and writers for the file formats of annotation tools and corpora.

`read_documents` and `write_format` work for all formats. Each format also has its own functions:

| format | reader | writer | unit of the offsets in a file |
|---|---|---|---|
| jsonl (our own format) | `read_jsonl` | `write_jsonl` | code points |
| conll (columns with tags) | `read_iob` | `write_columns` | none |
| brat | `read_brat` | `write_brat` | code points |
| pubtator | `read_pubtator` | `write_pubtator` | code points |
| label-studio | `read_label_studio` | `write_label_studio` (predictions) | UTF-16 units, \\r\\n counts as one |
| doccano | `read_doccano` | `write_doccano` | UTF-16 units |
| bioc (XML and JSON) | `read_bioc` | `write_bioc` (JSON) | code points |
| prodigy | `read_prodigy` | | code points |
| webanno (TSV 3, INCEpTION) | `read_webanno` | | UTF-16 units |
| conllu | `read_conllu` | | none |
| docbin (spaCy) | `read_docbin` | `write_docbin` | code points |
| gliner (tokens and spans) | `read_token_spans` | | none |
| pubmed (raw text) | `read_pubmed` | | none |
"""

from .bioc import read_bioc, write_bioc
from .brat import read_brat, write_brat
from .columns import read_iob, write_columns
from .conllu import read_conllu
from .detection import detect_format
from .docbin import read_docbin, write_docbin
from .doccano import read_doccano, write_doccano
from .folders import read_splits
from .found import found_documents
from .hub_dataset import read_hub_dataset
from .label_studio import read_label_studio, write_label_studio
from .prodigy import read_prodigy
from .pubmed import read_pubmed
from .pubtator import read_pubtator, write_pubtator
from .registry import FORMATS, SUFFIXES, read_documents, write_format
from .token_spans import read_token_spans
from .webanno import read_webanno

__all__ = [
    "FORMATS",
    "SUFFIXES",
    "detect_format",
    "found_documents",
    "read_bioc",
    "read_brat",
    "read_conllu",
    "read_docbin",
    "read_doccano",
    "read_documents",
    "read_hub_dataset",
    "read_iob",
    "read_label_studio",
    "read_prodigy",
    "read_pubmed",
    "read_pubtator",
    "read_splits",
    "read_token_spans",
    "read_webanno",
    "write_bioc",
    "write_brat",
    "write_columns",
    "write_docbin",
    "write_doccano",
    "write_format",
    "write_label_studio",
    "write_pubtator",
]
