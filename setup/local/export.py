"""A registered version written in the form its next reader wants."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from setup.common.console import counting, say
from setup.common.errors import FixableError
from setup.common.files import draft_of, fixable_read
from setup.recipe.local import Quantization, Recipe
from setup.weights.fetch import prepare_model

if TYPE_CHECKING:
    from setup.local.registry import Version

_MODEL = b"GGUF"  # how such a file begins


class SpoiltError(FixableError):
    """The refusal of a file whose held-out loss is above the limit; nothing is left of it."""


@dataclass(frozen=True)
class Limit:
    """The highest held-out loss a file may have: ``value``, or by so much more than before."""

    value: float
    is_rise: bool

    def highest(self, before: float) -> float:
        """The loss above which a file is refused that had the loss ``before``."""
        return before + self.value if self.is_rise else self.value


@dataclass(frozen=True)
class Order:
    """The version to write, in which form, and where to: the options of the command."""

    version: str
    form: str
    out: Path
    quantize: Quantization | None = None
    limit: Limit | None = None

    @property
    def target(self) -> Path:
        """The file or folder to write."""
        return self.out.expanduser().resolve()


@dataclass(frozen=True)
class Exported:
    """The version that was written, and the losses of its file where they were measured."""

    version: Version
    modelfile: Path | None = None
    losses: tuple[float, float] | None = None
    measured: str = ""


def export_version(recipe: Recipe, order: Order) -> Exported:
    """Write a registered version as ``order`` says.

    Its form is "gguf" (base and adapter merged, with a Modelfile for Ollama beside it), "adapter"
    (a GGUF adapter to load beside the base) or "transformers" (a folder with merged safetensors and
    the tokenizer).

    Raises:
        SpoiltError: The quantised file has a higher loss than the order allows.
        FixableError: No such version, another base, or no room.
    """
    os.environ.setdefault("TQDM_DISABLE", "1")  # before anything imports it: there is a bar here
    from setup.local.registry import get_version
    from setup.local.tuned_model import refuse_other_base, refuse_other_source
    from setup.weights.adapter import read_adapter

    version = get_version(recipe.registry.model, order.version)
    _refuse_folder(order.form, order.out)
    base = prepare_model(recipe.model)
    _refuse_overwriting(order.out, [base, Path(recipe.finetune.base or base)])
    refuse_other_base(recipe, version, base)
    if order.form == "gguf":
        return _export_gguf(recipe, order, version, base)
    from setup.weights.gguf_write import write_adapter_gguf
    from setup.weights.transformers_write import write_merged_safetensors

    adapter = read_adapter(version.adapter)
    with counting(f"Writing version {version.number}"):
        if order.form == "adapter":
            write_adapter_gguf(base, adapter, order.target)
        else:
            refuse_other_source(recipe, version)
            source = recipe.finetune.base
            served = base if source else None
            window = recipe.model.context_window
            write_merged_safetensors(source or base, adapter, order.target, served, window)
    return Exported(version)


def _export_gguf(recipe: Recipe, order: Order, version: Version, base: Path) -> Exported:
    from setup.local.modelfile import modelfile_of, refuse_other_modelfile, write_modelfile

    target = order.target
    refuse_other_modelfile(target)
    if order.quantize:
        losses, measured = _quantise(recipe, order, version, base)
    else:
        from setup.local.tuned_model import merge_version

        losses, measured = None, ""
        merge_version(version, f"version {version.number}", base, target)
    model = recipe.model
    folds = model.system_role == "fold"
    if remark := write_modelfile(target, version.tokenizer, folds, model.context_window):
        say(f"note: {remark}")
    modelfile = modelfile_of(target)
    return Exported(version, modelfile if modelfile.is_file() else None, losses, measured)


def _quantise(
    recipe: Recipe, order: Order, version: Version, base: Path
) -> tuple[tuple[float, float] | None, str]:
    """Write the quantised file if its loss allows it; the losses before and after, and of what."""
    from setup.local.engine_loss import engine_loss, sample_of
    from setup.local.tuned_model import prepare_version, write_quantised

    if order.quantize is None:
        raise ValueError("no mixture to quantise to")
    sample = sample_of(recipe, version, needed=order.limit is not None)
    whole = prepare_version(recipe, version, base)
    with draft_of(order.target) as draft:
        write_quantised(whole, draft, order.quantize)
        if sample is None:
            return None, ""
        before = engine_loss(whole, sample, "the file in half precision")
        after = engine_loss(draft, sample, f"the file in {order.quantize}")
        if order.limit and not after <= order.limit.highest(before):
            raise SpoiltError(
                f"{order.quantize} spoils version {version.number} of {version.model}: held-out "
                f"loss {before:.3f} -> {after:.3f}, above {order.limit.highest(before):.3f} "
                f"(measured by llama.cpp on {sample}); nothing was written",
                "a higher --max-loss, a --quantize of more bits, or none",
            )
    return (before, after), f"measured by llama.cpp on {sample}"


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
