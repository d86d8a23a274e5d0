"""Command ``connection``: a connection of one's own, as a judge's, for engines plain and agent."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from setup.cli.options import AsJson, show
from setup.common.connection_store import keep
from setup.common.errors import FixableError
from setup.common.step import Result

app = typer.Typer()
_KINDS = {
    "custom": "CustomConnection",
    "open_ai": "OpenAIConnection",
    "azure_open_ai": "AzureOpenAIConnection",
    "azure_content_safety": "AzureContentSafetyConnection",
}
_ASKED = "<user-input>"
_NOT_KEPT = ("$schema", "name", "type", "configs", "secrets")


@app.command(epilog="Example: python -m setup connection connections/judge.yaml")
def connection(
    file: Annotated[Path, typer.Argument(help="As pf connection create takes it, without a key.")],
    sets: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=VALUE, as base_url=https://…/v1.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Keep the connection of a file for engines plain and agent; a key is asked for, without echo.

    promptflow's own store is filled by pf connection create.
    """
    content = _read(file)
    name, kind = str(content.get("name") or ""), _KINDS.get(str(content.get("type")), "")
    if not name or not kind:
        raise FixableError(f"{file} has no name, or no type of {', '.join(_KINDS)}", "correct it")
    values = {key: value for key, value in content.items() if key not in _NOT_KEPT}
    values |= {**(content.get("configs") or {}), **(content.get("secrets") or {})}
    for pair in sets or []:
        key, equals, value = pair.partition("=")
        if not equals:
            raise FixableError(f"--set {pair!r} is not KEY=VALUE", "--set base_url=https://…/v1")
        values[key.removeprefix("configs.")] = value
    hidden = {key for key, value in values.items() if value == _ASKED}
    if shown := {"key", "api_key", *(content.get("secrets") or {})} & values.keys() - hidden:
        what = f"{min(shown)} must not stand in a file or on a command line"
        raise FixableError(what, f"write {min(shown)}: {_ASKED}, and it is asked for")
    secrets = {key: typer.prompt(f"{key} of {name}", hide_input=True) for key in sorted(hidden)}
    configs = {key: str(value) for key, value in values.items() if key not in hidden}
    changed = keep(name, configs, secrets, kind)
    result = Result("connection", changed, f"{name} ({kind}) is kept, its key in the keyring", "")
    show(result.as_dict(), result.line(), as_json)


def _read(file: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        content = None
    if not isinstance(content, dict):
        raise FixableError(f"{file} is no file of a connection", "write it like connections/*.yaml")
    return content
