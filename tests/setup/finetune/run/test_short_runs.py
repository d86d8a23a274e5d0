"""Runs of few steps and wishes that so few rows cannot keep: every step counts, cuts are said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import get_cosine_schedule_with_warmup

from setup.finetune.compute.schedule import plan_run, rate_share
from setup.recipe.local import Finetune
from tests.home import failed
from tests.setup.finetune.conftest import MakeMachine
from tests.setup.finetune.machine import Machine, difference, facts, result

FIVE = 5  # conversations, of which four are trained on: at most one step an epoch


@pytest.fixture
def short(make_machine: MakeMachine) -> Machine:
    """A machine with five conversations."""
    return make_machine(facts(FIVE))


def _largest_b(run: Path) -> float:
    weights = load_file(run / "adapter/adapter_model.safetensors")
    return max(float(value.abs().max()) for name, value in weights.items() if ".lora_B." in name)


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 8, 9, 40, 400])
@pytest.mark.parametrize("warmup", [0, 1, 8, 100])
def test_every_step_has_a_rate_and_later_ones_are_those_of_transformers(
    steps: int, warmup: int
) -> None:
    warmup = min(warmup, steps - 1)
    ours = [rate_share(step, warmup, steps) for step in range(steps)]
    assert min(ours) > 0
    assert max(ours) == ours[warmup] == 1
    assert ours[: warmup + 1] == sorted(set(ours[: warmup + 1]))
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = get_cosine_schedule_with_warmup(optimizer, warmup, steps)
    for step, share in enumerate(ours):
        if step >= warmup:
            assert share == pytest.approx(theirs.get_last_lr()[0])
        optimizer.step()
        theirs.step()


@pytest.mark.parametrize("epochs", [0.001, 1, 2, 3])
def test_run_of_few_steps_learns(short: Machine, epochs: float) -> None:
    run = short.finetune(f"finetune.epochs={epochs:g}", "finetune.warmup_steps=8")
    figures = result(run)
    assert figures["steps"] == max(1, int(epochs))
    assert _largest_b(run) > 0.005
    assert figures["held_out_loss_after"] < figures["held_out_loss_before"] - 0.1


def test_one_step_is_made_at_the_full_rate(short: Machine) -> None:
    run = short.finetune("finetune.epochs=1", "finetune.warmup_steps=8")
    # Adam's first step moves every weight by the rate, whatever the gradient.
    assert _largest_b(run) == pytest.approx(0.01, rel=1e-3)


CUTS: dict[str, tuple[str, dict[str, Any]]] = {
    "warm-up longer than the run": ("finetune.warmup_steps=100", {"warmup_steps": 3}),
    "batch of more than all rows": ("finetune.batch_rows=64", {"batch_rows": 4}),
    "accumulation of more than all rows": ("finetune.accumulation=16", {"accumulation": 1}),
    "accumulation of single rows": (
        "finetune.batch_rows=1 finetune.accumulation=16",
        {"accumulation": 4},
    ),
    "most rows held out": ("finetune.held_out_rows=64", {"held_out_rows": 1}),
    "less than a step": ("finetune.epochs=0.001", {"epochs": 1, "warmup_steps": 0}),
    "half an epoch too much": ("finetune.epochs=1.5", {"epochs": 1, "warmup_steps": 0}),
}
KEPT = ["finetune.epochs=4", "finetune.warmup_steps=2", "finetune.held_out_rows=1"]


@pytest.mark.parametrize("name", CUTS)
def test_what_is_cut_is_said_and_recorded(short: Machine, name: str) -> None:
    asked, used = CUTS[name]
    done = short.setup("finetune", *KEPT, *asked.split())
    assert done.returncode == 0, done.stderr
    (run,) = short.runs()
    adjusted = result(run)["adjusted"]
    assert {field: change["used"] for field, change in adjusted.items()} == used
    recipe = yaml.safe_load((run / "recipe.yaml").read_text())["finetune"]
    (line,) = [line for line in done.stderr.splitlines() if " instead of " in line]
    for field, value in used.items():
        assert recipe[field] == value
        assert f"{field} {value:g} instead of {adjusted[field]['recipe']:g}" in line
    assert "(done)" in short.setup("finetune", *KEPT, *asked.split(), options=("--dry-run",)).stdout


def test_registry_holds_what_was_used(short: Machine) -> None:
    from mlflow import MlflowClient

    short.finetune(*KEPT, "finetune.warmup_steps=100")
    registered = short.setup("register", *KEPT, "finetune.warmup_steps=100")
    assert "is the champion" in registered.stdout, registered.stderr
    client = MlflowClient(f"sqlite:///{short.home.path / 'registry/mlflow.db'}")
    run = client.get_run(str(client.get_model_version("tiny", "1").run_id))
    assert run.data.params["finetune.warmup_steps"] == "3"


def test_nothing_is_said_where_nothing_is_cut(short: Machine) -> None:
    done = short.setup("finetune", *KEPT, "finetune.evaluate_every=1")
    assert " instead of " not in done.stderr
    assert " without effect" not in done.stderr
    (run,) = short.runs()
    assert result(run)["adjusted"] == {}


def test_patience_that_cannot_end_the_run_is_said(short: Machine) -> None:
    done = short.setup("finetune", *KEPT, "finetune.evaluate_every=100")
    assert "patience 3 without effect, as evaluate_every 100 measures 1 time" in done.stderr


def test_accumulation_over_all_rows_is_one_batch_of_them(make_machine: MakeMachine) -> None:
    """Every row counts once in a step: none is repeated to fill up the batches."""
    apart, together = (
        make_machine(facts(8)).finetune(f"finetune.batch_rows={rows}", "finetune.accumulation=50")
        for rows in (1, 64)
    )
    assert difference(apart, together) < 1e-4
    assert result(apart)["epochs"] == result(together)["epochs"] == 4


def test_plan_of_several_processes() -> None:
    settings = Finetune(learning_rate=0.1, max_tokens=64, batch_rows=4, accumulation=8)
    plan = plan_run(settings, [9] * 10, 2, processes=2)
    assert (plan.settings.batch_rows, plan.settings.accumulation, plan.group) == (4, 2, 4)
    assert plan.steps == 1
    assert sorted(row for batch in plan.batches for row in batch) == list(range(10))


@pytest.mark.parametrize("value", ["finetune.learning_rate=1e-50", "finetune.clip=1e-300"])
def test_run_that_changed_nothing_is_refused(short: Machine, value: str) -> None:
    for _ in range(2):  # also when it is found at its last step
        done = short.setup("finetune", *KEPT, value)
        assert done.returncode == 1
        line = done.stderr.splitlines()[-1]
        assert "left the adapter as it was" in line
        assert "raise finetune.learning_rate" in line
        assert "no finished run" in failed(short.setup("register", *KEPT, value))
    assert json.loads(short.setup("models", options=("--json",)).stdout)["versions"] == []


@pytest.mark.parametrize(
    "value",
    [
        "seed=" + "7" * 42,
        "seed=-1",
        "learning_rate=.inf",
        "learning_rate=.nan",
        "alpha=1e300",
        "alpha=.inf",
        "weight_decay=.inf",
        "epochs=1e9",
        "warmup_ratio=1.0",
    ],
)
def test_number_out_of_range_is_refused_by_name(short: Machine, value: str) -> None:
    assert f"finetune.{value.partition('=')[0]}: " in failed(
        short.setup("finetune", f"finetune.{value}")
    )
