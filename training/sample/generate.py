"""Generate the sample corpus from templates, patterns and lists of names.

    python -m training.sample.generate [FOLDER]

A template is a sentence with slots. The name of a slot is an entity type, for example `{Gene}`. The generator replaces
a slot by a pattern of its type, for example `[Gene [Protein {protein}] gene]`. Brackets in a pattern mark mentions.
`{protein}` is a slot of the pattern. The generator replaces it by a name from a list.
"""

import argparse
import json
import random
import re
from collections.abc import Iterator
from pathlib import Path

from modeling_binder.finetuning import Document, Mention, read_types, write_jsonl
from modeling_binder.finetuning.counts import count_documents

HERE = Path(__file__).parent
SEED = 20
# Split -> (number of sentences, (first, last)). The two fractions select a range of each list of names: (0.0, 0.7) is
# the first 70%. About half of the names in the test set do not occur in the training set.
SPLITS = {"train": (480, (0.0, 0.7)), "dev": (100, (0.4, 0.85)), "test": (120, (0.35, 1.0))}
_SLOT = re.compile(r"\{(\w+)\}")
# Matches the letter to capitalise at the start of a sentence. "gastric" is capitalised, "p53" and "c-Fos" are not.
_PLAIN_START = re.compile(r"^((?:\[\w+ )*)([a-z])(?=[a-z]{2})")
_BRACKET = re.compile(r"\[(\w+) |\]")


def load(name: str) -> dict[str, list[str]]:
    """Read one of the JSON files in this folder."""
    content: dict[str, list[str]] = json.loads((HERE / name).read_text(encoding="utf-8"))
    return content


def parse(marked: str, identifier: str) -> Document:
    """Convert a sentence with mentions in brackets to a document.

    >>> parse("the [Gene [Protein IL-2] gene]", "x").entities
    (Mention(start=4, end=13, label='Gene'), Mention(start=4, end=8, label='Protein'))
    """
    text, mentions = "", []
    open_mentions: list[tuple[int, str]] = []
    position = 0
    for match in _BRACKET.finditer(marked):
        text += marked[position : match.start()]
        position = match.end()
        if match[1]:
            open_mentions.append((len(text), match[1]))
        else:
            start, label = open_mentions.pop()
            mentions.append(Mention(start, len(text), label))
    text += marked[position:]
    mentions.sort(key=lambda mention: (mention.start, -mention.end, mention.label))
    return Document(identifier, text, tuple(mentions))


def sentences(split: str, chance: random.Random) -> Iterator[Document]:
    """Yield sentences of a split endlessly. All templates are used once, in random order, before one is repeated."""
    templates, patterns = load("templates.json")[split], load("patterns.json")
    low, high = SPLITS[split][1]
    names = {
        slot: values[int(low * len(values)) : max(int(high * len(values)), 1)]
        for slot, values in load("names.json").items()
    }

    def fill(match: re.Match[str]) -> str:
        slot = match[1]
        return _SLOT.sub(fill, chance.choice(patterns[slot] if slot in patterns else names[slot]))

    number = 0
    while True:
        for template in chance.sample(templates, len(templates)):
            marked = _SLOT.sub(fill, template)
            number += 1
            marked = _PLAIN_START.sub(lambda match: match[1] + match[2].upper(), marked)
            yield parse(marked, f"{split}-{number}")


def generate(split: str, taken: set[str]) -> list[Document]:
    """Return the documents of a split.

    Args:
        split: name of the split.
        taken: sentences that must not be generated again. The function adds the sentences of this split.

    Raises:
        ValueError: the templates cannot generate enough different sentences.
    """
    count = SPLITS[split][0]
    documents: list[Document] = []
    stream = sentences(split, random.Random(f"{SEED} {split}"))
    skipped = 0
    while len(documents) < count:
        document = next(stream)
        if document.text not in taken:
            taken.add(document.text)
            documents.append(document)
            skipped = 0
        elif (skipped := skipped + 1) > 10_000:
            raise ValueError(f"the templates of {split} generate fewer than {count} different sentences")
    return documents


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m training.sample.generate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", nargs="?", type=Path, default=HERE, help="output folder (default: training/sample)")
    folder = parser.parse_args().folder
    taken: set[str] = set()
    seen: set[str] = set()
    for split in SPLITS:
        documents = generate(split, taken)
        write_jsonl(folder / f"{split}.jsonl", documents)
        strings = {d.text[m.start : m.end] for d in documents for m in d.entities}
        counts = count_documents(documents, read_types(HERE / "types.json"))
        mentions = sum(counts["mentions"].values())
        empty = sum(not d.entities for d in documents)
        new = f", {len(strings - seen) / len(strings):.0%} of the names not in train" if seen else ""
        print(
            f"{split}: {len(documents)} sentences, {empty} without mentions, {mentions} mentions, "
            f"{counts['nested'] / mentions:.0%} nested{new}"
        )
        seen = seen or strings
        for label, count in counts["mentions"].items():
            print(f"  {label}: {count}")


if __name__ == "__main__":
    main()
