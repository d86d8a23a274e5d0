"""The choice of the engine that a run is worked off by."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

from evaluation.engines.agent_run import Agent
from evaluation.engines.flow_run import Engine
from evaluation.engines.pf_run import Promptflow
from evaluation.engines.plain import Plain
from setup.common.errors import FixableError
from setup.common.promptflow_store import is_promptflow_installed

Result = TypeVar("Result")
NAMES = ("auto", "promptflow", "plain", "agent")


def choose_engine(name: str = "auto", processes: int = 1) -> Engine:
    """The engine ``name``; ``auto`` is promptflow where it is installed, else plain.

    Raises:
        FixableError: There is no such engine, it is not installed, or takes no ``processes``.
    """
    if name not in NAMES:
        raise FixableError(f"no engine {name!r}", f"--engine with one of: {', '.join(NAMES)}")
    if name == "auto":
        name = "promptflow" if is_promptflow_installed() else "plain"
    if name == "plain":
        return Plain(processes)
    if processes > 1:
        raise FixableError(f"engine {name} takes no --processes", "--engine plain")
    if name == "agent":
        return Agent()
    if not is_promptflow_installed():
        fix = "--engine plain, or pip install --no-deps -r requirements.txt"
        raise FixableError("engine promptflow needs promptflow, which is not installed", fix)
    return Promptflow()


def is_promptflow(name: str) -> bool:
    """Tell whether ``name`` comes to engine promptflow here."""
    return name == "promptflow" or (name == "auto" and is_promptflow_installed())


def call_for(name: str, function: Callable[..., Result], *arguments: object) -> Result:
    """The function's result, from a process of its own where engine ``name`` may need one.

    Connecting loads promptflow where it is installed, and no other engine can run beside that.
    """
    if is_promptflow(name) or not is_promptflow_installed():
        return function(*arguments)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()
