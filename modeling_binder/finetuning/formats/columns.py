"""Read and write column files (CoNLL): a token and its tag on each line, and a blank line after each sentence."""

import logging
import re
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from ...words_binder import split_words
from ..data import Document, Mention
from ..errors import DataError
from ..files import read_lines, stem_of, written_whole
from ..iob import document_of_tags, is_tag, joined, tag_problem, warn_of_scheme
from .found import Found, found_documents

logger = logging.getLogger(__name__)

_OPENERS = ("-DOCSTART-", "###MEDLINE:")
_COMMENT = re.compile(r"#(?:[ \t]|\s*[\w.:-]+\s*=)")
_TAGGED = re.compile(r"O|[BIESLUM]-.+")
_INDEX = re.compile(r"(\d+)(?:-\d+|\.\d+)?")
_NUMBER = re.compile(r"[-+]?\d+(?:[.,:/-]\d+)*%?")
_CHUNKS = {"NP", "VP", "PP", "ADVP", "ADJP", "SBAR", "PRT", "CONJP", "INTJ", "LST", "UCP"}
# Tags of parts of speech in Universal Dependencies and in the Penn Treebank
# fmt: off
_PARTS_OF_SPEECH = {
    "ADJ", "ADP", "ADV", "AUX", "CCONJ", "CONJ", "DET", "INTJ", "NOUN", "NUM", "PART", "PRON", "PROPN", "PUNCT",
    "SCONJ", "SYM", "VERB", "X", "CC", "CD", "DT", "EX", "FW", "IN", "JJ", "JJR", "JJS", "LS", "MD", "NN", "NNS",
    "NNP", "NNPS", "PDT", "POS", "PRP", "PRP$", "RB", "RBR", "RBS", "RP", "TO", "UH", "VB", "VBD", "VBG", "VBN",
    "VBP", "VBZ", "WDT", "WP", "WP$", "WRB", "HYPH", "NFP", "AFX", "ADD", "-LRB-", "-RRB-", ".", ",", ":", "``",
    "''", "$", "#", "(", ")", '"', "-X-", "_",
}
# fmt: on
_MISC = re.compile(r"(?:^|\|)(?:\w+:)?(?:ner|ne|bio|iob|ner_tag|name)=", re.IGNORECASE)


class _Row(NamedTuple):
    """A line that may contain a token: its line number, its text, and its cells."""

    line: int
    text: str
    cells: list[str]


class _Layout(NamedTuple):
    """The columns of the token and of its tags, counted from 0."""

    token: int
    tags: tuple[int, ...]


