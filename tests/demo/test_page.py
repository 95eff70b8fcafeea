"""The page in a real browser, over real HTTP, on a tiny model."""

import json
import re
import sys
from itertools import combinations

import pytest
from transformers import pipeline

from tests.demo.server import chromium, serve
from tests.fresh_process import ROOT
from tests.tiny import TYPES, build_model, build_tokenizer

TEXT = "the IL-2 gene promoter of cells in oslo"
SLOW = 30_000  # milliseconds that a step may take on a busy machine


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page") / "model"
    build_model().save_pretrained(folder)
    build_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def address(checkpoint):
    with serve([sys.executable, "-m", "demo.app"], str(ROOT), BINDER_MODEL=str(checkpoint), OMP_NUM_THREADS="1") as url:
        yield url


@pytest.fixture(scope="module")
def browser():
    with chromium() as running:
        yield running


def visit(browser, address, theme="light", **options):
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
    page = context.new_page()
    page.set_default_timeout(SLOW)
    page.dialogs = []
    page.on("dialog", lambda dialog: (page.dialogs.append(dialog.message), dialog.dismiss()))
    page.asked = []
    page.on("request", lambda request: page.asked.append(request.url))
    page.goto(f"{address}/?__theme={theme}")
    page.wait_for_selector("#drawing .bn-bar")
    return page


@pytest.fixture
def page(browser, address):
    opened = visit(browser, address)
    yield opened
    opened.context.close()


def ask(page, text):
    """Search a text and wait for the answer about this very text."""
    page.fill("#text textarea", text)
    page.click("#find")
    wait_for_answer(page, text)


def wait_for_answer(page, text):
    wanted = re.sub(r"\s", "", text)
    page.wait_for_function(
        """wanted => [...document.querySelectorAll('#drawing .bn-chars')].map(e => e.textContent).join('')
        .replace(/\\s/g, '') === wanted""",
        arg=wanted,
    )


def answer(page):
    page.get_by_role("tab", name="JSON").click()
    found = json.loads(page.locator("#json textarea").input_value())
    page.get_by_role("tab", name="Text").click()
    return found


def find_in(page, path):
    """Give the page a file, on the tab that takes one, and start."""
    page.set_input_files("#upload input[type=file]", path)
    page.locator("#upload").get_by_text(path.stem).first.wait_for()
    page.click("#start")


def row(page, name):
    """The cells of the table of types that say this."""
    return page.locator("#types [role=gridcell]").get_by_text(name, exact=True)


def boxes(page):
    """Bars by entity, "start-end-lane": their boxes."""
    return page.evaluate(
        """() => { const all = {}; for (const bar of document.querySelectorAll('#drawing .bn-bar')) {
        const box = bar.getBoundingClientRect(); (all[bar.dataset.span] ??= []).push(
        {left: box.left, right: box.right, top: box.top, bottom: box.bottom}); } return all; }"""
    )


def test_a_text_is_searched(page, checkpoint):
    short = "gene of cells"
    ask(page, short)
    expected = pipeline("binder-ner", model=str(checkpoint))(short)
    found = answer(page)
    assert [(e["entity_group"], e["word"], e["start"], e["end"]) for e in found] == [
        (e["entity_group"], e["word"], e["start"], e["end"]) for e in expected
    ]
    page.get_by_role("tab", name="Table").click()
    page.locator("#table [data-testid=cell-0-0]").wait_for()
    cells = [page.locator(f"#table [data-testid=cell-0-{column}]").inner_text().strip() for column in range(5)]
    assert [found[0]["entity_group"], found[0]["word"]] == cells[:2] and cells[3:] == ["0", str(found[0]["end"])]
    legend = page.locator("#drawing .bn-legend").inner_text()
    for kind in {e["entity_group"] for e in found}:
        assert f"{kind} ({sum(e['entity_group'] == kind for e in found)})" in legend


def test_the_last_question_is_answered_too(page):
    short = "gene of cells"
    ask(page, short)
    for text in (TEXT * 20, TEXT):  # the second question comes while the first is being answered
        page.fill("#text textarea", text)
        page.click("#find")
    wait_for_answer(page, TEXT)
    page.get_by_role("tab", name="Why").click()
    words = "[...document.querySelectorAll('#why thead th')].map(e => e.textContent).includes('oslo')"
    page.wait_for_function(words)


@pytest.mark.parametrize("width", [1280, 360])
def test_inner_bars_lie_within_outer_ones(browser, address, width):
    page = visit(browser, address, viewport={"width": width, "height": 800})
    ask(page, TEXT)
    found = boxes(page)
    assert len(found) > 10
    nested = crossing = 0
    for one, two in combinations(found, 2):
        (a, b, lane), (c, d, other) = (map(int, name.split("-")) for name in (one, two))
        if not (a < d and c < b):
            continue
        assert lane != other
        if (a <= c and d <= b) or (c <= a and b <= d):
            outer, inner = (one, two) if b - a >= d - c else (two, one)
            nested += 1
            for box in found[inner]:
                assert any(
                    around["left"] <= box["left"] + 0.5
                    and box["right"] <= around["right"] + 0.5
                    and abs(around["top"] - box["top"]) < 100 * 22
                    for around in found[outer]
                ), (inner, outer)
        else:
            crossing += 1
    assert nested and crossing
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.context.close()


