"""Reading, listing and writing files, and detecting the split of a corpus from a file name."""

import gzip
import json
import os
from pathlib import Path

import pytest

from modeling_binder.finetuning import DataError, Document, Mention, load_corpus, read_jsonl, write_jsonl
from modeling_binder.finetuning.files import (
    check_writable,
    decode,
    is_hidden,
    is_stream,
    iter_lines,
    read_json,
    read_lines,
    read_text,
    stem_of,
    suffix_of,
    visible_files,
    write_json,
    written_whole,
)
from modeling_binder.finetuning.splits import split_of, splits_in


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_a_text_is_read_unchanged_without_its_byte_order_mark(tmp_path, mark, compressed):
    """Only a byte order mark at the start is removed. Lines end only at \\n and \\r\\n."""
    text = "one\u2028still\r\ntwo\x85 \x0b\x0c\rthree\n\ufeffquoted mark\n"
    path = tmp_path / ("a.txt.gz" if compressed else "a.txt")
    content = mark + text.encode()
    path.write_bytes(gzip.compress(content) if compressed else content)
    assert read_text(path) == text == decode(content, "a")
    assert list(iter_lines(path)) == ["one\u2028still", "two\x85 \x0b\x0c\rthree", "\ufeffquoted mark"]
    assert "".join(iter_lines(path, keep_ends=True)) == text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"abc\nd\xe9f", r"a\.txt:2: not UTF-8: byte 5 is 0xe9; convert the file, for example with iconv"),
        (b"\xef\xbb\xbfabc\xe9", r"a\.txt:1: not UTF-8: byte 6 is 0xe9"),
        ("abc".encode("utf-16"), r"a\.txt:1: not UTF-8 but UTF-16; convert the file"),
        (b"\xed\xa0\x80", r"a\.txt:1: not UTF-8: byte 0 is 0xed"),  # half of a surrogate pair, which is not a character
        (gzip.compress(b"abc" * 100, mtime=0)[:-12], r"a\.txt: not a complete gzip file"),
    ],
)
def test_errors_for_files_that_are_not_text_contain_file_line_and_byte(tmp_path, content, message):
    (tmp_path / "a.txt").write_bytes(content)
    for read in (read_text, read_lines):
        with pytest.raises(DataError, match=message):
            read(tmp_path / "a.txt")


def test_a_missing_file_a_folder_and_an_empty_file_raise_an_error(tmp_path):
    with pytest.raises(DataError, match="there is no such file"):
        read_text(tmp_path / "none")
    with pytest.raises(DataError, match="this is a folder"):
        read_text(tmp_path)
    (tmp_path / "a").write_text(" \n\n")
    with pytest.raises(DataError, match="the file is empty; expected a word"):
        read_lines(tmp_path / "a", "a word")
    with pytest.raises(DataError, match=r"not valid JSON \(.*\); expected a list"):
        read_json(tmp_path / "a", "a list")


def test_hidden_files_are_not_listed(tmp_path):
    for name in ("b.txt", "a/c.TXT", "a/d.txt.gz", "._b.txt", ".ipynb_checkpoints/b.txt", "a/.DS_Store", "e.ann"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    names = [path.relative_to(tmp_path).as_posix() for path in visible_files(tmp_path, {".txt"})]
    assert names == ["a/c.TXT", "a/d.txt.gz", "b.txt"]
    assert len(visible_files(tmp_path)) == 4
    assert is_hidden("a/.b/c") and not is_hidden("./a/../b.c")


def test_suffixes_and_stems_ignore_gz():
    assert [suffix_of(name) for name in ("a.JSONL", "a.jsonl.GZ", "a", "x/eng.testa")] == [
        ".jsonl",
        ".jsonl",
        "",
        ".testa",
    ]
    assert [stem_of(name) for name in ("a.jsonl", "b/a.x.tsv.gz", "a")] == ["a", "a.x", "a"]


def test_a_compressed_file_is_written_and_read(tmp_path):
    documents = [Document("1", "IL-2\u2028", (Mention(0, 4, "Gene"),))]
    write_jsonl(tmp_path / "a.jsonl.gz", documents)
    assert (tmp_path / "a.jsonl.gz").read_bytes()[:2] == b"\x1f\x8b"
    assert read_jsonl(tmp_path / "a.jsonl.gz") == documents


# ---- splits from file names ----


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("no_x-ud-train", "train"),
        ("no_x-ud-dev.conllu", "dev"),
        ("no_x-ud-test", "test"),
        ("val.tsv", "dev"),
        ("train_en", "train"),
        ("CDR_TrainingSet.PubTator", "train"),
        ("eng.testa", "dev"),
        ("eng.testB", "test"),
        ("EVAL", "dev"),
        ("validation-00000-of-00001", "dev"),
        ("test2019", "test"),
        ("wikiTrain", "train"),
        ("trainer", None),
        ("latest", None),
        ("developer", None),
        ("", None),
        ("test_of_train", None),
    ],
)
def test_a_word_in_a_file_name_determines_the_split(name, split):
    assert split_of(name) == split


def test_the_names_in_a_path_determine_the_split():
    assert split_of(["corpus", "validation", "1"]) == "dev"
    assert split_of(["train", "training-2"]) == "train"
    assert split_of(["train", "dev"]) is None
    assert splits_in("test-of-train-and-dev") == ["test", "train", "dev"]


