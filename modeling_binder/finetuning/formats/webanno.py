"""Read WebAnno TSV 3, which INCEpTION and WebAnno export.

WebAnno and INCEpTION are written in Java, so offsets count UTF-16 units.
"""

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from ..data import Document
from ..errors import DataError
from ..files import read_lines, stem_of
from ..offsets import CODE_POINTS, JAVA_UNITS, RawDocument, RawMention, align, locate

logger = logging.getLogger(__name__)

_TOKEN = re.compile(r"(\d+)-(\d+)(\.\d+)?\t(\d+)-(\d+)\t(.*)", re.DOTALL)
_BUILT_IN = "de.tudarmstadt.ukp.dkpro.core.api."  # prefix of the names of built-in layers: parts of speech, lemmas, ...
_ENTITIES = "NamedEntity"
_VALUE = re.compile(r"((?:\\.|[^\\])*?)(?:\[(\d+)\])?", re.DOTALL)  # a value, and the number of its annotation
_UNESCAPED = {"t": "\t", "n": "\n", "r": "\r", "b": "\b", "f": "\f"}
_MAX_GAP = 100  # a gap of at most 100 characters between sentences becomes spaces, a larger gap a line end


@dataclass
class _Layer:
    """A layer of annotations.

    Args:
        name: name of the layer.
        features: names of its features (attributes of an annotation, such as its type).
        column: column of the first feature.
        is_span: whether its annotations are spans of text. Otherwise, they are relations between spans.
    """

    name: str
    features: list[str]
    column: int
    is_span: bool


@dataclass
class _Sentence:
    """A sentence: its text, and its rows. A row consists of its line number and its cells."""

    text: str
    rows: list[tuple[int, list[str]]] = field(default_factory=list)


def read_webanno(path: str | Path, layer: str | None = None, feature: str | None = None) -> list[Document]:
    """Read a file in WebAnno TSV 3 (3.0 to 3.3) as one document.

    The mentions are the spans of the layer NamedEntity, and their types are the values of its feature "value". If a
    file does not have this layer, the spans of its custom layer are used. There must then be exactly one custom layer.
    A file without annotations has no layers, and gives a document without mentions. Several spans may have the same
    tokens. Spans may be nested, and may begin inside a token.

    Args:
        path: the file.
        layer: name of the layer ("webanno.custom.Drug"), or its last component ("Drug").
        feature: name of the feature that contains the type. Defaults to "value", or to the only feature. In a layer
            without features, the type is the name of the layer.

    Raises:
        DataError: a line is malformed; a span has no type; the offsets of a token do not select its text; or the layer
            or the feature is unknown or cannot be determined. Messages about lines contain the line number.
    """
    path = Path(path)
    layers = _layers(_lines(path))
    return _read(path, _chosen(path, layers, layer), feature)


def webanno_reader(
    source: Path, paths: Iterable[Path], layer: str | None = None, feature: str | None = None
) -> Callable[[Path], list[Document]]:
    """Return a function that reads the files of a corpus, with one layer for all files.

    A file contains only the layers of its own annotations. So a file without the layer has no mentions.

    Args:
        source: name of the corpus, for messages.
        paths: the files of the corpus.
        layer, feature: see `read_webanno`.

    Raises:
        DataError: the layer is unknown or cannot be determined, or a file is malformed.
    """
    layers = {found.name: found for path in paths for found in _layers(_lines(path))}
    chosen = _chosen(source, list(layers.values()), layer)
    return partial(_read, chosen=chosen, feature=feature)


def _read(path: Path, chosen: _Layer | None, feature: str | None) -> list[Document]:
    """Read the mentions of a layer. `None` or a layer that the file does not have gives a document without mentions."""
    lines = _lines(path)
    layers = _layers(lines)
    chosen = next((layer for layer in layers if chosen is not None and layer.name == chosen.name), None)
    column = None if chosen is None else _column(path, chosen, feature)
    document = RawDocument(stem_of(path), "", where=str(path))
    expected = max((item.column + max(1, len(item.features)) for item in layers), default=3)
    spans: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for sentence, rows in _placed(path, lines, document):
        for place, (line, cells) in zip(rows, sentence.rows, strict=True):
            if len(cells) < expected:
                raise DataError(f"{path}:{line}: expected {expected} columns separated by tabs, got {len(cells)}.")
            if chosen is None or column is None:
                continue
            for number, (value, identifier) in enumerate(_values(cells[column])):
                if value == "*" and chosen.features:
                    raise DataError(f"{path}:{line}: a span of {chosen.name} has no {feature or 'value'}; set it.")
                label = _unescape(value) if chosen.features else chosen.name.rpartition(".")[2]
                key = f"[{identifier}]" if identifier else f"{line}/{number}"
                spans.setdefault((key, label), []).append(place)
    if not document.text:
        raise DataError(f"{path}: there is no sentence in this file; expected '#Text=...' and its tokens.")
    document.mentions = [
        RawMention(((min(s for s, _ in places), max(e for _, e in places)),), label, None, f"{path}, span {key}")
        for (key, label), places in spans.items()
    ]
    return align([document], (CODE_POINTS,))


