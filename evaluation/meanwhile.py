"""torch, installed in the background: nothing that the first answer needs waits for it."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import psutil

from setup.common import console
from setup.common.checks import unmet
from setup.common.errors import FixableError
from setup.common.paths import REPOSITORY

_COMMAND = [sys.executable, "-m", "setup.install_torch"]
_PATIENCE = 10.0  # seconds that the installation may take to end when it is told to


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
