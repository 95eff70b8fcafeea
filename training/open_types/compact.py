"""Convert texts in a compact notation to JSON lines, and check them.

    [Ada Lovelace|person; mathematician] wrote to [Charles Babbage|person] in [1843|year]. ## university; computer

`[span|type; type]` is a mention. Mentions may be nested. The types after ` ## ` are absent: the text was annotated for
these types, but does not mention them. The text was not annotated for any other type. The file NAME.types.tsv in the
folder of NAME.txt describes the types, with one phrasing per line: `mathematician<TAB>A person who studies
mathematics.`

    python -m training.open_types.compact mine.txt                                       # check and count
    python -m training.open_types.compact mine.txt --out training/open_types --append    # add to the corpus
    python -m training.open_types.compact texts/*.txt --test O --out training/open_types # build the corpus anew

The files in `--test` become the test set. Other texts become the development set if they mention a type of certain
domains (`DEV_DOMAINS`), such as chess or wine. The remaining texts become the training set. The optional file
NAME.domains.tsv contains the domain of each text, by its number: `1<TAB>beekeeping`. If the checks of `python -m
training.open_types` find a problem in the result, nothing is written.
"""

import argparse
import json
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from modeling_binder.finetuning import Corpus, DataError, Document, Mention, load_corpus
from modeling_binder.finetuning.data import EntityType, as_mapping, read_lines, write_json, written_whole
from modeling_binder.finetuning.splits import SPLIT_NAMES
from training.open_types.checks import counts_table, find_problems

DEV_DOMAINS = re.compile(
    r"\b(chess|wine|winery|winemaker|vineyard|grape|cheese|coin|numismatist|dance|dancer|ballet|choreographer|cricket"
    r"|cricketer|tennis|mushroom|fungus|perfume|perfumer|typeface|font|card game|board game|volcano|volcanologist"
    r"|earthquake|railway|locomotive|train line|insect|butterfly|beetle|climbing|climber|climb|mountaineer|yacht"
    r"|sailing|sail|fossil|dinosaur|tea|coffee|yoga|martial art|playwright|stage work|knitting|weaver|weave|fabric"
    r"|textile|comet|constellation|telescope|bridge type|lighthouse|canal)\b"
)


@dataclass
class Texts:
    """Texts of one or several files, before they are divided into splits.

    Args:
        documents: file name without suffix -> its documents.
        phrasings: type -> its descriptions.
        domains: id of a document -> its domain. Documents with an unknown domain are missing.
    """

    documents: dict[str, list[Document]] = field(default_factory=dict)
    phrasings: dict[str, list[str]] = field(default_factory=dict)
    domains: dict[str, str] = field(default_factory=dict)


def parse(line: str, identifier: str = "") -> Document:
    """Convert a line in the compact notation to a document.

    Raises:
        DataError: a bracket is not closed; a mention has no type; a span begins or ends with white space; or a type is
            marked in the text and also listed as absent.
    """
    body, _, rest = line.partition(" ## ")
    absent = _names(rest)
    text: list[str] = []
    mentions: list[Mention] = []
    starts: list[int] = []
    position = 0
    while position < len(body):
        character = body[position]
        if character == "[":
            starts.append(len(text))
        elif character == "|" and starts:
            end = body.find("]", position)
            labels = _names(body[position + 1 : end]) if end >= 0 else []
            if not labels:
                raise DataError(f"expected '|type]' at column {position + 1}, got {body[position : position + 20]!r}.")
            start = starts.pop()
            span = "".join(text[start:])
            if not span or span != span.strip():
                raise DataError(f"a mention must not be empty nor begin or end with a blank, got {span!r}.")
            mentions += [Mention(start, len(text), label) for label in labels]
            position = end
        elif character == "]":
            raise DataError(f"']' at column {position + 1} closes no mention; a text must not contain brackets.")
        else:
            text.append(character)
        position += 1
    if starts:
        raise DataError(f"the bracket before {''.join(text[starts[-1] :])[:30]!r} is not closed.")
    present = {mention.label for mention in mentions}
    for name in absent:
        if name in present:
            raise DataError(f"{name!r} is marked in the text and listed as absent.")
    mentions.sort(key=lambda mention: (mention.start, -mention.end, mention.label))
    entities = tuple(dict.fromkeys(mentions))
    types = tuple(dict.fromkeys([*(mention.label for mention in entities), *absent]))
    return Document(identifier, "".join(text), entities, types=types)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(";") if name.strip()]


