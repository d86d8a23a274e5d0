"""What a person sees while it trains: a curve, and an answer now and then."""

from __future__ import annotations

import math
import re
from unittest import mock

import pytest

from setup.finetune.run import attempt as session
from setup.finetune.run.watch import draw_line
from tests.setup.finetune.conftest import MakeMachine
from tests.setup.finetune.machine import conversation, difference, facts, history

EPOCHS = "finetune.epochs=40"
NOISY = ("finetune.dropout=0.1", "finetune.epochs=4")
_LINE = re.compile(r"fine-tuning: step (\d+)/\d+, held-out loss [^;]+; (.+) > ?(.*)")


def test_a_person_sees_it_learn(make_machine: MakeMachine) -> None:
    rows = [conversation(f"Say yes, number {n}.", "yes yes") for n in range(24)]
    done = make_machine(rows).setup("finetune", EPOCHS)
    assert done.returncode == 0, done.stderr
    lines = [match for line in done.stderr.splitlines() if (match := _LINE.fullmatch(line))]
    steps, questions, answers = zip(*(match.groups() for match in lines), strict=True)
    assert steps[:3] == ("0", "10", "20")
    assert len(set(questions)) == 1
    assert re.fullmatch(r"Say yes, number \d+\.", questions[0])
    assert answers[0] != "yes yes"
    assert answers[-1] == "yes yes"
    assert max(map(len, lines[0].string.splitlines())) < 160


def test_it_changes_no_bit_of_the_run(make_machine: MakeMachine) -> None:
    watched = make_machine(facts(20)).finetune(*NOISY)
    with mock.patch.object(session.Session, "_answer", return_value=""):
        alone = make_machine(facts(20)).finetune(*NOISY)
    assert difference(watched, alone) == 0.0
    for name in ("loss", "held_out_loss", "general_loss"):
        assert [row.get(name) for row in history(watched)] == [
            row.get(name) for row in history(alone)
        ]


@pytest.mark.parametrize(
    ("losses", "line"),
    [
        ([3.0], "▁"),
        ([3.0, 2.0, 1.0], "█▅▁"),
        ([3.0 - 0.01 * step for step in range(200)], "█▇▆▅▄▃▂▁"),
        ([1.0, 1.0], "▁▁"),
        ([math.nan, 1.0, 2.0], "?▁█"),
    ],
)
def test_the_curve_beside_the_bar(losses: list[float], line: str) -> None:
    assert draw_line(losses) == line
