"""The folder of a run for an adapter from elsewhere: measured here, without a history."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from setup.common import paths
from setup.common.console import say
from setup.common.files import draft_of, sha256_file
from setup.data import PreparedSplit
from setup.finetune.compute import processes
from setup.finetune.run.run_folder import finished
from setup.recipe.local import Training
from setup.weights.base import Base
from setup.weights.foreign_adapter import Foreign

_FORMAT = 1  # raise it when a change of code makes other losses of the same adapter
_CHAT_TEMPLATE, _TOKENIZER = "chat_template.jinja", "tokenizer_config.json"
# The settings that decide on which rows a loss is measured.
_MEASURED_BY = {"held_out_rows", "max_tokens", "seed", "base"}


def foreign_run(
    recipe: Training, base: Base, split: PreparedSplit, foreign: Foreign
) -> tuple[Path, str]:
    """The folder of ``foreign``, measured on ``base`` unless that is done, and its fingerprint.

    Raises:
        FixableError: It does not fit the base, or there is no usable data or no room.
    """
    for remark in _remarks(foreign, base):
        say(f"note: {remark}")
    content = {
        "format": _FORMAT,
        "adapter": [foreign.sha256, foreign.config, foreign.name],
        "finetune": recipe.finetune.model_dump(include=_MEASURED_BY),
        "model": [recipe.model.system_role, recipe.model.context_window],
        "base": base.sha256,
        "train": sha256_file(split.file),
    }
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    folder = paths.finetune_folder(f"{recipe.name}-adapter-{digest[:12]}")
    if not finished(folder):
        _write(_Parts(recipe, base, split, foreign), folder, digest)
    own = _chat_template(foreign.adapter.folder)
    if own and own != _chat_template(folder / "tokenizer"):
        say("note: its chat template is not used: it is served with that of the recipe's model")
    return folder, digest


@dataclass(frozen=True)
class _Parts:
    """All that goes into the folder."""

    recipe: Training
    base: Base
    split: PreparedSplit
    foreign: Foreign


def _write(parts: _Parts, target: Path, fingerprint: str) -> None:
    processes.prepare()
    from setup.finetune.run.measure import measure_adapter

    recipe, base, foreign = parts.recipe, parts.base, parts.foreign
    with draft_of(target) as draft:
        (draft / "adapter").mkdir(parents=True)
        foreign.save(draft / "adapter", paths.portable_name(base.source or base.named))
        losses = measure_adapter(recipe, base, parts.split, foreign.adapter, draft / "tokenizer")
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


def _remarks(foreign: Foreign, base: Base) -> Iterator[str]:
    """The things that nobody can know about an adapter, for its user to judge."""
    yield "it may have been trained on the rows that its loss is measured on: that is not known"
    source, trained_on = base.source or base.named, foreign.trained_on
    if trained_on != source:
        known = "the shapes fit; whether the weights are the same cannot be told"
        yield f"trained on {trained_on or 'a model it does not name'}, here on {source}: {known}"


def _chat_template(folder: Path) -> str:
    """The chat template in a tokenizer's folder, in a file of its own or not; empty for none."""
    try:
        text = (folder / _CHAT_TEMPLATE).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        text = str((paths.read_json(folder / _TOKENIZER) or {}).get("chat_template") or "")
    return text.strip()
