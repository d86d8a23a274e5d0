"""A registered adapter on its way out: quantised, with its losses, refused where it is spoilt."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import pytest

from setup.local.export import Limit
from tests.setup.finetune.conftest import MakeMachine
from tests.setup.finetune.machine import Done, Machine
from tests.setup.weights.adapters.conftest import MakeForeign


@pytest.fixture(scope="module")
def machine(make_machine: MakeMachine) -> Machine:
    """A machine of its own: its one version is a random adapter, which nobody would promote."""
    return make_machine()


@pytest.fixture
def registered(machine: Machine, foreign: MakeForeign) -> Machine:
    """The machine with the version."""
    done = machine.setup("register", options=("--adapter", str(foreign().folder)))
    assert done.returncode == 0, done.stderr
    return machine


def _export(machine: Machine, out: Path, *options: str) -> Done:
    return machine.setup("export", options=("--version", "1", "--out", str(out), *options))


def test_losses_are_printed(registered: Machine, tmp_path: Path) -> None:
    out = tmp_path / "tuned.gguf"
    done = _export(registered, out, "--quantize", "Q8_0", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    losses = result["held_out_loss"]
    assert 0 < abs(losses["after"] - losses["before"]) < 0.2
    listed = json.loads(registered.setup("models", options=("--json",)).stdout)["versions"][0]
    assert losses["before"] == pytest.approx(listed["held_out_after"], abs=0.005)
    assert {t.tensor_type.name for t in gguf.GGUFReader(out).tensors} == {"F32", "Q8_0"}
    assert "FROM ./tuned.gguf" in (tmp_path / "tuned.Modelfile").read_text(encoding="utf-8")
    told = _export(registered, out, "--quantize", "Q8_0", "--max-loss", "+9")
    assert "version 1 of tiny as gguf, Q8_0, in" in told.stdout
    assert f"held-out loss {losses['before']:.3f} -> " in told.stdout
    assert "measured by llama.cpp on" in told.stdout
    assert "next: ollama create tiny -f " in told.stderr


def test_spoilt_file_is_refused(registered: Machine, tmp_path: Path) -> None:
    """A hair under the loss that it has; a hair above it is written."""
    out = tmp_path / "out/tuned.gguf"
    first = _export(registered, tmp_path / "first.gguf", "--quantize", "Q4_K_M", "--json")
    after = json.loads(first.stdout)["held_out_loss"]["after"]
    out.parent.mkdir()
    out.write_bytes(b"GGUF of before")
    options = ("--quantize", "Q4_K_M", "--max-loss")
    done = _export(registered, out, *options, f"{after - 0.01:.4f}")
    assert done.returncode == 3, done.stderr
    assert "Q4_K_M spoils version 1 of tiny" in done.stderr
    assert "nothing was written" in done.stderr
    assert list(out.parent.iterdir()) == [out]
    assert out.read_bytes() == b"GGUF of before"
    assert _export(registered, out, *options, f"{after + 0.01:.4f}").returncode == 0
    assert out.read_bytes() == (tmp_path / "first.gguf").read_bytes()


def test_limit_is_a_loss_or_a_rise() -> None:
    assert Limit(1.5, is_rise=False).highest(before=9.0) == 1.5
    assert Limit(0.5, is_rise=True).highest(before=9.0) == 9.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--quantize", "Q8_0", "--form", "adapter"), "--quantize is for --form gguf"),
        (("--max-loss", "1"), "--max-loss is for a file that is quantised"),
        (("--quantize", "Q8_0", "--max-loss", "small"), "'small' is no loss"),
        (("--quantize", "Q8_0", "--max-loss", "-1"), "'-1' is no loss"),
        (("--quantize", "Q8_0", "--max-loss", "nan"), "'nan' is no loss"),
    ],
)
def test_options(
    registered: Machine, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    done = _export(registered, tmp_path / "out/tuned.gguf", *options)
    assert done.returncode == 1
    assert message in done.stderr
    assert not (tmp_path / "out").exists()


def test_without_data(registered: Machine, tmp_path: Path) -> None:
    """The file is made, its loss is not known, and a limit cannot be kept."""
    out, nowhere = tmp_path / "out/tuned.gguf", f"data.out={tmp_path / 'nowhere'}"
    options = ("--version", "1", "--out", str(out), "--quantize", "Q8_0")
    done = registered.setup("export", nowhere, options=options)
    assert done.returncode == 0, done.stderr
    assert "note: the held-out loss is not measured: " in done.stderr
    assert "held-out loss" not in done.stdout
    out.unlink()
    done = registered.setup("export", nowhere, options=(*options, "--max-loss", "9"))
    assert done.returncode == 1
    assert "python -m setup data" in done.stderr
    assert not out.exists()


def test_other_peoples_modelfile(registered: Machine, tmp_path: Path) -> None:
    (tmp_path / "tuned.Modelfile").write_text("FROM llama3\n", encoding="utf-8")
    done = _export(registered, tmp_path / "tuned.gguf")
    assert done.returncode == 1
    assert "is not of an export, and would be replaced" in done.stderr
    assert not (tmp_path / "tuned.gguf").exists()
