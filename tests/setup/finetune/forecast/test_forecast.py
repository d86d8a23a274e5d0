"""A run's forecast: as it is told, against the truth, and against figures that were measured."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path

import pytest

from setup.finetune.examples.dataset import read_split
from setup.finetune.forecast.duration import flop_speeds, seconds
from setup.finetune.forecast.memory import Machine, peak_bytes
from setup.finetune.forecast.outline import Outline
from setup.finetune.forecast.shape import PHI_4_MINI, Shape
from setup.finetune.forecast.time_left import TimeLeft
from setup.recipe.load import load_recipe
from tests.home import ROOT
from tests.setup.finetune.machine import Machine as Home
from tests.setup.finetune.machine import result

SAMPLE = ROOT / "data/sample/train.jsonl"
_A100 = 312e12  # operations a second, by its data sheet
SMOLLM2 = Shape(
    layers=30,
    width=576,
    inner=1536,
    vocabulary=49_152,
    weights=134_515_008,
    products=(*[(576, 576)] * 2, *[(576, 192)] * 2, *[(576, 1536)] * 2, (1536, 576)),
)


def _outline(recipe: str, shape: Shape, machine: Machine, *sets: str) -> Outline:
    settings = load_recipe(recipe, list(sets)).finetune
    return Outline(read_split(SAMPLE, settings), settings, shape, machine)


@pytest.mark.parametrize("name", ["phi-gpu", "phi-multi-gpu"])
def test_recipes_say_what_is_computed(name: str) -> None:
    text = (ROOT / f"setup/recipes/{name}.yaml").read_text(encoding="utf-8")
    outline = _outline(name, PHI_4_MINI, Machine(2, on_gpu=True))
    work, settings = outline.work, outline.settings
    longest = settings.batch_rows * settings.max_tokens
    full = replace(work, batches=[(longest, longest)])
    figures = re.search(r"GPUs? +(\d+) GB.* for the sample, (\d+) GB for conversations", text)
    assert figures
    memory = [
        outline.memory(),
        peak_bytes(PHI_4_MINI, outline.plan.settings, full, outline.machine),
    ]
    assert list(map(int, figures.groups())) == [math.ceil(part / 1e9) for part in memory]
    loading = re.search(r"memory +(\d+) GB", text)
    assert loading
    assert int(loading[1]) == math.ceil(2 * 2 * PHI_4_MINI.weights / 1e9)
    if minutes := re.search(r"time +(\d+) minutes on an A100", text):
        speeds = flop_speeds(PHI_4_MINI, outline.plan.settings, work, _A100, 2)
        assert int(minutes[1]) == math.ceil(seconds(work, speeds) / 60)


# The most that processes held on two cores: a whole run in bf16, the longest steps in fp32.
@pytest.mark.parametrize(
    ("megabytes", "size", "layers"), [(2640, 2, 10), (2847, 4, 0)], ids=["bf16", "fp32"]
)
def test_memory_is_that_of_measured_runs(megabytes: int, size: int, layers: int) -> None:
    sets = [f"finetune.layers={layers}", "finetune.epochs=1.75", "finetune.batch_rows=4"]
    outline = _outline("laptop", SMOLLM2, Machine(size), *sets)
    assert outline.memory() / 1e6 == pytest.approx(megabytes, rel=0.2)


def test_memory_follows_the_settings() -> None:
    def memory(*sets: str, size: int = 4) -> int:
        return _outline("laptop", SMOLLM2, Machine(size), "finetune.layers=10", *sets).memory()

    assert memory("finetune.layers=0") > memory() > memory("finetune.checkpointing=true")
    assert memory("finetune.batch_rows=8") > memory()


def test_memory_that_lacks_has_a_fix_that_fits() -> None:
    outline = _outline("laptop", SMOLLM2, Machine(4), "finetune.layers=0", "finetune.batch_rows=16")
    assert outline.advice(outline.memory()) == ""
    told = outline.advice(2_000_000_000)
    assert "are predicted, 2.0 GB are free" in told
    sets = [part for part in told.split() if part.startswith("finetune.")]
    smaller = _outline(
        "laptop", SMOLLM2, Machine(4), "finetune.layers=0", "finetune.batch_rows=16", *sets
    )
    assert sets
    assert smaller.memory() <= 2_000_000_000
    assert "smaller model" in outline.advice(1_000_000)


def test_time_left_is_right_within_a_fifth_after_a_minute() -> None:
    outline = _outline("laptop", SMOLLM2, Machine(4))
    tokens, every, save = outline.work.steps, 100, 25
    took = [
        0.1 + 0.0025 * count + 0.4 * (number % save == 0) for number, count in enumerate(tokens)
    ]
    took[:20] = [2 * part for part in took[:20]]  # whatever a process does for the first time
    evaluation, now = 9.0, 0.0
    end = sum(took) + evaluation * math.ceil(len(tokens) / every)
    left = TimeLeft(tokens, every)
    assert left.after(0) is None
    left.evaluated(evaluation)
    checked = 0
    for step, part in enumerate(took, 1):
        left.stepped(step, part)
        now += part
        if step % every == 0 or step == len(tokens):
            left.evaluated(evaluation)
            now += evaluation
        if now >= 60:
            checked += 1
            assert left.after(step) == pytest.approx(end - now, rel=0.2, abs=1)
    assert checked > 100


def test_forecast_is_told_before_and_beside_the_truth(machine: Home) -> None:
    done = machine.setup("finetune")
    assert done.returncode == 0, done.stderr
    before = re.search(r"fine-tuning: predicted (.+) \(two timed steps\)", done.stderr)
    after = re.search(r"fine-tuning: predicted (.+); took (.+)", done.stderr)
    assert before
    assert after
    assert before[1] == after[1]
    (run,) = machine.runs()
    figures = result(run)
    assert figures["total_seconds"] >= figures["seconds"]
    assert figures["predicted_seconds"] > 0
    assert figures["predicted_memory"] > 100 << 20


def test_dry_run_times_steps_and_leaves_nothing(machine: Home) -> None:
    def files() -> set[Path]:
        folders = machine.home.path / "finetunes", machine.home.models
        return {path for folder in folders for path in folder.rglob("*") if path.is_file()}

    before = files()
    done = machine.setup("finetune", "finetune.seed=5", options=("--dry-run",))
    assert done.returncode == 0, done.stderr
    assert re.search(r"^predicted: .+ GB \(two timed steps\), on .+", done.stdout, re.MULTILINE)
    assert files() == before
