"""Label raw text with a dictionary, to make training data without human annotation.

    python -m training.distant dictionary.tsv abstracts.txt distant.jsonl --types types.json

An Aho-Corasick automaton over words finds the names at word boundaries, in linear time. If the entity type of a name is
ambiguous or unknown, its spans are written as `undecided`. Training ignores undecided spans. --score evaluates the
labels of the dictionary. The file of texts must then contain gold mentions.
"""

import argparse
import csv
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import ahocorasick
from tqdm.auto import tqdm

from modeling_binder.finetuning import DataError, Document, Mention, compute_span_metrics, read_documents
from modeling_binder.finetuning.data import read_types
from modeling_binder.finetuning.files import (
    check_not_input,
    iter_lines,
    read_json,
    stem_of,
    suffix_of,
    write_json,
    written_whole,
)
from modeling_binder.finetuning.formats import detect_format
from modeling_binder.finetuning.iob import is_tag
from modeling_binder.words_binder import join_words, split_words
from training.experiments.provenance import provenance

# The value of a name in the automaton: (number of words, ((type, words), ...)). If case matters for the name, `words`
# contains its words in their exact case. Otherwise, `words` is empty.
Payload: TypeAlias = tuple[int, tuple[tuple[str, tuple[str, ...]], ...]]
UNKNOWN = ""  # the type of names without a type in the dictionary
_MANY_TYPES = 20  # a dictionary with more types than this, and more types than names, has its columns swapped
_BEGINNING = 1000  # number of lines from which the format of a text file is detected


class Entry(NamedTuple):
    """A name of the dictionary and its type."""

    name: str
    type: str


def read_dictionary(path: str | Path) -> Iterator[Entry]:
    """Yield the names of a dictionary and their types.

    The supported formats are:

    - JSON: `{"Type": ["name", ...]}` or `[{"name", "synonyms": [...], "type"}, ...]`.
    - TSV or CSV with a header: the columns `name` and `type`, and optionally `synonym` (names separated by |).
    - TSV or CSV without a header: the columns type and name, as in AutoNER's dict_core.txt.
    - One name per line, as in AutoNER's dict_full.txt. The type of these names is unknown.

    Raises:
        DataError: a line has no type or no name, or a wrong number of columns. The message contains the line number.
    """
    path = Path(path)
    entries = list(_json_entries(path) if suffix_of(path) == ".json" else _table_entries(path))
    names, types = ({getattr(entry, key) for entry in entries} for key in ("name", "type"))
    if len(types) > max(_MANY_TYPES, len(names)):
        raise DataError(
            f"{path}: there are {len(types)} types for {len(names)} names. In a file without a header, the first "
            "column has the types. If it has the names, add the header 'name<TAB>type'."
        )
    yield from entries


def _table_entries(path: Path) -> Iterator[Entry]:
    header: list[str] | None = None
    typed: bool | None = None  # whether the rows have types, according to the first row
    for number, row in _table_rows(path):
        cells = [cell.strip() for cell in row]
        if not any(cells):
            continue
        where = f"{path}:{number}"
        if typed is None and "type" in (lowered := [cell.lower() for cell in cells]) and "name" in lowered:
            header, typed = lowered, True
            continue
        if header is not None:
            if len(cells) > len(header):
                raise DataError(f"{where}: expected {len(header)} columns as in the header, got {row!r:.80}.")
            record = dict(zip(header, cells, strict=False))
            names = [record.get("name", ""), *record.get("synonym", record.get("synonyms", "")).split("|")]
            label = record.get("type", "")
        else:
            typed = len(cells) > 1 if typed is None else typed
            label, *names = cells if len(cells) > 1 else [UNKNOWN, *cells]
            if typed != (len(cells) > 1):
                raise DataError(f"{where}: expected {'a type and a name' if typed else 'a name'}, got {row!r:.80}.")
        if (typed and not label) or not any(names):
            raise DataError(f"{where}: expected a type and a name, separated by a tab, got {row!r:.80}.")
        yield from (Entry(name.strip(), label) for name in names if name.strip())


