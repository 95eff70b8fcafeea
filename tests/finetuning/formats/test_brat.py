"""Reading and writing files in the standoff format of brat."""

import io
import tarfile

import pytest

from modeling_binder.finetuning import DataError, Document, Mention, read_documents
from modeling_binder.finetuning.formats import read_brat, read_splits, write_brat
from tests.finetuning.formats.helpers import found


def write_pair(folder, name, text, annotation, encoding="utf-8"):
    """Write the two files of a document, and return the path of the .ann file."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.txt").write_bytes(text.encode(encoding))
    (folder / f"{name}.ann").write_bytes(annotation.encode(encoding))
    return folder / f"{name}.ann"


def test_links_in_folders_and_archives_are_followed(tmp_path):
    write_pair(tmp_path / "more", "1", "In Oslo.", "T1\tX 3 7\tOslo\n")
    write_pair(tmp_path / "corpus", "2", "In Rome.", "")
    (tmp_path / "corpus" / "linked").symlink_to(tmp_path / "more")
    (tmp_path / "corpus" / "self").symlink_to(tmp_path / "corpus")
    write_pair(tmp_path / "corpus", "train/3", "In Bern.", "")
    (tmp_path / "corpus" / "current").symlink_to("train")
    (tmp_path / "corpus" / "up").symlink_to("..")
    assert list(read_brat(tmp_path / "corpus")) == ["2", "linked/1", "train/3"]
    (tmp_path / "corpus" / "3.txt").symlink_to("../more/1.txt")
    (tmp_path / "corpus" / "3.ann").write_text("")
    assert read_brat(tmp_path / "corpus")["3"].text == "In Oslo."
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.add(tmp_path / "corpus", arcname="corpus")
    with pytest.raises(DataError, match=r"corpus/3\.txt is a link to \.\./more/1\.txt, .*tar --dereference"):
        read_brat(tmp_path / "a.tar")


def test_a_folder_and_an_archive_give_the_same_documents(tmp_path, caplog):
    text = "The IL-2 gene\r\nof T cells."
    annotation = (
        "T1\tGene 4 13\tIL-2 gene\nT2\tProtein 4 8\tIL-2\nR1\tPart Arg1:T1 Arg2:T2\nT3\tCell 18 19;20 25\tT cells\n"
    )
    write_pair(tmp_path / "corpus", "train/1", text, annotation)
    write_pair(tmp_path / "corpus", "train/2-2", "Empty.", "")
    (tmp_path / "corpus" / "train" / "3.txt").write_text("Not annotated.")
    documents = read_brat(tmp_path / "corpus")
    assert "left out 1 texts without .ann, for example train/3.txt" in caplog.text
    assert list(documents) == ["train/1", "train/2-2"]
    assert found(documents["train/1"]) == [("IL-2 gene", "Gene"), ("IL-2", "Protein"), ("T cells", "Cell")]
    with tarfile.open(tmp_path / "corpus.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "corpus", arcname=".")
    archived = read_brat(tmp_path / "corpus.tar.gz")
    assert [document.to_dict() for document in archived.values()] == [d.to_dict() for d in documents.values()]
    assert read_documents(tmp_path / "corpus.tar.gz") == read_documents(tmp_path / "corpus")
    for name in ("1.txt", "1.ann"):
        assert read_documents(tmp_path / "corpus" / "train" / name) == [documents["train/1"]]
    splits = read_splits(tmp_path / "corpus", "brat")
    assert list(splits) == ["train"] and len(splits["train"]) == 2


@pytest.mark.parametrize(
    ("text", "annotation", "mention"),
    [
        ("Great news 🎉 from Oslo", "T1\tX 19 23\tOslo", "Oslo"),  # UTF-16 units
        ("a\r\nb\r\nOslo", "T1\tX 4 8\tOslo", "Oslo"),  # \r\n counts as one character
        ("\ufeffIn Oslo", "\ufeffT1\tX 3 7\tOslo", "Oslo"),  # byte order marks
        ("IL-2\tgene", "T1\tX 0 9\tIL-2\tgene", "IL-2\tgene"),  # a tab in the text of a mention
        (
            "head and neck cancer",
            "T1\tX 14 20;0 4\thead cancer",
            "head and neck cancer",
        ),  # the fragments are not sorted
        (
            "head and neck cancer",
            "T1\tX 0 20;5 8\thead and neck cancer and",
            "head and neck cancer",
        ),  # the second fragment is inside the first fragment
        ("a\u2028b Oslo\x85", "T1\tX 2 8\tb Oslo", "b Oslo"),  # characters that str.splitlines takes for line ends
        ("a\u2028b", "T1\tX 0 3\ta\u2028b", "a\u2028b"),
        ("in Oslo ,", "T1\tX 2 8\t Oslo ", "Oslo"),  # the span includes blanks
        ("New\nYork", "T1\tX 0 3;4 8\tNew York\r\n", "New\nYork"),
    ],
)
def test_valid_annotations_are_read(tmp_path, text, annotation, mention):
    (document,) = read_documents(write_pair(tmp_path, "1", text, annotation))
    assert found(document) == [(mention, "X")] and document.text == text.removeprefix("\ufeff")


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        ("T1\tGene 4\tIL-2", r"1\.ann:1: expected 'T1<TAB>Type start end<TAB>text'"),
        ("T1\tGene 0 4;5\tIL-2", r"1\.ann:1: expected 'T1<TAB>Type"),
        ("T1", r"1\.ann:1: expected 'T1<TAB>Type"),
        ("#1\tNote T1\tx\n T1\tGene 0 4\tIL-2", r"1\.ann:2: expected a line of brat's standoff, got ' T1"),
        ("\nT1\tGene 0 99\tIL-2", r"1\.ann:2: spans 0\.\.99 in a text of 5 characters"),
        ("T1\tGene 0 2\tIL-2", r"1\.ann:1: the text at 0\.\.2 is 'IL', not 'IL-2'"),
        ("T1\tGene 0 2;3 4\tIL-3", r"1\.ann:1: the text at 0\.\.4 is 'IL 2', not 'IL-3'"),
    ],
)
def test_malformed_annotations_raise_an_error(annotation, message, tmp_path):
    write_pair(tmp_path, "1", "IL-2.", annotation)
    with pytest.raises(DataError, match=message):
        read_brat(tmp_path)


def test_missing_files_raise_an_error(tmp_path):
    with pytest.raises(DataError, match=r"there is no \.ann file"):
        read_brat(tmp_path)
    (tmp_path / "1.ann").write_text("")
    for source in (tmp_path, tmp_path / "1.ann"):
        with pytest.raises(DataError, match=r"1\.ann has no text: .*1\.txt is missing"):
            read_brat(source)
    (tmp_path / "1.zip").write_text("")
    with pytest.raises(DataError, match=r"neither a folder .* nor a tar archive"):
        read_brat(tmp_path / "1.zip")


def test_errors_for_other_encodings_contain_the_file_and_the_byte(tmp_path):
    write_pair(tmp_path, "a/1", "Café", "T1\tX 0 4\tCafé", "latin-1")
    with pytest.raises(DataError, match=r"a/1\.txt:1: not UTF-8: byte 3 is 0xe9"):
        read_brat(tmp_path)
    (tmp_path / "a" / "1.txt").write_text("Café")
    with pytest.raises(DataError, match=r"a/1\.ann:1: not UTF-8: byte 12 is 0xe9"):
        read_brat(tmp_path)


def test_hidden_files_are_skipped(tmp_path):
    write_pair(tmp_path, "1", "Oslo", "T1\tX 0 4\tOslo")
    for name in ("._1", ".ipynb_checkpoints/1-checkpoint"):
        write_pair(tmp_path, name, "\x00\xff", "\x00\xff", "latin-1")
    (tmp_path / ".DS_Store").write_bytes(b"\xff")
    assert list(read_brat(tmp_path)) == ["1"]
    with tarfile.open(tmp_path / "all.tar", "w") as archive:
        archive.add(tmp_path, arcname="corpus", filter=lambda member: None if "all.tar" in member.name else member)
    assert list(read_brat(tmp_path / "all.tar")) == ["corpus/1"]


def test_documents_with_the_same_name_get_their_paths_as_ids(tmp_path):
    for name in ("a/1", "b/1", "b/2"):
        write_pair(tmp_path, name, "Oslo", "T1\tX 0 4\tOslo")
    assert [document.id for document in read_brat(tmp_path).values()] == ["a/1", "b/1", "2"]


def test_files_of_an_archive_are_not_written_to_disk(tmp_path):
    """The reader keeps the files of an archive in memory, so a path such as ../../x cannot overwrite a file."""
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, content in (("../../x.txt", b"Rome"), ("../../x.ann", b"T1\tLOC 0 4\tRome\n")):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    (document,) = read_brat(tmp_path / "a.tar").values()
    assert found(document) == [("Rome", "LOC")] and not (tmp_path.parent.parent / "x.txt").exists()


def test_documents_are_written_with_safe_file_names_and_one_fragment_per_line_of_a_mention(tmp_path):
    text = "The IL-2\r\ngene 🎉 of T cells."
    mentions = (Mention(4, 14, "Gene or protein"), Mention(20, 27, "Cell"))
    write_brat([Document("a/1:2", text, mentions), Document(".b", "")], tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"a%2F1%3A2.txt", "a%2F1%3A2.ann", "%2Eb.txt", "%2Eb.ann"}
    assert (tmp_path / "a%2F1%3A2.txt").read_bytes() == text.encode()
    assert (tmp_path / "a%2F1%3A2.ann").read_text() == (
        "T1\tGene_or_protein 4 8;10 14\tIL-2 gene\nT2\tCell 20 27\tT cells\n"
    )
    assert found(read_brat(tmp_path)["a%2F1%3A2"]) == [("IL-2\r\ngene", "Gene_or_protein"), ("T cells", "Cell")]
    with pytest.raises(DataError, match="contains annotations of 2 other documents, for example"):
        write_brat([Document("c", "")], tmp_path)


@pytest.mark.parametrize(
    ("documents", "message"),
    [
        ([Document("a", "xy", (Mention(0, 1, "A b"), Mention(1, 2, "A_b")))], "'A b' and 'A_b' would both be 'A_b'"),
        ([Document("a", ""), Document("A", "")], r"two documents would be named a\.txt"),
        ([{"text": "a"}], "document 1: 'entities' is missing"),
        ([{"text": "a", "entities": [{"start": 0, "end": 9, "label": "X"}]}], r"document 1: .*spans 0\.\.9"),
        (["a"], "document 1: expected a Document or a dictionary, got str"),
    ],
)
def test_documents_that_cannot_be_written_raise_an_error(tmp_path, documents, message):
    with pytest.raises(DataError, match=message):
        write_brat(documents, tmp_path / "out")
    assert not (tmp_path / "out").exists()
