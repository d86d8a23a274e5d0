"""The step ``register``: the finished run, or an adapter from elsewhere, becomes a version."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from setup.common import paths
from setup.common.console import progress_bar, say
from setup.common.errors import FixableError
from setup.common.files import draft_of, sha256_file
from setup.common.step import Result
from setup.data import prepared_split
from setup.data.plan import data_plan
from setup.finetune.run.run import finished, prepare_process, run_folder
from setup.local.control import LocalEndpoint
from setup.weights.base import Base
from setup.weights.fetch import model_sha256, prepare_model

if TYPE_CHECKING:
    from setup.data import PreparedSplit
    from setup.weights.foreign_adapter import Foreign

_FORMAT = 1  # raise it when a change of code makes other losses of the same adapter
_CHAT_TEMPLATE, _TOKENIZER = "chat_template.jinja", "tokenizer_config.json"
# The fields of a recipe that decide on which rows a loss is measured, and how they are rendered.
_MEASURED_BY = {"held_out_rows", "max_tokens", "seed", "base"}


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
    from setup.weights.gguf_file import open_header

    recipe = endpoint.recipe
    split = prepared_split(data_plan(recipe), "train", then=", then this again")
    with progress_bar("Reading the adapter"):
        foreign = read_foreign(folder.expanduser())
        path = prepare_model(recipe.model)
        base = Base(path, model_sha256(path), recipe.finetune.base, recipe.model.source)
        notes = [*foreign.notes, *foreign.refuse_other_embeddings(open_header(path))]
    for note in [*notes, *_remarks(foreign, base)]:
        say(f"note: {note}")
    target, fingerprint = _folder_of(endpoint, foreign, base, split.file)
    if not finished(target):
        _measure(endpoint, foreign, base, split, target, fingerprint)
    template = _chat_template(folder)
    if template and template != _chat_template(target / "tokenizer"):
        say("note: its chat template is not used: it is served with that of the recipe's model")
    made = f" of {foreign.tool}" if foreign.tool else ""
    detail = f"; adapter {foreign.name}{made}"
    return _register(endpoint, target, fingerprint, detail)


def _remarks(foreign: Foreign, base: Base) -> list[str]:
    """The things that nobody can know about an adapter, for its user to judge."""
    source = base.source or base.named
    trained_on = foreign.trained_on or "a model it does not name"
    lines = ["it may have been trained on the rows that its loss is measured on: that is not known"]
    if trained_on != source:
        known = "the shapes fit; whether the weights are the same cannot be told"
        lines.append(f"trained on {trained_on}, registered on {source}: {known}")
    return lines


def _chat_template(folder: Path) -> str:
    """The chat template in a tokenizer's folder, in a file of its own or not; empty for none."""
    try:
        text = (folder / _CHAT_TEMPLATE).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        text = str((paths.read_json(folder / _TOKENIZER) or {}).get("chat_template") or "")
    return text.strip()


def _folder_of(
    endpoint: LocalEndpoint, foreign: Foreign, base: Base, train: Path
) -> tuple[Path, str]:
    """The folder of the measured adapter, beside those of runs, and its fingerprint."""
    recipe = endpoint.recipe
    content = {
        "format": _FORMAT,
        "adapter": [foreign.sha256, foreign.config, foreign.name],
        "finetune": recipe.finetune.model_dump(include=_MEASURED_BY),
        "model": [recipe.model.system_role, recipe.model.context_window],
        "base": base.sha256,
        "train": sha256_file(train),
    }
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return paths.finetune_folder(f"{recipe.name}-adapter-{digest[:12]}"), digest


def _measure(  # noqa: PLR0913, PLR0917 - all that goes into the folder
    endpoint: LocalEndpoint,
    foreign: Foreign,
    base: Base,
    split: PreparedSplit,
    target: Path,
    fingerprint: str,
) -> None:
    """Write the folder of a finished run for the adapter: with its losses, without a history."""
    prepare_process()
    from setup.finetune.run.measure import measure_adapter

    recipe = endpoint.recipe
    with draft_of(target) as draft:
        (draft / "adapter").mkdir(parents=True)
        foreign.save(draft / "adapter", paths.portable_name(base.source or base.named))
        losses = measure_adapter(recipe, base, split, foreign.adapter, draft / "tokenizer")
        origin = {
            "name": foreign.name,
            "tool": foreign.tool,
            "sha256": foreign.sha256,
            "trained_on": foreign.trained_on,
        }
        result = {"fingerprint": fingerprint, **losses, "origin": origin}
        text = yaml.safe_dump(paths.without_home(recipe.model_dump(mode="json")), sort_keys=False)
        (draft / "recipe.yaml").write_text(text, encoding="utf-8", newline="\n")
        text = json.dumps(paths.without_home(result), indent=2) + "\n"
        (draft / "result.json").write_text(text, encoding="utf-8", newline="\n")


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
