"""Commands about the registry: models, promote, export."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from setup.cli.options import AsJson, RecipeName, Sets, say_next, show
from setup.common import console
from setup.recipe.load import DEFAULT, load_recipe

app = typer.Typer()


class Form(StrEnum):
    """In which form a version is exported."""

    gguf = "gguf"
    adapter = "adapter"
    transformers = "transformers"


@app.command(epilog="Example: python -m setup models --json")
def models(recipe: RecipeName = DEFAULT, sets: Sets = None, as_json: AsJson = False) -> None:
    """List the registered versions of the recipe's model."""
    from setup.local.registry import list_versions  # noqa: PLC0415 - what only this needs

    loaded = load_recipe(recipe, sets or [])
    model = loaded.registry.model
    with loaded.naming():
        versions = list_versions(model)
    if as_json:
        show({"model": model, "versions": [version.as_dict() for version in versions]}, "", True)
        return
    if not versions:
        console.out.print(f"no version of {model} yet; next: {loaded.command('finetune')}")
        return
    table = Table("version", "created", "held-out loss", "general loss", "rows", "epochs", "")
    for version in versions:
        table.add_row(
            str(version.number),
            f"{version.created:%Y-%m-%d %H:%M}",
            f"{version.held_out_before:.3f} -> {version.held_out_after:.3f}",
            f"{version.general_before:.3f} -> {version.general_after:.3f}",
            str(version.train_rows),
            f"{version.epochs:g}",
            "champion" if version.champion else "",
        )
    console.out.print(table)


@app.command(epilog="Example: python -m setup promote 3")
def promote(
    number: Annotated[int, typer.Argument(min=1, help="A version that `models` lists.")],
    recipe: RecipeName = DEFAULT,
    sets: Sets = None,
) -> None:
    """Make a version the champion, whatever its held-out loss."""
    from setup.local import registry  # noqa: PLC0415

    loaded = load_recipe(recipe, sets or [])
    with loaded.naming():
        version = registry.promote(loaded.registry.model, number)
    console.out.print(f"promote: version {version.number} of {version.model} is the champion")
    say_next(loaded.command("deploy"), as_json=False)


@app.command(epilog="Example: python -m setup export --form gguf --out tuned.gguf")
def export(
    out: Annotated[Path, typer.Option(help="The file, or for transformers the folder, to write.")],
    form: Annotated[
        Form, typer.Option(help="Merged GGUF, GGUF adapter, or merged transformers folder.")
    ] = Form.gguf,
    version: Annotated[str, typer.Option(help="champion, or a number.")] = "champion",
    recipe: RecipeName = DEFAULT,
    sets: Sets = None,
) -> None:
    """Write a registered version in a form that other servers load."""
    from setup.local.export import export_version  # noqa: PLC0415

    loaded = load_recipe(recipe, sets or [])
    with loaded.naming():
        exported = export_version(loaded, version, form.value, out)
    told = f"export: version {exported.number} of {exported.model} as {form.value} in {out}"
    console.out.print(told, markup=False)
