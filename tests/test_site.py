"""Tests of the documentation site, which is built in strict mode: links, loaded files and the API reference."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

import pytest

import modeling_binder
import modeling_binder.finetuning
from tests.fresh_process import HANGS
from tests.pages import ROOT


class Page(HTMLParser):
    """The ids in a page, its links, and the URLs of the files that a browser loads with the page."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.loaded = set(), [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.ids |= {attributes.get("id"), attributes.get("name")}
        if tag == "a" and "href" in attributes:
            self.links.append(attributes["href"])
        elif tag == "link" and attributes.get("rel") not in ("canonical", "next", "prev"):
            self.loaded.append(attributes["href"])
        elif "src" in attributes:
            self.loaded.append(attributes["src"])


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Build the site and return its folder and its pages."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=HANGS,
        check=False,
    )
    assert done.returncode == 0 and not done.stdout and not done.stderr, done.stdout + done.stderr
    return folder, {path: Page(path.read_text(encoding="utf-8")) for path in folder.rglob("*.html")}


def test_links_and_anchors_exist_and_pages_load_only_local_files(site):
    folder, pages = site
    for path, page in pages.items():
        for link in page.loaded:
            assert not urlsplit(link).netloc, f"{path.name} loads {link}"
        for link in page.links + page.loaded:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or path.name == "404.html":
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            assert target.is_relative_to(folder.resolve()) and target.exists(), f"{path.name}: {link}"
            if parts.fragment and target in pages:
                assert unquote(parts.fragment) in pages[target].ids | {"__skip"}, f"{path.name}: {link}"


def test_links_to_the_repository_exist(site):
    _, pages = site
    (address,) = re.findall(r"^repo_url: (.*)", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
    assert f'Repository = "{address}"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    links = {link for page in pages.values() for link in page.links if link.startswith(f"{address}/")}
    assert links
    for link in links:
        kind, _, target = link.removeprefix(f"{address}/").partition("/main/")
        target = ROOT / target.partition("#")[0]
        assert {"blob": target.is_file(), "tree": target.is_dir(), "edit": target.is_file()}[kind], link


def test_the_reference_has_every_public_name(site):
    _, pages = site
    described = set().union(*(page.ids for path, page in pages.items() if path.parent.name == "reference"))
    for package in (modeling_binder, modeling_binder.finetuning):
        for name in package.__all__:
            assert f"{package.__name__}.{name}" in described, name


def test_examples_and_arguments_of_docstrings_are_formatted(site):
    folder, _ = site
    for path in folder.glob("reference/*.html"):
        assert "<blockquote>" not in path.read_text(encoding="utf-8"), f"{path.name}: an example looks like a quotation"
    page = (folder / "reference/pipeline.html").read_text(encoding="utf-8")
    assert "<code>threshold</code>" in page and "doctest" not in page


def test_formulas_are_rendered_without_javascript(site):
    folder, _ = site
    text = (folder / "how-it-works.html").read_text(encoding="utf-8")
    assert text.count("<math ") > 20 and "arithmatex" not in text


def test_comments_for_tests_are_not_on_the_site(site):
    folder, _ = site
    for path in folder.rglob("*.html"):
        assert not re.search("<!-- *(not run|run by tests)", path.read_text(encoding="utf-8")), path.name