def _table_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the line number and the cells of each row.

    Commas separate the cells of a .csv file, and cells may be quoted. Tabs separate the cells of other files.
    """
    if suffix_of(path) != ".csv":
        yield from ((number, line.split("\t")) for number, line in enumerate(iter_lines(path), 1))
        return
    reader = csv.reader(iter_lines(path, keep_ends=True), strict=True)
    try:
        for row in reader:
            yield reader.line_num, row
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num}: {error}.") from None


def _json_entries(path: Path) -> Iterator[Entry]:
    expected = '{"Type": ["name", ...]} or [{"name", "synonyms", "type"}]'
    data = read_json(path, expected)
    items: list[tuple[Any, list[Any], str]] = []
    if isinstance(data, dict):
        items = [(label, names, repr(label)) for label, names in data.items() if isinstance(names, list)]
    elif isinstance(data, list):
        for number, item in enumerate(data, 1):
            synonyms = item.get("synonyms", []) if isinstance(item, dict) else None
            if isinstance(synonyms, list):
                items.append((item.get("type"), [item.get("name"), *synonyms], f"entry {number}"))
    if len(items) < len(data if isinstance(data, (dict, list)) else [data]):
        raise DataError(f"{path}: expected {expected}, got {data!r:.80}.")
    for label, names, where in items:
        odd = [value for value in [label, *names] if not isinstance(value, str) or not value.strip()]
        if odd:
            raise DataError(f"{path}: {where}: expected {expected}, got {odd[0]!r:.80} as a type or a name.")
        yield from (Entry(name.strip(), label) for name in names)


@dataclass
class Labeler:
    """Finds the names of a dictionary in texts.

    Args:
        entries: names and their types. A name with several types is ambiguous: its spans get no type.
        ignore: names to ignore. Upper and lower case do not matter.
        case: which names must have the same upper and lower case in the text as in the dictionary. "sensitive" means
            all names, and "insensitive" means no names. "auto" means names with a capital letter inside a word
            ("mRNA"), and names in capitals ("K").
        plurals: also find names whose last word is in the plural.
        nested: also label names inside longer names. Otherwise, only the longest of overlapping names is labelled. If
            they are equally long, the first name is labelled.
        undecided: mark the spans of ambiguous names, and of names with an unknown type, as undecided.

    Attributes:
        names: number of names in the dictionary, without ignored names.
        ambiguous: name -> its types, for names with several types that were found.
        found: number of mentions of each (name, type).
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
        # Most names of the same type and length have equal payloads. To save memory, these names share one object.
        payloads: dict[Payload, Payload] = {}
        for entry in self.entries:
            words = _words(entry.name)
            if not words or _key(words) in ignored:
                continue
            self.names += 1
            exact = self._needs_case(entry.name, words)
            for form in self._forms(words):
                key = "".join(_code(self._number(word.casefold())) for word in form)
                known = self._automaton.get(key, None)
                meaning = (entry.type, tuple(form) if exact else ())
                if known is None or meaning not in known[1]:
                    payload = (len(form), (*(known[1] if known else ()), meaning))
                    self._automaton.add_word(key, payloads.setdefault(payload, payload))
        self._automaton.make_automaton()

    def _needs_case(self, name: str, words: Sequence[str]) -> bool:
        if self.case != "auto":
            return self.case == "sensitive"
        # True for "ALL", "mRNA" and the element "K". False for "Acute Kidney Injury" and "Pain"
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
        """Replace the mentions of a document by the mentions that the dictionary finds."""
        words = document.words if document.words is not None else split_words(document.text)
        # A word of the document, such as "IL-2", may be several words for `split_words`: "IL", "-", "2".
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
                written = tuple(texts[first : last + 1])
                for label, exact in meanings:
                    if not exact or exact == written:
                        spans[start, end].add(label)
        return self._decide(document, spans)

    def _decide(self, document: Document, spans: dict[tuple[int, int], set[str]]) -> Document:
        mentions: list[Mention] = []
        open_spans: list[tuple[int, int]] = []
        covered = bytearray(len(document.text))
        for (start, end), labels in sorted(spans.items(), key=lambda item: (item[0][0] - item[0][1], item[0])):
            # Spans are sorted by length, longest first. So if a span overlaps a span that was kept, the kept span
            # covers its first or last character.
            if not self.nested and (covered[start] or covered[end - 1]):
                continue
            covered[start:end] = b"\1" * (end - start)
            known = labels - {UNKNOWN}
            name = document.text[start:end]
            if len(known) == 1:
                label = next(iter(known))
                mentions.append(Mention(start, end, label))
                self.found[name, label] += 1
            else:
                open_spans.append((start, end))
                if known:
                    self.ambiguous.setdefault(name, sorted(known))
        undecided = tuple(sorted(open_spans)) if self.undecided else ()
        return replace(document, entities=tuple(sorted(mentions)), undecided=undecided, types=None)


