"""The file of a registered version: its adapter merged into the base that is served."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from setup.common.console import counting, say
from setup.common.errors import FixableError
from setup.common.files import sha256_file
from setup.common.paths import models_folder, without_home
from setup.recipe.local import Quantization, Recipe
from setup.serve.engine_process import short_context, takes_long_factors
from setup.weights.adapter import CONFIG, WEIGHTS
from setup.weights.fetch import build_cached, model_sha256

if TYPE_CHECKING:
    from setup.local.registry import Version


def find_version(recipe: Recipe) -> Version | None:
    """The version that ``endpoint.version`` names; None where there is no champion, or for none.

    Raises:
        FixableError: The registry has none of that number, or its files are gone.
    """
    which, model = recipe.endpoint.version, recipe.registry.model
    if which == "none":
        return None
    from setup.local.registry import get_version, list_versions

    if which == "champion" and not any(version.champion for version in list_versions(model)):
        return None
    return get_version(model, which)


def prepare_version(recipe: Recipe, version: Version, base: Path) -> Path:
    """The path of ``version``'s model file in the models cache, merged once.

    Its name holds a digest of the base and the adapter, so another adapter is another file.

    Raises:
        FixableError: The adapter is damaged or of another base, or the disk is full.
    """
    base_sha256 = refuse_other_base(recipe, version, base)
    what = f"version {version.number} of {recipe.registry.model}"
    digest = hashlib.sha256(f"{base_sha256} {_digest(version, what)}".encode()).hexdigest()
    target = models_folder() / f"{base.stem}-tuned-{digest[:12]}.gguf"
    return build_cached(target, what, lambda draft: merge_version(version, what, base, draft))


def as_served(recipe: Recipe, file: Path) -> Path:
    """``file`` as ``endpoint.quantize`` says: itself, or quantised once in the models cache.

    Raises:
        FixableError: It cannot be quantised here, or the disk is full.
    """
    mixture = recipe.endpoint.quantize
    if mixture == "none":
        return file
    # A user's own file may give way to another of its name.
    digest = "" if file.parent == models_folder() else f"-{model_sha256(file)[:8]}"
    target = models_folder() / f"{file.stem}{digest}-{mixture}.gguf"
    source = f"{file.name} as {mixture}"
    return build_cached(target, source, lambda draft: write_quantised(file, draft, mixture))


def mixture_of(file: Path) -> str:
    """The mixture that a file of ``as_served`` is in, empty for one that was not quantised here."""
    return next((name for name in Quantization if file.stem.endswith(f"-{name}")), "")


def write_quantised(file: Path, target: Path, mixture: Quantization) -> None:
    """Write ``file`` to ``target`` as ``mixture``, and say what its user should know."""
    from setup.weights.quantize import quantize_gguf

    with counting(f"Quantising {file.name} to {mixture}") as tell:
        remarks = quantize_gguf(file, target, mixture, tell)
    for remark in remarks:
        say(f"note: {mixture}: {remark}")


def refuse_other_base(recipe: Recipe, version: Version, base: Path) -> str:
    """The sha256 of ``base``; FixableError if ``version`` was trained on another file."""
    base_sha256 = model_sha256(base)
    if version.base_sha256 != base_sha256:
        raise FixableError(
            f"version {version.number} of {recipe.registry.model} was trained on another base "
            f"(sha256 {version.base_sha256[:12]}) than {base.name} (sha256 {base_sha256[:12]})",
            "set model.source to that base, or --set endpoint.version=NUMBER (or none); "
            "to export another version, --version NUMBER",
        )
    _refuse_other_rope(recipe, version, base)
    return base_sha256


def _refuse_other_rope(recipe: Recipe, version: Version, base: Path) -> None:
    """FixableError if llama.cpp would take other rotary factors than ``version`` was trained with.

    Hardly a file has two sets of them, of which the longest conversation decides.
    """
    from setup.local.registry.versions import trained_window

    window = recipe.model.context_window
    long = takes_long_factors(base, window)
    if not short_context(base) or (trained := trained_window(version)) is None:
        return
    if takes_long_factors(base, trained) != long:
        which = ("long", "short") if long else ("short", "long")
        raise FixableError(
            f"version {version.number} of {recipe.registry.model} was trained for conversations of "
            f"{trained} tokens, with the {which[1]} rotary factors of {base.name}; "
            f"model.context_window={window} takes the {which[0]} ones",
            f"--set model.context_window={trained}, or {recipe.command('finetune')}, which trains "
            "it for the other length",
        )


def _digest(version: Version, what: str) -> str:
    """Of all that decides what is merged: the weights, and by which factor they are scaled."""
    try:
        return " ".join(sha256_file(version.adapter / name) for name in (CONFIG, WEIGHTS))
    except OSError as error:
        raise FixableError(
            f"{what} has no readable adapter: {error.filename}: {error.strerror}",
            "register it again, or --set endpoint.version=NUMBER (or none)",
        ) from None


def merge_version(version: Version, what: str, base: Path, draft: Path) -> None:
    """Write ``version``, called ``what``, merged into ``base`` to ``draft``."""
    from setup.weights.adapter import read_adapter
    from setup.weights.gguf_write import merge_into_gguf

    with counting(f"Merging {what} into {base.name}") as tell:
        merge_into_gguf(base, read_adapter(version.adapter), draft, tell)


def refuse_other_source(recipe: Recipe, version: Version) -> None:
    """FixableError if ``version`` was trained from another model than the recipe names."""
    named = recipe.finetune.base or recipe.model.source
    if without_home(version.base_source) != without_home(named):
        raise FixableError(
            f"version {version.number} was trained from {version.base_source}, not {named}",
            f"--set finetune.base={version.base_source}",
        )