def read_iob(
    path: str | Path,
    label: str | None = None,
    context: str = "sentence",
    token_column: int | None = None,
    tag_column: int | Sequence[int] | None = None,
) -> list[Document]:
    """Read a file with a token and its tag on each line, such as "IL-2<TAB>B-Gene". Each sentence becomes a document.

    Tabs or spaces separate columns, and blank lines separate sentences. All rows must have the same number of columns.
    `-DOCSTART-` and `###MEDLINE:` rows, comments ("# text = ...") and blank tokens are skipped.

    The tag column is the column with tags in most rows. Columns with tags of chunks, such as B-NP, are ignored. The
    token column is the first other column that does not contain token numbers. The words of a document are its tokens,
    and its text consists of the tokens, joined by spaces.

    The tags of the whole file determine the scheme:

    - S-, E-, U-, L- or M- mean BIOES, BMES or BILOU.
    - I- at the start of a mention means IO if the file has no B-.
    - I- at the start of a mention means IOB1 if each B- directly follows a mention of its type.
    - Otherwise, I- at the start of a mention means IOB2 with missing B- tags.

    If the scheme is not IOB2, a warning reports it. All schemes are converted by the rules of the script conlleval: a
    mention also begins where the type changes. So an invalid sequence of tags is repaired and raises no error.

    Args:
        path: the file.
        label: the entity type of tags without a type ("B", "I"), for files with a single type.
        context: "sentence" makes a document of each sentence. "document" makes a document for each `-DOCSTART-` or
            `###MEDLINE:` row, with a line for each sentence.
        token_column, tag_column: numbers of the columns, counted from 1. They are needed only if the columns cannot be
            detected. `tag_column` can be a list of columns. Their mentions are then combined, and may be nested.

    Raises:
        DataError: the columns cannot be detected; a row has another number of columns than the other rows; or a row has
            no tag, an unknown tag, or a tag without a type although `label` is None. Messages about rows name the line.
    """
    path = Path(path)
    lines = read_lines(path)
    rows = _rows(lines)
    if not rows:
        raise DataError(f"{path}: there is no token in this file.")
    width = _width(rows)
    rows, problems = _even(path, rows, width)
    regular = [row for row in rows if not row.text.startswith("#")] or rows
    if token_column is None and tag_column is None and _is_conllu(regular, width):
        from .conllu import read_conllu

        return read_conllu(path)
    if problems:
        raise DataError.of(problems)
    layout = _layout(path, regular, lines, width, label, token_column, tag_column)
    sentences, openers = _sentences(path, lines, rows, layout, label)
    documents = _documents(path, [sentence for sentence in sentences if sentence], layout, label)
    if context == "sentence":
        return documents
    stories: list[list[Document]] = []
    before = -1
    numbers = (index for index, sentence in enumerate(sentences) if sentence)
    for index, document in zip(numbers, documents, strict=True):
        if not stories or any(opener in openers for opener in range(before + 1, index + 1)):
            stories.append([])
        stories[-1].append(document)
        before = index
    return [joined(story, f"{stem_of(path)}-{number}") for number, story in enumerate(stories, 1)]


def _rows(lines: Sequence[str]) -> list[_Row]:
    """Split the lines into cells: at tabs if at least half of the lines contain a tab, otherwise at spaces.

    Blank lines, and lines that begin a document (`_OPENERS`), are skipped.
    """
    numbered = [(n, line) for n, line in enumerate(lines, 1) if line.strip() and not line.strip().startswith(_OPENERS)]
    by_tabs = 2 * sum("\t" in line.rstrip("\t ") for _, line in numbered) >= len(numbered)
    return [_Row(number, line, _cells(line, by_tabs)) for number, line in numbered]


def _cells(line: str, by_tabs: bool) -> list[str]:
    if by_tabs:
        return [cell.strip() for cell in line.rstrip(" ").split("\t")]
    # `line.split()` would also split at a no-break space. A space at the start of a line is a blank token.
    cells = re.split(" +", line.strip("\t "))
    return ["", *cells] if line.startswith(" ") else cells


def _width(rows: Sequence[_Row]) -> int:
    """Return the most frequent number of columns."""
    counts = Counter(len(_trimmed(row.cells)) for row in rows if not row.text.startswith("#"))
    counts = counts or Counter(len(_trimmed(row.cells)) for row in rows)
    return max(counts, key=lambda width: (counts[width], width))


def _trimmed(cells: list[str]) -> list[str]:
    """Remove blank cells from the end of a row."""
    end = len(cells)
    while end > 1 and not cells[end - 1]:
        end -= 1
    return cells[:end]


def _even(path: Path, rows: Sequence[_Row], width: int) -> tuple[list[_Row], list[str]]:
    """Return the rows with `width` columns, and error messages for all other rows that are not comments."""
    kept, problems = [], []
    for row in rows:
        cells = row.cells
        if len(cells) > width and not any(cells[width:]):
            cells = cells[:width]
        if len(cells) == width > 1:
            kept.append(row._replace(cells=cells))
        elif not _COMMENT.match(row.text) or _TAGGED.fullmatch(cells[-1]):
            expected = f"expected {width} columns as in most rows, got {len(cells)}: " if width > 1 else ""
            expected = expected if len(_trimmed(cells)) > 1 else "expected a token and a tag, got "
            problems.append(f"{path}:{row.line}: {expected}{row.text!r:.60}; every token needs a tag.")
    if not kept and not problems:
        problems.append(f"{path}: there is no token in this file.")
    return kept, problems


