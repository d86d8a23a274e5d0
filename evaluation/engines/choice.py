"""The choice of the engine that a run is worked off by."""

from __future__ import annotations

from evaluation.engines.flow_run import Engine
from evaluation.engines.pf_run import Promptflow
from evaluation.engines.plain_run import Plain
from setup.common.errors import FixableError
from setup.common.promptflow_store import is_promptflow_installed

NAMES = ("auto", "promptflow", "plain")


def choose_engine(name: str = "auto", processes: int = 1) -> Engine:
    """The engine ``name``; ``auto`` is promptflow where it is installed, else plain.

    Raises:
        FixableError: There is no such engine, it is not installed, or takes no ``processes``.
    """
    if name not in NAMES:
        raise FixableError(f"no engine {name!r}", f"--engine with one of: {', '.join(NAMES)}")
    installed = is_promptflow_installed()
    if name == "plain" or (name == "auto" and not installed):
        return Plain(processes)
    if not installed:
        fix = "--engine plain, or pip install --no-deps -r requirements.txt"
        raise FixableError("engine promptflow needs promptflow, which is not installed", fix)
    if processes > 1:
        raise FixableError("engine promptflow takes no --processes", "--engine plain")
    return Promptflow()
