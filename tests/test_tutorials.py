"""Tests that run the code blocks of README.md, of the tutorials and of marked pages (see tests/pages.py).

Marked pages are pages outside docs/tutorials that contain the comment `<!-- run by tests -->`.
"""

import re

import pytest
import transformers

from tests.pages import ROOT, blocks, link_inputs, run_page

TUTORIALS = sorted(ROOT.glob("docs/tutorials/*.md"))
OTHERS = [page for page in sorted(ROOT.glob("docs/*.md")) if "<!-- run by tests -->" in page.read_text("utf-8")]


@pytest.mark.parametrize("page", [ROOT / "README.md", *TUTORIALS, *OTHERS], ids=lambda p: str(p.relative_to(ROOT)))
def test_code_blocks_of_a_page_run(page, hub, tmp_path, monkeypatch):
    """Each page runs in a folder that has demo/model and training/sample. `user` is logged in to the local Hub."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_TOKEN", "hf_user")
    link_inputs(tmp_path)
    transformers.set_seed(0)
    run_page(page)


def write(folder, text):
    """Write a page. In the text, ~~~ means ```."""
    page = folder / "page.md"
    page.write_text(text.replace("~~~", "```"), encoding="utf-8")
    return page


def test_blocks_share_names_and_outputs_are_compared(tmp_path):
    page = write(tmp_path, "~~~python\na = 1\n~~~\n\n~~~python\nprint(a)\n~~~\n\n~~~text\n1\n~~~\n")
    assert run_page(page)["a"] == 1
    page = write(tmp_path, "~~~python\nprint(1)\n~~~\n~~~text\n2\n~~~\n")
    with pytest.raises(AssertionError, match=r"page\.md:5 shows\n2\n"):
        run_page(page)
    run_page(write(tmp_path, "~~~python\nprint(1)\n~~~\nElsewhere:\n~~~text\n2\n~~~\n"))
    run_page(
        write(
            tmp_path, "1. a list\n\n    ~~~python\n    print('one two')\n    ~~~\n\n    ~~~text\n    one ...\n    ~~~\n"
        )
    )


def test_marked_blocks_and_fragments_are_not_run(tmp_path):
    page = write(
        tmp_path, "<!-- not run: needs a GPU -->\n~~~python\n1 / 0\n~~~\n\n~~~py\n1 / 0\n~~~\n~~~sh\nfalse\n~~~\n"
    )
    assert set(run_page(page)) == {"__name__"}
    with pytest.raises(AssertionError, match="give the reason"):
        blocks(write(tmp_path, "<!-- not run -->\n~~~python\n1 / 0\n~~~\n"))


def test_commands_are_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_page(write(tmp_path, "~~~bash\n# a comment\nbinder-ner find \\\n    --help > help.txt\n~~~\n"))
    assert "usage: binder-ner find" in (tmp_path / "help.txt").read_text()
    with pytest.raises(AssertionError, match="exit code 1"):
        run_page(write(tmp_path, "~~~bash\nbinder-ner find --model nowhere text\n~~~\n"))
    with pytest.raises(AssertionError, match=r"cannot run \{'\|'\}"):
        run_page(write(tmp_path, "~~~bash\nbinder-ner find --model x | head\n~~~\n"))


def test_a_traceback_has_the_line_number_of_the_page(tmp_path):
    with pytest.raises(ZeroDivisionError) as error:
        run_page(write(tmp_path, "one\n\n~~~python\n\n1 / 0\n~~~\n"))
    assert error.traceback[-1].lineno + 1 == 5


def test_every_not_run_comment_is_directly_before_a_block():
    """A comment at another place would have no effect."""
    for page in [ROOT / "README.md", *ROOT.glob("docs/**/*.md")]:
        marks = re.findall("<!-- not run", page.read_text(encoding="utf-8"))
        assert len(marks) == sum(block.not_run for block in blocks(page)), page
