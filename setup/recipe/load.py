"""A recipe read from its YAML file, of whichever target, with ``--set`` applied."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import yaml
from pydantic import BaseModel, ValidationError

from setup.common.errors import FixableError
from setup.common.paths import REPOSITORY
from setup.recipe.azure import AzureRecipe
from setup.recipe.local import Data, JobRecipe, Recipe

DEFAULT = "laptop"
DEFAULTS = {"local": DEFAULT, "azure": "phi-azure"}
_SOURCES = Data.model_fields["source"].annotation  # text, or a list or mapping in YAML
_TAGS = ("text", "list")  # by which it is told which of both
AnyRecipe = Recipe | AzureRecipe | JobRecipe
_TARGETS: dict[str, type[AnyRecipe]] = {
    "local": Recipe,
    "azure": AzureRecipe,
    "job": JobRecipe,
}


def load_recipe(name: str, overrides: Sequence[str]) -> Recipe:
    """Load the recipe ``name`` of target local; FixableError as for :func:`load_any_recipe`."""
    return cast(Recipe, load_any_recipe(name, overrides, "local"))


def load_azure_recipe(name: str, overrides: Sequence[str]) -> AzureRecipe:
    """Load the recipe ``name`` of target azure; FixableError as for :func:`load_any_recipe`."""
    return cast(AzureRecipe, load_any_recipe(name, overrides, "azure"))


def load_job_recipe(name: str) -> JobRecipe:
    """Load the recipe that a job trains by; FixableError as for :func:`load_any_recipe`."""
    return cast(JobRecipe, load_any_recipe(name, [], "job"))


def load_any_recipe(name: str, overrides: Sequence[str], target: str = "") -> AnyRecipe:
    """Load recipe ``name``, a file in setup/recipes or a path, with ``section.field=value`` set.

    Raises:
        FixableError: No such file, not YAML, a value that is not what was expected, or a recipe of
            another target than ``target``.
    """
    path = find_recipe(name)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError) as error:  # ValueError: not UTF-8, no date, endless digits
        raise FixableError(f"{path} is not YAML: {error}", "correct the file") from None
    if not isinstance(content, dict):
        raise FixableError(f"{path} holds no recipe", "start from setup/recipes/laptop.yaml")
    declared = _declared(content)
    for override in overrides:
        _apply(content, override, declared)
    try:
        loaded = _declared(content).model_validate(content)
    except ValidationError as error:
        raise FixableError(_explain(path, error), "correct the recipe or --set") from None
    sets = [part for override in overrides for part in ("--set", override)]
    loaded.named_by(shlex.join([*([] if name == DEFAULT else ["--recipe", name]), *sets]))
    if target and loaded.target != target:
        raise _of_other_target(loaded, target)
    return loaded


def _of_other_target(recipe: AnyRecipe, target: str) -> FixableError:
    fix = f"--recipe {DEFAULTS.get(target, 'FILE')}, or another recipe of that target"
    if recipe.target == "azure":
        there = recipe.command("teardown", "--dry-run")
        fix += f"; what there is in Azure, and what it costs, shows {there}"
    return FixableError(
        f"recipe {recipe.name} is for target {recipe.target}, this command is for target {target}",
        fix,
    )


def _declared(content: dict[str, Any]) -> type[AnyRecipe]:
    return _TARGETS.get(str(content.get("target")), Recipe)


def find_recipe(name: str) -> Path:
    """The file of recipe ``name``, one of setup/recipes or a path."""
    known = REPOSITORY / "setup" / "recipes" / f"{name}.yaml"
    path = known if known.is_file() else Path(name)
    if path.is_file():
        return path
    names = ", ".join(sorted(file.stem for file in known.parent.glob("*.yaml")))
    raise FixableError(f"no recipe {name!r}", f"name a file or one of: {names}")


def _apply(content: dict[str, Any], override: str, declared: type[BaseModel]) -> None:
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise FixableError(f"--set {override!r} is not section.field=value", "--set data.seed=1")
    section = content
    *path, field = key.strip().split(".")
    for name in path:
        section = section.setdefault(name, {})
        if not isinstance(section, dict):
            raise FixableError(f"--set {key}: {name} is not a section", "python -m setup --help")
    kind = _annotation([*path, field], declared)
    # YAML would read text as a number, a date or nothing; no folder has an empty name.
    is_list = value[:1] + value[-1:] in ("[]", "{}")
    is_text = kind is str or (kind is Path and value) or (kind == _SOURCES and not is_list)
    section[field] = value if is_text else _parse(value)


def _annotation(path: list[str], declared: Any) -> Any:
    """The declared type of a field, None where it is not declared."""
    for name in path:
        fields = getattr(declared, "model_fields", {})
        if name not in fields:
            return None
        declared = fields[name].annotation
    return declared


def _parse(value: str) -> Any:
    try:
        return yaml.safe_load(value)
    except (yaml.YAMLError, ValueError):  # ValueError: a number of thousands of digits, no date
        return value


def _explain(path: Path, error: ValidationError) -> str:
    parts = []
    for problem in error.errors():
        where = ".".join(str(part) for part in problem["loc"] if part not in _TAGS)
        told = problem["type"] in ("missing", "extra_forbidden", "value_error")
        got = "" if told else f", got {problem['input']!r}"
        what = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            what = "unknown field"
        parts.append(f"{where}: {what}{got}" if where else what)
    return f"recipe {path.name}: " + "; ".join(parts)
