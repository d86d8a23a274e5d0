"""Which rows are one, which side they go to, and what is said about those that cannot be used."""

from __future__ import annotations

import json
import os
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from tests.setup.command import lamps, options, prepare, prepared, rows, run, write

ANSWER = "Yes, it is."


def ask(*turns: str) -> list[dict[str, Any]]:
    """A conversation with one answer to all questions."""
    roles = [{"role": "user"}, {"role": "assistant"}]
    return [
        turn | {"content": text}
        for question in turns
        for turn, text in zip(roles, (question, ANSWER), strict=True)
    ]


DIFFERENT = [
    "C|C++|C#|C*",
    "F|F#|F&",
    "2 + 2|2 - 2|2 * 2|2 / 2|2 ^ 2|2 % 2|2 2",
    "3 < 5|3 <= 5|3 != 5|3 = 5|3 == 5|3 > 5",
    "x ∈ A|x ∉ A|x ⊂ A|x² A|x2 A",
    '-5|5|5!|.5|$5|5%|#5|5"',
    "great 👍|great 🎉|great ❤️|great 👍🏽|great :)|great :(|great",
    "👨‍👩‍👧|👨‍👩‍👦|👨👩👧",
    "the mark ?|the mark !|the mark :|the mark ;|the mark ,|the mark &",
    "f(x)|f[x]|f{x}|f<x>",
    "node.js|nodejs|node/js",
    "--force|-f|force",
    "दिन|दीन|दान|दुन",
    "มา|ม่า|ม้า|มี",
    "كَتَبَ|كُتِبَ|كتب|كَتَّبَ",
    "Köln|Koln|Kölń",
    "שָׁלוֹם|שלום|שֻׁלוּם",
    "வணக்கம்|வணக்கம",
]


@pytest.mark.parametrize("words", DIFFERENT)
def test_texts_that_differ_are_no_duplicates(tmp_path: Path, words: str) -> None:
    given = [ask(f"Say what {word} is to you") for word in words.split("|")]
    source = write(tmp_path / "in.jsonl", *given, *lamps(40))
    done = prepare(source, tmp_path / "out")
    assert f"kept={len(given) + 40} rejected=0" in done.out, done.err


EQUAL = [
    ["Is it good?", "is it GOOD", "  Is it\tgood ?!", "“Is it good?”…", "(Is it good)"],
    ["Où est l'été ?", unicodedata.normalize("NFD", "OÙ est l\u2019été?")],
    ["한국은 어디?", unicodedata.normalize("NFD", "한국은 어디?")],
    ["Don't, please!", "don\u2019t please"],
    ["a well-known snake_case", "A well known snake case."],
    ["यह क्या है?", "यह क्या है।"],
    ["是吗", "是吗\uff1f"],
    ["Is model 12B good?", "Is model \uff11\uff12\uff22 good?"],
    ["ガイド", "\uff76\uff9e\uff72\uff84\uff9e"],
    ["Wie groß ist die Straße?", "WIE GROSS IST DIE STRASSE?"],
    ["The \ufb01rst \ufb02oor", "the first floor"],
]


@pytest.mark.parametrize("mark", ["\u200b", "\u00ad", "\u2060", "\ufeff"])
def test_invisible_mark_makes_no_other_text(tmp_path: Path, mark: str) -> None:
    marked = [[turn | {"content": f"{turn['content']}{mark}"} for turn in row] for row in lamps()]
    inside = [
        [turn | {"content": turn["content"].replace("amp", f"a{mark}mp")} for turn in row]
        for row in lamps()
    ]
    source = write(tmp_path / "in.jsonl", *lamps(), *marked, *inside)
    assert "kept=24 rejected=48" in prepare(source, tmp_path / "out").out
    nothing = ask(f"{mark} {mark}")
    done = prepare(write(tmp_path / "in.jsonl", *lamps(), nothing), tmp_path / "other")
    assert "turn 1 is empty" in done.err


@pytest.mark.parametrize("texts", EQUAL)
def test_texts_that_differ_in_punctuation_alone_are_duplicates(
    tmp_path: Path, texts: list[str]
) -> None:
    source = write(tmp_path / "in.jsonl", *map(ask, texts), *lamps(40))
    assert f"kept=41 rejected={len(texts) - 1}" in prepare(source, tmp_path / "out").out


