"""While it trains one question is answered again and again; the run is none the worse for it."""

from __future__ import annotations

import re
from unittest import mock

from setup.finetune.run import attempt as session
from tests.finetune.conftest import MakeMachine
from tests.finetune.machine import conversation, difference, facts, history

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
