"""Answers of weight 0 are context: read, never learnt, never measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from setup.finetune.examples.dataset import fold_system, read_split
from setup.finetune.examples.refusals import NotTrainableError
from setup.recipe.local import Finetune
from tests.home import failed
from tests.setup.finetune.conftest import MakeMachine
from tests.setup.finetune.machine import (
    Machine,
    Row,
    conversation,
    facts,
    make_example,
    result,
    write_rows,
)
from tests.tiny import transformers_folder


def _corrected(count: int, **weights: Any) -> list[Row]:
    """Conversations whose first answer is wrong and whose second one, of weight 1, is right."""
    rows: list[Row] = []
    for row in facts(count):
        wrong = conversation(row[0]["content"], "WRONG price", system="You sell lamps.")
        wrong[-1].update(weights)
        right: dict[str, Any] = {**row[1], "weight": 1}
        rows.append([*wrong, {"role": "user", "content": "Are you sure?"}, right])
    return rows


def _split(path: Path, rows: list[Row]) -> tuple[list[Any], list[Any], int]:
    settings = Finetune(learning_rate=0.1, max_tokens=64, held_out_rows=3)
    split = read_split(write_rows(path, rows), settings)
    return split.train, split.held_out, split.context_only


@pytest.fixture(scope="module")
def tokenizer(tiny: dict[str, Path]) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(transformers_folder(tiny["llama"]))


@pytest.mark.parametrize("folded", [False, True])
def test_answer_of_weight_0_is_read_and_not_learnt(
    tokenizer: Any, tmp_path: Path, folded: bool
) -> None:
    train, held_out, _ = _split(tmp_path / "rows.jsonl", _corrected(20, weight=0))
    rows = train + held_out
    for row in fold_system(rows) if folded else rows:
        example = make_example(row, tokenizer, 512)
        learnt = tokenizer.decode([example.ids[position] for position in example.labelled])
        assert learnt == row[-1]["content"] + "<|im_end|>"
        assert "WRONG price" in tokenizer.decode(example.ids)
        plain = [{"role": turn["role"], "content": turn["content"]} for turn in row]
        assert example.ids == make_example(plain, tokenizer, 512).ids


def test_last_answer_of_weight_0(tokenizer: Any) -> None:
    row: list[Any] = [*conversation("Hi", "Good day."), *conversation("So?", "WRONG")]
    row[-1]["weight"] = 0
    example = make_example(row, tokenizer, 512)
    learnt = tokenizer.decode([example.ids[position] for position in example.labelled])
    assert learnt == "Good day.<|im_end|>"
    with pytest.raises(NotTrainableError, match="no answer to learn: weight 0"):
        make_example(row, tokenizer, len(example) - 1)


@pytest.mark.parametrize("answers", [3, 30])
def test_weights_in_short_and_long_conversations(tokenizer: Any, answers: int) -> None:
    """Both ways to find where answers begin."""
    row: list[Any] = []
    for number in range(answers):
        row += conversation(f"And {number}?", f"It is {number}.")
        row[-1]["weight"] = number % 3 and 1
    example = make_example(row, tokenizer, 10**6)
    learnt = tokenizer.decode([example.ids[position] for position in example.labelled])
    assert learnt == "".join(f"It is {n}.<|im_end|>" for n in range(answers) if n % 3)


@pytest.mark.parametrize("weight", [1, 1.0, None])
def test_weight_1_is_as_none(tmp_path: Path, weight: float | None) -> None:
    """Also for which rows are held out."""
    plain, weighted = (
        _split(tmp_path / name, [[*row[:-1], row[-1] | extra] for row in facts(20)])
        for name, extra in (("a.jsonl", {}), ("b.jsonl", {"weight": weight}))
    )
    assert plain == weighted


def test_losses_are_of_what_is_learnt(make_machine: MakeMachine) -> None:
    """The loss before training is the same whatever stands under weight 0 as a label."""
    unlearnt, learnt = make_machine(_corrected(20, weight=0)), make_machine(_corrected(20))
    runs = [machine.finetune("finetune.epochs=1") for machine in (unlearnt, learnt)]
    figures = [result(run) for run in runs]
    assert figures[0]["held_out_loss_before"] != figures[1]["held_out_loss_before"]
    assert figures[0]["data"]["held_out_sha256"] != figures[1]["data"]["held_out_sha256"]
    assert figures[0]["data"]["train_rows"] == figures[1]["data"]["train_rows"]


@pytest.fixture
def machine(make_machine: MakeMachine) -> Machine:
    return make_machine(facts(20))


def _append(machine: Machine, row: Row) -> Path:
    path = machine.home.path.parent / "data/train_data.jsonl"
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"messages": row}) + "\n")
    return path


def test_conversation_of_context_alone_is_left_out(machine: Machine) -> None:
    for number in range(3):
        row: Row = conversation(f"Only context {number}", "WRONG")
        row[-1].update(weight=0)
        _append(machine, row)
    done = machine.setup("finetune", "finetune.epochs=1")
    assert done.returncode == 0, done.stderr
    told = "fine-tuning: 3 conversations left out, whose answers all have weight 0"
    assert [told in line for line in done.stderr.splitlines()].count(True) == 1
    (run,) = machine.runs()
    data = result(run)["data"]
    assert (data["train_rows"], data["held_out_rows"], data["context_only_rows"]) == (16, 4, 3)


def test_nothing_to_learn_at_all(make_machine: MakeMachine) -> None:
    rows = facts(4)
    for row in rows:
        row[-1].update(weight=0)
    line = failed(make_machine(rows).setup("finetune"))
    assert "has 0 conversations, and 4 whose answers all have weight 0, needed are 2" in line


@pytest.mark.parametrize("weight", [0.5, 2, -1, "0", True, False, [0], {}])
def test_other_weight_is_refused_by_name(machine: Machine, weight: Any) -> None:
    row: Row = conversation("Hello", "Good day")
    row[-1].update(weight=weight)
    path = _append(machine, row)
    line = failed(machine.setup("finetune"))
    assert f"{path}:21, message 2 has weight {json.dumps(weight)}, not 0 or 1" in line


def test_weight_of_a_question(machine: Machine) -> None:
    row: Row = conversation("Hello", "Good day", system="Be brief.")
    row[1].update(weight=0)
    path = _append(machine, row)
    assert machine.setup("finetune", "finetune.epochs=1").returncode == 0
    row[1].update(weight=1)
    path = _append(machine, row)
    line = failed(machine.setup("finetune"))
    assert f"{path}:22, message 2 has weight 1, but only answers are learnt" in line
