"""Tests of `binder-ner find`: inputs, outputs and errors."""

import gzip
import json
import os
import pty
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from io import BufferedReader, BytesIO, StringIO, TextIOWrapper

import pyarrow
import pytest
import torch
from pyarrow import parquet
from transformers import BertModel, pipeline

from modeling_binder import BinderModel
from modeling_binder.cli import main
from modeling_binder.finetuning import read_documents
from tests.cli import running
from tests.tiny import SENTENCES, TYPES, build_model, build_tokenizer, tiny_encoder_config

ROWS = [{"id": f"s{number}", "text": text} for number, text in enumerate(SENTENCES)]


@pytest.fixture
def find(checkpoint, capsys, monkeypatch):
    """Return a function that runs the command in this process and returns the exit code, stdout and stderr."""

    def call(*arguments, stdin=None):
        if stdin is not None:
            content = stdin if isinstance(stdin, bytes) else stdin.encode()
            monkeypatch.setattr(sys, "stdin", TextIOWrapper(BufferedReader(BytesIO(content))))
        model = [] if "--model" in arguments else ["--model", checkpoint]
        capsys.readouterr()
        code = main(["find", *map(str, (*model, *arguments))])
        return (code, *capsys.readouterr())

    return call


@pytest.fixture
def expected(checkpoint):
    """Return a function that finds entities with the pipeline, in the format of the command's JSON Lines."""
    ner = pipeline("binder-ner", model=str(checkpoint))

    def found(text, **options):
        names = {"start": "start", "end": "end", "label": "entity_group", "score": "score", "word": "word"}
        return [{name: entity[key] for name, key in names.items()} for entity in ner(text, **options)]

    return found


def spans(entities):
    return [(entity["start"], entity["end"], entity["label"]) for entity in entities]


def texts_of(out):
    """Return the id and the text of each row of JSON Lines."""
    return [(row["id"], row["text"]) for row in map(json.loads, out.split("\n")[:-1])]


def read_terminal(master):
    """Return everything that is written to a pseudo-terminal until it is closed."""
    shown = b""
    while True:
        try:
            block = os.read(master, 2**16)
        except OSError:  # the other end is closed
            return shown.decode()
        if not block:
            return shown.decode()
        shown += block


def test_entities_are_drawn_on_a_terminal(checkpoint, expected):
    text = "the IL-2 gene\x1b[2J"
    master, terminal = pty.openpty()
    environment = {**running.ENVIRONMENT, "TERM": "xterm-256color", "COLUMNS": "90"}
    process = running.start(
        "find", "--model", checkpoint, text, stdin=terminal, stdout=terminal, stderr=subprocess.PIPE, env=environment
    )
    os.close(terminal)
    shown = read_terminal(master)
    assert process.wait() == 0, process.stderr.read()
    process.stderr.close()
    os.close(master)
    found = expected(text)
    assert any(one["end"] > other["end"] and one["start"] < other["start"] for one in found for other in found), (
        "the text must have nested entities"
    )
    for label in TYPES:
        assert shown.count(f" {label} ") == sum(entity["label"] == label for entity in found)
    assert "└───────┘" in shown and "\x1b[1mthe IL-2 gene" in shown, "a bar and a bold text are drawn"
    assert "\x1b[2J" not in shown, "control characters of a text are not printed"


def test_json_lines_are_written_to_a_pipe(checkpoint, tmp_path, expected):
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    code, out, error = running.run("find", "--model", checkpoint, tmp_path / "texts.jsonl")
    assert (code, error) == (0, "")
    rows = [json.loads(line) for line in out.splitlines()]
    assert [(row["id"], row["text"]) for row in rows] == [(row["id"], row["text"]) for row in ROWS]
    for row in rows:
        assert spans(row["entities"]) == spans(expected(row["text"]))
        assert all(row["text"][entity["start"] : entity["end"]] == entity["word"] for entity in row["entities"])


