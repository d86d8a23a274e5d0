"""The report in a headless Chromium: both sizes, both themes, hostile text, nothing fetched."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from evaluation.compare.table import read_table
from evaluation.report.write import write_report
from tests.browser.chromium import find_chromium
from tests.evaluation.made_reports import (
    GATES,
    HOSTILE,
    hostile_runs,
    ordinary_runs,
    report_of,
)
from tests.home import ROOT

ARTEFACTS = ROOT / "tests" / "artefacts"
_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]
SIZES = {"wide": (1280, 900), "phone": (375, 812)}
Theme = Literal["light", "dark"]

# Contrast as WCAG 2.2 defines it, of every element with text of its own against what is behind it.
_FAINT = """() => {
  const parse = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((part) => part / 255)
    .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
    .reduce((sum, part, index) => sum + part * [0.2126, 0.7152, 0.0722][index], 0);
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const found = parse(getComputedStyle(at).backgroundColor);
      if (found.length === 3 || found[3] === 1) return found;
    }
  };
  const faint = [];
  for (const element of document.body.querySelectorAll("*")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!own || element.tagName === "TITLE" || !element.getClientRects().length) continue;
    const style = getComputedStyle(element);
    const colour = element.tagName === "text" ? style.fill : style.color;
    const [one, two] = [light(parse(colour)), light(behind(element))];
    const contrast = (Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05);
    if (contrast < 4.5) faint.push(`${contrast.toFixed(1)} ${element.outerHTML.slice(0, 80)}`);
  }
  return faint;
}"""

Open = Callable[[Path, str], Page]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = find_chromium()
    assert path, "no Chromium for the browser tests; run: python -m tests.browser.chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=_FLAGS)
        yield browser
        browser.close()


@contextmanager
def _opened(browser: Browser, path: Path, size: str) -> Iterator[Page]:
    """The file in a window of its own; afterwards: it complained of nothing, asked for nothing."""
    width, height = SIZES[size]
    context = browser.new_context(viewport={"width": width, "height": height})
    page = context.new_page()
    complaints: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(path.as_uri())
    yield page
    assert complaints == []
    assert [url for url in requests if not url.startswith("data:")] == [path.as_uri()]
    context.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Open]:
    with ExitStack() as stack:
        yield lambda path, size: stack.enter_context(_opened(browser, path, size))


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("reports")
    baseline, candidate = ordinary_runs(folder)
    return {
        "compared": report_of(folder / "compared", baseline, candidate, GATES).html,
        "single": write_report(folder / "single", read_table(candidate)).html,
        "hostile": report_of(folder / "hostile", *hostile_runs(folder), GATES).html,
    }


@pytest.mark.parametrize(
    ("name", "size"),
    [("compared", "wide"), ("compared", "phone"), ("hostile", "wide"), ("hostile", "phone")],
)
def test_it_fits_and_can_be_read(
    name: str, size: str, reports: dict[str, Path], open_page: Open
) -> None:
    page = open_page(reports[name], size)
    ARTEFACTS.mkdir(exist_ok=True)
    themes: list[Theme] = ["light", "dark"]
    for theme in themes:
        page.emulate_media(color_scheme=theme)
        page.screenshot(path=ARTEFACTS / f"report-{name}-{size}-{theme}.png", full_page=True)
        assert page.evaluate(_FAINT) == []
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true })")
    assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size][0]


def test_one_run_fits_a_phone(reports: dict[str, Path], open_page: Open) -> None:
    page = open_page(reports["single"], "phone")
    page.screenshot(path=ARTEFACTS / "report-single-phone.png")
    assert page.evaluate("document.documentElement.scrollWidth") <= SIZES["phone"][0]


def test_hostile_text_is_seen_and_never_run(reports: dict[str, Path], open_page: Open) -> None:
    page = open_page(reports["hostile"], "wide")
    page.get_by_text("9 more").click()
    answers = page.locator(
        "#losses ~ .example .answer.b .text:not(.reason), #losses ~ details "
        ".answer.b .text:not(.reason)"
    )
    assert answers.all_inner_texts() == [seen for _, seen in HOSTILE.values()]
    assert page.evaluate("window.pwned") is None
    assert page.locator("script, img, iframe, form, h1 ~ h1").count() == 0


def test_without_a_script_the_parts_can_be_reached(
    reports: dict[str, Path], open_page: Open
) -> None:
    page = open_page(reports["compared"], "wide")
    for link in page.locator("nav a").all():
        target = str(link.get_attribute("href"))
        assert page.locator(target).count() == 1, target
    levels = page.evaluate(
        "[...document.querySelectorAll('h1, h2, h3')].map((each) => Number(each.tagName[1]))"
    )
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    untold = "svg:not(:has(> title)), th:not([scope]), [role=table] tr:not([role=row])"
    assert page.locator(untold).count() == 0


def test_the_table_keeps_its_rows_on_a_phone(reports: dict[str, Path], open_page: Open) -> None:
    page = open_page(reports["compared"], "phone")
    row = page.get_by_role("row").filter(has_text="fact recall").first
    assert row.get_by_role("rowheader").count() == 1
    assert row.get_by_role("cell").count() == 8


def test_it_prints_on_paper(reports: dict[str, Path], open_page: Open) -> None:
    page = open_page(reports["compared"], "wide")
    page.emulate_media(media="print", color_scheme="dark")
    colours = (
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
    )
    assert page.evaluate(colours) == ["rgb(255, 255, 255)", "rgb(0, 0, 0)"]
    assert page.evaluate(_FAINT) == []
    assert page.pdf().startswith(b"%PDF")