def _is_conllu(rows: Sequence[_Row], width: int) -> bool:
    """Return whether the rows are in the format CoNLL-U, with tags in the column MISC."""
    return (
        width == 10
        and all(_INDEX.fullmatch(row.cells[0]) for row in rows)
        and any(_MISC.search(row.cells[9]) for row in rows)
    )


def _layout(
    path: Path,
    rows: Sequence[_Row],
    lines: Sequence[str],
    width: int,
    label: str | None,
    token_column: int | None,
    tag_column: int | Sequence[int] | None,
) -> _Layout:
    given = [token_column, *(tag_column if isinstance(tag_column, Sequence) else [tag_column])]
    for number in given:
        if number is not None and (not isinstance(number, int) or not 1 <= number <= width):
            raise DataError(f"{path}: there is no column {number!r}; the rows have {width} columns, counted from 1.")
    tags = [number - 1 for number in given[1:] if number is not None]
    if not tags:
        tags = [_tag_column(path, rows, width, label)]
    if token_column is not None:
        return _Layout(token_column - 1, tuple(tags))
    others = [column for column in range(width) if column not in tags and any(row.cells[column] for row in rows)]
    sentences = _by_sentence(rows, lines)
    tokens = [column for column in others if not _counts_up(sentences, column)] or others
    tokens = [c for c in tokens if not {row.cells[c] for row in rows} <= _PARTS_OF_SPEECH] or tokens
    if not tokens:
        raise DataError(f"{path}: the rows have a tag but no token, for example the row {rows[0].text!r:.60}.")
    if len(tokens) > 1 and (problem := _odd_tokens(rows, sentences, tokens)):
        raise DataError(
            f"{path}: the column of the tokens cannot be detected: column {tokens[0] + 1} (first cell: "
            f"{rows[0].cells[tokens[0]]!r:.30}) holds {problem}; choose the column with token_column=... "
            "(--token-column), counted from 1."
        )
    return _Layout(tokens[0], tuple(tags))


def _odd_tokens(rows: Sequence[_Row], sentences: Sequence[Sequence[_Row]], columns: Sequence[int]) -> str | None:
    """Return why the first of several columns is probably not the column of the tokens, or None."""
    first, *others = columns
    cells = [row.cells[first] for row in rows]
    if len(rows) > 1 and all(_NUMBER.fullmatch(cell) for cell in cells):
        return "numbers only"
    if len(rows) >= 10 and all(any(character.isdigit() for character in cell) for cell in cells):
        return "numbers in every cell"
    values = [{row.cells[first] for row in sentence} for sentence in sentences]
    if len(rows) > max(2, len(sentences)) and all(len(found) == 1 for found in values):
        return "one value in each sentence"
    words = {column: len({row.cells[column] for row in rows}) for column in columns}
    if len(rows) >= 20 and words[first] <= 100 and (more := [c for c in others if words[c] >= 2 * words[first]]):
        return f"{words[first]} different values, and column {more[0] + 1} holds {words[more[0]]}"
    return None


