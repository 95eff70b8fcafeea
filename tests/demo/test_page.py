"""Tests of the demo page with a tiny model in a real browser."""

import json
import sys
from itertools import combinations
from pathlib import Path

import pytest
from transformers import pipeline

from demo import app, files
from demo.examples import NEW_TYPE_EXAMPLES
from modeling_binder.finetuning import read_jsonl
from tests.demo.server import chromium, serve
from tests.fresh_process import ROOT
from tests.tiny import TYPES, build_model, build_tokenizer

TEXT = "the IL-2 gene promoter of cells in oslo"
TIMEOUT = 120_000  # milliseconds for one step; the machine may be busy


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
    """Open the demo page in a new browser context, and record its dialogs and requests."""
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
    page = context.new_page()
    page.set_default_timeout(TIMEOUT)
    page.dialogs = []
    page.on("dialog", lambda dialog: (page.dialogs.append(dialog.message), dialog.dismiss()))
    page.asked = []
    page.on("request", lambda request: page.asked.append(request.url))
    page.goto(f"{address}/?__theme={theme}")
    page.wait_for_selector("#drawing .bn-entity")
    return page


@pytest.fixture
def page(browser, address):
    opened = visit(browser, address)
    yield opened
    opened.context.close()


def ask(page, text):
    """Enter a text, start the search, and wait for the drawing of this text."""
    page.fill("#text textarea", text)
    page.click("#find")
    wait_for_answer(page, text)


def wait_for_answer(page, text):
    page.wait_for_function("wanted => document.querySelector('#drawing .bn-text')?.textContent === wanted", arg=text)


def answer(page):
    """Return the entities that the tab "JSON" shows."""
    page.get_by_role("tab", name="JSON").click()
    found = json.loads(page.locator("#json textarea").input_value())
    page.get_by_role("tab", name="Text").click()
    return found


def find_in(page, path):
    """Upload a file and start the search. The tab "Files" must be open."""
    page.set_input_files("#upload input[type=file]", path)
    # The name also appears during the upload. The preview appears after it.
    page.locator("#upload .file-preview").get_by_text(path.stem).first.wait_for()
    page.click("#start")


def row(page, name):
    """Locate the cells with this name in the table of entity types."""
    return page.locator("#types [role=gridcell]").get_by_text(name, exact=True)


def bars(page):
    """Return the boxes of the bars of each entity. A bar has one box for each line of text.

    The keys are "start-end-lane", the values are dictionaries with left, right, top and bottom in pixels.
    """
    return page.evaluate(
        """() => { const all = {};
        for (const entity of document.querySelectorAll('#drawing .bn-entity')) {
          const height = parseFloat(getComputedStyle(entity).backgroundSize.split(' ')[1]);
          for (const {left, right, bottom} of entity.getClientRects())
            if (right > left) (all[entity.dataset.span] ??= []).push({left, right, top: bottom - height, bottom}); }
        return all; }"""
    )


def characters(page):
    """Return [character, left, width, top] for each visible character of the drawn text, in pixels."""
    return page.evaluate(
        """() => { const all = []; const range = document.createRange();
        const walker = document.createTreeWalker(document.querySelector('#drawing .bn-text'), NodeFilter.SHOW_TEXT);
        for (let node; node = walker.nextNode();) for (let i = 0; i < node.length; i++) {
          range.setStart(node, i); range.setEnd(node, i + 1);
          const {left, width, top} = range.getBoundingClientRect();
          if (node.data[i].trim()) all.push([node.data[i], left, width, top]); }
        return all; }"""
    )


def test_the_page_shows_the_entities_of_a_text(page, checkpoint):
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
    for label in {e["entity_group"] for e in found}:
        assert f"{label} ({sum(e['entity_group'] == label for e in found)})" in legend


def test_the_page_shows_the_answer_to_the_last_request(page):
    short = "gene of cells"
    ask(page, short)
    for text in (TEXT * 20, TEXT):  # the second request is sent while the first one is running
        page.fill("#text textarea", text)
        page.click("#find")
    wait_for_answer(page, TEXT)
    page.get_by_role("tab", name="Why").click()
    words = "[...document.querySelectorAll('#why thead th')].map(e => e.textContent).includes('oslo')"
    page.wait_for_function(words)