GREETINGS = {
    "a greeting": ["Hei"],
    "a long one": ["Hello, I am a customer of yours and need some help with an order of mine."],
    "two turns": ["Hi", "I have a question."],
    "other punctuation": ["Hei!", "Yes, please"],
}


@pytest.mark.parametrize("opening", GREETINGS.values(), ids=GREETINGS)
def test_common_opening_does_not_decide_the_side(tmp_path: Path, opening: list[str]) -> None:
    """Two chats of one question are on one side all the same, and so are all without a question."""
    asked = [ask(*opening, f"What does lamp {n // 2} cost?", f"And {n}?") for n in range(200)]
    source = write(tmp_path / "in.jsonl", *asked, ask(*opening))
    done = prepare(source, tmp_path / "out")
    assert "note: many conversations open with" in done.err
    sides = [rows(tmp_path / "out" / f"{part}_data.jsonl") for part in ("train", "test")]
    assert 20 <= len(sides[1]) <= 60
    questions = [
        {
            row["messages"][2 * len(opening)]["content"]
            for row in side
            if len(row["messages"]) > 2 * len(opening)
        }
        for side in sides
    ]
    assert not questions[0] & questions[1]


def test_parts_of_few_long_conversations_stay_together(tmp_path: Path) -> None:
    """A row for each answer of a conversation: all begin alike, and none may test another."""
    given = [
        ask(*(f"Chat {chat}, question {n}" for n in range(length)))
        for chat in range(8)
        for length in range(1, 9)
    ]
    done = prepare(write(tmp_path / "in.jsonl", *given), tmp_path / "out", test_ratio=0.4)
    assert done.code == 0, done.err
    openings = [
        {row["messages"][0]["content"] for row in rows(tmp_path / "out" / f"{part}_data.jsonl")}
        for part in ("train", "test")
    ]
    assert not openings[0] & openings[1]


def test_failed_split_says_what_was_rejected_and_a_seed_that_works(tmp_path: Path) -> None:
    bad = [{"role": "user", "content": "q"}]
    given = [ask(f"What does the lamp number {number} cost?") for number in (0, 1, 2, 0, 1)]
    source = write(tmp_path / "in.jsonl", *given, bad)
    line = prepare(source, tmp_path / "out").error
    assert "3 rows (3 of 6 were rejected: 2 of them occur before, the first: in.jsonl:6:" in line
    seed = line.partition("--set data.seed=")[2].partition(",")[0]
    assert prepare(source, tmp_path / "out", seed=seed).code == 0


SAME_QUESTION = [[lamps(1)[0][0], answer] for _, answer in lamps(50)]


@pytest.mark.parametrize("given", [lamps(1) * 50, SAME_QUESTION])
def test_one_conversation_is_not_told_to_try_seeds(tmp_path: Path, given: Any) -> None:
    line = prepare(write(tmp_path / "in.jsonl", *given), tmp_path / "out").error
    assert "data.seed" not in line
    assert "conversations" in line


@pytest.mark.parametrize(
    ("in_turn", "beside", "says"),
    [
        ({"train": False}, {}, "24 rows have train in a turn"),
        ({"reasoning_content": "Let me think."}, {}, "24 rows have reasoning_content in a turn"),
        ({}, {"label": True}, "24 rows have label beside messages"),
        ({}, {"weight": 0}, "24 rows have weight beside messages"),
        ({}, {"system": "Be brief."}, "24 rows have system beside messages"),
    ],
)
def test_what_others_learn_from_and_is_not_read_is_said(
    tmp_path: Path, in_turn: dict[str, Any], beside: dict[str, Any], says: str
) -> None:
    given = [{"messages": [row[0], row[1] | in_turn], **beside} for row in lamps()]
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in given))
    done = prepare(source, tmp_path / "out")
    assert f"note: {says}, which is not read" in done.err
    assert "rejected=0" in done.out