def read_compact(path: Path) -> list[Document]:
    """Read a file of texts in the compact notation. Blank lines are skipped.

    The id of a document is the name of the file and the number of the line, for example "mine-3".

    Raises:
        DataError: a text is malformed or occurs twice. The message contains the file and the line of each problem.
    """
    documents: list[Document] = []
    problems: list[str] = []
    seen: dict[str, int] = {}
    for number, line in enumerate(read_lines(path), 1):
        if not line.strip():
            continue
        try:
            document = parse(line, f"{path.stem}-{number}")
        except DataError as error:
            problems.append(f"{path}:{number}: {error}")
            continue
        if document.text in seen:
            problems.append(f"{path}:{number}: the same text as line {seen[document.text]}.")
        seen.setdefault(document.text, number)
        documents.append(document)
    if problems:
        raise DataError.of(problems)
    return documents


def read_phrasings(paths: Iterable[Path]) -> dict[str, list[str]]:
    """Read tables `type<TAB>description`. A type with several phrasings has a line for each phrasing.

    Raises:
        DataError: a line has no name or no description. The message contains the file and the line number.
    """
    phrasings: dict[str, list[str]] = {}
    problems = []
    for path in paths:
        for number, line in enumerate(read_lines(path), 1):
            name, _, description = (part.strip() for part in line.partition("\t"))
            if not line.strip():
                continue
            if not (name and description):
                problems.append(f"{path}:{number}: expected a type, a tab and a description, got {line!r:.60}.")
            elif description.casefold() not in map(str.casefold, phrasings.setdefault(name, [])):
                phrasings[name].append(description)
    if problems:
        raise DataError.of(problems)
    return phrasings


def read_texts(paths: Sequence[Path], tables: Iterable[Path] = ()) -> Texts:
    """Read files of texts, and the tables of types and domains in the same folders.

    Args:
        paths: files of texts.
        tables: further tables of types.

    Raises:
        DataError: two files have the same name, or a file is malformed.
    """
    names = [path.stem for path in paths]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"two files are named {twice!r}, so their texts would have the same ids; rename one file.")
    texts = Texts({path.stem: read_compact(path) for path in paths})
    own = [path.with_name(f"{path.stem}.types.tsv") for path in paths]
    texts.phrasings = read_phrasings([*(path for path in own if path.exists()), *tables])
    for path in paths:
        table = path.with_name(f"{path.stem}.domains.tsv")
        documents = texts.documents[path.stem]
        for line in read_lines(table) if table.exists() else ():
            number, _, domain = line.partition("\t")
            if not (number.isdecimal() and 1 <= int(number) <= len(documents) and domain.strip()):
                raise DataError(f"{table}: expected the number of a text, a tab and its domain, got {line!r:.60}.")
            texts.domains[documents[int(number) - 1].id] = domain.strip()
    return texts


def read_back(folder: Path) -> tuple[dict[str, list[Document]], Texts]:
    """Read the splits, phrasings and domains of a corpus folder, to add texts to the corpus."""
    corpus = load_corpus(folder)
    texts = Texts(phrasings={entity_type.name: list(entity_type.phrasings) for entity_type in corpus.types})
    for split in SPLIT_NAMES:
        for line in read_lines(folder / f"{split}.jsonl") if (folder / f"{split}.jsonl").exists() else ():
            if line.strip() and "domain" in (data := json.loads(line)):
                texts.domains[data["id"]] = data["domain"]
    return {split: getattr(corpus, split) for split in SPLIT_NAMES}, texts


def split_of(document: Document, name: str, test: Iterable[str]) -> str:
    """Return the split to which a text belongs.

    Args:
        document: the text.
        name: name of its file.
        test: names of the files that become the test set.
    """
    if name in test:
        return "test"
    labels = {mention.label for mention in document.entities}
    return "dev" if any(DEV_DOMAINS.search(label) for label in labels) else "train"