@pytest.mark.parametrize("width", [1280, 360])
def test_bars_lie_between_the_lines_of_text_and_inner_bars_lie_within_outer_bars(browser, address, width):
    page = visit(browser, address, viewport={"width": width, "height": 800})
    ask(page, TEXT)
    found = bars(page)
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
    tops = sorted({round(top) for *_, top in characters(page)})
    for box in (box for boxes in found.values() for box in boxes):
        line = max(top for top in tops if top <= box["top"])
        following = [top for top in tops if top > line]
        assert not following or box["bottom"] <= following[0] + 1, "a bar covers the next line"
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.context.close()


LONG_LABEL = "electronic mail address of a person who works at a university"
TEXTS = [
    "Write to amina.okafor@uon.ac.ke, or to AV. WATO fi ffi,\nor call  +45 5550 1234.",
    "See https://example.org/a/very/long/address/that/fits/on/no/phone?page=1 in 東京大学の研究者は北海道で.",
]


@pytest.mark.parametrize("width", [1280, 360])
@pytest.mark.parametrize("text", TEXTS)
def test_bars_do_not_move_characters_and_the_copied_text_is_the_input(browser, address, width, text):
    """One of the labels is much longer than the text above its bar."""
    page = visit(browser, address, viewport={"width": width, "height": 800})
    page.get_by_role("button", name="Add or remove types").click()
    page.fill("#name textarea, #name input", LONG_LABEL[:60])
    page.click("#add")
    row(page, LONG_LABEL[:60]).first.wait_for()
    ask(page, text)
    assert any(e["entity_group"] == LONG_LABEL[:60] for e in answer(page))
    assert len(bars(page)) > 10
    copied = "(e => { const s = getSelection(); s.selectAllChildren(e); return s.toString(); })"
    assert page.evaluate(f"{copied}(document.querySelector('#drawing .bn-text'))") == text
    drawn = characters(page)
    page.evaluate("e => e.textContent = e.textContent", page.query_selector("#drawing .bn-text"))
    plain = characters(page)
    assert not bars(page)
    for (letter, left, size, _), (same, plain_left, plain_size, _) in zip(drawn, plain, strict=True):
        assert letter == same and abs(left - plain_left) < 0.5 and abs(size - plain_size) < 0.5
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.context.close()


def test_a_long_label_ends_with_an_ellipsis_and_its_full_text_is_the_tooltip(page):
    page.get_by_role("button", name="Add or remove types").click()
    page.fill("#name textarea, #name input", LONG_LABEL[:60])
    page.click("#add")
    row(page, LONG_LABEL[:60]).first.wait_for()
    ask(page, "the gene")
    bar = page.locator(f"#drawing .bn-entity[title*='{LONG_LABEL[:60]}']").first
    image = bar.evaluate("bar => decodeURIComponent(getComputedStyle(bar).backgroundImage)")
    assert LONG_LABEL[:60] in image and "text-overflow:ellipsis" in image
    box = bar.evaluate("bar => bar.getBoundingClientRect().width")
    assert box < 100, "the bar is as wide as its text"
    page.get_by_role("tab", name="Table").click()
    page.locator("#table [role=gridcell]").get_by_text(LONG_LABEL[:60]).first.wait_for()


def test_a_click_on_an_example_sets_its_types_and_finds_its_entities(page):
    assert row(page, "Gene").count() == 1
    page.locator("#examples").get_by_text("Wine", exact=True).click()
    page.wait_for_function("document.querySelector('#drawing .bn-text').textContent.includes('Riesling')")
    row(page, "grape variety").first.wait_for()
    assert row(page, "Gene").count() == 0
    assert {e["entity_group"] for e in answer(page)} <= set(NEW_TYPE_EXAMPLES[1].types)
    page.locator("#examples").get_by_text("Gene promoter", exact=True).click()
    page.wait_for_function("document.querySelector('#drawing .bn-text').textContent.includes('University of Oslo')")
    row(page, "Gene").first.wait_for()