def test_a_closed_pipe_ends_the_command_without_an_error_message(checkpoint, tmp_path):
    (tmp_path / "lines.txt").write_text(f"{SENTENCES[0]}\n" * 1000)
    process = running.start(
        *("find", "--model", checkpoint, "--input-format", "lines", tmp_path / "lines.txt"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout.readline().startswith(b'{"id": "lines-1"')
    process.stdout.close()
    assert process.wait() == 141
    assert process.stderr.read() == b""
    process.stderr.close()


def test_ctrl_c_ends_the_command_without_an_error_message(checkpoint):
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    lines = ("--input-format", "lines", "--batch-size", "1", "-")
    process = running.start("find", "--model", checkpoint, *lines, **pipes)
    process.stdin.write(b"the gene\n")
    process.stdin.flush()
    assert process.stdout.readline().startswith(b'{"id": "stdin-1"'), "each line is answered at once"
    process.send_signal(signal.SIGINT)
    assert process.wait() == 130
    assert process.stderr.read() == b""
    for pipe in (process.stdin, process.stdout, process.stderr):
        pipe.close()


class Terminal(StringIO):
    """A stream in memory that looks like a terminal."""

    def isatty(self):
        return True


@pytest.mark.parametrize("drawn", [False, True])
def test_progress_is_shown_on_stderr_but_not_between_drawings(find, tmp_path, monkeypatch, drawn):
    (tmp_path / "lines.txt").write_text(f"{SENTENCES[0]}\n\n" * 3)
    monkeypatch.setattr("modeling_binder.cli.find.PROGRESS_DELAY", 0)
    monkeypatch.setattr(sys, "stderr", Terminal())
    if drawn:  # a progress bar would be printed between the drawings
        monkeypatch.setattr(sys, "stdout", Terminal())
    assert find("--input-format", "lines", tmp_path / "lines.txt")[0] == 0
    assert ("3/3" in sys.stderr.getvalue()) is not drawn
    assert ("└" in sys.stdout.getvalue()) if drawn else sys.stderr.getvalue().endswith("\n")


@pytest.mark.parametrize("name", ["brat", "pubtator", "bioc", "label-studio", "doccano", "conll", "docbin"])
def test_written_formats_can_be_read_back(find, tmp_path, expected, name):
    text = "\N{DNA DOUBLE HELIX} the IL-2 gene"
    (tmp_path / "a.txt").write_text(text)
    output = tmp_path / "found"
    decoding = ["--flat"] if name == "conll" else []
    code, out, _ = find(*decoding, tmp_path / "a.txt", "--format", name, "--output", output)
    assert (code, out) == (0, "")
    (document,) = read_documents(output, name)
    mentions = sorted((mention.start, mention.end, mention.label) for mention in document.entities)
    assert mentions and "".join(document.text.split()) == "".join(text.split())
    if name != "conll":  # CoNLL files contain tokens, but not the text
        assert mentions == sorted(spans(expected(text)))
        assert document.id == "a" or name == "label-studio"
    if name not in ("brat", "docbin"):
        code, out, _ = find(*decoding, tmp_path / "a.txt", "--format", name)
        assert (code, out) == (0, output.read_text(encoding="utf-8"))


def test_entities_are_written_as_tsv(find, expected):
    code, out, _ = find("--format", "tsv", "the IL-2\ngene")
    header, *lines = out.splitlines()
    assert (code, header) == (0, "id\tstart\tend\tlabel\tscore\tword")
    wanted = [
        f"1\t{e['start']}\t{e['end']}\t{e['label']}\t{e['score']:.4f}\t{e['word']}" for e in expected("the IL-2\ngene")
    ]
    assert lines == [line.replace("\n", " ") for line in wanted]


@pytest.mark.parametrize("name", ["found.jsonl", "new/found.jsonl.gz", "found.tsv"])
def test_a_file_is_written_in_the_format_of_its_suffix(find, tmp_path, name):
    code, out, _ = find("the gene", "--output", tmp_path / name)
    assert (code, out) == (0, "")
    content = (tmp_path / name).read_bytes()
    content = gzip.decompress(content) if name.endswith(".gz") else content
    assert content.startswith(
        b"id\tstart" if name.endswith(".tsv") else b'{"id": "1", "text": "the gene", "entities": [{'
    )
    assert [path.name for path in (tmp_path / name).parent.glob("found*")] == [(tmp_path / name).name]


def write_table(folder, name):
    """Write a file with two texts in the format of its suffix, and return the path."""
    path = folder / name
    if name == "t.parquet":
        parquet.write_table(pyarrow.table({"id": ["a", "b"], "text": ["the gene", "cells"], "year": [1, 2]}), path)
        return path
    content = {
        "t.jsonl": '{"id": "a", "text": "the gene", "year": 1}\n\n{"id": "b", "text": "cells"}\n',
        "t.json": '[{"id": "a", "text": "the gene"},\n {"id": "b", "text": "cells"}]',
        "t.csv": '\ufeffid,text\r\na,"the gene"\r\nb,cells\r\n',
        "t.tsv": "id\ttext\na\tthe gene\nb\tcells\n",
        "t.pubtator": "a|t|the gene\n\nb|t|cells\nb\t0\t5\tcells\tCell\n",
        "t.conll": "the\tO\ngene\tB-Gene\n\ncells\tO\n",
    }[name.removesuffix(".gz")].encode()
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return path


@pytest.mark.parametrize(
    "name", ["t.jsonl", "t.jsonl.gz", "t.json", "t.csv", "t.csv.gz", "t.tsv", "t.parquet", "t.pubtator", "t.conll"]
)
def test_files_may_contain_several_texts(find, tmp_path, name):
    code, out, _ = find(write_table(tmp_path, name))
    ids = ["t-1", "t-2"] if name == "t.conll" else ["a", "b"]
    assert (code, texts_of(out)) == (0, list(zip(ids, ["the gene", "cells"], strict=True)))


def test_a_text_file_is_one_text_or_one_text_per_line(find, tmp_path):
    content = "the gene\r\n\r\ncells\u2028of the gene"
    (tmp_path / "a.txt").write_bytes(content.encode())
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(content.encode()))
    files = (tmp_path / "a.txt", tmp_path / "b.txt.gz")
    lines = ["the gene", "cells\u2028of the gene"]
    assert texts_of(find(*files)[1]) == [("a", content), ("b", content)]
    assert texts_of(find("--input-format", "lines", files[0])[1]) == [("a-1", lines[0]), ("a-3", lines[1])]
    for arguments in ([], ["-"]):
        assert texts_of(find(*arguments, stdin=content)[1]) == [("stdin", content)]
    assert texts_of(find("--input-format", "lines", stdin=content)[1]) == [("stdin-1", lines[0]), ("stdin-3", lines[1])]
    assert texts_of(find("--input-format", "csv", "-", stdin="text\nthe gene\n")[1]) == [("stdin-1", "the gene")]
    assert texts_of(find(files[0], files[0])[1]) == [("a", content), ("a-2", content)], "ids differ"


def test_pipes_and_compressed_stdin_are_read(find, tmp_path):
    lines = "".join(f"{text}\n" for text in SENTENCES)
    code, out, _ = find("--input-format", "lines", "-", stdin=gzip.compress(lines.encode()))
    assert code == 0 and [text for _, text in texts_of(out)] == SENTENCES
    os.mkfifo(tmp_path / "pipe")
    for content in (lines.encode(), gzip.compress(lines.encode())):
        with ThreadPoolExecutor() as pool:
            pool.submit((tmp_path / "pipe").write_bytes, content)
            code, out, _ = find("--input-format", "lines", tmp_path / "pipe")
        assert code == 0 and [text for _, text in texts_of(out)] == SENTENCES
    code, _, error = find("--input-format", "doccano", tmp_path / "pipe")
    assert code == 1 and "pipe: the format doccano cannot be read from a pipe; pass a file instead." in error


def test_the_output_must_not_replace_an_input(find, tmp_path):
    path = write_table(tmp_path, "t.jsonl")
    before = path.read_bytes()
    (tmp_path / "brat").mkdir()
    (tmp_path / "brat" / "1.txt").write_text("the gene")
    (tmp_path / "brat" / "1.ann").write_text("R1\tA B C\n")
    for arguments in (
        [path, "--output", path],
        [tmp_path / "brat", "--format", "brat", "--output", tmp_path / "brat" / "."],
        [tmp_path / "brat" / "1.txt", "--format", "brat", "--output", tmp_path / "brat"],
    ):
        code, _, error = find(*arguments)
        assert code == 1 and "the output is an input; choose another output." in error
    assert path.read_bytes() == before and (tmp_path / "brat" / "1.ann").read_text() == "R1\tA B C\n"
    code, _, error = find(path, "--format", "brat", "--output", tmp_path)
    assert code == 0 and len(list(tmp_path.glob("*.ann"))) == 2 and path.read_bytes() == before


def test_changed_ids_are_named_in_a_warning(find, tmp_path, caplog):
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"id": name, "text": "the gene"}) + "\n" for name in "abaa"))
    code, out, _ = find(path)
    assert code == 0 and [name for name, _ in texts_of(out)] == ["a", "b", "a-2", "a-3"]
    assert caplog.messages == ["several texts have the id 'a'; in the output, the second of them has the id 'a-2'."]


