"""What the judge replies becomes a score, or is counted as none."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from flows.evaluate_with_judge.judging.rules import (
    Preference,
    Unparsed,
    Verdict,
    parse_preference,
    parse_verdict,
)
from tests.flows.evaluate_with_judge.conftest import MODEL, TEXTS, Ask
from tests.flows.evaluate_with_judge.judge import grades, prefers, says
from tests.scripted.server import Server
from tests.scripted.steps import never, reply

SCORES = ("judge_correctness", "judge_relevance", "judge_coherence", "judge_fluency")
GOOD = json.loads(grades())


def test_a_verdict_becomes_the_scores(ask: Ask, server: Server) -> None:
    server.play(says(grades(4, 5, 3, 2)))
    outputs = ask()
    assert [outputs[name] for name in SCORES] == [4, 5, 3, 2]
    assert outputs["judge_better"] is None
    assert outputs["judge_reason"] == "so it is"
    assert outputs["judge_unparsed"] == 0


NO_VERDICTS = {
    "prose": "I would give it five points.",
    "half": grades()[:-9],
    "too-high": grades(correctness=11),
    "null": None,
}


@pytest.mark.parametrize("text", NO_VERDICTS.values(), ids=NO_VERDICTS)
def test_what_is_no_verdict_is_counted_and_never_scored(
    ask: Ask, server: Server, text: str | None
) -> None:
    server.play(says(text))
    outputs = ask()
    assert [outputs[name] for name in SCORES] == [None] * 4
    assert outputs["judge_unparsed"] == 1
    assert outputs["judge_reason"] == (text or "")


def test_an_order_names_the_side_and_not_the_place(ask: Ask, server: Server) -> None:
    for order, expected in (("baseline first", "baseline"), ("candidate first", "candidate")):
        server.play(says(prefers("1")))
        outputs = ask("pairwise", row_id="a", order=order, other_answer="5 days.")
        assert outputs["judge_better"] == expected
        assert [outputs[name] for name in SCORES] == [None] * 4


FENCED = f"```json\n{grades()}\n```"


THOUGHTS = [
    f"<think>\nA 5? A 4.\n</think>\n\n{grades()}",
    f"The template opened it.\n</think>\n{grades()}",
    f"<think>{grades(1)}</think>```json\n{grades()}\n```",
]


@pytest.mark.parametrize(
    "text", [grades(), f"\n {grades()}\n", FENCED, f"```{grades()}```\n", *THOUGHTS]
)
def test_verdicts(text: str) -> None:
    assert parse_verdict(text) == Verdict(**GOOD)


OTHERS = {
    "two-fences": f"{FENCED}\n{FENCED}",
    "fence-in-prose": f"The answer says {FENCED}, which I ignore.",
    "two-objects": grades() + grades(),
    "extra-key": json.dumps(GOOD | {"helpfulness": 5}),
    "missing-key": json.dumps({key: GOOD[key] for key in GOOD if key != "fluency"}),
    "no-reason": json.dumps({key: GOOD[key] for key in GOOD if key != "reason"}),
    "same-key-twice": grades()[:-1] + ', "fluency": 5}',
    "zero": grades(fluency=0),
    "true": grades(fluency=True),
    "fraction": grades(fluency=4.5),
    "float": grades(fluency=4.0),
    "text": grades(fluency="4"),
    "null": grades(fluency=None),
    "nan": grades(fluency=float("nan")),
    "list": f"[{grades()}]",
    "half-a-character": json.dumps(GOOD | {"reason": "\ud83d"}),
    "deep": "[" * 100_000,
    "empty": "",
    "preference": prefers("1"),
}


@pytest.mark.parametrize("text", OTHERS.values(), ids=OTHERS)
def test_no_verdicts(text: str) -> None:
    parsed = parse_verdict(text)
    assert isinstance(parsed, Unparsed)
    assert parsed.text == text
    assert parsed.problem


@pytest.mark.parametrize("better", ["1", "2", "tie"])
def test_preferences(better: str) -> None:
    assert parse_preference(prefers(better)) == Preference(better=better, reason="so it is")  # type: ignore[arg-type]


@pytest.mark.parametrize("text", [prefers("3"), prefers("Answer 1"), '{"better": 1}', grades()])
def test_no_preferences(text: str) -> None:
    assert isinstance(parse_preference(text), Unparsed)


def test_a_judge_that_fails_fails_the_line(ask: Ask, server: Server) -> None:
    for status, calls in ((500, 4), (429, 4), (401, 1)):
        server.play(reply({"error": {"message": "no luck"}}, status, retry_after_ms="1"))
        with pytest.raises(Exception, match="no luck"):
            ask()
        assert len(server.received) == calls


def test_a_judge_that_recovers_is_asked_again(ask: Ask, server: Server) -> None:
    server.play(reply({"error": {}}, 503, retry_after_ms="1"), says(grades()))
    assert ask()["judge_correctness"] == 4


def test_a_judge_that_hangs_fails_the_line(
    ask: Ask, client: Any, flow: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.play(says(grades()))
    ask()
    patience = sys.modules["judging.patience"]
    monkeypatch.setattr(patience, "SECONDS", 0.1)
    monkeypatch.setattr(patience, "RETRIES", 0)
    server.play(never())
    with pytest.raises(Exception, match="timed out"):
        client.test(flow=str(flow), inputs=TEXTS | {"judge_model": MODEL})
    assert len(server.received) == 1