def _tag_column(path: Path, rows: Sequence[_Row], width: int, label: str | None) -> int:
    """Return the column with tags in at least half of the rows.

    Columns are ignored if they contain only O, or only O and tags of chunks, such as B-NP.
    """
    shares = [sum(is_tag(row.cells[column], label) for row in rows) / len(rows) for column in range(width)]
    candidates = [column for column in range(width) if shares[column] >= 0.5]
    if not candidates:
        return max(range(width), key=lambda column: (shares[column], column))
    types = {
        c: {row.cells[c].partition("-")[2] for row in rows if is_tag(row.cells[c], label)} - {""} for c in candidates
    }
    marked = [c for c in candidates if any(row.cells[c] != "O" for row in rows)]
    if not marked:
        return candidates[-1]
    entities = [c for c in marked if not types[c] or not types[c] <= _CHUNKS]
    if not entities:
        raise DataError(
            f"{path}: the only tags are tags of chunks, such as {sorted(types[marked[0]])[0]}, in column "
            f"{marked[0] + 1}; set the column of the tags with tag_column=... (--tag-column), counted from 1."
        )
    if width == 2:
        return entities[-1]
    if len({tuple(row.cells[c] for row in rows) for c in entities}) > 1:
        raise DataError(
            f"{path}: columns {' and '.join(str(c + 1) for c in entities)} all contain tags; choose one with "
            "tag_column=... (--tag-column), counted from 1, or several for nested mentions."
        )
    return entities[-1]


def _by_sentence(rows: Sequence[_Row], lines: Sequence[str]) -> list[list[_Row]]:
    sentences: list[list[_Row]] = []
    before = 0
    for row in rows:
        between = lines[before : row.line - 1]
        if not sentences or any(not line.strip() or line.strip().startswith(_OPENERS) for line in between):
            sentences.append([])
        sentences[-1].append(row)
        before = row.line
    return sentences


def _counts_up(sentences: Sequence[Sequence[_Row]], column: int) -> bool:
    """Return whether a column contains token numbers: numbers that do not decrease within a sentence.

    The numbers may be parts of cells, as in "1-3", "s1_w3" or "12:15". The other parts must then be equal in all cells
    of a sentence.
    """
    for sentence in sentences:
        cells = [row.cells[column] for row in sentence]
        numbers = [_INDEX.fullmatch(cell) for cell in cells]
        values: list[tuple[int, ...]] = [(int(match[1]),) for match in numbers if match]
        if len(values) < len(cells) or (len(values) > 1 and values[0] == values[-1]):
            values = [tuple(map(int, re.findall(r"\d+", cell))) for cell in cells]
            if not all(values) or len({re.sub(r"\d+", "0", cell) for cell in cells}) > 1:
                return False
        if any(b < a for a, b in pairwise(values)):
            return False
        if len(values) > 1 and values[0] == values[-1]:
            return False  # all numbers are equal, so they are the number of the sentence
    return True


def _sentences(
    path: Path, lines: Sequence[str], rows: Sequence[_Row], layout: _Layout, label: str | None
) -> tuple[list[list[_Row]], set[int]]:
    """Return the rows of each sentence, and the indices of the sentences that begin a document."""
    by_line = {row.line: row for row in rows}
    sentences: list[list[_Row]] = [[]]
    openers: set[int] = set()
    problems = []
    for number, line in enumerate(lines, 1):
        row = by_line.get(number)
        if not line.strip() or line.strip().startswith(_OPENERS):
            sentences.append([])
            if line.strip():
                openers.add(len(sentences) - 1)
        elif row is not None:
            found = [tag_problem(row.cells[column], label) for column in layout.tags]
            problem = next(filter(None, found), None)
            if problem is None:
                sentences[-1].append(row)
            elif line.startswith("# ") and not sentences[-1]:
                continue  # skip a comment that happens to have as many columns as the other rows
            elif not all(row.cells[column] for column in layout.tags):
                problems.append(
                    f"{path}:{number}: expected a token and a tag, got {line!r:.60}; every token needs a tag."
                )
            else:
                problems.append(f"{path}:{number}: {problem}")
    if problems:
        raise DataError.of(problems)
    if not any(sentences):
        raise DataError(f"{path}: there is no token in this file.")
    return sentences, openers


