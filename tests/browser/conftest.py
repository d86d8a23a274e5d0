"""A window, and an endpoint whose page is opened in it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, sync_playwright

from tests.browser.chromium import find_chromium
from tests.browser.test_report_page import _FLAGS, SIZES
from tests.conftest import MakeHome
from tests.home import Home
from tests.tiny import CONTEXT, make_tiny_llama


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    model = make_tiny_llama(tmp_path_factory.mktemp("tiny"))
    fixed = ["model.precision=keep", f"model.context_window={CONTEXT}", "endpoint.version=none"]
    return [f"model.source={model}", *fixed]


@pytest.fixture(scope="module")
def two(make_home: MakeHome, tiny: list[str]) -> Home:
    """An endpoint with two deployments that keeps what is rated."""
    home = make_home(*tiny, "endpoint.collect=feedback")
    for more in ([], ["--set", "endpoint.deployment=other"]):
        done = home.setup("deploy", *more)
        assert done.returncode == 0, done.stderr
    return home


@pytest.fixture(params=SIZES)
def page(request: pytest.FixtureRequest) -> Iterator[Page]:
    """A window; afterwards: it has asked nobody but the endpoint, and complained of nothing."""
    path = find_chromium()
    assert path, "no Chromium for the browser tests; run: python -m tests.browser.chromium"
    width, height = SIZES[request.param]
    asked: list[str] = []
    complaints: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=_FLAGS)
        context = browser.new_context(viewport={"width": width, "height": height})
        page = context.new_page()
        page.on("request", lambda sent: asked.append(sent.url))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda said: complaints.append(said.text))
        yield page
        browser.close()
    assert all(url.startswith("http://127.0.0.1:") for url in asked)
    assert [said for said in complaints if "Failed to load resource" not in said] == []
