"""From conversations to a registered version, by the commands a user types."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from setup.common.files import sha256_file
from setup.finetune.examples.dataset import read_split
from setup.local.registry.finished import read_finished
from setup.recipe.load import load_recipe
from setup.weights.base import load_base
from tests.home import failed
from tests.setup.finetune.conftest import MakeMachine
from tests.setup.finetune.machine import Machine, facts, history, result, write_rows
from tests.tiny import transformers_folder


@pytest.fixture(scope="module", params=["llama", "phi3"])
def trained(
    request: pytest.FixtureRequest, make_machine: MakeMachine, tiny: dict[str, Path]
) -> tuple[Machine, Path]:
    """A machine that went from rows of its own to a finished run."""
    machine = make_machine(base=tiny[request.param])
    rows = write_rows(machine.home.path.parent / "rows.jsonl", facts(40))
    machine.sets.append(f"data.source={rows}")
    refused = machine.setup("register")
    assert "python -m setup finetune" in failed(refused)
    assert machine.setup("data").returncode == 0
    return machine, machine.finetune()


def _train_split(machine: Machine) -> Path:
    return machine.home.path.parent / "data/train_data.jsonl"


def test_held_out_loss_falls(trained: tuple[Machine, Path]) -> None:
    _, run = trained
    figures = result(run)
    assert figures["held_out_loss_after"] < 0.5 * figures["held_out_loss_before"]
    assert figures["general_loss_before"] > 1
    assert figures["general_loss_after"] != figures["general_loss_before"]


def test_result_says_what_was_done(trained: tuple[Machine, Path]) -> None:
    machine, run = trained
    figures, rows = result(run), len(_train_split(machine).read_text().splitlines())
    assert read_finished(run).result.fingerprint.startswith(run.name.rpartition("-")[2])
    assert figures["data"]["held_out_rows"] == 4
    assert figures["data"]["train_rows"] == rows - 4
    assert figures["steps"] == -(-(rows - 4) // 4) * 4
    assert figures["epochs"] == 4
    assert 0 < figures["best_step"] <= figures["steps"]
    assert figures["tokens_per_second"] == pytest.approx(
        figures["tokens"] / figures["seconds"], rel=0.01
    )
    assert figures["peak_memory"] > 50 << 20
    assert figures["precision"] == "fp32"
    assert set(figures["versions"]) >= {"torch", "transformers", "peft"}


def test_printed_commands_train_on_what_was_prepared(
    make_machine: MakeMachine, tmp_path: Path
) -> None:
    machine = make_machine()
    source = write_rows(tmp_path / "my rows.jsonl", facts(30))
    machine.sets += [f"data.source={source}", "finetune.epochs=1"]
    prepared, said = machine.setup("data"), []
    for step in ("finetune", "register", "deploy"):
        line = prepared.stderr.splitlines()[-1]
        name, *given = shlex.split(line.removeprefix("next: python -m setup "))
        assert name == step, line
        if step != "deploy":
            prepared = Machine(machine.home, given[1::2]).setup(step)
            said.append(prepared.stdout)
            assert prepared.returncode == 0, prepared.stderr
    (run,) = machine.runs()
    data = result(run)["data"]
    train = _train_split(machine)
    assert (data["source"], data["train_sha256"]) == (str(source), sha256_file(train))
    assert data["source_sha256"] == sha256_file(source)
    assert said[0].startswith(f"finetune: on {source}: ")
    assert f"; trained on {source}\n" in said[1]


def test_curve_ends_where_the_result_says(trained: tuple[Machine, Path]) -> None:
    _, run = trained
    figures, rows = result(run), history(run)
    held_out = {row["step"]: row["held_out_loss"] for row in rows if "held_out_loss" in row}
    losses = [row["loss"] for row in rows if "loss" in row]
    assert held_out[0] == figures["held_out_loss_before"]
    assert min(held_out.values()) == figures["held_out_loss_after"]
    assert held_out[figures["best_step"]] == figures["held_out_loss_after"]
    assert losses[-1] < losses[0]
    assert rows[-1]["step"] == figures["steps"]
    assert rows[-1]["tokens"] == figures["tokens"]
    for name in ("step", "seconds", "tokens", "epoch"):
        assert [row[name] for row in rows] == sorted(row[name] for row in rows)


def test_run_folder_holds_what_is_needed_and_no_checkpoint(trained: tuple[Machine, Path]) -> None:
    machine, run = trained
    names = {path.name for path in run.iterdir()}
    assert names == {"adapter", "tokenizer", "recipe.yaml", "history.jsonl", "result.json"}
    config = json.loads((run / "adapter/adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"]) == (8, 16)
    recipe = yaml.safe_load((run / "recipe.yaml").read_text())
    assert recipe == load_recipe("laptop", machine.arguments("")[2::2]).model_dump(mode="json")
    assert "<|im_start|>" in (run / "tokenizer/chat_template.jinja").read_text()


def test_second_call_finds_it_done(trained: tuple[Machine, Path]) -> None:
    machine, run = trained
    before, start = (run / "result.json").stat().st_mtime_ns, time.monotonic()
    done = machine.setup("finetune", options=("--json",))
    assert time.monotonic() - start < 1
    assert json.loads(done.stdout)["changed"] is False
    assert str(run) in done.stdout
    assert (run / "result.json").stat().st_mtime_ns == before
    assert "(done)" in machine.setup("finetune", options=("--dry-run",)).stdout


def test_held_out_rows_are_not_trained_on(trained: tuple[Machine, Path]) -> None:
    machine, _ = trained
    path = _train_split(machine)
    split = read_split(path, load_recipe("laptop", machine.arguments("")[2::2]).finetune)
    texts = [[json.dumps(row) for row in part] for part in (split.train, split.held_out)]
    assert not set(texts[0]) & set(texts[1])
    assert len(texts[0]) + len(texts[1]) == len(path.read_text().splitlines())


def test_other_values_are_another_run(trained: tuple[Machine, Path]) -> None:
    machine, run = trained
    plans = {
        value: machine.setup("finetune", value, options=("--dry-run",)).stdout
        for value in ("finetune.seed=1", "finetune.rank=4", "finetune.epochs=1")
    }
    folders = {re.search(r"in (\S+)", plan).group(1) for plan in plans.values()}  # type: ignore[union-attr]
    assert len(folders | {str(run)}) == 4
    same = machine.setup("finetune", "finetune.save_every=7", options=("--dry-run",)).stdout
    assert "(done)" in same


def test_version_is_registered_and_exported(trained: tuple[Machine, Path], tmp_path: Path) -> None:
    import torch

    machine, run = trained
    registered = machine.setup("register")
    assert registered.returncode == 0, registered.stderr
    assert "version 1 of tiny is the champion" in registered.stdout
    assert "(unchanged)" in machine.setup("register").stdout
    listed = json.loads(machine.setup("models", options=("--json",)).stdout)
    (version,) = listed["versions"]
    assert (listed["model"], version["number"], version["champion"]) == ("tiny", 1, True)
    assert "is the champion" in machine.setup("promote", options=("1",)).stdout
    for form, out in (("gguf", "t.gguf"), ("adapter", "a.gguf"), ("transformers", "folder")):
        done = machine.setup("export", options=("--form", form, "--out", str(tmp_path / out)))
        assert done.returncode == 0, done.stderr
    merged = [load_base(str(tmp_path / out), torch.float32)[0] for out in ("t.gguf", "folder")]
    for left, right in zip(*(_weights(model) for model in merged), strict=True):
        assert torch.allclose(left, right, atol=2e-3)
    _check_adapter_gguf(tmp_path / "a.gguf", run)


def test_export_replaces_neither_the_base_nor_what_is_no_model(
    trained: tuple[Machine, Path], tiny: dict[str, Path], tmp_path: Path
) -> None:
    machine, _ = trained
    assert machine.setup("register").returncode == 0
    (given,) = [value for value in machine.sets if value.startswith("model.source=")]
    base = Path(shutil.copy(given.partition("=")[2], tmp_path / "base.gguf"))
    folder = shutil.copytree(transformers_folder(tiny["llama"]), tmp_path / "whole")
    rows = write_rows(tmp_path / "mine.jsonl", facts(3))
    (tmp_path / "link.gguf").symlink_to(base)
    before = {path: path.read_bytes() for path in (base, rows, folder / "config.json")}
    sets = [f"model.source={base}", f"finetune.base={folder}"]
    for form, out in (
        ("gguf", base),
        ("adapter", base),
        ("gguf", tmp_path / "link.gguf"),
        ("gguf", rows),
        ("transformers", rows),
        ("transformers", folder),
    ):
        done = machine.setup("export", *sets, options=("--form", form, "--out", str(out)))
        assert "Fix: --out a new name" in failed(done), (form, out)
    assert before == {path: path.read_bytes() for path in before}
    again = ("--out", str(tmp_path / "tuned.gguf"))
    for _ in range(2):
        assert machine.setup("export", sets[0], options=again).returncode == 0


def _weights(model: Any) -> list[Any]:
    return [weights for _, weights in sorted(model.state_dict().items())]


def _check_adapter_gguf(path: Path, run: Path) -> None:
    import gguf

    config = json.loads((run / "adapter/adapter_config.json").read_text())
    reader = gguf.GGUFReader(path)
    assert len(reader.tensors) == 2 * 3 * len(config["target_modules"])
    assert reader.fields["adapter.lora.alpha"].contents() == 16


def test_early_stopping_keeps_the_best_step(make_machine: MakeMachine) -> None:
    machine = make_machine(facts(6))
    run = machine.finetune(
        "finetune.epochs=60",
        "finetune.evaluate_every=5",
        "finetune.patience=1",
        "finetune.learning_rate=0.02",
    )
    figures, rows = result(run), history(run)
    held_out = {row["step"]: row["held_out_loss"] for row in rows if "held_out_loss" in row}
    assert 0 < figures["best_step"] < figures["steps"] < 60
    assert figures["steps"] == figures["best_step"] + 5
    assert held_out[figures["steps"]] > figures["held_out_loss_after"]
    assert figures["held_out_loss_after"] == held_out[figures["best_step"]]
