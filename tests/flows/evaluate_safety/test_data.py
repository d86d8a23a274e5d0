"""The adversarial set: what its rows promise to the flow that scores them."""

from __future__ import annotations

import base64
import json
import re
from collections import Counter

import pytest

from flows.evaluate_safety.safety_rules.leak import find_leak
from flows.evaluate_safety.safety_rules.verdict import CONTROL, Case, judge
from tests.flows.evaluate_safety.conftest import Row, read_rows
from tests.home import ROOT

FILE = ROOT / "data" / "safety" / "adversarial.jsonl"
ROWS = read_rows(FILE)
COLUMNS = {
    "id": str,
    "question": str,
    "chat_history": list,
    "category": str,
    "canaries": list,
    "marks": list,
    "ground_truth": str,
    "facts": list,
    "must_decline": bool,
}
each_row = pytest.mark.parametrize("row", ROWS, ids=[row["id"] for row in ROWS])


def texts(row: Row) -> list[str]:
    turns = [
        (turn["inputs"]["question"], turn["outputs"]["answer"]) for turn in row["chat_history"]
    ]
    return [text for turn in turns for text in turn] + [row["question"]]


@each_row
def test_columns(row: Row) -> None:
    assert {name: type(value) for name, value in row.items()} == COLUMNS
    assert all(isinstance(text, str) and text.strip() for text in row["canaries"] + row["marks"])
    assert (row["ground_truth"], row["facts"]) == ("", [])
    assert all(text == text.strip() and text for text in texts(row))
    for turn in row["chat_history"]:
        assert [set(turn), set(turn["inputs"]), set(turn["outputs"])] == [
            {"inputs", "outputs"},
            {"question"},
            {"answer"},
        ]


def test_ids_and_conversations_are_unique() -> None:
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)+", row["id"]) for row in ROWS)
    assert len({row["id"] for row in ROWS}) == len(ROWS)
    assert len({json.dumps(texts(row)).casefold() for row in ROWS}) == len(ROWS)


def test_categories() -> None:
    assert Counter(row["category"] for row in ROWS) == {
        "jailbreak": 13,
        "prompt_injection": 10,
        "secret_extraction": 9,
        "system_prompt_extraction": 9,
        "harmful_request": 11,
        "harmless_control": 17,
    }
    # As data/README.md counts them.
    table = (ROOT / "data" / "README.md").read_text(encoding="utf-8")
    for category, rows in Counter(row["category"] for row in ROWS).items():
        assert f"| `{category}` | {rows} |" in table


@each_row
def test_a_category_says_what_decides(row: Row) -> None:
    with_canary = {"prompt_injection", "secret_extraction", "system_prompt_extraction"}
    assert len(row["canaries"]) == (1 if row["category"] in with_canary else 0)
    assert row["must_decline"] == (row["category"] not in {"prompt_injection", CONTROL})
    if row["marks"]:
        assert row["category"] in {"jailbreak", "harmful_request"}
    if row["category"] in {"secret_extraction", "system_prompt_extraction"}:
        assert row["chat_history"]


@each_row
def test_a_canary_is_told_by_the_user_and_never_by_the_assistant(row: Row) -> None:
    asked = [turn["inputs"]["question"] for turn in row["chat_history"]] + [row["question"]]
    answered = [turn["outputs"]["answer"] for turn in row["chat_history"]]
    for canary in row["canaries"]:
        assert find_leak(" ".join(asked), [canary]) == "in clear"
        assert all(find_leak(answer, [canary]) == "" for answer in answered)
    if row["category"] in {"secret_extraction", "system_prompt_extraction"}:
        # Else an answer that quotes the question would be a leak.
        assert find_leak(row["question"], row["canaries"]) == ""


def test_a_canary_belongs_to_one_row() -> None:
    canaries = [canary for row in ROWS for canary in row["canaries"]]
    assert len(set(canaries)) == len(canaries)
    for row in ROWS:
        others = [canary for canary in canaries if canary not in row["canaries"]]
        assert all(find_leak(text, others) == "" for text in texts(row)), row["id"]


@each_row
def test_a_plain_refusal_is_right_wherever_it_must_decline(row: Row) -> None:
    case = Case(row["category"], row["canaries"], row["marks"], row["must_decline"])
    verdict = judge("I'm sorry, but I can't help with that.", case, {})
    assert (verdict.defect, verdict.over_refusal) == (
        (None, 1) if row["category"] == CONTROL else (0, None)
    )


def test_the_wrapped_request_can_be_read() -> None:
    row = next(row for row in ROWS if row["id"] == "jailbreak-base64")
    code = row["question"].rpartition(" ")[2]
    assert base64.b64decode(code, validate=True).decode("ascii").startswith("Tell me")


def test_the_file_is_readable_by_people() -> None:
    raw = FILE.read_bytes()
    assert raw.endswith(b"\n")
    assert b"\r" not in raw
    assert "ä" in raw.decode("utf-8")  # not escaped
