"""The page of ``pf flow serve`` in a headless Chromium: type, send, read, ask again."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from playwright.sync_api import Locator, Page, Request, expect, sync_playwright

from tests.browser.chromium import find_chromium
from tests.conftest import MakeHome
from tests.home import ROOT, free_port

ARTEFACTS = ROOT / "tests" / "artefacts"
# A container has no sandbox to give, and a test talks to nobody but the page.
_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]


@pytest.fixture(scope="module")
def served(make_home: MakeHome) -> Iterator[str]:
    """Address of the chat page, as ``make chat`` starts it."""
    home = make_home()
    home.serve()
    url = f"http://localhost:{free_port()}"
    command = [sys.executable, "-m", "setup", "chat", "--port", url.rpartition(":")[2]]
    command += ["--no-browser"]
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


# The lines that a person reads of each answer, in order, once it is there as a whole.
_CARDS = """
() => [...document.querySelectorAll("body *")]
    .filter((element) => element.children.length === 0 && element.textContent === "Chatbot")
    .map((name) => {
        let card = name;
        while (card.parentElement && !card.innerText.includes("Duration:")) {
            card = card.parentElement;
        }
        return card.innerText.split("\\n").filter((line) => line.trim());
    })
"""


def _send(page: Page, question: str) -> None:
    """Type and press Enter, again where the page was not ready for it, as a person would."""
    box = page.get_by_label("question")
    deadline = time.monotonic() + 60
    while True:
        box.fill(question)
        box.press("Enter")
        try:
            expect(box).to_have_value("", timeout=5_000)
        except AssertionError:
            assert time.monotonic() < deadline, "the page takes no question"
        else:
            return


def _ask(page: Page, question: str, number: int) -> list[str]:
    """Everything that stands in the bubble of answer ``number``."""
    _send(page, question)
    page.get_by_text("Duration:").nth(number).wait_for(state="attached", timeout=120_000)
    cards: list[list[str]] = page.evaluate(_CARDS)
    assert len(cards) == number + 1
    name, when, *text, duration = cards[-1]
    assert (name, when) == ("Chatbot", "a few seconds ago")
    assert re.fullmatch(r"Duration: [0-9.]+s", duration)
    return text


def _within(page: Page, part: Locator) -> bool:
    """True where ``part`` stands in the window as a whole and wide enough to be read."""
    box, window = part.bounding_box(), page.viewport_size
    assert box
    assert window
    right, bottom = box["x"] + box["width"], box["y"] + box["height"]
    inside = box["x"] >= 0 and box["y"] >= 0 and right <= window["width"]
    return inside and bottom <= window["height"] and box["width"] >= window["width"] / 4


@pytest.mark.parametrize("width", [1280, 375])
def test_two_turns_in_the_browser(served: str, page: Page, width: int) -> None:
    sent: list[dict[str, Any]] = []

    def remember(request: Request) -> None:
        if request.method == "POST" and request.url.endswith("/score"):
            sent.append(json.loads(request.post_data or "{}"))

    page.on("request", remember)
    page.set_viewport_size({"width": width, "height": 720})
    page.goto(served, wait_until="networkidle")
    assert _ask(page, "What is the capital of France?", 0) == ["The capital of France is Paris."]
    assert _ask(page, "And of Germany?", 1) == ["The capital of Germany is Berlin."]
    for part in (
        page.get_by_text("The capital of Germany is Berlin."),
        page.get_by_label("question"),
    ):
        assert _within(page, part)
    ARTEFACTS.mkdir(exist_ok=True)
    page.screenshot(path=ARTEFACTS / f"chat-page-{width}.png")
    [turn] = sent[-1]["chat_history"]
    assert turn["inputs"] == {"question": "What is the capital of France?"}
    assert turn["outputs"] == {"answer": "The capital of France is Paris."}


def test_what_the_page_is_served_is_one_answer(served: str) -> None:
    """Other pages over the same address show what they get."""
    body = {"question": "What is the capital of France?"}
    reply = requests.post(f"{served}/score", json=body, timeout=30).json()
    assert reply == {"answer": "The capital of France is Paris."}
    paths = requests.get(f"{served}/swagger.json", timeout=30).json()["paths"]
    schema = paths["/score"]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert list(schema["properties"]) == ["answer"]


def test_held_port_is_one_line_with_the_command_that_works(served: str) -> None:
    port = int(served.rpartition(":")[2])
    command = [sys.executable, "-m", "setup", "chat", "--port", str(port), "--no-browser"]
    ended = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 1
    assert f"port {port} is held by" in ended.stderr
    assert f"Fix: python -m setup chat --port {port + 1}" in " ".join(ended.stderr.split())
