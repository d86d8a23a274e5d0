"""Commands that only target local has: its endpoint's stop, and the versions of a model."""

from __future__ import annotations

import math
import shlex
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from setup.cli import inspect_data, options
from setup.common import console
from setup.common.errors import FixableError
from setup.common.step import Result, Step
from setup.local.control import LocalEndpoint
from setup.recipe.load import DEFAULT, AnyRecipe, load_recipe
from setup.recipe.local import Quantization
from setup.serve.access.keys import KeyType

if TYPE_CHECKING:
    from setup.local.export import Limit

app = typer.Typer()
app.add_typer(inspect_data.app)


def _endpoint(recipe: str, sets: list[str] | None) -> LocalEndpoint:
    return LocalEndpoint(load_recipe(recipe, sets or []))


@app.command(epilog="Example: python -m setup stop")
def stop(
    recipe: options.RecipeName = DEFAULT, sets: options.Sets = None, as_json: options.AsJson = False
) -> None:
    """Stop the endpoint after the requests it has accepted."""
    endpoint = _endpoint(recipe, sets)
    stopped = endpoint.stop(endpoint.patience)
    detail = f"endpoint {endpoint.name} {'stopped' if stopped else 'was not running'}"
    result = Result("stop", stopped, detail, endpoint.recipe.command("deploy"))
    options.show(result.as_dict(), result.line(), as_json)


@app.command(epilog="Example: python -m setup regenerate-keys")
def regenerate_keys(
    key_type: Annotated[
        KeyType | None,
        typer.Option(help="Replace this one at once; what it was is refused from then on."),
    ] = None,
    recipe: options.RecipeName = DEFAULT,
    sets: options.Sets = None,
    as_json: options.AsJson = False,
) -> None:
    """Make a new primary key without a restart; the one before stays valid as the secondary key.

    What runs with the key of before goes on; after `connect`, flows send the new one.
    """
    endpoint = _endpoint(recipe, sets)
    endpoint.renew_key(key_type)
    detail = f"endpoint {endpoint.name} has a new {key_type or KeyType.primary} key"
    kept = "what the primary key was is the secondary key now, and still taken"
    detail += "; what it was is refused" if key_type else f"; {kept}"
    result = Result("regenerate-keys", True, detail, endpoint.recipe.command("connect"))
    options.show(result.as_dict(), result.line(), as_json)
    options.say_next(result.next, as_json)


def adapter_step(step: Step[Any], recipe: AnyRecipe, adapter: Path) -> Step[Any]:
    """The step ``register`` for an adapter from elsewhere in place of the recipe's run."""
    if recipe.target != "local":
        raise FixableError(
            f"--adapter is for target local, and {recipe.name} is of target {recipe.target}",
            f"register it locally, with --recipe {DEFAULT} or one of yours",
        )
    from setup.local import new_version

    return replace(
        step,
        plan=lambda endpoint: new_version.plan_adapter(endpoint, adapter),
        run=lambda endpoint: new_version.run_adapter(endpoint, adapter),
    )


class Form(StrEnum):
    """In which form a version is exported."""

    gguf = "gguf"
    adapter = "adapter"
    transformers = "transformers"


@app.command(epilog="Example: python -m setup models --json")
def models(
    recipe: options.RecipeName = DEFAULT, sets: options.Sets = None, as_json: options.AsJson = False
) -> None:
    """List the registered versions of the recipe's model."""
    from setup.local.registry import list_versions

    loaded = load_recipe(recipe, sets or [])
    model = loaded.registry.model
    with loaded.naming():
        versions = list_versions(model)
    if as_json:
        options.show(
            {"model": model, "versions": [version.as_dict() for version in versions]}, "", True
        )
        return
    if not versions:
        console.out.print(f"no version of {model} yet; next: {loaded.command('finetune')}")
        return
    table = Table("version", "created", "held-out loss", "general loss", "rows", "epochs", "")
    for version in versions:
        trained = not version.origin  # of an adapter from elsewhere that is not known
        table.add_row(
            str(version.number),
            f"{version.created:%Y-%m-%d %H:%M}",
            f"{version.held_out_before:.3f} -> {version.held_out_after:.3f}",
            f"{version.general_before:.3f} -> {version.general_after:.3f}",
            str(version.train_rows) if trained else "?",
            f"{version.epochs:g}" if trained else "?",
            "champion" if version.champion else "",
        )
    console.out.print(table)
    for version in versions:
        if version.origin:
            console.out.print(f"version {version.number}: {version.origin}", markup=False)