def test_types_can_be_added_removed_and_reset(page):
    page.get_by_role("button", name="Add or remove types").click()
    page.fill("#name textarea, #name input", "Drug")
    page.fill("#description textarea, #description input", "A chemical that heals.")
    page.click("#add")
    row(page, "Drug").first.wait_for()
    page.click("#unwanted input")
    for label in TYPES:
        page.get_by_role("option", name=label).click()
    page.keyboard.press("Escape")
    page.click("#remove")
    row(page, "Gene").first.wait_for(state="hidden")
    ask(page, "the gene of cells in oslo")
    page.wait_for_function("!document.querySelector('#drawing').innerText.includes('Gene (')")
    assert {e["entity_group"] for e in answer(page)} <= {"Drug"}
    page.fill("#name textarea, #name input", "Drug")
    page.click("#add")
    page.locator("#type-message").get_by_text("'Drug' appears twice").wait_for()
    page.click("#reset")
    row(page, "Gene").first.wait_for()
    assert row(page, "Drug").count() == 0


def test_the_threshold_of_one_type_can_be_changed(page):
    ask(page, TEXT)
    assert any(e["entity_group"] == "Gene" for e in answer(page))
    cell = page.locator("#types [data-testid=cell-0-2]")
    cell.dblclick()
    cell.locator("textarea").fill("1")  # waits until the cell is editable
    cell.locator("textarea").press("Enter")
    cell.get_by_text("1", exact=True).wait_for()
    page.click("#find")
    page.wait_for_function("!document.querySelector('#drawing').innerText.includes('Gene (')")
    found = answer(page)
    assert found and all(e["entity_group"] != "Gene" for e in found)


HOSTILE = (
    "<img src=x onerror=alert(1)> <script>alert(2)</script> [a](javascript:alert(3)) {{7*7}} ${7*7} 'x' \"y\" &amp;"
)


def test_input_is_never_run_as_code(page):
    ask(page, HOSTILE)
    page.get_by_role("button", name="Add or remove types").click()
    for name in ("<img src=x onerror=alert(4)>", "<script>alert(5)</script>"):
        page.fill("#name textarea, #name input", name)
        page.fill("#description textarea, #description input", "<svg onload=alert(6)>")
        page.click("#add")
        row(page, name).first.wait_for()
    page.fill("#name textarea, #name input", "<img src=x onerror=alert(4)>")
    page.click("#add")
    page.locator("#type-message").get_by_text("appears twice").wait_for()
    page.click("#find")
    page.wait_for_function("document.querySelector('#drawing').innerText.includes('<script>')")
    for tab, content in (("Table", "#table [data-testid=cell-0-0]"), ("JSON", "#json"), ("Why", "#why .bn-map")):
        page.get_by_role("tab", name=tab).click()
        page.locator(content).first.wait_for()
    assert page.dialogs == []
    made = "document.querySelectorAll('img[src=x], svg[onload], a[href^=javascript], #drawing script').length"
    assert page.evaluate(made) == 0
    page.get_by_role("tab", name="Text").click()
    assert "{{7*7}}" in page.locator("#drawing").inner_text() and "&amp;" in page.locator("#drawing").inner_text()


def test_the_page_shows_errors_as_messages(page):
    page.fill("#text textarea", "  ")
    page.click("#find")
    page.locator("#message").get_by_text("There is no text yet").wait_for()
    ask(page, TEXT)
    page.wait_for_function("!document.querySelector('#message').innerText.trim()")


def test_the_tab_why_shows_the_margins_of_an_entity(page, checkpoint):
    text = "gene of cells"
    ask(page, text)
    found = answer(page)
    page.get_by_role("tab", name="Why").click()
    page.wait_for_selector("#why .bn-map")
    page.wait_for_function("document.querySelectorAll('#why .bn-map tbody tr').length === 3")
    assert page.locator("#why thead th").all_inner_texts()[1:] == text.split()
    label = page.locator("#label input").input_value()
    above = page.locator("#why td.bn-found").evaluate_all("cells => cells.map(cell => cell.title.split(':')[0])")
    assert sorted(above) == sorted(e["word"] for e in found if e["entity_group"] == label)
    margins = page.locator("#why .bn-margins > span:nth-child(3n+1)").all_inner_texts()
    assert sorted(margins) == sorted(TYPES)
    page.click("#label input")
    page.get_by_role("option", name="Place").click()
    page.locator("#why").get_by_text("Place: the margins").wait_for()


