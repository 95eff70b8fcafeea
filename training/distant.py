"""Label raw text with a dictionary: training data for a model without an annotator.

    python -m training.distant dictionary.tsv abstracts.txt distant.jsonl --types types.json

Names are found at word boundaries, in linear time, by an Aho-Corasick automaton over words. What the dictionary cannot
decide (an ambiguous name, a name whose type is unknown) is written as `undecided`: training then takes it neither for
a mention nor for a negative. With --score the labels are compared with those that the text already has.
"""

import argparse
import csv
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import ahocorasick
from tqdm.auto import tqdm

from modeling_binder.finetuning import DataError, Document, Mention, compute_span_metrics, read_documents
from modeling_binder.finetuning.data import read_types, write_json, written_whole
from modeling_binder.processing_binder import split_words
from training.experiments.provenance import provenance

# What a name means: its number of words, and each type with the exact words where case matters (or an empty tuple)
Payload: TypeAlias = tuple[int, tuple[tuple[str, tuple[str, ...]], ...]]
UNKNOWN = ""  # the type of a name of which only that it is a name is known


class Entry(NamedTuple):
    """A name of the dictionary and its type."""

    name: str
    type: str


def read_dictionary(path: str | Path) -> Iterator[Entry]:
    """Names and types, one after the other.

    Forms: JSON `{"Type": ["name", ...]}` or `[{"name", "synonyms": [...], "type"}, ...]`; TSV with a header that has
    `name` and `type` (and `synonym`, whose names may be parted by |), or with the columns type and name (AutoNER's
    dict_core.txt), or with names alone (dict_full.txt), whose type is unknown.

    Raises:
        DataError: names the line that has no type or no name.
    """
    path = Path(path)
    if path.suffix.lower() == ".json":
        yield from _json_entries(path)
        return
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        header: list[str] | None = None
        for number, row in enumerate(rows, 1):
            cells = [cell.strip() for cell in row]
            if not any(cells):
                continue
            if number == 1 and "type" in (lowered := [cell.lower() for cell in cells]) and "name" in lowered:
                header = lowered
                continue
            if header is not None:
                record = dict(zip(header, cells, strict=False))
                names = [record.get("name", ""), *record.get("synonym", record.get("synonyms", "")).split("|")]
                kind = record.get("type", "")
            elif len(cells) == 1:
                names, kind = cells, UNKNOWN
            else:
                kind, *names = cells
            if (not kind and len(cells) > 1) or not any(names):
                raise DataError(f"{path}:{number}: expected a type and a name by a tab, got {row!r:.60}.")
            yield from (Entry(name.strip(), kind) for name in names if name.strip())


def _json_entries(path: Path) -> Iterator[Entry]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(data, dict):
            for kind, names in data.items():
                yield from (Entry(name, kind) for name in names)
        else:
            for item in data:
                names = [item["name"], *item.get("synonyms", [])]
                yield from (Entry(name, item["type"]) for name in names)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(
            f'{path}: expected {{"Type": ["name", ...]}} or [{{"name", "synonyms", "type"}}], got {error!r:.80}.'
        ) from None


