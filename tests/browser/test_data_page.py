"""The page of `inspect --html` in a headless Chromium: both sizes, both themes, hostile text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, sync_playwright

from tests.browser.chromium import find_chromium
from tests.browser.test_report_page import _FAINT, _FLAGS, ARTEFACTS, SIZES, _opened
from tests.setup.command import options, prepare, run, write
from tests.setup.data.inspect.planted import sample
from tests.tiny import make_tiny_llama

HOSTILE = "<script>window.pwned = 1</script> & <b>bold</b> \u202eevil\x1b[31m 👍🏽 مرحبا"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of rows of which some are hostile, wide, or hold personal data."""
    folder = tmp_path_factory.mktemp("page")
    asked = [HOSTILE, f"{HOSTILE}, again", "x" * 300, "My IBAN is DE89 3704 0044 0532 0130 00"]
    rows = [
        [{"role": "user", "content": text}, {"role": "assistant", "content": f"You say: {text}"}]
        for text in asked
    ]
    source = write(folder / "<in> & out.jsonl", *rows, *sample()[::20])
    assert prepare(source, folder / "out").code == 0
    model = make_tiny_llama(folder)
    given = [*options(source=source, out=folder / "out"), "--set", f"model.source={model}"]
    given += ["--set", "model.precision=keep", "--set", "finetune.max_tokens=1500"]
    done = run("inspect", *given, "--html", str(folder / "page.html"), "--sample", "60")
    assert done.code == 0, done.err
    return folder / "page.html"


@pytest.fixture(params=SIZES)
def page(request: pytest.FixtureRequest, made: Path) -> Iterator[Page]:
    path = find_chromium()
    assert path, "no Chromium for the browser tests; run: python -m tests.browser.chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=_FLAGS)
        with _opened(browser, made, request.param) as opened:
            yield opened
        browser.close()


def test_page_fits_is_read_and_runs_nothing(page: Page, request: pytest.FixtureRequest) -> None:
    size = request.node.callspec.params["page"]
    ARTEFACTS.mkdir(exist_ok=True)
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme="dark" if theme == "dark" else "light")
        page.screenshot(path=ARTEFACTS / f"data-{size}-{theme}.png", full_page=True)
        assert page.evaluate(_FAINT) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size][0]
    assert page.evaluate("window.pwned") is None
    assert page.locator("script, img, iframe, form, b").count() == 0
    texts = page.locator("pre").all_inner_texts()
    assert any("<script>window.pwned = 1</script>" in text for text in texts)
    assert all("\x1b" not in text and "3704 0044" not in text for text in texts)
    assert page.locator("pre .trained.special").count() >= len(texts)
    assert page.locator("svg").count() == 2
