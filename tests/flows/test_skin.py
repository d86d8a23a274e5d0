"""Who may import promptflow: the thin `@tool` files of flows, and the few files that run it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from evaluation.skin import ALLOWED, SKINS, importing_files
from tests.flows.chat.conftest import ROOT

LINES_OF_A_SKIN, LINES_OF_ALL_SKINS = 40, 350
FOLDERS = sorted(path.parent for path in ROOT.glob("flows/*/flow.dag.yaml"))


def test_promptflow_is_imported_by_the_files_named_there_and_no_others() -> None:
    assert importing_files() == ALLOWED


def test_skins_are_thin() -> None:
    lines = {name: len((ROOT / name).read_text(encoding="utf-8").splitlines()) for name in SKINS}
    assert {name: n for name, n in lines.items() if n > LINES_OF_A_SKIN} == {}
    assert sum(lines.values()) <= LINES_OF_ALL_SKINS


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.name))
def test_a_flow_is_its_skin_and_one_package(folder: Path) -> None:
    modules = {path.relative_to(ROOT).as_posix() for path in folder.glob("*.py")}
    assert modules == {name for name in SKINS if name.startswith(f"flows/{folder.name}/")}
    [package] = folder.glob("*/__init__.py")
    assert package.parent.name not in sys.stdlib_module_names


def test_flows_share_no_name_of_a_module() -> None:
    """promptflow puts the folders of all flows that it runs in one process on its path."""
    paths = [path for folder in FOLDERS for path in (*folder.glob("*.py"), *folder.glob("*/"))]
    names = [path.stem for path in paths if not path.name.startswith((".", "__"))]
    assert sorted(names) == sorted(set(names))