def test_own_types_are_added_removed_and_reset(page):
    page.get_by_role("button", name="Add or remove types").click()
    page.fill("#name textarea, #name input", "Drug")
    page.fill("#description textarea, #description input", "A chemical that heals.")
    page.click("#add")
    row(page, "Drug").first.wait_for()
    page.click("#unwanted input")
    for kind in TYPES:
        page.get_by_role("option", name=kind).click()
    page.keyboard.press("Escape")
    page.click("#remove")
    row(page, "Gene").first.wait_for(state="hidden")
    ask(page, "the gene of cells in oslo")
    page.wait_for_function("!document.querySelector('#drawing').innerText.includes('Gene (')")
    assert {e["entity_group"] for e in answer(page)} <= {"Drug"}
    page.fill("#name textarea, #name input", "Drug")
    page.click("#add")
    page.locator("#message").get_by_text("'Drug' is there twice").wait_for()
    page.click("#reset")
    row(page, "Gene").first.wait_for()
    assert row(page, "Drug").count() == 0


def test_a_threshold_of_one_type(page):
    ask(page, TEXT)
    assert any(e["entity_group"] == "Gene" for e in answer(page))
    cell = page.locator("#types [data-testid=cell-0-2]")
    cell.dblclick()
    cell.locator("textarea").fill("1")  # waits until the cell can be written in, as a person does
    cell.locator("textarea").press("Enter")
    cell.get_by_text("1", exact=True).wait_for()
    page.click("#find")
    page.wait_for_function("!document.querySelector('#drawing').innerText.includes('Gene (')")
    found = answer(page)
    assert found and all(e["entity_group"] != "Gene" for e in found)


HOSTILE = (
    "<img src=x onerror=alert(1)> <script>alert(2)</script> [a](javascript:alert(3)) {{7*7}} ${7*7} 'x' \"y\" &amp;"
)


def test_nothing_that_is_typed_runs(page):
    ask(page, HOSTILE)
    page.get_by_role("button", name="Add or remove types").click()
    for name in ("<img src=x onerror=alert(4)>", "<script>alert(5)</script>"):
        page.fill("#name textarea, #name input", name)
        page.fill("#description textarea, #description input", "<svg onload=alert(6)>")
        page.click("#add")
        row(page, name).first.wait_for()
    page.fill("#name textarea, #name input", "<img src=x onerror=alert(4)>")
    page.click("#add")
    page.locator("#message").get_by_text("is there twice").wait_for()
    page.click("#find")
    page.wait_for_function("document.querySelector('#drawing').innerText.includes('<script>')")
    for tab in ("Table", "JSON", "Why"):
        page.get_by_role("tab", name=tab).click()
        page.wait_for_timeout(500)
    assert page.dialogs == []
    made = "document.querySelectorAll('img[src=x], svg[onload], a[href^=javascript], #drawing script').length"
    assert page.evaluate(made) == 0
    page.get_by_role("tab", name="Text").click()
    assert "{{7*7}}" in page.locator("#drawing").inner_text() and "&amp;" in page.locator("#drawing").inner_text()


def test_errors_are_sentences_on_the_page(page):
    page.fill("#text textarea", "  ")
    page.click("#find")
    page.locator("#message").get_by_text("There is no text yet").wait_for()
    ask(page, TEXT)
    page.wait_for_function("!document.querySelector('#message').innerText.trim()")


def test_why(page, checkpoint):
    text = "gene of cells"
    ask(page, text)
    found = answer(page)
    page.get_by_role("tab", name="Why").click()
    page.wait_for_selector("#why .bn-map")
    page.wait_for_function("document.querySelectorAll('#why .bn-map tbody tr').length === 3")
    assert page.locator("#why thead th").all_inner_texts()[1:] == text.split()
    kind = page.locator("#kind input").input_value()
    above = page.locator("#why td.bn-found").evaluate_all("cells => cells.map(cell => cell.title.split(':')[0])")
    assert sorted(above) == sorted(e["word"] for e in found if e["entity_group"] == kind)
    margins = page.locator("#why .bn-margins > span:nth-child(3n+1)").all_inner_texts()
    assert sorted(margins) == sorted(TYPES)
    page.click("#kind input")
    page.get_by_role("option", name="Place").click()
    page.locator("#why").get_by_text("Place: how far").wait_for()


