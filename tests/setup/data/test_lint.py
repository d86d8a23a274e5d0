"""The linter: each rule names the file, the line and the reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from setup.common.errors import FixableError
from setup.data import lint_files
from setup.data.rows import normalise
from setup.data.seen import SeenKeys


def talk(*contents: Any, first: str = "user") -> list[dict[str, Any]]:
    """Turns in alternation."""
    roles = ["user", "assistant"] if first == "user" else ["assistant", "user"]
    return [{"role": roles[n % 2], "content": text} for n, text in enumerate(contents)]


def write_lines(path: Path, *rows: Any) -> Path:
    """A JSONL file of the rows; bytes are written as they are."""
    lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


def row(*contents: Any, **more: Any) -> dict[str, Any]:
    """A row with only messages, and what else is given."""
    return {"messages": talk(*contents), **more}


GOOD = row("Is it good?", "It is.")


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b'{"messages": [', "not valid JSON"),
        (b'{"messages": "\xff\xfe"}', "not UTF-8"),
        (["messages"], "the row is a list, not an object"),
        ({"prompt": "no messages"}, "column messages is missing"),
        ({"messages": "hello"}, "messages is not a list of turns"),
        ({"messages": []}, "messages is not a list of turns"),
        ({"messages": ["hello"]}, "turn 1 is a string, not an object"),
        ({"messages": [{"role": "bot", "content": "x"}]}, "turn 1 has the unknown role 'bot'"),
        ({"messages": [{"role": ["user"], "content": "x"}]}, "turn 1 has the unknown role"),
        ({"messages": [{"content": "x"}]}, "turn 1 has the unknown role None"),
        (row("q", "a", "q"), "the last turn is not the assistant's"),
        ({"messages": talk("a", "q", first="assistant")}, "turn 1 is assistant, expected user"),
        ({"messages": [*talk("q"), *talk("q", "a")]}, "turn 2 is user, expected assistant"),
        ({"messages": [{"role": "system", "content": "s"}]}, "the last turn is not the assis"),
        (
            {"messages": [*talk("q", "a"), {"role": "system", "content": "s"}]},
            "turn 3 is system, expected user",
        ),
        (row("q", ""), "turn 2 is empty"),
        (row(" \t\n", "a"), "turn 1 is empty"),
        (row("q", None), "turn 2 has null as content, not a string"),
        (row("q", ["a"]), "turn 2 has a list as content, not a string"),
        (row("q", "a", prompt=7), "column prompt is an int, not a string"),
        (row("is it GOOD", "it is!"), "the conversation occurs before"),
    ],
)
def test_each_rule_names_file_line_and_reason(tmp_path: Path, bad: Any, reason: str) -> None:
    path = write_lines(tmp_path / "chat.jsonl", GOOD, bad, row("Another?", "Yes."))
    report = lint_files([path])
    assert str(report) == "rows=3 kept=2 rejected=1"
    assert str(report.problems[0]).startswith(f"chat.jsonl:2: {reason}")


def test_system_turn_first_is_allowed(tmp_path: Path) -> None:
    system = {"role": "system", "content": "Be brief."}
    path = write_lines(tmp_path / "a.jsonl", {"messages": [system, *talk("q", "a")]})
    assert lint_files([path]).rejected == 0


def test_duplicate_across_files_is_found(tmp_path: Path) -> None:
    train = write_lines(tmp_path / "train.jsonl", GOOD)
    test = write_lines(tmp_path / "test.jsonl", row("other", "a"), row("is it  good", "It is"))
    (problem,) = lint_files([train, test]).problems
    assert str(problem) == "test.jsonl:2: the conversation occurs before"


def test_same_question_with_another_answer_is_no_duplicate(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", GOOD, row("Is it good?", "It is not."))
    assert lint_files([path]).rejected == 0


def test_symbols_alone_are_not_all_the_same(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", row("+?", "a"), row("-?", "a"), row("?!", "a"))
    assert lint_files([path]).rejected == 0


def test_required_columns_are_per_file(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", GOOD | {"question": "q"}, row("x", "y"))
    report = lint_files([path], columns=[("messages", "question")])
    assert [str(p) for p in report.problems] == ["a.jsonl:2: column question is missing"]


def test_rejects_keep_the_original_line(tmp_path: Path) -> None:
    broken = b'{"messages": "\xff"}'
    path = write_lines(tmp_path / "a.jsonl", GOOD, broken, row("q", ""))
    side = tmp_path / "a.rejects.jsonl"
    lint_files([path], rejects=side)
    first, second = [json.loads(line) for line in side.read_text(encoding="utf-8").splitlines()]
    assert first == {
        "file": "a.jsonl",
        "line": 2,
        "reason": "not UTF-8 (byte 15 of the line is 0xFF)",
        "original": '{"messages": "\\xff"}',
    }
    assert json.loads(second["original"]) == row("q", "")
    assert second["line"] == 3


def test_no_side_file_when_nothing_is_rejected(tmp_path: Path) -> None:
    side = tmp_path / "a.rejects.jsonl"
    side.write_text("of an earlier run", encoding="utf-8")
    lint_files([write_lines(tmp_path / "a.jsonl", GOOD)], rejects=side)
    assert not side.exists()


def test_bom_crlf_and_blank_lines_are_no_problem(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    lines = [json.dumps(GOOD).encode(), b"", json.dumps(row("q", "a")).encode()]
    path.write_bytes(b"\xef\xbb\xbf" + b"\r\n".join(lines) + b"\r\n")
    assert str(lint_files([path])) == "rows=2 kept=2 rejected=0"


def test_blank_lines_still_count_for_the_line_number(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", GOOD, b"", b"", row("q", ""))
    assert lint_files([path]).problems[0].line == 4


def test_huge_row_passes(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", row("q", "long " * 2_000_000))
    assert lint_files([path]).kept == 1


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", r"empty\.jsonl is empty"),
        (b"\n\n", r"empty\.jsonl is empty"),
        (b"\xef\xbb\xbf", r"empty\.jsonl is empty"),
        (b"not json\n", r"no usable row in .*empty\.jsonl"),
    ],
)
def test_file_without_a_usable_row_is_the_users_to_fix(
    tmp_path: Path, content: bytes, says: str
) -> None:
    path = tmp_path / "empty.jsonl"
    path.write_bytes(content)
    with pytest.raises(FixableError, match=says):
        lint_files([path])


def test_missing_file_is_the_users_to_fix(tmp_path: Path) -> None:
    with pytest.raises(FixableError, match="there is no data file"):
        lint_files([tmp_path / "absent.jsonl"])


def test_only_the_first_problems_are_kept_in_memory(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", GOOD, *([b"x"] * 2000))
    side = tmp_path / "a.rejects.jsonl"
    report = lint_files([path], rejects=side)
    assert (report.rejected, len(report.problems)) == (2000, 20)
    assert len(side.read_bytes().splitlines()) == 2000


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("  Is it\tGOOD?!\n", "is it good"),
        ("snake_case-word", "snake case word"),
        ("\u201cIs it GOOD?\u201d\u2026", "is it good"),
        ("Größe\u00a0XL", "grösse xl"),
        ("?!", ""),
    ],
)
def test_normalise_folds_case_punctuation_and_whitespace(text: str, folded: str) -> None:
    assert normalise(text) == folded
    assert normalise(f"{text} \u2026") == folded, "plain and other text fold alike"


def test_seen_keys_is_a_set() -> None:
    seen, plain = SeenKeys(), set[int]()
    for batch in range(60):
        keys = [batch * 7 + n * n % 50 for n in range(40)]
        expected = []
        for key in keys:
            expected.append(key in plain)
            plain.add(key)
        assert seen.add(keys) == expected
    assert seen.add([]) == []