def _lines(path: Path) -> list[str]:
    lines = read_lines(path)
    if not lines[0].startswith("#FORMAT=WebAnno TSV 3"):
        raise DataError(f"{path}:1: expected '#FORMAT=WebAnno TSV 3.x', got {lines[0]!r:.60}.")
    return lines


def _layers(lines: Sequence[str]) -> list[_Layer]:
    layers, column = [], 3
    for line in lines:
        match = re.match(r"#T_(SP|CH|RL)=([^|]*)\|?(.*)", line)
        if match:
            features = [name for name in match[3].split("|") if name]
            layers.append(_Layer(match[2], features, column, match[1] == "SP"))
            column += max(1, len(features))
    return layers


def _chosen(path: Path, layers: Sequence[_Layer], name: str | None) -> _Layer | None:
    """Return the layer with the mentions, or None if there are no layers of spans and no name is given."""
    spans = [layer for layer in layers if layer.is_span]
    if not spans and name is None:
        return None
    listed = ", ".join(layer.name for layer in spans) or "none"
    if name is not None:
        named = [layer for layer in spans if name in (layer.name, layer.name.rpartition(".")[2])]
    else:
        named = [layer for layer in spans if layer.name.rpartition(".")[2] == _ENTITIES]
        custom = [layer for layer in spans if not layer.name.startswith(_BUILT_IN)]
        if named and custom:
            logger.warning(
                "%s: only the layer %s is read; these layers are left out: %s.",
                path,
                _ENTITIES,
                ", ".join(c.name for c in custom),
            )
        named = named or custom
    if len(named) != 1:
        raise DataError(
            f"{path}: expected {'the layer ' + name if name else 'a layer ' + _ENTITIES + ' or one custom layer'} of "
            f"spans; the layers of spans are {listed}. Choose one with layer=... (--layer)."
        )
    return named[0]


def _column(path: Path, layer: _Layer, feature: str | None) -> int:
    names = layer.features
    wanted = feature or ("value" if "value" in names else names[0] if len(names) == 1 else None)
    if not names and feature is None:
        return layer.column
    if wanted not in names:
        raise DataError(
            f"{path}: the layer {layer.name} has the features {', '.join(names) or 'none'}; choose the one that "
            "contains the type, with feature=... (--feature)."
        )
    return layer.column + names.index(wanted)


def _values(cell: str) -> list[tuple[str, str]]:
    """Split a cell into annotations (value, number). The value still has escapes. A missing number is ""."""
    if cell in ("_", ""):
        return []
    parts = re.findall(r"((?:\\.|[^\\|])+)", cell, re.DOTALL)
    matches = [(part, _VALUE.fullmatch(part)) for part in parts]
    return [(match[1], match[2] or "") if match else (part, "") for part, match in matches]


def _unescape(text: str) -> str:
    return re.sub(r"\\(->|.)", lambda match: _UNESCAPED.get(match[1], match[1]), text, flags=re.DOTALL)


def _sentences(path: Path, lines: Sequence[str]) -> Iterator[_Sentence]:
    sentence: _Sentence | None = None
    for number, line in enumerate(lines, 1):
        if line.startswith("#Text="):
            text = _unescape(line.removeprefix("#Text="))
            if sentence is not None and not sentence.rows:
                sentence.text += "\n" + text  # a sentence with several lines has several "#Text" rows
                continue
            if sentence is not None:
                yield sentence
            sentence = _Sentence(text)
        elif line.strip() and not line.startswith("#"):
            cells = line.rstrip("\t").split("\t")
            if sentence is None or _TOKEN.fullmatch(line) is None:
                expected = "'#Text=...' and 'N-N<TAB>start-end<TAB>token'"
                raise DataError(f"{path}:{number}: expected {expected}, got {line!r:.60}.")
            sentence.rows.append((number, cells))
    if sentence is not None:
        yield sentence


def _placed(
    path: Path, lines: Sequence[str], document: RawDocument
) -> Iterator[tuple[_Sentence, list[tuple[int, int]]]]:
    """Add the sentences to the text of a document. Yield each sentence with the spans of its rows in code points."""
    end_before: int | None = None
    for sentence in _sentences(path, lines):
        tokens = [
            (number, int(match[4]), int(match[5]), _unescape(cells[2]))
            for number, cells in sentence.rows
            if (match := _TOKEN.fullmatch("\t".join(cells))) is not None
        ]
        if not tokens:
            raise DataError(f"{path}: the sentence {sentence.text!r:.60} has no tokens.")
        lead = len(sentence.text) - len(sentence.text.lstrip())
        begin = tokens[0][1] - lead
        mentions = [
            RawMention((((0, start - begin), (0, end - begin)),), "token", word, f"{path}:{number}")
            for number, start, end, word in tokens
        ]
        raw = RawDocument(stem_of(path), sentence.text, mentions, where=f"{path}:{tokens[0][0]}")
        places = [(start, end) for start, end, _ in locate([raw], JAVA_UNITS)[0]]
        if end_before is not None:
            gap = begin - end_before
            document.text += " " * gap if 0 <= gap <= _MAX_GAP else "\n"
        base = len(document.text)
        document.text += sentence.text
        # End of the sentence in the offsets of the file: the end of its last token, plus the characters after this
        # token
        end_before = max(end for _, _, end, _ in tokens) + len(sentence.text) - max(end for _, end in places)
        yield sentence, [(base + start, base + end) for start, end in places]