def test_a_hint_appears_on_focus_and_on_hover(page):
    ask(page, TEXT)
    bar = page.locator("#drawing .bn-bar[tabindex]").first
    content = "bar => getComputedStyle(bar, '::after').content"
    assert bar.evaluate(content) == "none"
    bar.focus()
    assert "over its threshold" in bar.evaluate(content) and "score" in bar.get_attribute("aria-label")
    bar.evaluate("bar => bar.blur()")
    bar.hover()
    assert "over its threshold" in bar.evaluate(content)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_is_readable_in_both_themes(browser, address, theme):
    page = visit(browser, address, theme)
    contrast = page.evaluate(
        """() => { const parse = c => { const m = c.match(/[\\d.]+/g).map(Number); return m; };
        const lum = c => { const [r, g, b] = c.slice(0, 3).map(v => { v /= 255;
          return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
          return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
        const behind = e => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor);
          if (c.length === 3 || c[3] > 0) return c; } return [255, 255, 255]; };
        return [...document.querySelectorAll('#drawing .bn-chars, #drawing .bn-bar.bn-first')].map(e => {
          const a = lum(parse(getComputedStyle(e).color)), b = lum(behind(e));
          return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05); }); }"""
    )
    assert contrast and min(contrast) >= 4.5
    assert page.evaluate("document.body.classList.contains('dark')") == (theme == "dark")
    page.context.close()


def test_two_users_do_not_see_each_others_types(browser, address):
    first, second = visit(browser, address), visit(browser, address)
    for page, name in ((first, "Drug"), (second, "Star")):
        page.get_by_role("button", name="Add or remove types").click()
        page.fill("#name textarea, #name input", name)
        page.click("#add")
    for page, own, other in ((first, "Drug", "Star"), (second, "Star", "Drug")):
        row(page, own).first.wait_for()
        ask(page, TEXT)
        assert row(page, other).count() == 0
        assert other not in {e["entity_group"] for e in answer(page)}
        page.context.close()


def test_a_file_in_and_a_file_out(page, tmp_path, checkpoint):
    page.get_by_role("tab", name="Files").click()
    source = tmp_path / "texts.jsonl"
    source.write_text('{"text": "the gene of cells", "id": 7}\n{"text": "oslo"}\n')
    find_in(page, source)
    page.locator("#file-message").get_by_text("Done: 2 texts").wait_for()
    with page.expect_download() as download:
        page.locator("#result a").first.click()
    lines = [json.loads(line) for line in download.value.path().read_text().splitlines()]
    assert [line.get("id") for line in lines] == [7, None]
    expected = pipeline("binder-ner", model=str(checkpoint))("the gene of cells")
    assert [(e["word"], e["entity_group"]) for e in lines[0]["entities"]] == [
        (e["word"], e["entity_group"]) for e in expected
    ]


def test_a_broken_file_and_a_cancelled_one(page, tmp_path):
    page.get_by_role("tab", name="Files").click()
    page.click("#start")
    page.locator("#file-message").get_by_text("Choose a file first").wait_for()
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"text": "a"}\n{"text": <b>}\n')
    find_in(page, broken)
    page.locator("#file-message").get_by_text("Line 2 is no JSON").wait_for()
    page.reload()
    page.wait_for_selector("#drawing .bn-bar")
    page.get_by_role("tab", name="Files").click()
    long = tmp_path / "long.txt"
    long.write_text(f"{TEXT * 8}\n" * 2000)
    find_in(page, long)
    page.locator("#file-message progress").wait_for()
    page.click("#cancel")
    page.locator("#file-message").get_by_text("Cancelled.").wait_for()
    ask_again = page.get_by_role("tab", name="Text")
    ask_again.click()
    ask(page, TEXT)  # the page is free for the next request


def test_the_page_asks_nobody_else(page, address):
    ask(page, TEXT)
    strangers = {url for url in page.asked if not url.startswith((address, "data:", "blob:"))}
    assert not {url for url in strangers if "fonts.g" not in url}, "the page works without the web"


def test_programs_can_call_it(address, checkpoint):
    from gradio_client import Client

    client = Client(address, verbose=False, analytics_enabled=False)
    endpoints = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert set(endpoints) == {"/find", "/types"}
    parameters = {p["parameter_name"]: p for p in endpoints["/find"]["parameters"]}
    assert list(parameters) == ["text", "entity_types", "decoding", "inference", "threshold"]
    assert client.predict(api_name="/types") == TYPES
    found = client.predict(TEXT, {"Cell": "A cell."}, "flat", threshold=0.6, api_name="/find")
    expected = pipeline("binder-ner", model=str(checkpoint))(
        TEXT, entity_types={"Cell": "A cell."}, decoding="flat", threshold=0.6
    )
    assert [(e["start"], e["end"]) for e in found] == [(e["start"], e["end"]) for e in expected]
    for arguments, message in (
        ({"text": "a" * 20_001}, "20,001 characters"),
        ({"text": "a", "decoding": "deep"}, "decoding must be one of"),
        ({"text": "a", "entity_types": {"<b>": "x" * 501}}, "too long"),
    ):
        with pytest.raises(Exception, match=message) as refused:
            client.predict(**arguments, api_name="/find")
        assert "<b>" not in str(refused.value)
