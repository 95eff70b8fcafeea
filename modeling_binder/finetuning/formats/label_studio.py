"""Read exports of Label Studio in JSON and JSON-MIN, and write predictions that annotators can correct.

The editor of Label Studio runs in a browser. So offsets count UTF-16 units, and "\\r\\n" counts as one character. Newer
versions count code points.
"""

import json
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..data import Document, Mention
from ..errors import DataError
from ..files import written_whole
from ..offsets import BROWSER_UNITS, UTF16_CRLF, Offset, RawDocument, RawMention, align, distinct_ids, fits, to_unit
from .found import found_documents
from .html_text import HtmlText
from .records import (
    LABEL_LISTS,
    Record,
    identifier_of,
    is_labelled_span,
    label_of,
    list_of,
    offset_of,
    read_records,
    text_of,
)

logger = logging.getLogger(__name__)

_EXPECTED = "a task: 'data' with a text, and 'annotations'"
_OPTION = " Name the field of the text with text_field=... (--text-field)."
_PLACES = ("start", "end", "startOffset", "endOffset", "globalOffsets")
_SPEAKERS = ("author", "speaker", "name", "role", "user")


@dataclass
class _Annotation:
    """An annotation of a task: the regions that one annotator has marked in one text.

    Args:
        where: file and task, for messages.
        task_id: the id of the task.
        id: the id of the annotation.
        data: the fields of the task, such as its text.
        regions: the annotated spans, as dictionaries with offsets, text and labels. Label Studio calls them regions.
    """

    where: str
    task_id: str
    id: str
    data: Mapping[str, Any]
    regions: list[Mapping[str, Any]]


def read_label_studio(path: str | Path, text_field: str | None = None) -> list[Document]:
    """Read an export of Label Studio: JSON or JSON-MIN, also from old versions ("completions").

    Texts can be plain text, HTML (`hypertextlabels`) or dialogues (`paragraphlabels`). HTML is converted into text
    without tags, with one line per block. The text of a dialogue has one line per turn.

    Each annotation of a task becomes a document:

    - If some annotations of a task are marked as ground truth, the other annotations of this task are ignored.
    - Skipped tasks and cancelled annotations are ignored.
    - If a task has no field for annotations, its predictions are used, as in files of `write_label_studio`.

    Args:
        path: the file.
        text_field: the field that contains the text. Defaults to "text". If there is no field "text", the default for
            HTML is "html", and the default for dialogues is the only field with a list of turns.

    Raises:
        DataError: no task is annotated; or a task has an unknown kind of label, no text, or a region whose offsets do
            not select its text. The message names the task.
    """
    records = read_records(path, _EXPECTED, "task")
    found = [annotation for number, record in enumerate(records, 1) for annotation in _annotations(record, number)]
    if not found:
        raise DataError(f"{path}: none of the {len(records)} tasks is annotated.")
    counts = Counter(annotation.task_id for annotation in found)
    if len(counts) < len(found):
        logger.warning(
            "%s: %d annotations of %d tasks are read; each annotation becomes a document.",
            path,
            len(found),
            len(counts),
        )
    is_html = any(_is_html(region) for annotation in found for region in annotation.regions)
    documents, pages = [], []
    for annotation in found:
        single = counts[annotation.task_id] == 1
        identifier = annotation.task_id if single else f"{annotation.task_id}-{annotation.id}"
        document, page = _document(annotation, identifier, text_field, is_html)
        documents.append(document)
        pages.append(page)
    aligned = align(documents, BROWSER_UNITS)
    return distinct_ids(
        document if page is None else _on_lines(document, page) for document, page in zip(aligned, pages, strict=True)
    )