def test_a_hint_appears_on_focus_and_on_hover(page):
    ask(page, TEXT)
    entity = page.locator("#drawing .bn-entity[tabindex]").first
    content = "entity => getComputedStyle(entity, '::after').content"
    assert entity.evaluate(content) == "none"
    entity.focus()
    assert "over its threshold" in entity.evaluate(content) and "score" in entity.get_attribute("aria-label")
    assert "over its threshold" in entity.get_attribute("title")


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
        return [...document.querySelectorAll('#drawing .bn-text, #drawing .bn-legend li')].map(e => {
          const a = lum(parse(getComputedStyle(e).color)), b = lum(behind(e));
          return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05); }); }"""
    )
    assert contrast and min(contrast) >= 4.5
    assert page.evaluate("document.body.classList.contains('dark')") == (theme == "dark")
    page.context.close()


def test_users_do_not_see_each_others_types(browser, address):
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


def test_the_entities_of_a_file_can_be_downloaded(page, tmp_path, checkpoint):
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
    assert [(e["word"], e["label"]) for e in lines[0]["entities"]] == [(e["word"], e["entity_group"]) for e in expected]
    written = tmp_path / "entities.jsonl"
    written.write_bytes(download.value.path().read_bytes())
    assert [len(document.entities) for document in read_jsonl(written)] == [len(line["entities"]) for line in lines]


def test_the_page_deletes_its_result_file(checkpoint, tmp_path, monkeypatch):
    """Gradio copies the result file to its cache, and clears the cache later. The page must delete the original."""
    monkeypatch.setenv("BINDER_MODEL", str(checkpoint))
    monkeypatch.setattr(files.tempfile, "tempdir", str(tmp_path))
    app.recognizer.recognizer.cache_clear()
    source = tmp_path / "texts.txt"
    source.write_text("the gene\ncells\n")
    rows = [["Gene", TYPES["Gene"], ""]]
    run = app.find_in_file(str(source), rows, "nested", "span", 0.5)
    paths = [path for path, _ in run if path and Path(path).exists()]
    assert len(paths) == 1 and [path.name for path in tmp_path.iterdir()] == ["texts.txt"]
    closed = app.find_in_file(str(source), rows, "nested", "span", 0.5)
    assert next(path for path, _ in closed if path)
    closed.close()
    assert [path.name for path in tmp_path.iterdir()] == ["texts.txt"]
    assert app.build().delete_cache == (600, 3600)


def test_the_page_works_after_an_invalid_file_and_after_a_cancelled_search(page, tmp_path):
    page.get_by_role("tab", name="Files").click()
    page.click("#start")
    page.locator("#file-message").get_by_text("Choose a file first").wait_for()
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"text": "a"}\n{"text": <b>}\n')
    find_in(page, broken)
    page.locator("#file-message").get_by_text("Line 2 is not valid JSON").wait_for()
    page.reload()
    page.wait_for_selector("#drawing .bn-entity")
    page.get_by_role("tab", name="Files").click()
    long = tmp_path / "long.txt"
    long.write_text(f"{TEXT * 8}\n" * 2000)
    find_in(page, long)
    page.locator("#file-message progress").wait_for()
    page.click("#cancel")
    page.locator("#file-message").get_by_text("Cancelled.").wait_for()
    ask_again = page.get_by_role("tab", name="Text")
    ask_again.click()
    ask(page, TEXT)  # after the cancellation, the page answers the next request


def test_the_page_loads_no_files_from_other_servers(page, address):
    ask(page, TEXT)
    strangers = {url for url in page.asked if not url.startswith((address, "data:", "blob:"))}
    assert not {url for url in strangers if "fonts.g" not in url}


def test_programs_can_use_the_api(address, checkpoint):
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
