"""The endpoint's page in a headless Chromium: two deployments asked at once, rated, by keyboard."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import requests
from playwright.sync_api import Page, Route, expect

from tests.browser.bench import ANSWERED, CHAT, ask, enter, hold, ratings, refuse, wide
from tests.browser.test_report_page import _FAINT, ARTEFACTS, SIZES
from tests.conftest import MakeHome
from tests.home import Home

HOSTILE = "<img src=x onerror='window.pwned=1'><b>bold</b> & \u202eevil \x1b[31m مرحبا " + "x" * 300
# The texts of the first answer, one after another, from now on.
WATCH = """() => {
  window.seen = []
  new MutationObserver(() => {
    const text = document.querySelector(".answer .text")?.textContent
    if (text && text !== window.seen.at(-1)) window.seen.push(text)
  }).observe(document.body, {subtree: true, childList: true, characterData: true})
}"""


def go_back_to(page: Page, label: str) -> None:
    """Go to a button before the question, with the keyboard."""
    for _ in range(20):
        page.keyboard.press("Shift+Tab")
        focused = page.evaluate("document.activeElement.ariaLabel ?? ''")
        if focused.startswith(label):
            return
    raise AssertionError(f"no way to {label} by keyboard")


def test_two_questions_by_keyboard(page: Page, two: Home, request: pytest.FixtureRequest) -> None:
    enter(page, two)
    page.get_by_label("Most tokens").fill("40")
    page.get_by_label("System text").fill("Be brief.")
    page.get_by_label("Question", exact=True).focus()
    page.evaluate(WATCH)
    ask(page, "What is the capital of France?", 1)
    seen = page.evaluate("window.seen")
    assert len(seen) > 3
    assert seen[-1].startswith(seen[1])
    ask(page, "And of Germany?", 2)
    go_back_to(page, "Comment or correct, other: And of Germany?")
    page.keyboard.press("Enter")
    page.keyboard.type("It rambles.")
    page.keyboard.press("Tab")
    page.keyboard.type("Berlin.")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_text("kept", exact=True)).to_have_count(1)
    go_back_to(page, "Good answer, base: And of Germany?")
    page.keyboard.press("Space")
    expect(page.get_by_label("Good answer, base: And of Germany?")).to_have_attribute(
        "aria-pressed", "true"
    )
    expect(page.get_by_text("kept", exact=True)).to_have_count(2)
    corrected, good = ratings(two)[-2:]
    assert (corrected["deployment"], corrected["correction"]) == ("other", "Berlin.")
    assert (corrected["comment"], corrected["rating"]) == ("It rambles.", None)
    assert (good["deployment"], good["rating"]) == ("base", "up")
    assert good["conversation"] == corrected["conversation"]
    roles = [turn["role"] for turn in good["messages"]]
    assert roles == ["system", "user", "assistant", "user"]
    assert good["messages"][2]["content"] == page.locator(".answer .text").first.text_content()
    _look(page, request.node.callspec.params["page"])

    # A reload keeps key, conversation and ratings in this tab; another tab knows nothing.
    page.reload()
    expect(page.locator(".answer")).to_have_count(4)
    expect(page.get_by_label("Good answer, base: And of Germany?")).to_have_attribute(
        "aria-pressed", "true"
    )
    ask(page, "And of Spain?", 3)
    assert page.evaluate("[localStorage.length, document.cookie, location.search]") == [0, "", ""]
    other = page.context.new_page()
    other.goto(f"{two.url}/")
    expect(other.get_by_label("Key of the endpoint")).to_be_visible()
    page.get_by_role("button", name="Forget the key").click()
    assert two.key() not in page.evaluate("JSON.stringify(sessionStorage)")


def _look(page: Page, size: str) -> None:
    ARTEFACTS.mkdir(exist_ok=True)
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme="dark" if theme == "dark" else "light")
        page.screenshot(path=ARTEFACTS / f"compare-{size}-{theme}.png", full_page=True)
        assert page.evaluate(_FAINT) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size][0]


@wide
def test_wrong_key_is_one_line(page: Page, two: Home) -> None:
    enter(page, two, "wrong")
    problem = page.get_by_role("alert")
    expect(problem).to_contain_text("not the key of the endpoint")
    expect(problem).to_contain_text("python -m setup compare --print-key")
    page.get_by_label("Key of the endpoint").fill("with space and ü")
    page.keyboard.press("Enter")
    expect(problem).to_contain_text("without spaces")
    printed = two.setup("compare", "--print-key").stdout.strip()
    assert printed == two.key()
    page.get_by_label("Key of the endpoint").fill(printed)
    page.keyboard.press("Enter")
    expect(page.get_by_label("Question", exact=True)).to_be_focused()


def _say(route: Route) -> None:
    """Answer as the engine streams, with hostile text in the place of a model's."""
    parts: list[dict[str, Any]] = [{"delta": {"content": HOSTILE}, "finish_reason": None}]
    parts += [{"delta": {}, "finish_reason": "stop"}]
    events = [{"id": "chatcmpl-1", "choices": [part]} for part in parts]
    body = "".join(f"data: {json.dumps(event)}\n\n" for event in events)
    route.fulfill(body=f"{body}data: [DONE]\n\n", content_type="text/event-stream")