def _annotations(record: Record, number: int) -> list[_Annotation]:
    where, task = record
    data = task.get("data", task)
    if not isinstance(data, Mapping):
        raise DataError(f"{where}: 'data' must be an object, got {data!r:.60}.")
    task_id = identifier_of(data, identifier_of(task, str(number)))
    key = next((key for key in ("annotations", "completions", "predictions") if key in task), None)
    if key is None and data is not task:
        return []  # an imported task without annotations
    if key is None:  # in JSON-MIN, each record is an annotation
        return [_Annotation(where, task_id, str(task.get("annotation_id", number)), data, _minimal_regions(record))]
    listed = list_of(task[key], key, where)
    for item in listed:
        if not isinstance(item, Mapping):
            raise DataError(f"{where}: expected a list of objects in {key!r}, got {item!r:.60}.")
    done = [item for item in listed if not (item.get("was_cancelled") or item.get("skipped"))]
    if other := [item for item in done if "result" not in item]:
        raise DataError(
            f"{where}: expected 'result' in each item of {key!r}, got the fields {', '.join(map(repr, other[0])):.100}."
        )
    annotations = []
    for position, item in enumerate([item for item in done if item.get("ground_truth")] or done, 1):
        results = list_of(item.get("result"), "result", where)
        labelled = {repr(result.get("id")) for result in results if isinstance(result, Mapping) and _labels(result)}
        regions = [
            _region(result, result.get("value") if isinstance(result, Mapping) else None, labelled, where)
            for result in results
        ]
        annotations.append(
            _Annotation(where, task_id, identifier_of(item, str(position)), data, [r for r in regions if r is not None])
        )
    return annotations


def _minimal_regions(record: Record) -> list[Mapping[str, Any]]:
    """Return the regions of a JSON-MIN record. They can be in any field, because projects choose the field names."""
    regions = []
    for name, value in record.data.items():
        for item in value if isinstance(value, list) else ():
            if not isinstance(item, Mapping) or (any(key in item for key in _SPEAKERS) and not _labels(item)):
                continue  # skip a choice, or a turn of a dialogue
            if _labels(item) and not any(key in item for key in _PLACES):
                continue  # skip an object of the user with a field "labels"
            regions.append(_region(item, item, set(), f"{record.where}, {name!r}"))
    found = [region for region in regions if region is not None]
    for name in () if found else ("label", "labels", "entities"):
        value = record.data.get(name)
        first = value[0] if isinstance(value, list) and value else None
        if is_labelled_span(first) or (isinstance(first, Mapping) and "start_offset" in first):
            raise DataError(f"{record.where}: {name!r} has annotations as in doccano; read the file as 'doccano'.")
    return found


def _labels(result: Mapping[str, Any]) -> list[Any]:
    value = result.get("value", result)
    key = next((key for key in LABEL_LISTS if isinstance(value, Mapping) and value.get(key)), None)
    return value[key] if key and isinstance(value[key], list) else []


def _region(result: Any, value: Any, labelled: set[str], where: str) -> Mapping[str, Any] | None:
    """Return the region of a result: a dictionary with offsets and labels.

    A result without labels, such as a choice or a relation, gives None. It may have offsets only if another result with
    the same id has labels.

    Args:
        result: an item of "result" in an annotation, or of a list in JSON-MIN.
        value: the field "value" of the result. In JSON-MIN, it is the result itself.
        labelled: the ids of all results with labels, converted with `repr`.
        where: file and task, for error messages.
    """
    if isinstance(result, Mapping) and result.get("type") == "relation":
        return None
    if not isinstance(result, Mapping) or not isinstance(value, Mapping):
        raise DataError(f"{where}: expected a result with a 'value', got {result!r:.80}.")
    if _labels(result):
        return {**value, "to_name": result.get("to_name")}
    name = f"the region {result['id']!r}" if "id" in result else "a region"
    unknown = [key for key in value if key.endswith("labels") and key not in LABEL_LISTS]
    if unknown:
        raise DataError(
            f"{where}: {name} has {unknown[0]!r}, which is not a kind of label for texts; expected {LABEL_LISTS[0]!r}."
        )
    if any(key in value for key in (*_PLACES, *LABEL_LISTS)) and (
        "id" not in result or repr(result["id"]) not in labelled
    ):
        raise DataError(
            f"{where}: {name} has no label (its fields are {', '.join(map(repr, value)):.80}); add a label, or remove "
            "the region."
        )
    return None


