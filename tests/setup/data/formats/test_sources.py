"""A test split of one's own, several sources by weight, and what every later step knows of them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from setup.finetune.examples.dataset import read_split
from setup.recipe.local import Finetune
from tests.setup.command import lamps, options, prepare, rows, run, write

MINE = lamps(40)
GENERAL = [{"instruction": f"Say {n} in words.", "output": f"Word {n}."} for n in range(60)]


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "MODELS"):
        monkeypatch.setenv(f"FINETUNE_PHI_{name}", str(tmp_path / "home"))


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    return write(tmp_path / "mine.jsonl", *MINE)


@pytest.fixture
def general(tmp_path: Path) -> Path:
    path = tmp_path / "general.json"
    path.write_text(json.dumps(GENERAL))
    return path


@pytest.fixture
def own_test(tmp_path: Path) -> Path:
    """Rows as an evaluation has them; three stand in `mine`, in other letters."""
    given = [(f"How old is chair {n}?", f"It is {n}.") for n in range(5)]
    given += [(row[0]["content"].upper(), row[1]["content"].lower()) for row in MINE[:3]]
    lines = [
        json.dumps({"question": question, "ground_truth": answer, "facts": [answer]})
        for question, answer in given
    ]
    path = tmp_path / "test.jsonl"
    path.write_text("\n".join(lines))
    return path


def sides(out: Path) -> list[list[dict[str, Any]]]:
    return [rows(out / f"{part}_data.jsonl") for part in ("train", "test")]


def questions(side: list[dict[str, Any]]) -> list[str]:
    return [row["messages"][0]["content"] for row in side]


def test_test_split_of_ones_own(tmp_path: Path, mine: Path, own_test: Path) -> None:
    out = tmp_path / "out"
    done = prepare(mine, out, test=own_test)
    assert "rows=48 kept=45 rejected=3 train=37 test=8" in done.out, done.err
    assert "note: 3 rows to train on stand in data.test: dropped from train" in done.err
    assert "rejected mine.jsonl:1: the conversation stands in data.test" in done.err
    train, test = sides(out)
    assert questions(train) == questions([{"messages": row} for row in MINE[3:]])
    assert test[0]["facts"] == ["It is 0."]
    assert [row["question"] for row in test] == questions(test)


def test_system_message_hides_no_test_row(tmp_path: Path, own_test: Path) -> None:
    system = {"role": "system", "content": "You sell lamps."}
    mine = write(tmp_path / "mine.jsonl", *([system, *row] for row in MINE))
    done = prepare(mine, tmp_path / "out", test=own_test)
    assert "3 rows to train on stand in data.test" in done.err


def test_train_that_is_all_test_is_one_line(tmp_path: Path, mine: Path) -> None:
    line = prepare(mine, tmp_path / "out", test=mine).error
    assert "rejected=40; 40 stand in data.test" in line


def test_weights_repeat_train_and_never_test(tmp_path: Path, mine: Path, general: Path) -> None:
    source = f"[{{source: {mine}, weight: 2.5}}, {{source: {general}, weight: 0.5}}]"
    done = prepare(source, tmp_path / "out")
    train, test = sides(tmp_path / "out")
    own = Counter(question for question in questions(train) if "lamp" in question)
    other = Counter(question for question in questions(train) if "Say" in question)
    assert set(own.values()) == {2, 3}
    assert set(other.values()) == {1}
    assert 15 <= len(other) <= 40
    assert max(Counter(questions(test)).values()) == 1
    assert not {*questions(train)} & {*questions(test)}
    assert f"weight 2.5 of {mine}: in train" in done.err
    assert f"weight 0.5 of {general}: in train" in done.err
    prepare(source, tmp_path / "again")
    assert sides(tmp_path / "again") == [train, test]
    prepare(source, tmp_path / "other", seed=1)
    assert sides(tmp_path / "other") != [train, test]


def test_repeats_are_held_out_together(tmp_path: Path, mine: Path) -> None:
    prepare(f"[{{source: {mine}, weight: 3}}]", tmp_path / "out")
    settings = Finetune.model_construct(held_out_rows=5, seed=0)
    split = read_split(tmp_path / "out" / "train_data.jsonl", settings)
    held_out = {row[0]["content"] for row in split.held_out}
    assert len(held_out) == len(split.held_out) == 5
    trained = Counter(row[0]["content"] for row in split.train)
    assert set(trained.values()) == {3}
    assert not held_out & set(trained)
    assert any("are repeats" in remark for remark in split.remarks())


def test_test_split_and_weights_together(
    tmp_path: Path, mine: Path, general: Path, own_test: Path
) -> None:
    source = f"[{{source: {mine}, weight: 2}}, {general}]"
    done = prepare(source, tmp_path / "out", test=own_test)
    assert "rows=108 kept=105 rejected=3 train=134 test=8" in done.out


def test_manifest_says_all_and_later_steps_go_by_it(
    tmp_path: Path, mine: Path, general: Path, own_test: Path
) -> None:
    given = options(
        source=f"[{{source: {mine}, weight: 2}}, {general}]", test=own_test, out=tmp_path / "out"
    )
    following = run("data", *given).next
    assert following == ["finetune", *given]
    note = json.loads((tmp_path / "out" / "data.manifest.json").read_text())
    told = [(part["format"], part["rows"], part["kept"]) for part in note["sources"]]
    assert told == [("question_answer", 8, 8), ("openai", 40, 37), ("alpaca", 60, 60)]
    assert note["sources"][0]["columns"] == {"question": "question", "answer": "ground_truth"}
    assert [len(part["sha256"]) for part in note["sources"]] == [64] * 3
    assert "(unchanged)" in run("data", *given).out
    planned = run(*following, "--dry-run").out
    assert f"on [{{source: {mine}, weight: 2}}, {general}]: 134 rows of " in planned


CHANGES: dict[str, Any] = {
    "another weight": lambda place: {"source": place["source"].replace("weight: 2", "weight: 3")},
    "one source less": lambda place: {"source": str(place["mine"])},
    "no test split": lambda _: {"test": ""},
    "another format": lambda _: {"format": "openai"},
    "a changed source": lambda place: place["mine"].write_text(place["mine"].read_text() * 2),
    "a changed test split": lambda place: place["test"].write_text(
        place["test"].read_text().replace("chair", "table")
    ),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_other_data_is_refused(tmp_path: Path, mine: Path, own_test: Path, change: Any) -> None:
    other = write(tmp_path / "other.jsonl", *lamps(80)[50:])
    source = f"[{{source: {mine}, weight: 2}}, {other}]"
    given = {"source": source, "test": own_test, "out": tmp_path / "out"}
    assert run("data", *options(**given)).code == 0
    changed = change({"mine": mine, "test": own_test, "source": source})
    given |= changed if isinstance(changed, dict) else {}
    line = run("finetune", *options(**given)).error
    assert "python -m setup data" in line.partition("Fix: ")[2], line


def test_source_of_several_that_is_gone_is_said(tmp_path: Path, mine: Path, general: Path) -> None:
    given = options(source=f"[{mine}, {general}]", out=tmp_path / "out")
    assert run("data", *given).code == 0
    general.unlink()
    assert f"{general} itself is not there any more" in run("finetune", *given, "--dry-run").out


@pytest.mark.parametrize(
    ("sets", "says"),
    [
        ({"source": "[{source: MINE, wieght: 2}]"}, "data.source.0.wieght: unknown field"),
        ({"source": "[{source: MINE, weight: 0}]"}, "data.source.0.weight"),
        ({"source": "[{weight: 2}]"}, "data.source.0.source"),
        ({"source": "[]"}, "data.source"),
        ({"source": "[MINE, sample]"}, "name its file instead: data/sample/train.jsonl"),
        ({"source": "[MINE, gone.csv]"}, "there is no data file gone.csv"),
        ({"source": "nothing-*.jsonl"}, "no file matches nothing-*.jsonl"),
        ({"source": "MINE", "test": "gone.jsonl"}, "there is no data file gone.jsonl"),
        ({"source": "MINE", "test": "[{source: MINE, weight: 2}]"}, "data.test has a weight"),
        ({"source": "sample", "test": "MINE"}, "data.test goes with a source of your own"),
    ],
)
def test_wrong_list_is_one_line(tmp_path: Path, mine: Path, sets: Any, says: str) -> None:
    given = {name: value.replace("MINE", str(mine)) for name, value in sets.items()}
    line = run("data", *options(out=tmp_path / "out", **given)).error
    assert says in line
    assert not (tmp_path / "out" / "train_data.jsonl").exists()


def test_output_is_never_written_over_a_source_of_several(tmp_path: Path, general: Path) -> None:
    mine = write(tmp_path / "out" / "train_data.jsonl", *MINE)
    line = run("data", *options(source=f"[{general}, {mine}]", out=tmp_path / "out")).error
    assert "would be overwritten" in line
    line = run("data", *options(source=general, test=mine, out=tmp_path / "out")).error
    assert "data.test" in line
    assert "would be overwritten" in line


def test_output_is_never_what_a_pattern_would_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "chats" / "a.jsonl", *MINE)
    given = options(source=tmp_path / "chats" / "*.jsonl", out=tmp_path / "chats")
    line = run("data", *given).error
    assert "would match" in line
    fix = line.rpartition("data.out=")[2]
    assert run("data", *given, *options(out=fix.strip("'"))).code == 0


def test_each_source_has_its_own_format_and_columns(tmp_path: Path, mine: Path) -> None:
    table = tmp_path / "fragen.csv"
    table.write_text("frage;antwort\n" + "".join(f"Frage {n}?;Ja {n}\n" for n in range(20)))
    entry = f"{{source: {table}, columns: {{question: frage, answer: antwort}}}}"
    done = prepare(f"[{mine}, {entry}]", tmp_path / "out")
    assert "kept=60" in done.out, done.err
    assert "frage as question" in done.err


def test_limit_is_of_each_source(tmp_path: Path, mine: Path, general: Path) -> None:
    assert "rows=20 " in prepare(f"[{mine}, {general}]", tmp_path / "out", limit=10).out
