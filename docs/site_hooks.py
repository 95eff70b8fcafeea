"""Hooks of MkDocs, which adapt the Markdown pages to the site. GitHub shows the same pages without these changes.

- Links to files outside docs/ become links to GitHub. Pictures outside docs/ are copied into the site.
- Formulas become MathML, which browsers draw without a script.
- Tutorials that `nav` does not list are added after the tutorials in `nav`.
- Comments for the tests, such as `<!-- not run: ... -->`, are removed.
"""

import html
import re
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
_LINK = re.compile(r"(\]\()((?:\.\./)+[^)#\s]+)")
_MARK = re.compile(r"^[ ]*<!-- *(?:not run|run by tests).*-->[ ]*\n", re.MULTILINE)
_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)
PICTURES = (".png", ".svg")


def on_config(config: Any) -> Any:
    """Add the tutorials that are missing in the navigation. MkDocs uses their headings as titles."""
    (tutorials,) = (entry["Tutorials"] for entry in config["nav"] if "Tutorials" in entry)
    listed = {path for entry in tutorials for path in entry.values()}
    found = (f"tutorials/{path.name}" for path in sorted((ROOT / "docs" / "tutorials").glob("*.md")))
    tutorials.extend(path for path in found if path not in listed)
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pictures that pages show from folders outside docs/."""
    for page in [file for file in files if file.is_documentation_page()]:
        for _, link in _LINK.findall(page.content_string):
            target = _outside(page.src_uri, link)
            if target and target.endswith(PICTURES) and not files.get_file_from_path(f"repository/{target}"):
                files.append(File.generated(config, f"repository/{target}", abs_src_path=str(ROOT / target)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Remove the comments for tests, and rewrite links to files outside docs/."""

    def rewrite(match: re.Match[str]) -> str:
        target = _outside(page.file.src_uri, match[2])
        if target is None:
            return match[0]
        if target.endswith(PICTURES):
            return f"{match[1]}{'../' * page.file.src_uri.count('/')}repository/{target}"
        kind = "tree" if (ROOT / target).is_dir() else "blob"
        return f"{match[1]}{config['repo_url']}/{kind}/main/{target}"

    return _LINK.sub(rewrite, _MARK.sub("\n", markdown))


def on_page_content(content: str, page: Any, config: Any, files: Any) -> str:
    """Replace TeX formulas by MathML."""
    return _FORMULA.sub(
        lambda match: convert(html.unescape(match[3]).strip(), display="block" if match[2] == "[" else "inline"),
        content,
    )


def _outside(page: str, link: str) -> str | None:
    """Return the path of a link's target in the repository, or None if the target is missing or inside docs/."""
    target = (ROOT / "docs" / page).parent.joinpath(link).resolve()
    if not target.exists() or target.is_relative_to(ROOT / "docs"):
        return None
    return target.relative_to(ROOT).as_posix()
