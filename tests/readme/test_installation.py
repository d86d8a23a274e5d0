"""The lock holds what is asked for and no CUDA; torch comes in the build the machine needs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.home import ROOT

CPU_BUILDS = "https://download.pytorch.org/whl/cpu"
LOCKS = ["requirements", "requirements-dev"]
PYTHONS = ["3.11", "3.12", "3.13"]


def _named_in(path: Path) -> Iterator[Requirement]:
    for line in path.read_text(encoding="utf-8").splitlines():
        text = line.split(" #")[0].rstrip("\\ ")
        if text and not text.startswith(("#", "-", " ")):
            yield Requirement(text)


def _for_python(path: Path, version: str) -> dict[str, Requirement]:
    """What the file names for that Python on Linux."""
    machine = {
        "python_version": version,
        "python_full_version": f"{version}.9",
        "sys_platform": "linux",
        "platform_machine": "x86_64",
    }
    return {
        canonicalize_name(need.name): need
        for need in _named_in(path)
        if need.marker is None or need.marker.evaluate(machine)
    }


@pytest.mark.parametrize("version", PYTHONS)
@pytest.mark.parametrize("name", LOCKS)
def test_lock_has_what_is_asked_for(name: str, version: str) -> None:
    locked = _for_python(ROOT / f"{name}.txt", version)
    for wanted, need in _for_python(ROOT / f"{name}.in", version).items():
        pin = str(locked[wanted].specifier).removeprefix("==")
        assert need.specifier.contains(pin, prereleases=True), f"run make lock: {need}, is {pin}"


def test_lock_has_the_needs_of_torch_but_neither_torch_nor_cuda() -> None:
    locked = _for_python(ROOT / "requirements.txt", "3.11")
    cuda = re.compile(r"^(torch|triton|nvidia-|cuda-)")
    assert not [name for name in locked if cuda.match(name)]
    needs = [Requirement(text) for text in requires("torch") or []]
    for need in needs:
        if need.marker is None and not cuda.match(need.name):
            pin = str(locked[canonicalize_name(need.name)].specifier).removeprefix("==")
            assert need.specifier.contains(pin), f"pyproject.toml, dependency-metadata: {need}"


@pytest.fixture
def machine(tmp_path: Path) -> dict[str, str]:
    """An environment whose pip only notes what it is told; it finds no CPU builds of torch."""
    package = tmp_path / "packages" / "pip"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    code = f"""
import json, sys
with open({str(tmp_path / "told")!r}, "a") as file:
    file.write(json.dumps(sys.argv[1:]) + "\\n")
sys.exit({CPU_BUILDS!r} in sys.argv)
"""
    (package / "__main__.py").write_text(code, encoding="utf-8")
    (tmp_path / "bin").mkdir()
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in ("TORCH_INDEX", "PIP_FIND_LINKS")
    }
    return kept | {"PYTHONPATH": str(package.parent), "PATH": str(tmp_path / "bin")}


def _indexes(tmp_path: Path, machine: dict[str, str], **env: str) -> list[str]:
    """Where torch was looked for, in turn; "" is the index pip is configured with."""
    command = [sys.executable, "-m", "setup.install_torch"]
    done = subprocess.run(
        command, cwd=ROOT, env=machine | env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = []
    for line in (tmp_path / "told").read_text(encoding="utf-8").splitlines():
        told = json.loads(line)
        assert told[0] == "install"
        assert told[-2:] == ["-r", str(ROOT / "requirements-torch.txt")]
        if "--no-index" in told:
            found.append("none")
        else:
            found.append(told[told.index("--index-url") + 1] if "--index-url" in told else "")
    return found


def test_torch_without_a_gpu(tmp_path: Path, machine: dict[str, str]) -> None:
    """The CPU builds are missed here, so the package index is asked after them."""
    cpu_first = [CPU_BUILDS, ""] if sys.platform == "linux" else [""]
    assert _indexes(tmp_path, machine) == cpu_first


def test_torch_with_a_gpu(tmp_path: Path, machine: dict[str, str]) -> None:
    tool = tmp_path / "bin" / ("nvidia-smi.exe" if sys.platform == "win32" else "nvidia-smi")
    tool.touch(mode=0o755)
    assert _indexes(tmp_path, machine) == [""]


def test_torch_from_the_index_one_names(tmp_path: Path, machine: dict[str, str]) -> None:
    named = {"TORCH_INDEX": "https://example.com/rocm", "PIP_FIND_LINKS": str(tmp_path)}
    assert _indexes(tmp_path, machine, **named) == ["https://example.com/rocm"]


def test_torch_from_a_folder_of_wheels(tmp_path: Path, machine: dict[str, str]) -> None:
    assert _indexes(tmp_path, machine, PIP_FIND_LINKS=str(tmp_path)) == ["none"]
