"""Near-duplicates: found among real rows, kept on one side, and no mere instances of a template."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from tests.setup.command import options, prepare, prepared, rows, run, write
from tests.setup.data.inspect.planted import Turns, different, plant, sample

LEAST_RECALL, LEAST_PRECISION = 0.9, 0.97


def _ask(question: str, answer: str) -> Turns:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def _sides(out: Path) -> dict[str, str]:
    """The side of each row, by its turns."""
    return {
        json.dumps(row["messages"]): part
        for part in ("train", "test")
        for row in rows(out / f"{part}_data.jsonl")
    }


def test_planted_are_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Recall and precision, printed, of those that are left out of a copy of the sample."""
    base = different(tmp_path)
    planted = plant(base, 20)
    source = write(tmp_path / "in.jsonl", *base, *(row for _, _, row in planted))
    done = prepare(source, tmp_path / "out", near_duplicates="drop")
    assert done.code == 0, done.err
    rejects = rows(tmp_path / "out" / "data.rejects.jsonl")
    dropped = {row["line"] for row in rejects if "occurs before" in row["reason"]}
    named = {
        row["line"]: int(match[1])
        for row in rejects
        if (match := re.fullmatch(r"nearly the same as in\.jsonl:(\d+)", row["reason"]))
    }
    dropped |= set(named)
    lines = {len(base) + place: kind for place, (kind, _, _) in enumerate(planted, 1)}
    recall = len(dropped & set(lines)) / len(lines)
    precision = len(dropped & set(lines)) / len(dropped)
    kinds = Counter(lines[line] for line in dropped & set(lines))
    with capsys.disabled():
        told = ", ".join(f"{kind} {count}/20" for kind, count in kinds.items())
        print(f"\nnear-duplicates: recall {recall:.3f}, precision {precision:.3f}; {told}")
    assert recall >= LEAST_RECALL
    assert precision >= LEAST_PRECISION
    right = [line for line in named if line in lines]
    origins = [planted[line - len(base) - 1][1] + 1 for line in right]
    assert sum(named[line] == origin for line, origin in zip(right, origins, strict=True)) >= (
        LEAST_PRECISION * len(right)
    )


def test_planted_are_on_one_side(tmp_path: Path) -> None:
    base = different(tmp_path)
    planted = plant(base, 20)
    alone = write(tmp_path / "alone.jsonl", *base)
    assert prepare(alone, tmp_path / "alone").code == 0
    source = write(tmp_path / "in.jsonl", *base, *(row for _, _, row in planted))
    done = prepare(source, tmp_path / "out")
    assert "kept, on one side" in done.err
    sides, before = _sides(tmp_path / "out"), _sides(tmp_path / "alone")
    together = [
        sides[json.dumps(row)] == sides[json.dumps(base[origin])]
        for _, origin, row in planted
        if json.dumps(row) in sides
    ]
    assert sum(together) >= LEAST_RECALL * len(together)
    moved = [key for key in before if sides[key] != before[key]]
    assert len(moved) <= 0.005 * len(before), "only those that an added row joins to others"