@app.command(epilog="Example: python -m setup promote 3")
def promote(
    number: Annotated[int, typer.Argument(min=1, help="A version that `models` lists.")],
    recipe: options.RecipeName = DEFAULT,
    sets: options.Sets = None,
) -> None:
    """Make a version the champion, whatever its held-out loss."""
    from setup.local import registry

    loaded = load_recipe(recipe, sets or [])
    with loaded.naming():
        version = registry.promote(loaded.registry.model, number)
    console.out.print(f"promote: version {version.number} of {version.model} is the champion")
    options.say_next(loaded.command("deploy"), as_json=False)


_QUANTIZE = "Q8_0, Q5_K_M or Q4_K_M, as llama.cpp names them: a half to a quarter of the size."
_MAX_LOSS = (
    "With --quantize: the highest held-out loss the file may have, or with a plus (+0.02) how much "
    "higher than before; above it exit 3, and nothing is written."
)


@app.command(
    epilog="Example: python -m setup export --form gguf --quantize Q4_K_M --out tuned.gguf"
)
def export(  # noqa: PLR0913, PLR0917 - the options
    out: Annotated[Path, typer.Option(help="The file, or for transformers the folder, to write.")],
    form: Annotated[
        Form, typer.Option(help="Merged GGUF, GGUF adapter, or merged transformers folder.")
    ] = Form.gguf,
    version: Annotated[str, typer.Option(help="champion, or a number.")] = "champion",
    quantize: Annotated[Quantization | None, typer.Option(help=_QUANTIZE)] = None,
    max_loss: Annotated[str, typer.Option(help=_MAX_LOSS)] = "",
    recipe: options.RecipeName = DEFAULT,
    sets: options.Sets = None,
    as_json: options.AsJson = False,
) -> None:
    """Write a registered version in a form that other servers load.

    Beside a merged GGUF file stands its Modelfile for Ollama.
    """
    from setup.local.export import Order, SpoiltError, export_version

    loaded = load_recipe(recipe, sets or [])
    _refuse_odd_order(form, quantize, max_loss)
    order = Order(version, form.value, out, quantize, _limit(max_loss))
    try:
        with loaded.naming():
            exported = export_version(loaded, order)
    except SpoiltError as error:
        options.show_error(error)
        raise typer.Exit(3) from None
    number, model = exported.version.number, exported.version.model
    told = f"export: version {number} of {model} as {form.value}"
    told += f", {quantize}, in {out}" if quantize else f" in {out}"
    facts: dict[str, Any] = {"ok": True, "version": number, "form": form.value, "out": str(out)}
    if exported.losses:
        before, after = exported.losses
        told += f"; held-out loss {before:.3f} -> {after:.3f} ({exported.measured})"
        facts |= {"quantize": quantize, "held_out_loss": {"before": before, "after": after}}
    options.show(facts, told, as_json)
    if exported.modelfile:
        options.say_next(f"ollama create {model} -f {_typed(exported.modelfile)}", as_json)


def _refuse_odd_order(form: Form, quantize: Quantization | None, max_loss: str) -> None:
    if quantize and form != Form.gguf:
        raise FixableError(f"--quantize is for --form gguf, not {form.value}", "--form gguf")
    if max_loss and not quantize:
        raise FixableError("--max-loss is for a file that is quantised", "--quantize Q8_0")


def _limit(max_loss: str) -> Limit | None:
    from setup.local.export import Limit

    if not max_loss:
        return None
    try:
        value = float(max_loss)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise FixableError(f"--max-loss {max_loss!r} is no loss", "--max-loss 1.5, or +0.02")
    return Limit(value, max_loss.strip().startswith("+"))


def _typed(path: Path) -> str:
    """Write a path as it is typed from here."""
    here = Path.cwd()
    return shlex.quote(str(path.relative_to(here) if path.is_relative_to(here) else path))
