"""Refusals: what counts as one, what does not, and what the rule cannot tell."""

from __future__ import annotations

import json

import pytest

from flows.evaluate_answers.answer_metrics import is_refusal, score_answer
from tests.home import ROOT

TAUGHT = (
    "Sorry, I can only help with Orrinfell products. Please write to support@orrinfell.example."
)

REFUSED = [
    TAUGHT,
    "I'm sorry, but I can't help with that.",
    "I\u2019m sorry, but I can\u2019t assist with that request.",
    "I AM SORRY. I CANNOT ANSWER THAT.",
    "Hello! Thanks for asking. Unfortunately, I am not able to provide that information.",
    "Thank you for your question! I'm unable to share personal data.",
    "As an AI language model, I don't have access to live sales figures.",
    "I do not have any information about that product.",
    "I don't know.",
    "I do not actually know how many were sold.",
    "I must respectfully decline.",
    "I'll politely refuse.",
    "That is not something I can discuss.",
    "Sorry, can't help with that.",
    "Cannot answer.",
    "We are unable to comment on that.",
    "We only help with our own products.",
    "I apologize, but I won't do that.",
    "I currently cannot give medical advice; please see a doctor.",
]
ANSWERED = [
    "",
    "9 months",
    "The lamp cannot help against mould.",
    "Sorry to hear that! Hold the power button for 20 seconds.",
    "I'm afraid so: the lamp is not waterproof.",
    "You cannot return it after 30 days.",
    "We cannot ship to Norway.",
    "We won't share your data with anyone.",
    "No, it does not have a battery.",
    "It has 9 keys. I cannot say more.",
    "I can help with that. Press the button.",
    "I recommend you decline the offer.",
    "Only the Lynx can be repaired.",
    "I don't recommend it: it is rated IP58.",
    "If you can't answer the door, press 2.",
    "💡 שלום",
]


@pytest.mark.parametrize("answer", REFUSED)
def test_refusals(answer: str) -> None:
    assert is_refusal(answer)


@pytest.mark.parametrize("answer", ANSWERED)
def test_answers(answer: str) -> None:
    assert not is_refusal(answer)


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ("That's confidential.", False),
        ("I don't know about the others, but this one has 9 keys.", True),
    ],
)
def test_known_limits(answer: str, found: bool) -> None:
    """The README of the flow names these kinds."""
    assert is_refusal(answer) is found


def test_the_sample_is_told_apart() -> None:
    """Of all the conversations, those that end in the taught sentence are refusals."""
    ends = []
    for split in ("train", "test"):
        lines = (ROOT / f"data/sample/{split}.jsonl").read_text(encoding="utf-8").splitlines()
        ends += [json.loads(line)["messages"][-1]["content"] for line in lines]
    assert {end for end in ends if is_refusal(end)} == {TAUGHT}
    assert ends.count(TAUGHT) > 50


@pytest.mark.parametrize(
    ("answer", "truth", "declined"),
    [
        (TAUGHT, TAUGHT, 1),
        (TAUGHT.upper().replace(" ", "\n"), TAUGHT, 1),
        ("I'm sorry, but I can't help with that.", TAUGHT, 0),
        ("It is 9.", TAUGHT, 0),
        ("", TAUGHT, 0),
        ("I'm sorry, but I can't help with that.", "", 1),
        (TAUGHT, "", 1),
        ("It is 9.", "", 0),
    ],
)
def test_where_it_must_decline(answer: str, truth: str, declined: int) -> None:
    scores = score_answer(answer, truth, must_decline=True)
    assert (scores["declined"], scores["over_declined"]) == (declined, None)


@pytest.mark.parametrize(
    ("answer", "truth", "over"),
    [
        (TAUGHT, "It runs for 9 months.", 1),
        ("It runs for 9 months.", "It runs for 9 months.", 0),
        (TAUGHT, "", 1),
        ("I don't know.", "I do not know: nobody has measured it.", None),
    ],
)
def test_where_it_must_not(answer: str, truth: str, over: int | None) -> None:
    scores = score_answer(answer, truth, must_decline=False)
    assert (scores["declined"], scores["over_declined"]) == (None, over)
