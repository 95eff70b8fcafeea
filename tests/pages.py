"""Run a page of the documentation: its code blocks in order, in one namespace.

- ```python blocks are executed. ```py blocks are fragments and are not executed.
- ```bash and ```sh blocks that start with `binder-ner` or `python -m` are run command by command, in this process, and
  must exit with 0. `> file` at the end of a command writes its output to a file. Other blocks (`pip install ...`) are
  not run.
- In a ```console block, lines that start with "$ " are commands, and the lines after them are their output.
- A ```text block directly after one of these blocks contains what that block prints to stdout. "..." matches any text.

The mark `<!-- not run: REASON -->` directly before a block excludes the block. Readers of the page do not see the mark.
"""

import contextlib
import doctest
import importlib
import io
import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from modeling_binder.cli import main as binder_ner

ROOT = Path(__file__).resolve().parents[1]
SHELL = ("bash", "sh")
# An optional mark, the fence with the language, and the code up to a fence of the same indentation.
_BLOCK = re.compile(
    r"(?:^[ ]*<!-- *(?P<mark>[^\n]*?) *-->\n\s*)?"
    r"^(?P<indent>[ ]*)```(?P<language>[\w-]*)[^\n]*\n(?P<code>.*?)^(?P=indent)```[ ]*$",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True)
class Block:
    """A code block of a page.

    Args:
        language: language after the opening fence, such as "python".
        code: the code without indentation.
        line: number of the first line of code in the page.
        mark: the HTML comment directly before the block, or "".
        adjacent: whether only blank lines separate the block from the block before.
    """

    language: str
    code: str
    line: int
    mark: str
    adjacent: bool

    @property
    def not_run(self) -> bool:
        return self.mark.startswith("not run")

    @property
    def is_run(self) -> bool:
        if self.language in SHELL:
            return not self.not_run and commands(self.code)[0].startswith(("binder-ner ", "python -m "))
        return not self.not_run and self.language in ("python", "console")


def blocks(page: Path) -> list[Block]:
    """Return the code blocks of a Markdown page."""
    text = page.read_text(encoding="utf-8")
    found, end = [], 0
    for match in _BLOCK.finditer(text):
        indent, code = match["indent"], match["code"]
        code = "".join(line.removeprefix(indent) for line in code.splitlines(keepends=True))
        line = text.count("\n", 0, match.start("code")) + 1
        mark = match["mark"] or ""
        assert not mark.startswith("not run") or re.match(r"not run: \S", mark), f"{page}:{line}: give the reason"
        found.append(Block(match["language"], code, line, mark, not text[end : match.start()].strip()))
        end = match.end()
    return found


def run_page(page: Path) -> dict[str, object]:
    """Run the blocks of a page in the current folder, compare what they print, and return the names they define."""
    names: dict[str, object] = {"__name__": "__main__"}
    printed = None  # the output of the block before, if it was run
    for block in blocks(page):
        place = f"{page}:{block.line}"
        if block.language == "text":
            if printed is not None and block.adjacent and not block.not_run:
                _compare(block.code, printed, place)
            printed = None
        elif block.is_run:
            with captured() as output:
                if block.language == "python":
                    # Leading blank lines make a traceback show the line numbers of the page.
                    exec(compile("\n" * (block.line - 1) + block.code, str(page), "exec"), names)
                elif block.language in SHELL:
                    for command in commands(block.code):
                        run_command(command, place)
            if block.language == "console":
                _run_session(block.code, place)
            printed = output.text()
        else:
            printed = None
    return names


def commands(code: str) -> list[str]:
    """Return the commands of a shell block, without comments; "\\" at the end of a line continues a command."""
    lines = code.replace("\\\n", " ").splitlines()
    return [line for line in lines if line.strip() and not line.lstrip().startswith("#")]


def run_command(command: str, place: str) -> None:
    """Run `binder-ner ...` or `python -m MODULE ...` in this process."""
    lexer = shlex.shlex(command, posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    words = list(lexer)
    target = None
    if ">" in words[-2:-1]:
        target, words = words[-1], words[:-2]
    special = {word for word in words if set(word) <= set("|&;<>")}
    assert not special, f"{place}: the test cannot run {special} of a shell; mark the block: <!-- not run: why -->"
    with captured() if target else contextlib.nullcontext() as output:
        try:
            code = _main(words, place)
        except SystemExit as error:  # argparse, after --help or an error
            code = error.code or 0
    assert code == 0, f"{place}: {command} has the exit code {code}"
    if target:
        Path(target).write_text(output.text(), encoding="utf-8")


def _main(words: list[str], place: str) -> int:
    if words[0] == "binder-ner":
        return binder_ner(words[1:])
    assert words[:2] == ["python", "-m"], f"{place}: the test runs `binder-ner` and `python -m`, not {words[0]}"
    module = importlib.import_module(words[2])
    if hasattr(module, "__path__"):
        module = importlib.import_module(f"{words[2]}.__main__")
    with mock.patch.object(sys, "argv", words[2:]):
        module.main()
    return 0


def _run_session(code: str, place: str) -> None:
    """Run the commands of a ```console block and compare what they print. `find` draws, as on a terminal."""
    for command, expected in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", code, re.MULTILINE):
        drawn = command.startswith("binder-ner find") and "--format" not in command
        with captured() as output:
            run_command(f"{command} --format drawing" if drawn else command, place)
        _compare(expected, output.text(), place)


def _compare(expected: str, printed: str, place: str) -> None:
    want, got = (re.sub(r"[ ]+$", "", text, flags=re.MULTILINE).strip("\n") + "\n" for text in (expected, printed))
    same = doctest.OutputChecker().check_output(want, got, doctest.ELLIPSIS)
    assert same, f"{place} shows\n{want}\nbut the code before prints\n{got}"


class _Output(io.TextIOWrapper):
    """A stdout in memory, which also has a `buffer`."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8", newline="", write_through=True)

    def text(self) -> str:
        return self.buffer.getvalue().decode("utf-8")  # type: ignore[attr-defined]


@contextlib.contextmanager
def captured():
    """Redirect stdout into memory."""
    with contextlib.redirect_stdout(_Output()) as output:
        yield output


def link_inputs(folder: Path) -> None:
    """Put links to `demo/model` and `training/sample` into a working folder, so that it looks like a clone."""
    for name in ("demo/model", "training/sample"):
        (folder / name).parent.mkdir()
        (folder / name).symlink_to(ROOT / name, target_is_directory=True)
