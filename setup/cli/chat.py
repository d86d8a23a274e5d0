"""The pages: what ``pf flow serve`` shows, laid out for a phone as well, and the endpoint's own."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from setup.cli import options
from setup.common import console
from setup.common.errors import FixableError
from setup.common.flow_folder import FLOWS
from setup.common.paths import page_folder
from setup.common.promptflow_store import is_promptflow_installed
from setup.local.control import LocalEndpoint, port_holder
from setup.recipe.load import DEFAULT, load_recipe
from setup.serve.settings import COLLECTOR

app = typer.Typer()
_COLLECTORS = (*COLLECTOR, *(f"OTEL_EXPORTER_OTLP_{kind}_ENDPOINT" for kind in ("METRICS", "LOGS")))
# promptflow's page gives 320 pixels to the list of chats, whatever the width of the window.
_NARROW = """
    <style>
      @media (max-width: 760px) {
        .ms-Stack[style*="100vh"] { flex-direction: column; height: 100dvh !important; }
        .ms-Stack[style*="100vh"] > .ms-FocusZone { max-height: 122px; overflow-y: auto; }
        .ms-Nav { width: 100% !important; }
        .ms-Stack[style*="100vh"] > div:last-child { min-height: 0; }
        .fui-Field { display: block !important; }
      }
    </style>
"""


@app.command(epilog="Example: python -m setup chat --port 8081")
def chat(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "localhost",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the page.")] = 8080,
    browser: Annotated[bool, typer.Option(help="Open the page in the browser.")] = True,
) -> None:
    """Serve the chat page of flows/chat until Ctrl-C; after deploy and connect."""
    if not is_promptflow_installed():
        what = "the chat page is promptflow's, which is not installed"
        raise FixableError(
            what, "make agents, and .venv-agents/bin/python -m flows.chat_agent page"
        )
    if holder := port_holder(port):
        raise FixableError(
            f"port {port} is held by {holder}", f"python -m setup chat --port {port + 1}"
        )
    command = [sys.executable, "-m", "promptflow._cli.pf", "flow", "serve"]
    command += ["--source", str(FLOWS / "chat"), "--host", host, "--port", str(port)]
    command += ["--engine", "fastapi"]  # the default one answers 400 to a browser
    if page := _page():
        command += ["--static_folder", str(page)]
    if not browser:
        command += ["--skip-open-browser"]
    console.err.print(f"the chat page: http://{host}:{port} (Ctrl-C ends it)")
    console.err.print("where it finds no connection phi: python -m setup connect")
    _keep_from_collectors()
    if os.name == "posix":
        os.execv(sys.executable, command)  # noqa: S606 - our own program, no shell
    raise SystemExit(subprocess.run(command, check=False).returncode)


@app.command(epilog="Example: python -m setup compare")
def compare(
    recipe: options.RecipeName = DEFAULT,
    sets: options.Sets = None,
    print_key: Annotated[
        bool, typer.Option("--print-key", help="Print the key that the page asks for, no more.")
    ] = False,
    browser: Annotated[bool, typer.Option(help="Open the page in the browser.")] = True,
) -> None:
    """Show the endpoint's page: one question to base and tuned, side by side; after deploy."""
    endpoint = LocalEndpoint(load_recipe(recipe, sets or []))
    url = f"{endpoint.url}/"
    if print_key:
        console.out.print(endpoint.scoring_key, markup=False)
        return
    console.out.print(f"compare: the page is {url}")
    console.err.print(f"its key: {endpoint.recipe.command('compare', '--print-key')}", markup=False)
    if browser and not webbrowser.open(url):
        console.err.print("no browser could be opened here: open that address yourself")


def _keep_from_collectors() -> None:
    """Take the collectors out of the environment: promptflow sends them all that is said, unasked.

    It does so by variables that other programs only take for traces, and its exporters fail with
    the OpenTelemetry of today.
    """
    named = [name for name in _COLLECTORS if os.environ.pop(name, "")]
    if named:
        console.err.print(
            f"the page is not traced ({', '.join(named)}): promptflow would send what is said on "
            "it; the endpoint's own traces go on"
        )


def _page() -> Path | None:
    """A copy of promptflow's page with our style in it; None where it has none that we know."""
    promptflow = importlib.util.find_spec("promptflow.core")
    static = Path(promptflow.origin or "").parent / "_serving" / "static" if promptflow else Path()
    try:
        html = (static / "index.html").read_text(encoding="utf-8")
    except OSError:
        html = ""
    if "</head>" not in html:
        console.err.print("no page of promptflow to lay out for a phone: it is served as it is")
        return None
    shutil.copytree(static, page_folder(), dirs_exist_ok=True)
    styled = html.replace("</head>", f"{_NARROW}</head>")
    (page_folder() / "index.html").write_text(styled, encoding="utf-8")
    return page_folder()