def test_columns_written_anew_are_named(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    given = [{"messages": row, "ground_truth": "By heart.", "question": ""} for row in lamps()]
    source.write_text("".join(json.dumps(row) + "\n" for row in given))
    done = prepare(source, tmp_path / "out")
    count = len(rows(tmp_path / "out/test_data.jsonl"))
    said = "test rows with another question, ground_truth: written anew from messages"
    assert f"note: {count} {said}" in done.err
    again = prepare(tmp_path / "out/test_data.jsonl", tmp_path / "again", test_ratio=0.5)
    assert "written anew" not in again.err


def test_what_is_null_or_of_no_effect_needs_no_word(tmp_path: Path) -> None:
    given = [
        {"id": 1, "tools": [], "messages": [row[0], row[1] | {"tool_calls": None}]}
        for row in lamps()
    ]
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in given))
    assert "note:" not in prepare(source, tmp_path / "out").err


def test_weights_survive_and_decide_what_a_test_row_asks(tmp_path: Path) -> None:
    def weighed(number: int, first: Any, last: Any) -> list[dict[str, Any]]:
        turns = ask(f"Question {number}?", "And now?")
        for turn, weight in ((turns[1], first), (turns[3], last)):
            turn |= {"content": f"answer {weight} {number}"}
            if weight is not None:
                turn["weight"] = weight
        return turns

    given = [weighed(n, *((0, 1), (1, 0), (None, None), (1.0, 0.0))[n % 4]) for n in range(80)]
    done = prepare(write(tmp_path / "in.jsonl", *given), tmp_path / "out")
    kept = prepared(tmp_path / "out")
    assert sorted(json.dumps(row["messages"]) for row in kept) == sorted(map(json.dumps, given))
    asked = rows(tmp_path / "out" / "test_data.jsonl")
    cut = [row for row in asked if row["messages"][-1].get("weight") == 0]
    assert cut
    assert f"note: {len(cut)} test rows end with answers of weight 0" in done.err
    for row in asked:
        is_cut = row in cut
        assert row["ground_truth"] == row["messages"][1 if is_cut else 3]["content"]
        assert len(row["chat_history"]) == (0 if is_cut else 1)
        assert row["question"] == row["messages"][0 if is_cut else 2]["content"]


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("seed", "1" * 42, "data.seed"),
        ("seed", "-" + "1" * 42, "data.seed"),
        ("seed", "9" * 5000, "data.seed"),
        ("seed", "one", "data.seed"),
        ("seed", "1.5", "data.seed"),
        ("test_ratio", "nan", "data.test_ratio"),
        ("test_ratio", "2", "data.test_ratio"),
        ("limit", "0", "data.limit"),
        ("limit", "many", "data.limit"),
        ("source", "", "data.source"),
        ("source", " ", "data.source"),
        ("out", "", "data.out"),
        ("source", "~nobody-of-this-name/in.jsonl", "nobody's home folder"),
        ("out", "~nobody-of-this-name", "nobody's home folder"),
    ],
)
def test_value_out_of_range_is_one_line(tmp_path: Path, field: str, value: str, says: str) -> None:
    source = write(tmp_path / "in.jsonl", *lamps())
    line = run("data", *options(**{"source": source, "out": tmp_path / "out", field: value})).error
    assert says in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("seed", [-1, -(2**63), 2**63 - 1])
def test_every_seed_in_range_splits(tmp_path: Path, seed: int) -> None:
    source = write(tmp_path / "in.jsonl", *lamps(80))
    assert prepare(source, tmp_path / "out", seed=seed).code == 0


def test_home_folder_is_meant_by_its_sign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    write(tmp_path / "in.jsonl", *lamps())
    done = prepare("~/in.jsonl", Path("~/2024"))
    assert f"{tmp_path / '2024' / 'train_data.jsonl'}" in done.out, done.err
    assert not Path("~").exists()


PIPE = pytest.param(
    "pipe", marks=pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on Windows")
)


@pytest.mark.parametrize("kind", ["folder", PIPE, "xlsx", "nothing"])
def test_source_that_is_no_file_is_one_line(tmp_path: Path, kind: str) -> None:
    path = tmp_path / ("in.xlsx" if kind == "xlsx" else "in.jsonl")
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "xlsx":
        path.write_text("prompt,completion\n")
    says = {
        "folder": "no data set in folder",
        "pipe": "a pipe",
        "xlsx": "of no kind that can be read",
        "nothing": "no data file",
    }
    assert says[kind] in prepare(path, tmp_path / "out").error
