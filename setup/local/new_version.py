"""The step ``register``: the finished run becomes a version of the model."""

from __future__ import annotations

from setup.common.console import progress_bar
from setup.common.errors import FixableError
from setup.common.step import Result
from setup.data import prepared_split
from setup.data.plan import data_plan
from setup.finetune.run.run import finished, run_folder
from setup.local.control import LocalEndpoint
from setup.weights.fetch import model_sha256, prepare_model


def plan(endpoint: LocalEndpoint) -> list[str]:
    """Return the one thing that ``run`` would do."""
    return [f"the finished run as a version of {endpoint.recipe.registry.model}"]


def run(endpoint: LocalEndpoint) -> Result:
    """Register the run of the recipe, its settings and its data, or find it registered.

    Raises:
        FixableError: It is not finished, or the registry cannot be used.
    """
    from setup.local.registry import NOT_COMPARABLE, list_versions, register_finetune

    recipe = endpoint.recipe
    split = prepared_split(data_plan(recipe), "train", then=f", then {recipe.command('finetune')}")
    path = prepare_model(recipe.model)
    folder, fingerprint = run_folder(recipe, model_sha256(path), split.file)
    if not finished(folder):
        raise FixableError(f"no finished run in {folder}", recipe.command("finetune"))
    known = {version.fingerprint for version in list_versions(recipe.registry.model)}
    with progress_bar("Registering the run"):
        version = register_finetune(recipe.registry.model, folder)
    champion = "the champion" if version.champion else "not the champion"
    note = version.note.replace("python -m setup promote", recipe.command("promote"))
    detail = f"version {version.number} of {version.model} is {champion} ({note})"
    detail += f"; trained on {split.source}"
    undecided = not version.champion and version.note.startswith(NOT_COMPARABLE)
    following = recipe.command(f"promote {version.number}" if undecided else "deploy")
    return Result("register", fingerprint not in known, detail, following)