def test_columns_of_texts_and_ids_can_be_chosen(find, tmp_path):
    (tmp_path / "t.csv").write_text("pmid,abstract\n7,the gene\n")
    code, out, _ = find("--text-column", "abstract", "--id-column", "pmid", tmp_path / "t.csv")
    assert (code, texts_of(out)) == (0, [("7", "the gene")])


def test_options_are_passed_to_the_pipeline(find, tmp_path, expected):
    text = "the IL-2 gene"
    (tmp_path / "types.json").write_text(
        json.dumps({"Gene": "A gene.", "Cell": {"description": "x", "parent": "Gene"}})
    )
    calls = [
        (
            ["--type", "Gene", "--type", "site: a place: here"],
            {"entity_types": {"Gene": None, "site": "a place: here"}},
        ),
        (
            ["--types", tmp_path / "types.json", "--flat"],
            {
                "entity_types": {"Gene": "A gene.", "Cell": {"description": "x", "parent": "Gene"}},
                "decoding": "flat",
            },
        ),
        (["--threshold", "0.9", "--nested", "--batch-size", "1"], {"threshold": 0.9}),
        (["--device", "cpu", "--dtype", "float32"], {}),
    ]
    for arguments, options in calls:
        code, out, _ = find(*arguments, text)
        assert code == 0
        found = json.loads(out)["entities"]
        assert found and found == [
            {**entity, "score": pytest.approx(entity["score"], abs=1e-5)} for entity in expected(text, **options)
        ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["the", "gene"], "there is no file 'the'; put a text of several words in quotation marks."),
        (["notes.txt"], "there is no file 'notes.txt'; if this is a text, pass it on stdin, with - as argument."),
        (
            ["t.csv"],
            "t.csv: there is no column 'text'; the columns are 'id', 'abstract'. Choose one with --text-column.",
        ),
        (["t.parquet", "--text-column", "body"], "there is no column 'body'; the columns are 'id', 'text', 'year'."),
        (
            ["t.parquet", "--id-column", "pmid"],
            "'pmid'; the columns are 'id', 'text', 'year'. Choose one with --id-column",
        ),
        (["fake.parquet"], "fake.parquet: not a Parquet file ("),
        (["two.jsonl"], "two.jsonl:2: 'text' must be a text, got 3."),
        (["short.csv"], "short.csv:3: the header has 2 cells; this row has more or fewer."),
        (
            ["picture"],
            "picture: this is a binary file; expected text, JSONL or CSV, or a Parquet file with the suffix .parquet.",
        ),
        (["cut.txt.gz"], "cut.txt.gz: not a complete gzip file ("),
        (["latin.txt"], "latin.txt:1: not UTF-8: byte 3 is 0xe9"),
        (["wide.txt"], "wide.txt:1: not UTF-8 but UTF-16"),
        (["--input-format", "parquet", "-"], "the format parquet cannot be read from stdin; pass a file instead."),
        (["--types", "none.json", "x"], "none.json: there is no such file."),
        (["--types", "two.jsonl", "x"], "two.jsonl: not valid JSON"),
        (["--type", "a", "--type", "a: b", "x"], "--type 'a' appears twice; names must be unique."),
        (["--format", "brat", "x"], "--format brat writes several files: choose a folder with --output."),
        (["--format", "docbin", "x"], "--format docbin writes a binary file: choose the file with --output."),
        (["--output", "found.xlsx", "x"], "--output found.xlsx needs --format; its choices are drawing, jsonl, tsv, "),
        (["--threshold", "2", "x"], "threshold must lie between 0 and 1, got 2.0."),
        (["--batch-size", "0", "x"], "batch_size must be at least 1, got 0."),
        (["--device", "gpu", "x"], "the device 'gpu' is not available: "),
        (
            ["--model", "nowhere", "x"],
            "cannot load the model 'nowhere': there is no such folder, and loading from the Hub failed: ",
        ),
        (
            ["--model", "encoder", "x"],
            "cannot load the model 'encoder': it is a model of the type 'bert', not 'binder'",
        ),
        (["--model", "broken", "x"], "cannot load the model 'broken': Error while deserializing header"),
        (["--model", "without", "x"], "without has no entity types: pass some with --type or --types."),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_the_error_of_invalid_input_has_one_line(find, hub, checkpoint, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.csv").write_text("id,abstract\n7,the gene\n")
    (tmp_path / "short.csv").write_text("id,text\n7,the gene\n8\n")
    (tmp_path / "two.jsonl").write_text('{"text": "the gene"}\n{"text": 3}\n')
    (tmp_path / "fake.parquet").write_text("the gene")
    (tmp_path / "picture").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")
    (tmp_path / "cut.txt.gz").write_bytes(gzip.compress(b"the gene" * 99)[:-9])
    (tmp_path / "latin.txt").write_bytes("caf\xe9".encode("latin-1"))
    (tmp_path / "wide.txt").write_text("the gene", encoding="utf-16")
    if "t.parquet" in arguments:
        write_table(tmp_path, "t.parquet")
    if "encoder" in arguments:
        BertModel(tiny_encoder_config()).save_pretrained("encoder")
    if "without" in arguments:
        build_model(entity_types=None).save_pretrained("without")
        build_tokenizer().save_pretrained("without")
    if "broken" in arguments:
        checkpoint.rename("broken")
        (tmp_path / "broken" / "model.safetensors").write_bytes(b"\0" * 100)
    code, _, error = find(*arguments)
    assert code == 1
    assert error.startswith("binder-ner find: error: ") and message in error
    assert error.count("\n") == 1 and "Traceback" not in error


@pytest.mark.parametrize(
    "arguments",
    [["--types", "t.json", "--type", "a"], ["--flat", "--nested"], ["--type", "a:"], ["--dtype", "int4"]],
    ids=" ".join,
)
def test_invalid_combinations_of_arguments_have_the_exit_code_2(find, arguments, capsys):
    with pytest.raises(SystemExit) as end:
        find(*arguments, "x")
    assert end.value.code == 2 and "usage: binder-ner find" in capsys.readouterr().err


def test_the_error_of_too_little_memory_names_the_batch_size(find, monkeypatch):
    def fail(*arguments, **options):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")

    monkeypatch.setattr(BinderModel, "encode_text", fail)
    code, out, error = find("the gene")
    assert (code, out, error) == (
        1,
        "",
        "binder-ner find: error: cpu has too little memory: choose a smaller --batch-size.\n",
    )


def test_the_error_names_the_missing_package_for_parquet(find, tmp_path, monkeypatch):
    path = write_table(tmp_path, "t.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    code, _, error = find(path)
    assert code == 1 and "Parquet needs a package: pip install 'binder-ner[annotate]'." in error