def _documents(path: Path, sentences: list[list[_Row]], layout: _Layout, label: str | None) -> list[Document]:
    blank = [row.line for sentence in sentences for row in sentence if not row.cells[layout.token]]
    if blank:
        logger.warning("%s:%d: left out %d rows with a blank token; this is the first.", path, blank[0], len(blank))
    documents: list[Document] = []
    for column in layout.tags:
        warn_of_scheme(path, [[(row.line, row.cells[column]) for row in sentence] for sentence in sentences])
        layer = [
            document_of_tags(
                [row.cells[layout.token] for row in sentence],
                [row.cells[column] for row in sentence],
                f"{stem_of(path)}-{index}",
                label,
                [f"{path}:{row.line}" for row in sentence],
            )
            for index, sentence in enumerate(sentences, 1)
        ]
        documents = [
            replace(document, entities=tuple(dict.fromkeys((*document.entities, *other.entities))))
            for document, other in zip(documents or layer, layer, strict=True)
        ]
    return documents


def write_columns(documents: Iterable[Document | Mapping[str, Any]], path: str | Path) -> None:
    """Write a token, a tab and its IOB2 tag on each line, and a blank line after each document.

    Tags cannot represent overlapping mentions. If mentions overlap, only the longest mention is written. Among equally
    long mentions, the mention with the highest score is written. A warning reports the number of omitted mentions. The
    tokens are the words of the document. Words are split where a mention begins or ends.

    Args:
        documents: documents, or texts with predicted entities (see `found_documents`).
        path: the file to write.

    Raises:
        DataError: the name of a type contains a tab or a line end.
    """
    left_out = 0
    with written_whole(path) as file:
        for found in found_documents(documents):
            chosen = _flat(found)
            left_out += len(found.document.entities) - len(chosen)
            for row in _tagged(found.document, chosen):
                file.write("\t".join(row) + "\n")
            file.write("\n")
    if left_out:
        logger.warning("%s: columns cannot contain overlapping mentions; left out %d.", path, left_out)


def _flat(found: Found) -> list[Mention]:
    """Select mentions that do not overlap, the longest mentions first. Return them in the order of the text."""
    pairs = zip(found.document.entities, found.scores, strict=True)
    ranked = sorted(pairs, key=lambda pair: (pair[0].start - pair[0].end, -(pair[1] or 0.0), pair[0]))
    chosen: list[Mention] = []
    for mention, _ in ranked:
        if all(mention.end <= other.start or other.end <= mention.start for other in chosen):
            chosen.append(mention)
    return sorted(chosen)


def _tagged(document: Document, mentions: Sequence[Mention]) -> list[tuple[str, str]]:
    """Return the tokens and tags of a document."""
    words = document.words if document.words is not None else split_words(document.text)
    rows = _tokens(document.text, words, mentions)
    if sum(tag.startswith("B-") for _, tag in rows) < len(mentions):
        # A mention lies outside the words of the document, so it has no tag. Split the text at white space instead.
        rows = _tokens(document.text, [match.span() for match in re.finditer(r"\S+", document.text)], mentions)
    return rows


def _tokens(text: str, words: Iterable[tuple[int, int]], mentions: Sequence[Mention]) -> list[tuple[str, str]]:
    edges = sorted({edge for mention in mentions for edge in (mention.start, mention.end)})
    rows: list[tuple[str, str]] = []
    number, opened = 0, -1  # index of the current or next mention; index of the last mention with a B- tag
    for start, end in words:
        inner = edges[bisect_right(edges, start) : bisect_left(edges, end)]
        for a, b in pairwise([start, *inner, end]):
            while number < len(mentions) and mentions[number].end <= a:
                number += 1
            inside = number < len(mentions) and mentions[number].start <= a
            for token in text[a:b].split():
                tag = "O"
                if inside:
                    tag = f"{'I' if opened == number else 'B'}-{mentions[number].label}"
                    opened = number
                if re.search(r"[\t\n\r]", tag):
                    raise DataError(f"the type {tag[2:]!r} contains a tab or a line end; rename it.")
                rows.append((token, tag))
    return rows