def _is_html(region: Mapping[str, Any]) -> bool:
    return (
        "hypertextlabels" in region
        or "htmllabels" in region
        or ("globalOffsets" in region and "paragraphlabels" not in region)
        or str(region.get("start")).startswith("/")
    )


def _document(
    annotation: _Annotation, identifier: str, text_field: str | None, is_html: bool
) -> tuple[RawDocument, HtmlText | None]:
    data, where = annotation.data, annotation.where
    field = text_field or _text_field(annotation, is_html)
    page: HtmlText | None = None
    bases: list[int] | None = None
    if isinstance(data.get(field), list):
        turns = _turns(data[field], f"{where}, {field!r}")
        bases = [sum(len(turn) + 1 for turn in turns[:index]) for index in range(len(turns))]
        text = "\n".join(turns)
    else:
        text = text_of(data, field, where, "" if text_field else _OPTION)
        page = HtmlText(text) if is_html else None
        text = page.text if page else text
    document = RawDocument(identifier, text, where=where)
    for region in annotation.regions:
        if (other := _other_text(region, data, field)) is not None:
            if text_field is None:
                raise DataError(f"{where}: a region is in the text {other!r}, not in {field!r}.{_OPTION}")
            logger.warning("%s: left out a region in the text %r.", where, other)
            continue
        stated = region.get("text")
        stated = stated if isinstance(stated, str) else None
        places = _places(region, page, bases, where)
        for label in _labels(region):
            options = [RawMention((place,), label_of(label, where), stated, where) for place in places]
            fitting = (mention for mention in options[:-1] if fits(document, mention, BROWSER_UNITS))
            document.mentions.append(next(fitting, options[-1]))
    return document, page


def _other_text(region: Mapping[str, Any], data: Mapping[str, Any], field: str) -> str | None:
    """Return the field of a region's text if it is not `field`, otherwise None.

    `to_name` of a region may be the name of its field, but it may also be another name. So the function returns
    `to_name` only if the offsets select the text of the region in a field with this name.
    """
    name = region.get("to_name")
    if name == field or not isinstance(name, str) or not isinstance(text := data.get(name), str):
        return None
    start, end, stated = region.get("start"), region.get("end"), region.get("text")
    if not isinstance(start, int) or not isinstance(end, int) or not isinstance(stated, str):
        return None
    mention = RawMention(((start, end),), "", stated, "")
    return name if fits(RawDocument("", text), mention, BROWSER_UNITS) else None


def _text_field(annotation: _Annotation, is_html: bool) -> str:
    data = annotation.data
    if isinstance(data.get("text"), (str, list)):
        return "text"
    if is_html and isinstance(data.get("html"), str):
        return "html"
    if any("paragraphlabels" in region for region in annotation.regions) or not annotation.regions:
        turns = [
            name
            for name, value in data.items()
            if isinstance(value, list)
            and value
            and all(isinstance(turn, Mapping) and _strings(turn) and not _labels(turn) for turn in value)
        ]
        if len(turns) == 1:
            return turns[0]
    return "text"  # no field contains the text, so the caller will raise an error


def _turns(values: Sequence[Any], where: str) -> list[str]:
    """Return the texts of the turns of a dialogue."""
    turns = []
    for number, value in enumerate(values, 1):
        if isinstance(value, str):
            turns.append(value)
            continue
        strings = _strings(value) if isinstance(value, Mapping) else {}
        text = strings.get("text", next(iter(strings.values())) if len(strings) == 1 else None)
        if text is None:
            raise DataError(f"{where}: turn {number} has no 'text', got {value!r:.80}.")
        turns.append(text)
    return turns


def _strings(turn: Mapping[str, Any]) -> dict[str, str]:
    """Return the fields of a turn that may contain its text, without the fields for the speaker."""
    return {key: value for key, value in turn.items() if isinstance(value, str) and key not in _SPEAKERS}


