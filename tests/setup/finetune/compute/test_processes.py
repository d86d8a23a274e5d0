"""Several processes train as one does that takes their batches one after the other."""

from __future__ import annotations

import pytest

from tests.setup.finetune.conftest import MakeMachine
from tests.setup.finetune.machine import difference, facts, history, result

pytestmark = pytest.mark.slow

STEPS = ["finetune.batch_rows=3", "finetune.held_out_rows=5", "finetune.save_every=6"]


def test_two_processes(make_machine: MakeMachine) -> None:
    machine, alone = make_machine(facts(26)), make_machine(facts(26))
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    arguments = machine.arguments("finetune", *STEPS)
    done = machine.home.run(*torchrun, "-m", "setup", *arguments, timeout=170)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("finetune: on own.jsonl: held-out loss") == 1
    assert done.stderr.count("step 0/") == 1
    assert not [noise for noise in ("FutureWarning", "it/s]") if noise in done.stderr]
    (run,) = machine.runs()
    expected = alone.finetune(*STEPS, "finetune.accumulation=2")
    assert result(run)["processes"] == 2
    assert difference(run, expected) < 1e-3
    for name in ("steps", "best_step", "epochs", "tokens"):
        assert result(run)[name] == result(expected)[name]
    for row, other in zip(history(run), history(expected), strict=True):
        for name in ("loss", "held_out_loss", "general_loss"):
            assert abs(row.get(name, 0) - other.get(name, 0)) < 1e-3