_CODE = 3


def _code(number: int) -> str:
    """Encode the number of a word as three characters, each from a different alphabet.

    The automaton stores names as strings of these codes. Because the alphabets differ, a match can only start and end
    at a word. A single character per word would be slow, because a node could have thousands of children. The automaton
    searches these children one by one. With three characters, a node has at most 256 children.
    """
    return chr(1 + number % 256) + chr(257 + number // 256 % 256) + chr(513 + number // 65536)


def _words(name: str) -> list[str]:
    return [name[start:end] for start, end in split_words(name)]


def _key(words: Sequence[str]) -> tuple[str, ...]:
    return tuple(word.casefold() for word in words)


def read_texts(path: str | Path) -> Iterator[Document]:
    """Yield the documents of a file.

    - Each line of a .txt file is a document.
    - If the lines of a .txt file are single words, with blank lines between sentences, each sentence is a document.
      AutoNER's raw_text.txt has this format.
    - `read_documents` reads all other files. It also reads .txt files in PubTator or brat format, and .txt files with a
      column of tags.

    Raises:
        DataError: the file is missing or malformed.
    """
    path = Path(path)
    if suffix_of(path) != ".txt" or detect_format(path) in ("pubtator", "brat") or _is_tagged(path):
        yield from read_documents(path)
        return
    beginning = [line.strip() for line in islice(iter_lines(path), _BEGINNING)]
    if not (any(beginning) and all(" " not in line for line in beginning) and "" in beginning):
        for number, line in enumerate(iter_lines(path), 1):
            if line.strip():
                yield Document(f"{stem_of(path)}-{number}", line)
        return
    words: list[str] = []
    number = 0
    for line in chain(iter_lines(path), [""]):
        if line.strip():
            words.append(line.strip())
        elif words:
            number += 1
            yield _of_words(words, f"{stem_of(path)}-{number}")
            words = []


def _is_tagged(path: Path) -> bool:
    """Return whether the first lines of a file all end in an IOB tag."""
    lines = [line.split() for line in islice(iter_lines(path), _BEGINNING) if line.strip()]
    rows = [cells for cells in lines if not cells[0].startswith(("#", "-DOCSTART-"))]
    return bool(rows) and all(len(cells) > 1 and is_tag(cells[-1], None) for cells in rows)


def _of_words(words: list[str], identifier: str) -> Document:
    text, spans = join_words(words)
    return Document(identifier, text, (), tuple(span for span in spans if span is not None))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.distant", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dictionary", type=Path, help="JSON, TSV or CSV of names and types; see read_dictionary")
    parser.add_argument("text", type=Path, help="raw text (.txt), or documents; only --score uses their mentions")
    parser.add_argument("output", type=Path, help="JSONL to write")
    parser.add_argument(
        "--names",
        type=Path,
        action="append",
        default=[],
        help="file of names with an unknown type; their spans become undecided",
    )
    parser.add_argument(
        "--types", type=Path, help="label only the types in this JSON file (name of a type -> description)"
    )
    parser.add_argument("--ignore", type=Path, help="file of names to ignore, one per line")
    parser.add_argument(
        "--case",
        choices=["auto", "sensitive", "insensitive"],
        default="auto",
        help="which names must have the same case in the text as in the dictionary: abbreviations (auto, the default), "
        "all names (sensitive) or no names (insensitive)",
    )
    parser.add_argument("--no-plurals", action="store_true", help="do not find plurals of the names")
    parser.add_argument("--nested", action="store_true", help="also label names inside longer names")
    parser.add_argument(
        "--no-undecided",
        action="store_true",
        help="do not mark undecided spans, so that training uses them as negatives",
    )
    parser.add_argument("--allow-no-mentions", action="store_true", help="write the output even if no name was found")
    parser.add_argument("--report", type=Path, help="JSON file for counts, the most frequent names and ambiguous names")
    parser.add_argument(
        "--score", action="store_true", help="evaluate the labels against the mentions in the text file"
    )
    return parser


