"""A registered version written in the form its next reader wants."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from setup.common.console import counting
from setup.common.errors import FixableError
from setup.common.files import fixable_read
from setup.common.paths import without_home
from setup.recipe.local import Recipe
from setup.weights.fetch import prepare_model

if TYPE_CHECKING:
    from setup.local.registry import Version

_MODEL = b"GGUF"  # how such a file begins


def export_version(recipe: Recipe, which: str, form: str, out: Path) -> Version:
    """Write version ``which`` ("champion" or a number) to ``out``; returns it.

    ``form`` is "gguf" (base and adapter merged), "adapter" (a GGUF adapter to load beside the
    base) or "transformers" (a folder with merged safetensors and the tokenizer).

    Raises:
        FixableError: No such version, another base, or no room.
    """
    os.environ.setdefault("TQDM_DISABLE", "1")  # before anything imports it: there is a bar here
    from setup.local.registry import get_version
    from setup.local.tuned_model import refuse_other_base
    from setup.weights.adapter import read_adapter
    from setup.weights.gguf_write import merge_into_gguf, write_adapter_gguf
    from setup.weights.transformers_write import write_merged_safetensors

    version = get_version(recipe.registry.model, which)
    _refuse_folder(form, out)
    base = prepare_model(recipe.model)
    _refuse_overwriting(out, [base, Path(recipe.finetune.base or base)])
    refuse_other_base(recipe, version, base)
    adapter, target = read_adapter(version.adapter), out.expanduser().resolve()
    with counting(f"Writing version {version.number}") as tell:
        if form == "gguf":
            merge_into_gguf(base, adapter, target, tell)
        elif form == "adapter":
            write_adapter_gguf(base, adapter, target)
        else:
            _refuse_other_source(recipe, version)
            source = recipe.finetune.base
            served = base if source else None
            window = recipe.model.context_window
            write_merged_safetensors(source or base, adapter, target, served, window)
    return version


def _refuse_folder(form: str, out: Path) -> None:
    """A folder is replaced only by a folder, and only one that holds a model or nothing."""
    target = out.expanduser().resolve()
    if not target.is_dir():
        return
    is_model = (target / "config.json").is_file() or not any(target.iterdir())
    if form != "transformers" or not is_model or Path.cwd().is_relative_to(target):
        raise FixableError(f"{target} is a folder, which would be replaced", "--out a new name")


def _refuse_overwriting(out: Path, sources: list[Path]) -> None:
    """The base is what every version is made of, and of files only a model is replaced."""
    target = out.expanduser().resolve()
    if not target.exists():
        return
    if any(source.exists() and target.samefile(source) for source in sources):
        raise FixableError(f"{target} is the base model itself", "--out a new name")
    if target.is_file():
        with fixable_read(target), target.open("rb") as file:
            if file.read(len(_MODEL)) not in {_MODEL, b""}:
                what = f"{target} is no model, and would be replaced"
                raise FixableError(what, "--out a new name")


def _refuse_other_source(recipe: Recipe, version: Version) -> None:
    named = recipe.finetune.base or recipe.model.source
    if without_home(version.base_source) != without_home(named):
        raise FixableError(
            f"version {version.number} was trained from {version.base_source}, not {named}",
            f"--set finetune.base={version.base_source}",
        )