@pytest.mark.parametrize("dev", ["val.tsv", "mine-dev.tsv", "Validation.tsv", "eng.testa.tsv"])
def test_load_corpus_accepts_all_names_of_a_split(tmp_path, dev):
    (tmp_path / "types.json").write_text('{"G": "a gene"}')
    (tmp_path / "notes.txt").write_text("Not a corpus.")
    write_jsonl(tmp_path / "my_train.jsonl.gz", [Document("1", "x")])
    (tmp_path / dev).write_text("IL-2\tB-G\n")
    corpus = load_corpus(tmp_path)
    assert len(corpus.train) == len(corpus.dev) == 1 and corpus.test == []


def test_the_suffix_of_a_file_can_determine_the_split(tmp_path):
    (tmp_path / "types.json").write_text('{"G": "a gene"}')
    for name in ("esp.train", "esp.testa", "esp.testb"):
        (tmp_path / name).write_text("IL-2 B-G\n")
    corpus = load_corpus(tmp_path)
    assert len(corpus.train) == len(corpus.dev) == len(corpus.test) == 1


@pytest.mark.parametrize("content", ['{"G\\ud83d": "a gene"}', '{"G": "a \\ud83d"}', '{"G": ["a", "b\\ud83d"]}'])
def test_a_lone_surrogate_in_a_type_raises_an_error(tmp_path, content):
    (tmp_path / "types.json").write_text(content)
    (tmp_path / "train.tsv").write_text("IL-2 B-G\n")
    with pytest.raises(DataError, match=r"types\.json: .* contains a lone surrogate"):
        load_corpus(tmp_path)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["train_a.tsv", "train_b.tsv"], "train_a.tsv and train_b.tsv are all files of the split train; keep one"),
        (["dev.tsv", "val.tsv"], "dev.tsv and val.tsv are all files of the split dev"),
        (["train.tsv", "train.tsv.gz"], "are all files of the split train"),
        (
            ["train_dev.tsv"],
            "the splits train and dev; rename the file, for example to train.tsv",
        ),
        (["genes.tsv"], r"there is no train\.jsonl"),
    ],
)
def test_ambiguous_splits_of_a_corpus_raise_an_error(tmp_path, names, message):
    (tmp_path / "types.json").write_text('{"G": "a gene"}')
    for name in names:
        (tmp_path / name).write_bytes(
            gzip.compress(b"IL-2\tB-G\n") if name.endswith(".gz") else b"IL-2\tB-G\n",
        )
    with pytest.raises(DataError, match=message):
        load_corpus(tmp_path)


def test_the_file_whose_whole_name_is_the_split_is_preferred(tmp_path):
    (tmp_path / "types.json").write_text('{"G": "a gene"}')
    for name in ("train.tsv", "train_extra.jsonl", "test.jsonl", "test.tsv"):
        (tmp_path / name).write_text('{"text": "a", "entities": []}' if name.endswith("jsonl") else "IL-2\tB-G\n")
    corpus = load_corpus(tmp_path)
    assert corpus.train[0].text == "IL-2" and corpus.test[0].text == "a"


def test_check_writable_raises_an_error_for_an_output_that_cannot_be_written(tmp_path):
    check_writable(tmp_path / "new" / "out.json")
    assert list(tmp_path.iterdir()) == [tmp_path / "new"] and not list((tmp_path / "new").iterdir())
    (tmp_path / "file").touch()
    for path, message in ((tmp_path, "this is a folder"), (tmp_path / "file" / "x.json", "cannot write to the folder")):
        with pytest.raises(OSError, match=message):
            check_writable(path)


def test_a_replaced_file_keeps_its_permissions_and_its_links(tmp_path):
    (tmp_path / "shared").mkdir()
    file, link = tmp_path / "shared" / "found.json", tmp_path / "link.json"
    write_json(file, 1)
    file.chmod(0o664)
    link.symlink_to("shared/found.json")
    for path, value in ((file, 2), (link, 3)):
        check_writable(path)
        write_json(path, value)
        assert file.read_text() == f"{value}\n" and file.stat().st_mode & 0o777 == 0o664 and link.is_symlink()
    with pytest.raises(RuntimeError), written_whole(link) as output:
        output.write("half")
        raise RuntimeError
    assert file.read_text() == "3\n" and list(file.parent.iterdir()) == [file]


def test_devices_and_pipes_are_written_and_not_replaced(tmp_path):
    """For example /dev/stdout, /dev/null, and the pipe that a shell passes for `>(gzip > found.gz)`."""
    null, pipe = tmp_path / "null", tmp_path / "pipe"
    null.symlink_to("/dev/null")
    os.mkfifo(pipe)
    reading, writing = os.pipe()
    ends = {null: None, pipe: os.open(pipe, os.O_RDONLY | os.O_NONBLOCK), Path(f"/dev/fd/{writing}"): reading}
    for path, end in ends.items():
        check_writable(path)
        write_json(path, {"found": 1})
        assert is_stream(path) and (end is None or json.loads(os.read(end, 100)) == {"found": 1})
    assert null.is_symlink() and not (tmp_path / "null.tmp").exists()
    for end in (ends[pipe], reading, writing):
        os.close(end)
