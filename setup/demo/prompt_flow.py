"""The ``pf`` command of a user, run for the demo: one question."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from setup import console
from setup.errors import FixableError
from setup.paths import REPOSITORY

_FLOW = "flows/chat"
_CONNECTION = re.compile(r"^(\s+connection: ).*$", re.MULTILINE)


def ask_once(question: str, connection: str) -> str:
    """The answer of ``pf flow test`` through ``connection``.

    `pf flow test` knows no other connection than the one the flow names, so a copy of the flow
    that names this one is tested.

    Raises:
        FixableError: The command failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        flow = Path(shutil.copytree(REPOSITORY / _FLOW, Path(folder) / "chat"))
        graph = flow / "flow.dag.yaml"
        text = graph.read_text(encoding="utf-8")
        graph.write_text(_CONNECTION.sub(rf"\g<1>{connection}", text), encoding="utf-8")
        with console.progress_bar(f"pf flow test, connection {connection}"):
            done = _pf(["flow", "test", "--flow", str(flow), "--inputs", f"question={question}"])
    answer = re.search(r'"answer": (".*")', done.stdout)
    if done.returncode != 0 or not answer:
        raise FixableError(f"pf flow test failed: {_last_line(done)}", "python -m setup doctor")
    return str(json.loads(answer[1]))


def _pf(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*_pf_command(), *arguments],
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        cwd=REPOSITORY,
        check=False,
    )


def _pf_command() -> list[str]:
    """``pf`` of the Python that runs this, whether or not its folder is on PATH."""
    return [sys.executable, "-m", "promptflow._cli.pf"]


def _last_line(done: subprocess.CompletedProcess[str]) -> str:
    lines = (done.stdout + done.stderr).strip().splitlines()
    return lines[-1] if lines else f"exit code {done.returncode}"
