"""The documents name only what exists: files, targets, commands, recipe fields."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.main import get_command

from setup.cli.main import app
from setup.common.errors import FixableError
from setup.recipe.load import DEFAULTS, load_any_recipe
from tests.home import ROOT

DOCUMENTS = [
    *ROOT.glob("*.md"),
    *(ROOT / "docs").glob("*.md"),
    *(path for room in ("flows", "connections", "data") for path in (ROOT / room).rglob("*.md")),
    ROOT / "benchmarks" / "README.md",
    *(ROOT / "setup" / "recipes").glob("*.yaml"),
]
_RECIPES = (*DEFAULTS.values(), "gguf-azure")
each_document = pytest.mark.parametrize(
    "path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix()
)


@each_document
def test_links_lead_somewhere(path: Path) -> None:
    links = re.findall(r"\]\(([^)#]+?)\)", path.read_text(encoding="utf-8"))
    broken = [link for link in links if "://" not in link and not (path.parent / link).exists()]
    assert not broken


@each_document
def test_commands_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    assert set(re.findall(r"^make ([a-z]+)", text, re.MULTILINE)) <= targets
    steps = set(getattr(get_command(app), "commands", {}))
    assert set(re.findall(r"python -m setup ([a-z]+(?:-[a-z]+)*)", text)) <= steps


def test_targets_stand_as_plain_commands_where_the_makefile_says_so() -> None:
    first, *rest = (ROOT / "Makefile").read_text(encoding="utf-8").splitlines()
    (line,) = [line for line in rest if line.startswith(".PHONY: help ")]
    without = set(first.rstrip(".").rpartition(" but of ")[2].split())
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    table = re.findall(r"^\| `make ([a-z]+)` \|", readme, re.MULTILINE)
    assert set(table) == set(line.split()[2:]) - without
    assert not [line for line in rest if re.search(r"##.*,,", line)]


@each_document
def test_overrides_are_recipe_fields(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    sections = "data|model|finetune|registry|endpoint|azure"
    for line in text.splitlines():
        overrides = re.findall(rf"--set ((?:{sections})[.\w]+=[^\s`|]+)", line)
        together = any(_takes(recipe, *overrides) for recipe in _RECIPES)
        for override in () if together else overrides:
            assert any(_takes(recipe, override) for recipe in _RECIPES), override


def _takes(recipe: str, *overrides: str) -> bool:
    """Whether a recipe has such fields, for such values."""
    try:
        load_any_recipe(recipe, list(overrides))
    except FixableError:
        return False
    return True