@dataclass
class Labeler:
    """Finds the names of a dictionary in texts.

    Args:
        entries: names and types; a name with several types is ambiguous and decides nothing.
        ignore: names to leave out, whatever their case.
        case: "auto" minds the case of names that have a capital inside a word, as abbreviations do; "sensitive" of all
            names; "insensitive" of none.
        plurals: find the plural of a name's last word too.
        nested: label names inside longer ones as well; otherwise the longest wins, then the first.
        undecided: mark what the dictionary cannot decide.
    """

    entries: Iterable[Entry]
    ignore: Iterable[str] = ()
    case: str = "auto"
    plurals: bool = True
    nested: bool = False
    undecided: bool = True
    names: int = field(default=0, init=False)
    ambiguous: dict[str, list[str]] = field(default_factory=dict, init=False)
    found: Counter[tuple[str, str]] = field(default_factory=Counter, init=False)

    def __post_init__(self) -> None:
        ignored = {_key(_words(name)) for name in self.ignore}
        self._numbers: dict[str, int] = {}
        self._automaton = ahocorasick.Automaton()
        # Nearly all names of a type and a length say the same, so that one object serves them all.
        payloads: dict[Payload, Payload] = {}
        for entry in self.entries:
            words = _words(entry.name)
            if not words or _key(words) in ignored:
                continue
            self.names += 1
            minds_case = self._minds_case(entry.name, words)
            for form in self._forms(words):
                key = "".join(_code(self._number(word.casefold())) for word in form)
                known = self._automaton.get(key, None)
                meaning = (entry.type, tuple(form) if minds_case else ())
                if known is None or meaning not in known[1]:
                    payload = (len(form), (*(known[1] if known else ()), meaning))
                    self._automaton.add_word(key, payloads.setdefault(payload, payload))
        self._automaton.make_automaton()

    def _minds_case(self, name: str, words: Sequence[str]) -> bool:
        if self.case != "auto":
            return self.case == "sensitive"
        # "ALL", "mRNA" and the element "K", but not "Acute Kidney Injury" or "Pain"
        return any(any(letter.isupper() for letter in word[1:]) for word in words) or name.isupper()

    def _forms(self, words: Sequence[str]) -> list[Sequence[str]]:
        forms = [words]
        last = words[-1]
        if self.plurals and len(last) > 2 and last.isalpha() and not last.endswith("s"):
            plurals = [f"{last}s"]
            if last.endswith(("x", "ch", "sh", "z")):
                plurals = [f"{last}es"]
            elif last.endswith("y") and last[-2] not in "aeiou":
                plurals = [f"{last[:-1]}ies"]
            forms += [[*words[:-1], plural] for plural in plurals]
        return forms

    def _number(self, word: str) -> int:
        return self._numbers.setdefault(word, len(self._numbers) + 1)

    def label(self, document: Document) -> Document:
        """The document with the dictionary's mentions instead of its own."""
        words = document.words if document.words is not None else split_words(document.text)
        # A word of the document may hold several of ours: "IL-2" against "IL", "-", "2".
        pieces = [(start + a, start + b) for start, end in words for a, b in split_words(document.text[start:end])]
        edges = {start for start, _ in words}, {end for _, end in words}
        texts = [document.text[start:end] for start, end in pieces]
        codes = "".join(_code(self._numbers.get(text.casefold(), 0)) for text in texts)
        spans: dict[tuple[int, int], set[str]] = defaultdict(set)
        for position, (length, meanings) in self._automaton.iter(codes) if self.names else ():
            last = position // _CODE
            first = last - length + 1
            start, end = pieces[first][0], pieces[last][1]
            if start in edges[0] and end in edges[1]:
                said = tuple(texts[first : last + 1])
                for kind, exact in meanings:
                    if not exact or exact == said:
                        spans[start, end].add(kind)
        return self._decide(document, spans)

    def _decide(self, document: Document, spans: dict[tuple[int, int], set[str]]) -> Document:
        mentions: list[Mention] = []
        open_spans: list[tuple[int, int]] = []
        covered = bytearray(len(document.text))
        for (start, end), kinds in sorted(spans.items(), key=lambda item: (item[0][0] - item[0][1], item[0])):
            # Longest first: a span that overlaps one kept before has its first or its last character inside it.
            if not self.nested and (covered[start] or covered[end - 1]):
                continue
            covered[start:end] = b"\1" * (end - start)
            known = kinds - {UNKNOWN}
            name = document.text[start:end]
            if len(known) == 1:
                kind = next(iter(known))
                mentions.append(Mention(start, end, kind))
                self.found[name, kind] += 1
            else:
                open_spans.append((start, end))
                if known:
                    self.ambiguous.setdefault(name, sorted(known))
        return Document(
            document.id,
            document.text,
            tuple(sorted(mentions)),
            document.words,
            tuple(sorted(open_spans)) if self.undecided else (),
        )


_CODE = 3