def test_sample_loses_no_row(tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", *sample())
    done = prepare(source, tmp_path / "out")
    assert f"kept={len(sample())} rejected=0" in done.out
    again = run("data", *options(source=source, out=tmp_path / "out"))
    assert "(unchanged)" in again.out
    assert "kept, on one side" in again.err, "a second run says it, too"


def _thirty(folder: Path) -> list[Turns]:
    """Rows of the sample of both sides of its split, none like another."""
    rows = different(folder)
    return rows[:: len(rows) // 30][-30:]


TEMPLATES = {
    "numbers": [_ask(f"Book order {n} for me", f"Order {n} is booked.") for n in range(40)],
    "numbers in the question alone": [
        _ask(f"Is {n} an even number?", "Yes, it is even." if n % 2 == 0 else "No, it is odd.")
        for n in range(40)
    ],
    "a name in question and answer": [
        _ask(f"What is the capital of {a}?", f"The capital of {a} is {b}.")
        for a, b in [("France", "Paris"), ("Spain", "Madrid"), ("Italy", "Rome"), ("Peru", "Lima")]
    ],
    "short answers": [
        _ask(f"Is the {name} lamp waterproof?", "Yes.")
        for name in ("Falcon", "Heron", "Otter", "Badger", "Lynx", "Mole")
    ],
    "symbols": [_ask(f"Is {name} a language I should learn?", "Yes.") for name in ("C++", "C#")],
}


@pytest.mark.parametrize("given", TEMPLATES.values(), ids=TEMPLATES)
def test_instances_of_a_template_are_different(tmp_path: Path, given: list[Turns]) -> None:
    source = write(tmp_path / "in.jsonl", *given, *_thirty(tmp_path))
    done = prepare(source, tmp_path / "out", near_duplicates="error")
    assert done.code == 0, done.err


NEAR = {
    "a word of a long answer": [
        _ask("How do I reset the lamp?", f"{' '.join(map(chr, range(97, 121)))} {word}")
        for word in ("now", "then")
    ],
    "an opening before the answer": [
        _ask("How do I reset the red lamp?", "Hold the button until it blinks."),
        _ask("How do I reset the red lamp", "Sure! Hold the button until it blinks."),
    ],
    "unspaced writing": [
        _ask("ランプの保証期間はどのくらいですか", "ランプの保証期間は二年間です"),
        _ask("すみませんランプの保証期間はどのくらいですか", "ランプの保証期間は二年間です"),
    ],
    "right to left": [
        _ask("ما هي مدة ضمان المصباح الأحمر", "مدة ضمان المصباح سنتان كاملتان"),
        _ask("من فضلك ما هي مدة ضمان المصباح الأحمر", "مدة ضمان المصباح سنتان كاملتان"),
    ],
    "two turns": [
        [*_ask("What does the red lamp cost?", "It costs ten euros."), *_ask(asked, "Two years.")]
        for asked in ("And how long is its warranty?", "And how long is the warranty?")
    ],
}


@pytest.mark.parametrize("given", NEAR.values(), ids=NEAR)
def test_first_pair_is_shown_with_a_fix_that_works(tmp_path: Path, given: list[Turns]) -> None:
    others = _thirty(tmp_path)
    source = write(tmp_path / "in.jsonl", *others, *given)
    line = prepare(source, tmp_path / "out", near_duplicates="error").error
    assert "1 row is nearly the same as an earlier one; the first: in.jsonl:32 ('" in line
    assert "in.jsonl:31 ('" in line
    assert not (tmp_path / "out" / "train_data.jsonl").exists()
    assert "--set data.near_duplicates=drop" in line
    done = prepare(source, tmp_path / "out", near_duplicates="drop")
    assert "kept=31 rejected=1" in done.out
    assert "note: 1 row is nearly the same as an earlier one: left out" in done.err
    assert [row["messages"] for row in prepared(tmp_path / "out")].count(given[1]) == 0


def test_long_chain_is_a_template(tmp_path: Path) -> None:
    """Letters that differ in a name alone would all be on one side, and test nothing."""
    body = " ".join(f"{word} of" for word in sample()[0][0]["content"].split()) + " lamp" * 3
    names = [f"N{chr(97 + n // 26)}{chr(97 + n % 26)}" for n in range(120)]
    words = [f"{body} {' '.join(chr(c) * 3 for c in range(97, 120))}" for _ in names]
    given = [
        _ask(f"Write a kind letter to our customer {name}", f"Dear {name}, {text}")
        for name, text in zip(names, words, strict=True)
    ]
    done = prepare(write(tmp_path / "in.jsonl", *given), tmp_path / "out")
    assert "120 rows are alike as instances of one template are, such as in.jsonl:1" in done.err
    assert len(rows(tmp_path / "out" / "test_data.jsonl")) > 5