def test_hostile_text_is_text(page: Page, two: Home) -> None:
    enter(page, two)
    page.route(CHAT, _say)
    question = page.get_by_label("Question", exact=True)
    expect(question).to_be_focused()
    question.fill(HOSTILE)
    page.keyboard.press("Enter")
    expect(page.locator(".answer[aria-busy=false]")).to_have_count(2)
    shown = [page.locator(".answer .text").first, page.locator(".question")]
    assert [part.text_content() for part in shown] == [HOSTILE, HOSTILE]
    page.reload()
    expect(page.locator(".answer")).to_have_count(2)
    assert page.evaluate("window.pwned") is None
    assert page.locator("main img, main b").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@wide
def test_failures_are_one_line_with_what_to_do(page: Page, two: Home) -> None:
    enter(page, two)
    for number, (answer, line) in enumerate(
        [
            (refuse(429, "slots are full", **{"Retry-After": "7"}), "Try again in 7 s"),
            (refuse(503, "deployment 'base' is down"), "python -m setup logs"),
            (refuse(422, "top_p: too small"), "Top_p: too small."),
            (lambda route: route.abort("connectionrefused"), "python -m setup deploy"),
            (lambda route: route.fulfill(status=502, body="<html>"), "answered 502"),
        ],
        start=1,
    ):
        page.route(CHAT, answer)
        ask(page, "Hi", number)
        expect(page.locator(".answer .problem").last).to_contain_text(line)
        expect(page.get_by_label(re.compile("Good answer")).last).to_be_disabled()
        page.unroute(CHAT)
    page.get_by_role("button", name="Ask again").last.click()
    expect(page.get_by_label(re.compile("Good answer")).last).to_be_enabled(timeout=ANSWERED)
    page.reload()
    page.route("**/v1/models", lambda route: route.abort("connectionrefused"))
    page.reload()
    expect(page.get_by_role("alert")).to_contain_text("python -m setup deploy")


@wide
def test_both_can_be_asked_again_and_the_keyboard_keeps_its_place(page: Page, two: Home) -> None:
    enter(page, two)
    said = page.locator("#said")
    page.route(CHAT, refuse(503, "deployment is down"))
    page.get_by_label("Question", exact=True).fill("Hi")
    send = page.get_by_role("button", name="Ask both")
    send.press("Enter")
    again = page.get_by_role("button", name="Ask again")
    expect(again).to_have_count(2)
    expect(send).to_be_focused()
    expect(said).to_contain_text("base: Deployment is down")
    page.unroute(CHAT)
    held = hold(page, CHAT)
    again.first.press("Enter")
    expect(page.get_by_label("Answer of base")).to_be_focused()
    expect(again).to_have_count(1)
    again.press("Enter")
    while len(held) < 2:
        page.wait_for_timeout(50)
    page.get_by_role("button", name="Stop").press("Enter")
    expect(send).to_be_focused()
    expect(page.get_by_text("stopped", exact=True)).to_have_count(2)
    expect(said).to_contain_text("was stopped.")
    page.unroute(CHAT)
    again.first.click()
    expect(said).to_have_text("base answered.", timeout=ANSWERED)


@wide
def test_key_that_is_forgotten_ends_what_is_asked(page: Page, two: Home) -> None:
    enter(page, two)
    held = hold(page, CHAT)
    page.get_by_label("Question", exact=True).fill("Hi")
    page.keyboard.press("Enter")
    while len(held) < 2:
        page.wait_for_timeout(50)
    page.get_by_role("button", name="Forget the key").click()
    page.unroute(CHAT)
    page.get_by_label("Key of the endpoint").fill(two.key())
    page.keyboard.press("Enter")
    expect(page.locator(".answer[aria-busy=false]")).to_have_count(2)
    again = page.get_by_role("button", name="Ask again")
    expect(again).to_have_count(2)
    again.first.click()
    expect(page.get_by_label("Good answer, base")).to_be_enabled(timeout=ANSWERED)


@wide
def test_one_deployment_that_keeps_nothing(
    page: Page, make_home: MakeHome, tiny: list[str], tmp_path: Path
) -> None:
    home = make_home(*tiny)
    assert home.setup("deploy").returncode == 0
    enter(page, home)
    notice = page.locator("#notice")
    expect(notice).to_contain_text("Ratings are off, nothing is kept")
    expect(notice).to_contain_text("Only one deployment is here, base")
    page.get_by_label("Most tokens").fill("5")
    page.get_by_label("Question", exact=True).fill("Hi")
    page.get_by_role("button", name="Ask", exact=True).click()
    expect(page.locator(".answer[aria-busy=false]")).to_have_count(1, timeout=ANSWERED)
    expect(page.get_by_text('cut at 5 tokens: raise "Most tokens"')).to_be_visible()
    expect(page.get_by_label(re.compile("Good answer"))).to_be_disabled()
    assert not (home.path / "feedback").exists()


def test_only_browsers_get_the_page(two: Home) -> None:
    assert requests.get(f"{two.url}/", timeout=30).text == "Healthy\n"
    for accept in ("application/json", "text/plain", "*/*"):
        reply = requests.get(f"{two.url}/", headers={"Accept": accept}, timeout=30)
        assert reply.text == "Healthy\n"
    browser = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
    reply = requests.get(f"{two.url}/", headers=browser, timeout=30)
    assert reply.headers["Content-Type"] == "text/html; charset=utf-8"
    policy = reply.headers["Content-Security-Policy"]
    assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy
    assert "unsafe" not in policy
    for name in re.findall(r'(?:src|href)="(/pages/[^"]+)"', reply.text):
        assert requests.get(f"{two.url}{name}", timeout=30).status_code == 200
    missing = requests.get(f"{two.url}/pages/..%2Fstatic.py", timeout=30)
    assert missing.status_code == 404
    assert "compare.js" in missing.json()["error"]["message"]
