"""Run a page of the documentation: its code blocks in order, in one namespace.

- ```python blocks are executed. ```py blocks are fragments and are not executed.
- ```bash and ```sh blocks are run if they start with `binder-ner` or `python -m`. Each command runs in this process and
  must exit with 0. `> file` at the end of a command writes its output to a file. Other shell blocks, such as
  `pip install ...`, are not run.
- In a ```console block, lines that start with "$ " are commands. The lines after a command are its expected output.
- A ```text block directly after a block that is run contains the expected stdout of that block. "..." matches any text.

A block directly after the comment `<!-- not run: REASON -->` is not run. Readers of the page do not see the comment.
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
# Matches an optional HTML comment, the opening fence with the language, the code, and the closing fence.
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
        adjacent: whether only blank lines separate this block from the previous block.
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
    """Run the blocks of a page in the current folder and compare their output. Return the names that they define."""
    names: dict[str, object] = {"__name__": "__main__"}
    printed = None  # the output of the previous block, or None if the previous block was not run
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
    """Return the commands of a shell block, without comments. Join lines that end with a backslash."""
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
    """Run the commands of a ```console block and compare their output.

    `binder-ner find` draws the entities, as it does on a terminal.
    """
    for command, expected in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", code, re.MULTILINE):
        drawn = command.startswith("binder-ner find") and "--format" not in command
        with captured() as output:
            run_command(f"{command} --format drawing" if drawn else command, place)
        _compare(expected, output.text(), place)


def _compare(expected: str, printed: str, place: str) -> None:
    want, got = (re.sub(r"[ ]+$", "", text, flags=re.MULTILINE).strip("\n") + "\n" for text in (expected, printed))
    same = doctest.OutputChecker().check_output(want, got, doctest.ELLIPSIS)
    assert same, f"{place} shows\n{want}\nbut the code before it prints\n{got}"


class _Output(io.TextIOWrapper):
    """A replacement for stdout that keeps the output in memory. Like stdout, it has a `buffer` for bytes."""

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
    """Link `demo/model` and `training/sample` into a working folder. The examples use both folders of a clone."""
    for name in ("demo/model", "training/sample"):
        (folder / name).parent.mkdir()
        (folder / name).symlink_to(ROOT / name, target_is_directory=True)
