"""The first answer, before anything is trained; torch, for which it does not wait, meanwhile."""

from __future__ import annotations

import importlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import psutil

from evaluation.engines.choice import call_for, is_promptflow
from evaluation.engines.plain import Flow
from setup.cli.options import show_result
from setup.common import console
from setup.common.checks import unmet
from setup.common.errors import FixableError
from setup.common.paths import REPOSITORY
from setup.local import connect, deploy
from setup.local.control import LocalEndpoint
from setup.local.rollout import rolled_out
from setup.recipe.local import Recipe

_COMMAND = [sys.executable, "-m", "setup.install_torch"]
_FLOW = "flows/chat"
_CONNECTION = re.compile(r"^(\s+connection: ).*$", re.MULTILINE)
_FIRST_QUESTION = "What is the capital of France?"
_PATIENCE = 10.0  # seconds that the installation may take to end when it is told to


def answer_first(recipe: Recipe) -> None:
    """Serve the base model alone and let it answer one question, before anything is trained.

    Where a version has been served before, there was a first answer, and it goes on taking traffic.
    """
    if rolled_out(LocalEndpoint(recipe)):
        return
    alone = recipe.endpoint.model_copy(update={"version": "none"})
    endpoint = LocalEndpoint(recipe.model_copy(update={"endpoint": alone}))
    for step in (deploy, connect):
        show_result(step.run(endpoint), False)
    console.out.print(f"question: {_FIRST_QUESTION}", markup=False)
    connection = f"{recipe.connection}-{recipe.endpoint.deployment}"
    engine = recipe.evaluation.engine
    answer = " ".join(call_for(engine, ask_once, _FIRST_QUESTION, connection, engine).split())
    console.out.print(f"{connection}: {answer}", markup=False)
    console.err.print("chat with it meanwhile, in another terminal: python -m setup chat")


def ask_once(question: str, connection: str, engine: str) -> str:
    """The answer through ``connection``: of ``pf flow test`` for engine promptflow, else of plain.

    `pf flow test` knows no other connection than the one the flow names, so a copy of the flow
    that names this one is tested.
    """
    if not is_promptflow(engine):
        outcome = Flow(REPOSITORY / _FLOW, "", {"chat": connection}).line(0, {"question": question})
        if outcome.error:
            raise FixableError(str(outcome.error), outcome.error.fix or "python -m setup doctor")
        return str((outcome.outputs or {})["answer"])
    with tempfile.TemporaryDirectory() as folder:
        flow = Path(shutil.copytree(REPOSITORY / _FLOW, Path(folder) / "chat"))
        graph = flow / "flow.dag.yaml"
        text = graph.read_text(encoding="utf-8")
        graph.write_text(_CONNECTION.sub(rf"\g<1>{connection}", text), encoding="utf-8")
        with console.progress_bar(f"pf flow test, connection {connection}"):
            # pf of the Python that runs this, whether or not its folder is on PATH.
            pf = [sys.executable, "-m", "promptflow._cli.pf", "flow", "test"]
            done = subprocess.run(
                [*pf, "--flow", str(flow), "--inputs", f"question={question}"],
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                cwd=REPOSITORY,
                check=False,
            )
    answer = re.search(r'"answer": (".*")', done.stdout)
    if done.returncode != 0 or not answer:
        raise FixableError(f"pf flow test failed: {_last_line(done)}", "python -m setup doctor")
    return str(json.loads(answer[1]))


def _last_line(done: subprocess.CompletedProcess[str]) -> str:
    text = (done.stdout + done.stderr).strip()
    lines = [line for line in text.splitlines() if "[WARNING]" not in line]
    return lines[-1] if lines else f"exit code {done.returncode}"


@contextmanager
def torch_meanwhile(log: Path) -> Iterator[Callable[[], None]]:
    """Install torch while the block runs, unless it is there; gives what waits for the end of that.

    Raises:
        FixableError: By the wait: it could not be installed.
    """
    if not unmet("requirements-torch.txt"):
        yield lambda: None
        return
    console.err.print(f"torch is installed meanwhile; its log is {log}", markup=False)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as file:
        process = psutil.Popen(_COMMAND, cwd=REPOSITORY, stdout=file, stderr=subprocess.STDOUT)
    try:
        yield partial(_wait, process, log)
    finally:
        if process.poll() is None:
            _end(process)


def _wait(process: psutil.Popen, log: Path) -> None:
    with console.progress_bar("Installing torch"):
        code = process.wait()
    importlib.invalidate_caches()
    wrong = unmet("requirements-torch.txt")
    if code or wrong:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        why = lines[-1] if lines else "; ".join(wrong) or f"exit code {code}"
        raise FixableError(
            f"torch could not be installed: {why} (all of it: {log})",
            f"{sys.executable} -m setup.install_torch, then run it again",
        )


def _end(process: psutil.Popen) -> None:
    """End the installation with the pip that it runs, which would go on by itself."""
    family = [*process.children(recursive=True), process]
    for member in family:
        if member.is_running():
            member.terminate()
    psutil.wait_procs(family, timeout=_PATIENCE)
