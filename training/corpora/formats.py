"""Formats in which people bring their own annotations."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from modeling_binder.finetuning import DataError, Document, Mention, documents_from_words, read_iob
from training.corpora.benchmarks import Splits
from training.corpora.brat import read_brat
from training.corpora.pubtator import read_pubtator
from training.corpora.token_spans import read_token_spans

_SPLITS = {"train": ("train", "training"), "dev": ("dev", "devel", "valid", "validation"), "test": ("test",)}


def read_label_studio(path: str | Path) -> list[Document]:
    """Documents of a Label Studio export, JSON or JSON-MIN; skipped tasks are left out, cancelled annotations too.

    Raises:
        DataError: names the task without a text, or whose span is outside it.
    """
    path = Path(path)
    try:
        tasks = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: not valid JSON ({error}).") from None
    if not isinstance(tasks, list):
        raise DataError(f"{path}: expected a list of tasks, got {type(tasks).__name__}.")
    documents = []
    for number, task in enumerate(tasks, 1):
        where = f"{path}: task {number}"
        if not isinstance(task, dict):
            raise DataError(f"{where}: expected an object, got {task!r:.60}.")
        data = task.get("data", task)
        text = data.get("text")
        if not isinstance(text, str):
            raise DataError(f"{where}: expected a 'text', got the fields {sorted(data)}.")
        if "annotations" in task:
            done = [annotation for annotation in task["annotations"] if not annotation.get("was_cancelled")]
            if not done:
                continue
            values = [result["value"] for result in done[0]["result"] if "labels" in result.get("value", {})]
        else:  # JSON-MIN: the name of the labels' field is the user's own
            fields = [value for value in task.values() if isinstance(value, list)]
            values = [value for field in fields for value in field if isinstance(value, dict) and "labels" in value]
        mentions = []
        for value in values:
            if not 0 <= value["start"] < value["end"] <= len(text):
                raise DataError(f"{where}: spans {value['start']}..{value['end']} in a text of {len(text)} characters.")
            mentions += [Mention(value["start"], value["end"], label) for label in value["labels"]]
        documents.append(Document(str(task.get("id", number)), text, tuple(dict.fromkeys(mentions))))
    return documents


def read_docbin(path: str | Path) -> list[Document]:
    """Documents of a spaCy DocBin (.spacy): entities, and the spans of every group that a document has.

    Raises:
        DataError: the file is no DocBin.
        ModuleNotFoundError: spaCy is not installed.
    """
    try:
        import spacy
        from spacy.tokens import DocBin
    except ModuleNotFoundError:
        raise ModuleNotFoundError("a DocBin is read with spaCy, which is not installed: pip install spacy") from None
    path = Path(path)
    try:
        docs = list(DocBin().from_disk(path).get_docs(spacy.blank("xx").vocab))
    except (ValueError, KeyError, EOFError, TypeError) as error:
        raise DataError(f"{path}: this is no DocBin that spaCy {spacy.__version__} reads ({error}).") from None
    documents = []
    for number, doc in enumerate(docs, 1):
        spans = [*doc.ents, *(span for group in doc.spans.values() for span in group)]
        mentions = dict.fromkeys(Mention(span.start_char, span.end_char, span.label_) for span in spans)
        words = tuple((t.idx, t.idx + len(t)) for t in doc if not t.is_space)
        documents.append(Document(f"{path.stem}-{number}", doc.text, tuple(mentions), words))
    return documents


def read_conllu(path: str | Path) -> list[Document]:
    """Documents, one a sentence, of a CoNLL-U (Plus) file with tags in IOB2.

    The tags stand in the column that `# global.columns` calls NER (or NE, BIO, IOB), or in MISC as `NER=B-PER`.
    Multi-word ranges and empty nodes are skipped.

    Raises:
        DataError: the file is malformed, or has no tag.
        ModuleNotFoundError: conllu is not installed.
    """
    try:
        import conllu
    except ModuleNotFoundError:
        raise ModuleNotFoundError("CoNLL-U is read with conllu, which is not installed: pip install conllu") from None
    path = Path(path)
    try:
        sentences = conllu.parse(path.read_text(encoding="utf-8"))
    except conllu.exceptions.ParseException as error:
        raise DataError(f"{path}: not valid CoNLL-U ({error}).") from None
    words, tags, seen = [], [], False
    for sentence in sentences:
        tokens = [token for token in sentence if isinstance(token["id"], int)]
        found = [_conllu_tag(token) for token in tokens]
        seen = seen or any(found)
        words.append([token["form"] for token in tokens])
        tags.append([tag or "O" for tag in found])
    if not seen:
        raise DataError(f"{path}: no token has a tag, neither in a column NER nor in MISC as NER=B-TYPE.")
    try:
        documents = documents_from_words(words, tags)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    return [Document(f"{path.stem}-{d.id}", d.text, d.entities, d.words) for d in documents]


def _conllu_tag(token: Any) -> str | None:
    for source in (token, token.get("misc") or {}):
        for key, value in source.items():
            if key.lower().split(":")[-1] in ("ner", "ne", "bio", "iob") and value:
                return str(value)
    return None


def read_hub_dataset(name: str) -> Splits:
    """Splits of a dataset on the Hub (or a local one that `datasets` loads) with `tokens` and `ner_tags`.

    Raises:
        DataError: it has no such columns.
        ModuleNotFoundError: datasets is not installed.
    """
    try:
        from datasets import load_dataset
    except ModuleNotFoundError:
        raise ModuleNotFoundError("it is read with datasets, which is not installed: pip install datasets") from None
    splits: Splits = {}
    for name_of_split, rows in load_dataset(name).items():
        split = next((ours for ours, theirs in _SPLITS.items() if name_of_split in theirs), None)
        if split is None:
            continue
        if not {"tokens", "ner_tags"} <= set(rows.column_names):
            raise DataError(f"{name}: expected the columns tokens and ner_tags, got {', '.join(rows.column_names)}.")
        names = getattr(getattr(rows.features["ner_tags"], "feature", None), "names", None)
        tags = [[names[tag] if names else tag for tag in row] for row in rows["ner_tags"]]
        splits[split] = documents_from_words(list(rows["tokens"]), tags)
    return splits


# name -> suffixes of its files, and what reads one of them
FORMATS: dict[str, tuple[tuple[str, ...], Callable[[Path], Iterable[Document]]] | None] = {
    "brat": None,
    "iob": ((".tsv", ".txt", ".conll", ".iob", ".iob2", ".bio"), read_iob),
    "pubtator": ((".txt", ".pubtator"), read_pubtator),
    "conllu": ((".conllu", ".conllup", ".conll"), read_conllu),
    "docbin": ((".spacy",), read_docbin),
    "label-studio": ((".json",), read_label_studio),
    "gliner": ((".json", ".jsonl"), read_token_spans),
    "hub": None,
}


def read_format(name: str, source: Path) -> Splits:
    """Splits of a corpus in one of the FORMATS.

    Files and sub-folders named train, dev (devel, valid, validation) and test are the splits; without any, all is
    train.

    Raises:
        DataError: there is no such file, or it is broken.
    """
    if name == "hub":
        return read_hub_dataset(str(source))
    if name == "brat":
        splits: Splits = {}
        for stem, document in read_brat(source).items():
            splits.setdefault(_split_of(stem.split("/")[:-1]) or "train", []).append(document)
        return splits
    chosen = FORMATS[name]
    assert chosen is not None
    suffixes, read = chosen
    if source.is_file():
        return {"train": list(read(source))}
    if not source.is_dir():
        raise DataError(f"{source}: there is no such file or folder.")
    files = sorted(path for path in source.rglob("*") if path.suffix.lower() in suffixes)
    if not files:
        raise DataError(f"{source}: there is no file with {', '.join(suffixes)} in it.")
    parts: Splits = {}
    for path in files:
        split = _split_of([*path.relative_to(source).parts[:-1], path.stem])
        parts.setdefault(split or "train", []).extend(read(path))
    return parts


def _split_of(names: Iterable[str]) -> str | None:
    """The split that a path's parts name: "corpus/validation-1" is dev."""
    for name in names:
        for split, starts in _SPLITS.items():
            if any(name.lower().replace("_", "-").split("-")[0].split(".")[0] == start for start in starts):
                return split
    return None
