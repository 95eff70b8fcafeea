"""Write generated tables into the pages of this repository."""

from pathlib import Path

from modeling_binder.finetuning.data import written_whole

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"


def write_between(page: Path, name: str, content: str) -> None:
    """Replace the text between `<!-- NAME -->` and `<!-- /NAME -->` in a page.

    Raises:
        ValueError: the page does not contain both markers exactly once.
    """
    text = page.read_text(encoding="utf-8")
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    if text.count(begin) != 1 or text.count(end) != 1:
        raise ValueError(f"{page}: expected one line {begin} and one line {end}, with the table between them.")
    head, rest = text.split(begin)
    tail = rest.split(end)[1]
    with written_whole(page) as file:
        file.write(f"{head}{begin}\n{content}\n{end}{tail}")
