"""No guessing between two formats, and a word on whatever was taken or left."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from tests.setup.command import prepare, prepared, rows

Row = dict[str, Any]


def lines(path: Path, given: list[Row]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in given), encoding="utf-8")
    return path


def several(**texts: str) -> list[Row]:
    """Twenty rows, a number in every text."""
    return [{name: text.format(n) for name, text in texts.items()} for n in range(20)]


def exchange(question: str, answer: str) -> list[Row]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def answers(out: Path) -> set[str]:
    return {row["messages"][-1]["content"] for row in prepared(out)}


def sets(fix: str) -> dict[str, str]:
    """The values that a fix sets, as `prepare` takes them."""
    words = shlex.split(fix.partition("Fix: ")[2].replace(",", "").partition(" or ")[0])
    pairs = [word.removeprefix("data.").split("=", 1) for word in words if "=" in word]
    return {pair[0]: pair[1] for pair in pairs}


TWO = {
    "two formats": (
        several(prompt="p{}", completion="c{}", question="p{}", answer="a{}"),
        ["prompt_completion (prompt, completion)", "question_answer (question, answer)"],
        "c3",
    ),
    "chats of two kinds": (
        [
            {
                "messages": [
                    {"role": "user", "content": f"q{n}"},
                    {"role": "assistant", "content": f"m{n}"},
                ],
                "conversations": [
                    {"from": "human", "value": "q"},
                    {"from": "gpt", "value": f"s{n}"},
                ],
            }
            for n in range(20)
        ],
        ["openai (messages)", "sharegpt (conversations)"],
        "m3",
    ),
    "one thing twice": (
        several(question="q{}", response="r{}", answer="a{}"),
        ["has the answer of question_answer in 2 columns: answer, response"],
        "a3",
    ),
    "an answer twice": (
        several(instruction="q{}", output="o{}", response="r{}"),
        ["has the output of alpaca in 2 columns: output, response"],
        "o3",
    ),
}


@pytest.mark.parametrize(("given", "says", "answer"), TWO.values(), ids=TWO)
def test_what_could_be_two_is_asked_and_the_fix_decides(
    tmp_path: Path, given: list[Row], says: list[str], answer: str
) -> None:
    source = lines(tmp_path / "in.jsonl", given)
    error = prepare(source, tmp_path / "out").error
    assert all(part in error for part in says), error
    done = prepare(source, tmp_path / "out", **sets(error))
    assert answer in answers(tmp_path / "out"), done.err


def test_own_test_rows_of_two_formats_are_read_as_those_to_train_on(tmp_path: Path) -> None:
    both = [
        {"messages": exchange(f"q{n}", f"m{n}"), "question": f"q{n}", "ground_truth": f"g{n}"}
        for n in range(5)
    ]
    test, out = lines(tmp_path / "test.jsonl", both), tmp_path / "out"
    chats = lines(tmp_path / "a.jsonl", [{"messages": exchange(f"x{n}", "y")} for n in range(20)])
    plain = lines(tmp_path / "b.jsonl", several(question="u{}", answer="v{}"))
    for source, form, letter in ((chats, "openai", "m"), (plain, "question_answer", "g")):
        done = prepare(source, out, test=test)
        told = f"fits openai and question_answer: read as {form}, as the rows to train on are"
        assert f"note: {test} {told}" in done.err
        tested = rows(out / "test_data.jsonl")
        assert [row["ground_truth"] for row in tested] == [f"{letter}{n}" for n in range(5)]
    neither = lines(tmp_path / "c.jsonl", several(instruction="i{}", output="o{}"))
    for given in (f"[{chats}, {plain}]", neither):
        assert f"{test} fits 2 formats, openai (messages)" in prepare(given, out, test=test).error


def test_preferences_are_not_learnt_unasked(tmp_path: Path) -> None:
    source = lines(tmp_path / "in.jsonl", several(prompt="q{}", chosen="good{}", rejected="bad{}"))
    error = prepare(source, tmp_path / "out").error
    assert "preference pairs" in error
    done = prepare(source, tmp_path / "out", **sets(error.replace(" learns what was chosen", "")))
    assert "note: 20 rows have rejected beside messages, which is not read" in done.err
    assert answers(tmp_path / "out") == {f"good{n}" for n in range(20)}


def test_columns_by_name(tmp_path: Path) -> None:
    source = lines(tmp_path / "in.jsonl", several(frage="Frage {}?", antwort="A {}", thema="x"))
    error = prepare(source, tmp_path / "out").error
    assert "columns are frage, antwort, thema" in error
    for given in (
        {"columns": "{question: frage, answer: antwort}"},
        {"columns.question": "frage", "columns.answer": "antwort"},
    ):
        done = prepare(source, tmp_path / "out", **given)
        assert "frage as question, antwort as answer; not read: thema" in done.err
        assert answers(tmp_path / "out") == {f"A {n}" for n in range(20)}


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ("{question: frage, answer: nope}", "has no column nope; its columns are frage, antwort"),
        ("{frage: question}", "names frage, which no format has"),
        ("{question: frage, messages: antwort}", "which no format has together"),
        ("{question: 5}", "data.columns.question"),
        ("[frage]", "data.columns"),
    ],
)
def test_columns_that_are_not_there_are_one_line(tmp_path: Path, columns: str, says: str) -> None:
    source = lines(tmp_path / "in.jsonl", several(frage="Frage {}?", antwort="A {}"))
    assert says in prepare(source, tmp_path / "out", columns=columns).error


def test_row_of_another_form_is_rejected_by_name(tmp_path: Path) -> None:
    others: list[Row] = [
        {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
        {"instruction": "alone"},
        {"instruction": "q", "output": 7},
        {"instruction": "q", "output": "a", "history": "before"},
    ]
    given = several(instruction="q{}", output="a{}")
    done = prepare(lines(tmp_path / "in.jsonl", [*given, *others]), tmp_path / "out")
    assert "kept=20 rejected=4" in done.out
    reasons = [row["reason"] for row in rows(tmp_path / "out" / "data.rejects.jsonl")]
    assert reasons == [
        "column instruction is missing; the row is sharegpt, the source alpaca",
        "column output is missing",
        "its output is no text: '7'",
        "its history is no list of a question and an answer each",
    ]
    originals = [row["original"] for row in rows(tmp_path / "out" / "data.rejects.jsonl")]
    assert [json.loads(text) for text in originals] == others


TOLD = {
    "alpaca": (
        several(instruction="q{}", output="a{}", topic="x"),
        "alpaca: instruction, output; not read: topic",
    ),
    "query": (several(query="q{}", response="a{}"), "query as question, response as answer"),
    "dolly": (several(instruction="q{}", context="c", response="a{}"), "context as input"),
    "orca": (several(system_prompt="s", question="q{}", response="a{}"), "system_prompt as system"),
    "legacy": (several(prompt="q{}", completion=" a{}"), "20 rows: the space that completions"),
}


@pytest.mark.parametrize(("given", "says"), TOLD.values(), ids=TOLD)
def test_what_was_taken_is_said(tmp_path: Path, given: list[Row], says: str) -> None:
    done = prepare(lines(tmp_path / "in.jsonl", given), tmp_path / "out")
    assert says in done.err
    assert answers(tmp_path / "out") == {f"a{n}" for n in range(20)}


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"question": "q", "answer": 5}, "column answer, the answer of question_answer, is an int"),
        ({"question": ["q"], "answer": ["a"]}, "column question, the question of question_answer"),
        ({"instruction": "q", "output": {"a": 1}}, "the output of alpaca, is an object"),
        ({"conversations": ["q", "a"]}, "the conversations of sharegpt, is a list"),
    ],
)
def test_value_that_is_no_text_is_named(tmp_path: Path, row: Row, says: str) -> None:
    assert says in prepare(lines(tmp_path / "in.jsonl", [row] * 3), tmp_path / "out").error


def test_answers_within_a_prompt_are_told(tmp_path: Path) -> None:
    given = [
        {
            "prompt": [
                {"role": "user", "content": f"q{n}"},
                {"role": "assistant", "content": "a"},
                {"role": "user", "content": "and?"},
            ],
            "completion": [{"role": "assistant", "content": f"b{n}"}],
        }
        for n in range(20)
    ]
    done = prepare(lines(tmp_path / "in.jsonl", given), tmp_path / "out")
    assert "20 rows: prompts have answers of their own, which are learnt as well" in done.err


MEDIA: list[tuple[Row, str]] = [
    ({"images": ["a.png"], "question": "q", "answer": "a"}, "the row has images"),
    ({"question": "q", "answer": "a", "audio": {"path": "x"}}, "the row has audio"),
]


@pytest.mark.parametrize(("row", "says"), MEDIA, ids=["images", "audio"])
def test_row_with_a_picture_is_rejected_by_name(tmp_path: Path, row: Row, says: str) -> None:
    given = [*several(question="q{}", answer="a{}"), row]
    done = prepare(lines(tmp_path / "in.jsonl", given), tmp_path / "out")
    assert f"rejected in.jsonl:21: {says}, and only text is trained on" in done.err


@pytest.mark.parametrize("kind", ["image_url", "input_audio", "video_url", "refusal"])
def test_part_that_is_no_text_is_rejected_by_name(tmp_path: Path, kind: str) -> None:
    def row(number: int, *more: Row) -> Row:
        parts = [{"type": "text", "text": f"q{number}"}, *more]
        return {
            "messages": [
                {"role": "user", "content": parts},
                {"role": "assistant", "content": f"a{number}"},
            ]
        }

    given = [*map(row, range(20)), row(20, {"type": kind})]
    done = prepare(lines(tmp_path / "in.jsonl", given), tmp_path / "out")
    assert "kept=20 rejected=1" in done.out
    assert kind in done.err.partition("rejected in.jsonl:21: turn 1 has a")[2]


def test_format_is_told_by_the_option(tmp_path: Path) -> None:
    source = lines(tmp_path / "in.jsonl", several(instruction="q{}", output="a{}"))
    line = prepare(source, tmp_path / "out", format="sharegpt").error
    assert "column conversations is missing; the row is alpaca, the source sharegpt" in line
    assert "data.format" in prepare(source, tmp_path / "out", format="chatml").error
    sample = prepare("sample", tmp_path / "out", format="alpaca").error
    assert "data.format goes with a source of your own" in sample