def _code(number: int) -> str:
    """A word's number as three characters of alphabets of their own, which the automaton's names are strings of.

    So a match begins and ends at a word by itself, and no node of the automaton has more than 256 children (it looks
    through them one by one; a node a word has as many at its root as there are first words).
    """
    return chr(1 + number % 256) + chr(257 + number // 256 % 256) + chr(513 + number // 65536)


def _words(name: str) -> list[str]:
    return [name[start:end] for start, end in split_words(name)]


def _key(words: Sequence[str]) -> tuple[str, ...]:
    return tuple(word.casefold() for word in words)


def read_texts(path: str | Path) -> Iterator[Document]:
    """Documents of raw text, one after the other: .txt holds one a line; JSONL and columns as everywhere.

    A .txt whose lines are single words with blank lines between them (AutoNER's raw_text.txt) is read as sentences of
    words.
    """
    path = Path(path)
    if path.suffix.lower() != ".txt":
        yield from read_documents(path)
        return
    with path.open(encoding="utf-8") as file:
        beginning = [line.strip() for _, line in zip(range(1000), file, strict=False)]
        file.seek(0)
        if any(beginning) and all(" " not in line for line in beginning) and "" in beginning:
            words: list[str] = []
            number = 0
            for line in [*file, ""]:
                if line.strip():
                    words.append(line.strip())
                elif words:
                    number += 1
                    yield _of_words(words, f"{path.stem}-{number}")
                    words = []
            return
        for number, line in enumerate(file, 1):
            if line.strip():
                yield Document(f"{path.stem}-{number}", line.rstrip("\r\n"))


def _of_words(words: list[str], identifier: str) -> Document:
    spans, position = [], 0
    for word in words:
        spans.append((position, position + len(word)))
        position += len(word) + 1
    return Document(identifier, " ".join(words), (), tuple(spans))


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(
        prog="python -m training.distant", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dictionary", type=Path, help="JSON or TSV of names and types; see read_dictionary")
    parser.add_argument("text", type=Path, help="raw text: .txt, JSONL or columns; labels in it are ignored")
    parser.add_argument("output", type=Path, help="JSONL to write")
    parser.add_argument("--names", type=Path, action="append", default=[], help="names of unknown type: undecided")
    parser.add_argument("--types", type=Path, help="JSON name -> description: labels these types alone")
    parser.add_argument("--ignore", type=Path, help="names to leave out, one a line")
    parser.add_argument("--case", choices=["auto", "sensitive", "insensitive"], default="auto", help="default: auto")
    parser.add_argument("--no-plurals", action="store_true", help="do not find plurals of the names")
    parser.add_argument("--nested", action="store_true", help="label names inside longer ones as well")
    parser.add_argument("--no-undecided", action="store_true", help="take what cannot be decided for negative")
    parser.add_argument("--report", type=Path, help="write counts, frequent and ambiguous names to this JSON file")
    parser.add_argument("--score", action="store_true", help="compare with the labels that the text has")
    argv = sys.argv[1:] if argv is None else argv
    arguments = parser.parse_args(argv)
    try:
        wanted = set(read_types(arguments.types)) if arguments.types else None
        files = [arguments.dictionary, *arguments.names]
        labeler = Labeler(
            (e for file in files for e in read_dictionary(file) if wanted is None or e.type in {*wanted, UNKNOWN}),
            arguments.ignore.read_text(encoding="utf-8").splitlines() if arguments.ignore else (),
            arguments.case,
            not arguments.no_plurals,
            arguments.nested,
            not arguments.no_undecided,
        )
        if not labeler.names:
            raise DataError(f"{arguments.dictionary}: there is no name of a type that is asked for in it.")
        documents = mentions = open_spans = 0
        gold, guess = [], []
        with written_whole(arguments.output) as file:
            for document in tqdm(read_texts(arguments.text), desc="Labelling", unit="document"):
                labeled = labeler.label(document)
                file.write(json.dumps(labeled.to_dict(), ensure_ascii=False) + "\n")
                documents, mentions = documents + 1, mentions + len(labeled.entities)
                open_spans += len(labeled.undecided)
                if arguments.score:
                    gold.append(document.entities)
                    guess.append(labeled.entities)
    except (DataError, OSError) as error:
        sys.exit(f"error: {error}")
    facts: dict[str, Any] = {
        **provenance("training.distant", argv, None, {}, "dictionary", arguments.output.stem),
        "names": labeler.names,
        "documents": documents,
        "mentions": mentions,
        "undecided": open_spans,
        "mentions_per_type": dict(sum_by_type(labeler.found)),
        "frequent": [[name, kind, count] for (name, kind), count in labeler.found.most_common(50)],
        "ambiguous": labeler.ambiguous,
    }
    print(
        f"{labeler.names:,} names; {mentions:,} mentions and {open_spans:,} undecided spans in {documents:,} documents"
    )
    if labeler.ambiguous:
        some = [f"{name} ({', '.join(kinds)})" for name, kinds in list(labeler.ambiguous.items())[:5]]
        print(f"{len(labeler.ambiguous)} names are ambiguous, for example {'; '.join(some)}")
    if arguments.score:
        labels = sorted({mention.label for mentions in gold for mention in mentions})
        metrics = compute_span_metrics(gold, guess, labels)
        print(metrics.table())
        facts["metrics"] = {"test": metrics.to_dict()}
    if arguments.report:
        write_json(arguments.report, facts)
    return facts


def sum_by_type(found: Counter[tuple[str, str]]) -> Counter[str]:
    """How many mentions of each type."""
    total: Counter[str] = Counter()
    for (_, kind), count in found.items():
        total[kind] += count
    return total


if __name__ == "__main__":
    main()