def _labeler(arguments: argparse.Namespace) -> Labeler:
    wanted = set(read_types(arguments.types)) if arguments.types else None
    files = [arguments.dictionary, *arguments.names]
    labeler = Labeler(
        (e for file in files for e in read_dictionary(file) if wanted is None or e.type in {*wanted, UNKNOWN}),
        iter_lines(arguments.ignore) if arguments.ignore else (),
        arguments.case,
        not arguments.no_plurals,
        arguments.nested,
        not arguments.no_undecided,
    )
    if not labeler.names:
        raise DataError(f"{arguments.dictionary}: none of its names has one of the types to label.")
    return labeler


def _label_file(labeler: Labeler, arguments: argparse.Namespace) -> dict[str, Any]:
    """Write the labelled documents. Return their counts and, with --score, the metrics."""
    counts = Counter(documents=0, mentions=0, undecided=0)
    gold, guess = [], []
    with written_whole(arguments.output) as file:
        for document in tqdm(read_texts(arguments.text), desc="Labelling", unit="document"):
            labeled = labeler.label(document)
            file.write(json.dumps(labeled.to_dict(), ensure_ascii=False) + "\n")
            counts.update(documents=1, mentions=len(labeled.entities), undecided=len(labeled.undecided))
            if arguments.score:
                gold.append(document.entities)
                guess.append(labeled.entities)
        if not counts["documents"]:
            raise DataError(f"{arguments.text}: this file has no text.")
        if not counts["mentions"] and not arguments.allow_no_mentions:
            raise DataError(
                f"{arguments.text}: none of {labeler.names:,} names was found in {counts['documents']:,} documents; "
                "to write the documents anyway, pass --allow-no-mentions."
            )
    facts: dict[str, Any] = dict(counts)
    if arguments.score:
        labels = sorted({mention.label for mentions in gold for mention in mentions})
        metrics = compute_span_metrics(gold, guess, labels)
        print(metrics.table())
        facts["metrics"] = {"test": metrics.to_dict()}
    return facts


def main(argv: list[str] | None = None) -> dict[str, Any]:
    argv = sys.argv[1:] if argv is None else argv
    arguments = _parser().parse_args(argv)
    try:
        inputs = [arguments.dictionary, arguments.text, *arguments.names]
        check_not_input(arguments.output, inputs)
        labeler = _labeler(arguments)
        counts = _label_file(labeler, arguments)
    except (DataError, OSError, ModuleNotFoundError) as error:
        sys.exit(f"error: {error}")
    facts: dict[str, Any] = {
        **provenance("training.distant", argv, None, {}, "dictionary", arguments.output.stem),
        "names": labeler.names,
        **counts,
        "mentions_per_type": dict(sum_by_type(labeler.found)),
        "frequent": [[name, label, count] for (name, label), count in labeler.found.most_common(50)],
        "ambiguous": labeler.ambiguous,
    }
    print(
        f"{labeler.names:,} names; {counts['mentions']:,} mentions and {counts['undecided']:,} undecided spans in "
        f"{counts['documents']:,} documents"
    )
    if labeler.ambiguous:
        some = [f"{name} ({', '.join(labels)})" for name, labels in list(labeler.ambiguous.items())[:5]]
        print(f"{len(labeler.ambiguous)} names are ambiguous, for example {'; '.join(some)}")
    if arguments.report:
        write_json(arguments.report, facts)
    return facts


def sum_by_type(found: Counter[tuple[str, str]]) -> Counter[str]:
    """Return the number of mentions of each type."""
    total: Counter[str] = Counter()
    for (_, label), count in found.items():
        total[label] += count
    return total


if __name__ == "__main__":
    main()
