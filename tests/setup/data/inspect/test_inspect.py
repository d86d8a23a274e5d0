"""``python -m setup inspect``: what is in the data, and what exactly is trained."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.home import ROOT
from tests.setup.command import options, rows, run
from tests.setup.data.inspect.conftest import Prepared
from tests.setup.data.inspect.planted import Turns, different, sample

Prepare = Callable[..., Prepared]
SECRET = "DE89 3704 0044 0532 0130 00"


def _ask(*turns: str) -> Turns:
    roles = ("user", "assistant") * len(turns)
    return [{"role": role, "content": text} for role, text in zip(roles, turns, strict=False)]


def _given() -> list[Turns]:
    """Fifty rows of the sample, and faults: personal data, a repetition, a refused row, French."""
    faults = [
        _ask("Pay into DE89 3704 0044 0532 0130 00, please", "I shall do so at once."),
        _ask("Hello, " + sample()[0][0]["content"], *(t["content"] for t in sample()[0][1:])),
        _ask("", "nothing was asked"),
        _ask("Combien coûte la lampe rouge, s'il vous plaît ?", "La lampe coûte dix euros."),
        [{"role": "system", "content": "Be brief."}, *_ask("Which lamp?", "The red one.")],
    ]
    faults[3][1]["weight"] = 1
    return [*sample()[:50], *faults]


def test_figures_are_those_of_the_rows(prepare_rows: Prepare) -> None:
    prepared = prepare_rows(_given())
    made = prepared.json()
    train, test = (rows(prepared.out / f"{part}_data.jsonl") for part in ("train", "test"))
    counts = {"read": 55, "kept": 54, "rejected": 1, "train": len(train), "test": len(test)}
    assert made["rows"] == counts
    assert made["rejected"] == [{"reason": "turn N is empty", "rows": 1}]
    answers = [sum(t["role"] == "assistant" for t in row["messages"]) for row in train + test]
    assert sum(int(n) * count for n, count in made["exchanges"].items()) == sum(answers)
    assert made["with_system_message"] == 1
    assert made["languages"]["counts"]["fr"] == 1
    assert made["languages"]["counts"]["en"] > 40
    assert made["near_duplicates"].get("across", 0) == 0
    assert [place["opening"] for place in made["near_duplicates"]["pairs"][0]][1].startswith(
        "Hello"
    )
    assert made["personal"]["kinds"] == {"IBAN": 1}
    assert made["personal"]["findings"][0]["shown"] == f"DE{'•' * 23}00"


def test_tokens_are_those_of_the_training(prepare_rows: Prepare) -> None:
    """Every row, however it is asked for, has the tokens that all of them are counted as."""
    prepared = prepare_rows([*sample()[:20], *sample()[300:320]])
    tokens = prepared.json()["tokens"]
    total = len(rows(prepared.out / "train_data.jsonl"))
    shown = prepared.json("--sample", str(total))["conversations"]
    assert len(shown) == tokens["rows"] == total
    assert sum(row["tokens"] for row in shown) == tokens["total"]
    assert sum(row["trained"] for row in shown) == tokens["trained"]
    assert sum(bin_["rows"] for bin_ in tokens["conversation"]["histogram"]) == total
    assert tokens["shortened_rows"] == tokens["dropped_turns"] == 0


def test_trained_is_the_answer_and_its_stop_token(prepare_rows: Prepare) -> None:
    answer = "Två ord 👍🏽 und مرحبا <b>\x1b[31mred\x07"
    given = _ask("Is it so?", answer, "Again?", "Yes, again.")
    prepared = prepare_rows([given, *sample()[:30]])
    begins = {part: rows(prepared.out / f"{part}_data.jsonl")[0] for part in ("train", "test")}
    part = next(part for part, row in begins.items() if row["messages"] == given)
    pieces = prepared.json("--row", f"{part}:1")["conversations"][0]["pieces"]
    said = [t["content"].translate({27: 0x241B, 7: 0x2407}) for t in given[1::2]]
    trained = "".join(piece["text"] for piece in pieces if piece["trained"])
    assert trained == "".join(f"{text}<|im_end|>" for text in said)
    stops = [piece["text"] for piece in pieces if piece["stop"]]
    assert stops == ["<|im_end|>"] * len(said)
    assert all(piece["special"] for piece in pieces if piece["text"] == "<|im_start|>")


def test_cut_and_dropped_are_counted(prepare_rows: Prepare) -> None:
    long = [_ask(*(f"Part {n} of the lamp {k}, please" for n in range(8))) for k in range(9)]
    prepared = prepare_rows([*long, *sample()[:20]])
    limit = ("--set", "finetune.max_tokens=60")
    tokens = prepared.json(*limit)["tokens"]
    shown = prepared.json(*limit, "--sample", "99")["conversations"]
    dropped = [row["dropped_turns"] for row in shown]
    assert tokens["dropped_turns"] == sum(dropped) > 0
    assert tokens["shortened_rows"] == sum(turns > 0 for turns in dropped)
    problems = [row for row in shown if row["problem"]]
    assert sum(row["rows"] for row in tokens["left_out"]) == len(problems)
    told = prepared.inspect(*limit).out.replace("\n", " ")
    turns = f"{tokens['dropped_turns']} turns in all"
    assert turns in " ".join(told.split())


def test_nothing_personal_is_printed_whole(prepare_rows: Prepare, tmp_path: Path) -> None:
    prepared = prepare_rows([_given()[50], *sample()[:30]])
    page = tmp_path / "page.html"
    texts = [
        prepared.inspect("--html", str(page), "--sample", "40").out,
        page.read_text(encoding="utf-8"),
        json.dumps(prepared.json(), ensure_ascii=False),
        json.dumps(prepared.json("--sample", "40"), ensure_ascii=False),
        prepared.inspect("--sample", "40").out,
    ]
    assert all(SECRET not in text and "DE••" in text for text in texts)


def test_sample_needs_no_preparation(model: Path) -> None:
    done = run("inspect", "--set", f"model.source={model}", "--row", "test:1")
    assert done.code == 0, done.err
    assert "test:1: " in done.out
    assert "~~~" in done.out


REFUSED = {
    "0": "--row '0' is no row",
    "train": "--row 'train' is no row",
    "999": "there is no row 999 in ",
    "other:1": "--row 'other:1' is no row",
}


@pytest.mark.parametrize(("row", "said"), REFUSED.items(), ids=REFUSED)
def test_row_that_is_not_there(prepare_rows: Prepare, row: str, said: str) -> None:
    prepared = prepare_rows(sample()[:30])
    line = prepared.inspect("--row", row).error
    assert said in line
    fix = line.rpartition("--row ")[2].split()[0].strip(",.")
    assert prepared.inspect("--row", fix).code == 0


def test_data_must_be_prepared(tmp_path: Path) -> None:
    given = options(source=ROOT / "data/sample/train.jsonl", out=tmp_path / "out")
    line = run("inspect", *given).error
    assert "no train split" in line
    assert "python -m setup data --set data.source=" in line


STYLES: dict[str, tuple[dict[str, str], str]] = {
    "colour": ({"FORCE_COLOR": "1"}, "\x1b[32m"),
    "no colour": ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, "\x1b[4m"),
    "no terminal": ({}, "~~~"),
}


@pytest.mark.parametrize("style", STYLES)
def test_trained_tokens_are_marked_anywhere(model: Path, style: str) -> None:
    variables, mark = STYLES[style]
    kept = {k: v for k, v in os.environ.items() if k not in ("FORCE_COLOR", "NO_COLOR")}
    kept |= {"TERM": "xterm", "PYTHONUTF8": "1", **variables}
    command = [sys.executable, "-m", "setup", "inspect", "--set", f"model.source={model}"]
    done: Any = subprocess.run(
        [*command, "--row", "7"], cwd=ROOT, env=kept, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    answer = next(line for line in done.stdout.splitlines() if "400 grams" in line)
    below = done.stdout.partition(answer)[2]
    assert mark in (below if style == "no terminal" else answer)
    assert all(other not in done.stdout for _, other in STYLES.values() if other != mark)


def test_planted_leaks_are_found(
    prepare_rows: Prepare, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Last exchanges of test rows, put into train conversations by hand, in other words."""
    prepared = prepare_rows(different(tmp_path), test_ratio=0.3)
    before = _leaking(prepared)
    train, test = prepared.out / "train_data.jsonl", rows(prepared.out / "test_data.jsonl")
    asked = {
        number: row
        for number, row in enumerate(test, 1)
        if len(row["ground_truth"].split()) > 4 and not row["chat_history"]
    }
    planted = set(sorted(set(asked) - before)[::6])
    with train.open("a", encoding="utf-8") as file:
        for number in planted:
            question, answer = asked[number]["question"], asked[number]["ground_truth"]
            exchange = _ask(f"Well then, {question.lower()}", answer)
            whole = [*_ask("May I ask you something?", "Of course you may."), *exchange]
            file.write(json.dumps({"messages": whole}) + "\n")
    found = _leaking(prepared) - before
    with capsys.disabled():
        recall, precision = len(found & planted) / len(planted), len(found & planted) / len(found)
        told = f"{len(before)} of {len(test)} before"
        print(f"\nleaks: recall {recall:.3f}, precision {precision:.3f} of {len(planted)}; {told}")
    assert recall >= 0.9
    assert precision >= 0.7, "one answer is right for several questions"
    assert "edited since `data` wrote it" in prepared.inspect().err


def _leaking(prepared: Prepared) -> set[int]:
    """The test rows that stand in the train split."""
    leaks = prepared.json()["leaks"]
    assert len(leaks["pairs"]) == leaks["test_rows"]
    assert all(train["part"] == "train" for train, _ in leaks["pairs"])
    return {test["number"] for _, test in leaks["pairs"]}


def test_page_takes_the_place_of_pages_alone(prepare_rows: Prepare, tmp_path: Path) -> None:
    prepared = prepare_rows(sample()[:30])
    chats = tmp_path / "in.jsonl"
    for path, fix in ((prepared.out, prepared.out / "data.html"), (chats, tmp_path / "in.html")):
        line = prepared.inspect("--html", str(path)).error
        assert line.endswith(f"Fix: --html {fix}")
    assert len(list(prepared.out.iterdir())) == 3
    assert len(rows(chats)) == 30
    assert prepared.inspect("--html", str(tmp_path / "in.html"), "--json").code == 0
