"""What is said of answers on the page to compare on: kept as it was said, and said what is kept."""

from __future__ import annotations

import json

from playwright.sync_api import Page, expect

from tests.browser.bench import ANSWERED, ask, enter, hold, ratings, refuse, wide
from tests.home import Home


@wide
def test_nothing_is_asked_before_it_is_said_that_more_is_kept(page: Page, two: Home) -> None:
    """An endpoint that was started anew keeps all conversations, and the page was open."""
    enter(page, two)
    notice = page.locator("#notice")
    expect(notice).to_contain_text("Answers that you rate are kept")
    state = json.dumps({"collect": "conversations", "bytes": 0, "limit": 9, "full": False})
    page.route("**/feedback", lambda route: route.fulfill(body=state))
    question = page.get_by_label("Question", exact=True)
    question.fill("Is this kept?")
    page.keyboard.press("Enter")
    problem = page.get_by_role("alert")
    expect(problem).to_contain_text("Nothing is asked yet, for this has changed: All conversations")
    expect(notice).to_contain_text("All conversations with this endpoint are kept")
    expect(question).to_have_value("Is this kept?")
    assert page.locator(".answer").count() == 0
    page.keyboard.press("Enter")
    expect(page.locator(".answer")).to_have_count(2)
    expect(problem).to_be_hidden()
    expect(page.locator("#stop")).to_be_hidden(timeout=ANSWERED)
    page.unroute("**/feedback")
    page.get_by_role("button", name="New conversation").click()
    expect(notice).to_contain_text("Answers that you rate are kept")


@wide
def test_last_rating_said_is_the_last_one_kept(page: Page, two: Home) -> None:
    enter(page, two)
    ask(page, "Hi", 1)
    held = hold(page, "**/feedback")
    page.get_by_label("Good answer, base").click()
    page.get_by_label("Bad answer, base").click()
    before = len(ratings(two))
    for number in (1, 2):  # the second one waits for the first
        while len(held) < number:
            page.wait_for_timeout(50)
        page.wait_for_timeout(200)
        assert len(held) == number
        held[-1].continue_()
    page.unroute("**/feedback")
    expect(page.get_by_text("kept", exact=True)).to_be_visible()
    assert [line["rating"] for line in ratings(two)[before:]] == ["up", "down"]
    expect(page.get_by_label("Bad answer, base")).to_have_attribute("aria-pressed", "true")
    # Where it cannot be kept, the page shows what was kept before.
    page.route("**/feedback", refuse(507, "not kept: the feedback file has its 9 bytes"))
    page.get_by_label("Good answer, base").click()
    expect(page.locator(".answer .problem").first).to_contain_text("Not kept")
    expect(page.get_by_label("Bad answer, base")).to_have_attribute("aria-pressed", "true")


@wide
def test_correction_that_is_not_saved_stays(page: Page, two: Home) -> None:
    enter(page, two)
    ask(page, "Hi", 1)
    fold = page.get_by_label("Comment or correct, base")
    correction = page.get_by_label("The answer as it should be").first
    fold.click()
    correction.fill("A long and careful answer.")
    fold.click()
    expect(correction).to_be_hidden()
    fold.click()
    expect(correction).to_have_value("A long and careful answer.")
    page.reload()
    expect(page.locator(".answer")).to_have_count(2)
    fold.click()
    expect(correction).to_have_value("A long and careful answer.")
    page.get_by_label("Save, base").click()
    expect(page.get_by_text("kept", exact=True)).to_be_visible()
    assert ratings(two)[-1]["correction"] == "A long and careful answer."
