"""Calls of tools are one thing in every format, stay in their rows, and are never evaluated on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest

from tests.setup.command import lamps, options, prepare, prepared, rows, run
from tests.setup.data.formats.test_choice import lines

Row = dict[str, Any]
PRICE = {
    "name": "price_of",
    "parameters": {"type": "object", "properties": {"lamp": {"type": "number"}}},
}


def openai(number: int) -> Row:
    function = {"name": "price_of", "arguments": json.dumps({"lamp": number})}
    return {
        "messages": [
            {"role": "user", "content": f"What does lamp {number} cost?"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"type": "function", "function": function}],
            },
            {"role": "tool", "content": f"{number} euros"},
            {"role": "assistant", "content": f"It costs {number} euros."},
        ],
        "tools": [{"type": "function", "function": PRICE}],
    }


def legacy(number: int) -> Row:
    row = openai(number)
    call = row["messages"][1].pop("tool_calls")[0]
    row["messages"][1]["function_call"] = call["function"]
    row["messages"][2]["role"] = "function"
    del row["tools"]
    return row | {"functions": [PRICE]}


def sharegpt(number: int) -> Row:
    turns = openai(number)["messages"]
    call = {"name": "price_of", "arguments": json.dumps({"lamp": number})}
    return {
        "conversations": [
            {"from": "human", "value": turns[0]["content"]},
            {"from": "function_call", "value": json.dumps(call)},
            {"from": "observation", "value": turns[2]["content"]},
            {"from": "gpt", "value": turns[3]["content"]},
        ],
        "tools": json.dumps([PRICE]),
    }


def pair(number: int) -> Row:
    row = openai(number)
    messages = row.pop("messages")
    return row | {"prompt": messages[:1], "completion": messages[1:]}


FORMS: list[Callable[[int], Row]] = [openai, legacy, sharegpt, pair]


@pytest.mark.parametrize("form", FORMS)
def test_every_format_keeps_them_and_they_are_not_tested_on(tmp_path: Path, form: Any) -> None:
    plain = [{"messages": row} for row in lamps(80)[40:]]
    source = lines(tmp_path / "tools.jsonl", [form(number) for number in range(30)])
    other = lines(tmp_path / "plain.jsonl", plain)
    done = prepare(f"[{source}, {other}]", tmp_path / "out")
    assert "kept=70 rejected=0" in done.out, done.err
    assert "30 rows have tools, which an evaluation cannot offer: train side" in done.err
    train, test = (rows(tmp_path / "out" / f"{part}_data.jsonl") for part in ("train", "test"))
    kept = [{"messages": row["messages"], "tools": row["tools"]} for row in train if "tools" in row]
    expected = [openai(number) for number in range(30)]
    for row in expected:
        row["messages"][1]["content"] = ""
    assert kept == expected
    assert test
    assert not any("tools" in row for row in test)


def test_what_opens_as_a_row_with_tools_is_not_tested_on_either(tmp_path: Path) -> None:
    same = [{"messages": row} for row in lamps(60)]
    given = [*same, *(openai(number) for number in range(60) if number % 2)]
    prepare(lines(tmp_path / "in.jsonl", given), tmp_path / "out")
    test = rows(tmp_path / "out" / "test_data.jsonl")
    numbers = [int(row["question"].split()[3]) for row in test]
    assert numbers
    assert not any(number % 2 for number in numbers)


def test_rows_with_tools_alone_leave_nothing_to_test_and_that_is_said(tmp_path: Path) -> None:
    source = lines(tmp_path / "in.jsonl", [openai(number) for number in range(20)])
    done = prepare(source, tmp_path / "out")
    assert "train=20 test=0" in done.out
    assert "note: the test file has no rows" in done.err
    test = tmp_path / "test.jsonl"
    lines(test, [*({"messages": row} for row in lamps(40)[30:]), openai(99)])
    done = prepare(source, tmp_path / "other", test=test)
    assert "1 row of data.test has tools, which an evaluation cannot offer: left out" in done.err
    assert "train=20 test=10" in done.out


def test_two_conversations_with_other_calls_are_two(tmp_path: Path) -> None:
    given = []
    for number in range(20):
        row = openai(1)
        row["messages"][1]["tool_calls"][0]["function"]["arguments"] = json.dumps({"lamp": number})
        given.append(row)
    given.append(openai(1) | {"tools": [{"type": "function", "function": {"name": "other"}}]})
    done = prepare(lines(tmp_path / "in.jsonl", [*given, given[5]]), tmp_path / "out")
    assert "kept=21 rejected=1" in done.out


def test_fields_that_a_table_adds_are_no_arguments(tmp_path: Path) -> None:
    given = []
    for number in range(6):
        row = openai(number)
        arguments = {"lamp": number} if number % 2 else {"chair": [number]}
        row["messages"][1]["tool_calls"][0]["function"]["arguments"] = arguments
        given.append(row)
    datasets.Dataset.from_list(given).to_parquet(str(tmp_path / "in.parquet"))
    prepare(tmp_path / "in.parquet", tmp_path / "out")
    text = (tmp_path / "out" / "train_data.jsonl").read_text()
    assert text.count('"arguments":{"lamp":') == text.count('"arguments":{"chair":') == 3
    assert "null" not in text


WRONG: dict[str, tuple[Callable[[list[Row]], Any], str]] = {
    "answer of nobody": (
        lambda turns: turns.pop(1),
        "turn 2 is tool, expected assistant",
    ),
    "no answer": (lambda turns: turns.pop(2), "turn 3 is assistant, expected tool"),
    "no name": (
        lambda turns: turns[1]["tool_calls"][0]["function"].pop("name"),
        "turn 2 calls a tool without a name",
    ),
    "another call's": (
        lambda turns: (
            turns[1]["tool_calls"][0].update(id="a"),
            turns[2].update(tool_call_id="b"),
        ),
        "turn 3 answers the call 'b', which nobody made",
    ),
    "the user's": (
        lambda turns: turns[0].update(tool_calls=turns[1]["tool_calls"]),
        "turn 1 is the user's and calls a tool",
    ),
}


@pytest.mark.parametrize(("spoil", "says"), WRONG.values(), ids=WRONG)
def test_calls_that_are_not_whole_are_rejected(tmp_path: Path, spoil: Any, says: str) -> None:
    bad = openai(0)
    spoil(bad["messages"])
    given = [*({"messages": row} for row in lamps(20)), bad]
    done = prepare(lines(tmp_path / "in.jsonl", given), tmp_path / "out")
    assert f"rejected in.jsonl:21: {says}" in done.err


@pytest.mark.parametrize("tools", ["nonsense", [{"no": "name"}], 7])
def test_tools_that_are_none_are_rejected(tmp_path: Path, tools: Any) -> None:
    given = [*({"messages": row} for row in lamps(20)), openai(0) | {"tools": tools}]
    done = prepare(lines(tmp_path / "in.jsonl", given), tmp_path / "out")
    assert "rejected in.jsonl:21: its tools are no list of functions with a name" in done.err


def test_prepared_rows_are_read_again_as_they_are(tmp_path: Path) -> None:
    given = [*({"messages": row} for row in lamps(40)), *map(openai, range(50, 60))]
    prepare(lines(tmp_path / "in.jsonl", given), tmp_path / "out")
    source = tmp_path / "out" / "train_data.jsonl"
    assert run("data", *options(source=source, out=tmp_path / "again")).code == 0
    before = [row["messages"] for row in rows(source)]
    again = [row["messages"] for row in prepared(tmp_path / "again")]
    assert sorted(map(str, before)) == sorted(map(str, again))
