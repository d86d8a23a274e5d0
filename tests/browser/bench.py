"""The page to compare on, as one who sits before it: key, question, ratings."""

from __future__ import annotations

import json
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

from tests.home import Home

ANSWERED = 120_000  # milliseconds, on a machine that does much else
CHAT = "**/v1/chat/completions"


def wide(test: Any) -> Any:
    """Test in one width alone."""
    return pytest.mark.parametrize("page", ["wide"], indirect=True)(test)


def enter(page: Page, home: Home, key: str = "") -> None:
    """Open the page and type the key, with the keyboard alone."""
    page.goto(f"{home.url}/")
    expect(page.get_by_label("Key of the endpoint")).to_be_focused()
    page.keyboard.type(key or home.key())
    page.keyboard.press("Enter")


def ask(page: Page, question: str, number: int) -> None:
    """Ask with the keyboard, and wait until both have answered the question ``number``."""
    expect(page.get_by_label("Question", exact=True)).to_be_focused()
    page.keyboard.type(question)
    page.keyboard.press("Enter")
    answers = page.locator(".answer")
    expect(answers).to_have_count(2 * number, timeout=ANSWERED)
    expect(page.locator(".answer[aria-busy=true]")).to_have_count(0, timeout=ANSWERED)
    expect(page.locator("#stop")).to_be_hidden()


def ratings(home: Home) -> list[dict[str, Any]]:
    """The lines of the feedback file."""
    file = home.path / "feedback" / "feedback.jsonl"
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    return [json.loads(line) for line in text.split("\n") if line]


def refuse(status: int, message: str, **headers: str) -> Any:
    def answer(route: Route) -> None:
        body = json.dumps({"error": {"message": message}})
        route.fulfill(status=status, body=body, headers=headers)

    return answer


def hold(page: Page, pattern: str) -> list[Route]:
    """Keep requests from the endpoint until they are let go on."""
    held: list[Route] = []
    page.route(pattern, lambda route: held.append(route))  # noqa: PLW0108 - playwright marks it
    return held
