"""The page of ``pf flow serve`` in a headless Chromium: type, send, read, ask again."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from playwright.sync_api import Page, Request, sync_playwright

from tests.browser.chromium import find_chromium
from tests.conftest import MakeHome
from tests.home import ROOT, free_port

ARTEFACTS = ROOT / "tests" / "artefacts"
# A container has no sandbox to give, and a test talks to nobody but the page.
_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]


@pytest.fixture(scope="module")
def served(make_home: MakeHome) -> Iterator[str]:
    """Address of ``pf flow serve``, as ``make chat`` starts it."""
    home = make_home()
    home.serve()
    url = f"http://localhost:{free_port()}"
    command = [sys.executable, "-m", "promptflow._cli.pf", "flow", "serve"]
    command += ["--source", "flows/chat", "--host", "localhost", "--port", url.rpartition(":")[2]]
    command += ["--engine", "fastapi", "--skip-open-browser"]
    with subprocess.Popen(command, cwd=ROOT, env=home.env, stderr=subprocess.DEVNULL) as process:
        _until_it_answers(url)
        yield url
        process.terminate()


def _until_it_answers(url: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            requests.get(f"{url}/health", timeout=5)
        except requests.ConnectionError:
            assert time.monotonic() < deadline, "pf flow serve did not come up"
            time.sleep(0.2)
        else:
            return


@pytest.fixture
def page() -> Iterator[Page]:
    """An empty page; requests to other hosts end there, as they would offline."""
    path = find_chromium()
    assert path, "no Chromium for the browser tests; run: python -m tests.browser.chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=_FLAGS)
        page = browser.new_page()
        page.route("**/*", _only_local)
        yield page
        browser.close()


def _only_local(route: Any) -> None:
    if "//localhost" in route.request.url:
        route.continue_()
    else:
        route.abort()


def _ask(page: Page, question: str, answer: str) -> None:
    box = page.get_by_label("question")
    box.fill(question)
    box.press("Enter")
    page.get_by_text(answer).wait_for(timeout=30_000)


def test_two_turns_in_the_browser(served: str, page: Page) -> None:
    sent: list[dict[str, Any]] = []

    def remember(request: Request) -> None:
        if request.method == "POST" and request.url.endswith("/score"):
            sent.append(json.loads(request.post_data or "{}"))

    page.on("request", remember)
    page.goto(served)
    _ask(page, "What is the capital of France?", "The capital of France is Paris.")
    _ask(page, "And of Germany?", "Berlin")
    ARTEFACTS.mkdir(exist_ok=True)
    page.screenshot(path=ARTEFACTS / "chat-page.png")
    [turn] = sent[-1]["chat_history"]
    assert turn["inputs"] == {"question": "What is the capital of France?"}
    assert turn["outputs"]["answer"] == "The capital of France is Paris."