def _places(
    region: Mapping[str, Any], page: HtmlText | None, bases: list[int] | None, where: str
) -> list[tuple[Offset, Offset]]:
    """Return the possible offsets (start, end) of a region.

    A region in HTML may have two kinds of offsets. Global offsets count from the start of the text. Other offsets count
    from the start of a node. A path identifies the node. The caller uses the offsets that select the text of the
    region.
    """
    if bases is not None:
        edges = []
        for name in ("start", "end"):
            turn = str(region.get(name))
            if not turn.isdecimal() or int(turn) >= len(bases):
                raise DataError(
                    f"{where}: {name!r} must be the number of a turn, from 0 to {len(bases) - 1}, got {turn!r:.60}."
                )
            edges.append((bases[int(turn)], offset_of(region.get(f"{name}Offset"), f"{name}Offset", where)))
        return [(edges[0], edges[1])]
    places: list[tuple[Offset, Offset]] = []
    whole = region.get("globalOffsets")
    if page is not None and isinstance(whole, Mapping):
        start, end = (offset_of(whole.get(name), f"globalOffsets.{name}", where) for name in ("start", "end"))
        places.append((start, end))
    if page is not None and isinstance(region.get("start"), str):
        nodes = [page.start_of(str(region.get(name))) for name in ("start", "end")]
        if nodes[0] is not None and nodes[1] is not None:
            offsets = [offset_of(region.get(name), name, where) for name in ("startOffset", "endOffset")]
            places.append(((nodes[0], offsets[0]), (nodes[1], offsets[1])))
        elif not places:
            raise DataError(f"{where}: the text has no node {region.get('start')!r:.60} or {region.get('end')!r:.60}.")
    if not places:
        start, end = (offset_of(region.get(name), name, where) for name in ("start", "end"))
        places.append((start, end))
    return places


def _on_lines(document: Document, page: HtmlText) -> Document:
    """Insert line ends between the blocks of an HTML page into the text of its document."""
    text, line_ends = page.with_line_ends()
    moved = (Mention(line_ends.start(m.start), line_ends.end(m.end), m.label) for m in document.entities)
    return replace(document, text=text, entities=tuple(moved))


def write_label_studio(
    documents: Iterable[Document | Mapping[str, Any]],
    path: str | Path,
    from_name: str = "label",
    to_name: str = "text",
    model_version: str = "binder-ner",
) -> None:
    """Write tasks with predictions. Annotators can import them into Label Studio and correct them.

    Each region has the score of its mention. The score of a prediction is the smallest score of its regions. Label
    Studio can sort tasks by this score. The id of a document becomes the field "id" in the data of its task.

    Args:
        documents: documents, or texts with predicted entities (see `found_documents`).
        path: the JSON file to write.
        from_name: name of the <Labels> tag in the labelling interface of the project.
        to_name: name of the <Text> tag in the labelling interface. The value of this tag must be $text.
        model_version: name of the model that Label Studio shows with the predictions.
    """
    tasks = []
    for document, scores in found_documents(documents):
        edges = to_unit(document.text, UTF16_CRLF, (offset for m in document.entities for offset in (m.start, m.end)))
        results: list[dict[str, Any]] = []
        for number, (mention, score) in enumerate(zip(document.entities, scores, strict=True)):
            start, end = edges[2 * number : 2 * number + 2]
            words = document.text[mention.start : mention.end]
            result = {"id": f"m{number + 1}", "from_name": from_name, "to_name": to_name, "type": "labels"}
            value = {"start": start, "end": end, "text": words, "labels": [mention.label]}
            results.append({**result, "value": value} if score is None else {**result, "value": value, "score": score})
        prediction: dict[str, Any] = {"model_version": model_version, "result": results}
        known = [score for score in scores if score is not None]
        if known:
            prediction["score"] = min(known)
        tasks.append({"data": {"id": document.id, "text": document.text}, "predictions": [prediction]})
    with written_whole(path) as file:
        file.write(json.dumps(tasks, ensure_ascii=False, indent=1) + "\n")
