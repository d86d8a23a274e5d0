"""The step ``register``: the finished run, or an adapter from elsewhere, becomes a version."""

from __future__ import annotations

from pathlib import Path

from setup.common.console import progress_bar, say
from setup.common.errors import FixableError
from setup.common.step import Result
from setup.data import prepared_split
from setup.data.plan import data_plan
from setup.finetune.run.foreign import foreign_run
from setup.finetune.run.run_folder import finished, run_folder
from setup.local.control import LocalEndpoint
from setup.weights.base import Base
from setup.weights.fetch import model_sha256, prepare_model


def plan(endpoint: LocalEndpoint) -> list[str]:
    """Return the one thing that ``run`` would do."""
    return [f"the finished run as a version of {endpoint.recipe.registry.model}"]


def run(endpoint: LocalEndpoint) -> Result:
    """Register the run of the recipe, its settings and its data, or find it registered.

    Raises:
        FixableError: It is not finished, or the registry cannot be used.
    """
    recipe = endpoint.recipe
    split = prepared_split(data_plan(recipe), "train", then=f", then {recipe.command('finetune')}")
    path = prepare_model(recipe.model)
    folder, fingerprint = run_folder(recipe, model_sha256(path), split.file)
    if not finished(folder):
        raise FixableError(f"no finished run in {folder}", recipe.command("finetune"))
    detail = f"; trained on {split.source}"
    return _register(endpoint, folder, fingerprint, detail)


def plan_adapter(endpoint: LocalEndpoint, folder: Path) -> list[str]:
    """Return the things that ``run_adapter`` would do, a line each."""
    model = endpoint.recipe.registry.model
    return [f"the held-out loss of the adapter in {folder}", f"a version of {model} with it"]


def run_adapter(endpoint: LocalEndpoint, folder: Path) -> Result:
    """Measure the adapter in ``folder``, which another program trained, and register it.

    What its tool wrote otherwise than peft is put right in a copy, and said.

    Raises:
        FixableError: It is no plain LoRA, does not fit the recipe's model, or there is no data to
            measure it on.
    """
    from setup.weights.foreign_adapter import read_foreign

    recipe = endpoint.recipe
    split = prepared_split(data_plan(recipe), "train", then=", then this again")
    path = prepare_model(recipe.model)
    base = Base(path, model_sha256(path), recipe.finetune.base, recipe.model.source)
    with progress_bar("Reading the adapter"):
        foreign = read_foreign(folder.expanduser())
        notes = [*foreign.notes, *foreign.refuse_other_embeddings(path)]
    for note in notes:
        say(f"note: {note}")
    target, fingerprint = foreign_run(recipe, base, split, foreign)
    made = f" of {foreign.tool}" if foreign.tool else ""
    detail = f"; adapter {foreign.name}{made}"
    return _register(endpoint, target, fingerprint, detail)


def _register(endpoint: LocalEndpoint, folder: Path, fingerprint: str, more: str) -> Result:
    """Make the run in ``folder`` a version, and say ``more`` about it."""
    from setup.local.registry import NOT_COMPARABLE, list_versions, register_finetune

    recipe = endpoint.recipe
    known = {version.fingerprint for version in list_versions(recipe.registry.model)}
    with progress_bar("Registering the run"):
        version = register_finetune(recipe.registry.model, folder)
    champion = "the champion" if version.champion else "not the champion"
    note = version.note.replace("python -m setup promote", recipe.command("promote"))
    detail = f"version {version.number} of {version.model} is {champion} ({note}){more}"
    undecided = not version.champion and version.note.startswith(NOT_COMPARABLE)
    following = recipe.command(f"promote {version.number}" if undecided else "deploy")
    return Result("register", fingerprint not in known, detail, following)