def distinct_phrasings(phrasings: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """Remove descriptions that several types share, so that each description belongs to one type if possible.

    Suppose that several types have the same description. The types that share all their descriptions with other types
    keep it. If there are no such types, only the first type in alphabetical order keeps it, and each other type still
    has a description of its own. If several types keep the same description, `checks.find_problems` reports it.
    """
    owners: dict[str, list[str]] = defaultdict(list)
    for name, texts in phrasings.items():
        for text in texts:
            owners[text.casefold()].append(name)

    def owner(text: str) -> list[str]:
        names = owners[text.casefold()]
        needy = [name for name in names if all(len(owners[other.casefold()]) > 1 for other in phrasings[name])]
        return needy or [min(names)]

    return {name: tuple(text for text in texts if name in owner(text)) for name, texts in phrasings.items()}


def build(texts: Texts, test: Iterable[str] = (), before: Mapping[str, Sequence[Document]] | None = None) -> Corpus:
    """Divide texts into splits, and collect the descriptions of their types.

    Args:
        texts: all texts, and the phrasings of their types.
        test: names of the files that become the test set.
        before: the splits of a corpus to which the texts are added. If the corpus already has texts from a file with
            the same name, the new texts replace them.

    Raises:
        DataError: a type that is used has no description.
    """
    splits: dict[str, list[Document]] = {}
    for split in SPLIT_NAMES:
        kept = (before or {}).get(split, [])
        splits[split] = [document for document in kept if document.id.rpartition("-")[0] not in texts.documents]
    for name, documents in texts.documents.items():
        for document in documents:
            splits[split_of(document, name, test)].append(document)
    used = {name for documents in splits.values() for document in documents for name in document.types or ()}
    missing = sorted(used - set(texts.phrasings))
    if missing:
        raise DataError.of([f"the type {name!r} has no description; add a line '{name}<TAB>...'." for name in missing])
    # Sort by code points, so that the order is the same in every locale.
    phrasings = distinct_phrasings({name: texts.phrasings[name] for name in sorted(used)})
    types = tuple(EntityType(name, descriptions) for name, descriptions in phrasings.items())
    return Corpus({entity_type.name: entity_type.description for entity_type in types}, types=types, **splits)


def write_folder(corpus: Corpus, folder: Path, domains: Mapping[str, str]) -> None:
    """Write types.json, and the splits with texts as JSON lines."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "types.json", as_mapping(corpus.types))
    for split in SPLIT_NAMES:
        documents = getattr(corpus, split)
        if not documents:
            continue
        with written_whole(folder / f"{split}.jsonl") as file:
            for document in documents:
                data = document.to_dict()
                if document.id in domains:
                    data["domain"] = domains[document.id]
                file.write(json.dumps(data, ensure_ascii=False) + "\n")


def main(argv: list[str] | None = None) -> Corpus:
    parser = argparse.ArgumentParser(
        prog="python -m training.open_types.compact",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "texts", nargs="+", type=Path, help="files of texts; NAME.types.tsv in the same folder is read too"
    )
    parser.add_argument("--types", nargs="*", default=[], type=Path, help="further tables of types")
    parser.add_argument(
        "--test",
        nargs="*",
        default=[],
        metavar="NAME",
        help="names of the files that become the test set, without .txt",
    )
    parser.add_argument("--out", type=Path, help="output folder; by default, the texts are only checked")
    parser.add_argument("--append", action="store_true", help="add the texts to the corpus in --out")
    arguments = parser.parse_args(argv)
    try:
        if arguments.append and not arguments.out:
            raise DataError("--append needs --out FOLDER, the corpus to which the texts are added.")
        texts = read_texts(arguments.texts, arguments.types)
        unknown = sorted(set(arguments.test) - set(texts.documents))
        if unknown:
            raise DataError(f"--test lists {unknown[0]!r}, but the files are {', '.join(texts.documents)}.")
        before: dict[str, list[Document]] = {}
        if arguments.append:
            before, known = read_back(arguments.out)
            for name, descriptions in texts.phrasings.items():
                known.phrasings[name] = list(dict.fromkeys([*known.phrasings.get(name, []), *descriptions]))
            texts = Texts(texts.documents, known.phrasings, {**known.domains, **texts.domains})
        corpus = build(texts, arguments.test, before)
        if problems := find_problems(corpus):
            raise DataError.of(problems)
        if arguments.out:
            write_folder(corpus, arguments.out, texts.domains)
    except DataError as error:
        sys.exit(f"error: {error}")
    print(counts_table(corpus))
    return corpus


if __name__ == "__main__":
    main()
