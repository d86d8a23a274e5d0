"""The names that flows take from promptflow, for a process that does without it."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

from evaluation.engines.chat_api import AzureOpenAI, OpenAI, as_promptflow_tells
from setup.common.errors import FixableError

_metrics: ContextVar[dict[str, float]] = ContextVar("metrics")


class UserErrorException(Exception):  # noqa: N818 - promptflow's name
    """An error that a flow raises for its user."""

    def __init__(self, message: str = "", target: Any = None, **_: Any) -> None:
        super().__init__(message)
        self.message, self.target = message, target

    @property
    def additional_info(self) -> dict[str, dict[str, str]] | None:
        """The class and the text to report instead of its own, where a subclass has some."""
        return None


class Connection:
    """A connection; its values are attributes, too."""

    defaults: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, name: str, configs: dict[str, str], secrets: dict[str, str]) -> None:
        self.name, self.configs, self.secrets = name, configs, secrets

    def __getattr__(self, name: str) -> Any:
        for values in (self.secrets, self.configs, self.defaults) if name[0] != "_" else ():
            if name in values:
                return values[name]
        raise AttributeError(f"{type(self).__name__} has no {name}")


CONNECTIONS: dict[str, type[Connection]] = {
    name: type(name, (Connection,), {"defaults": defaults})
    for name, defaults in {
        "CustomConnection": {},
        "OpenAIConnection": {"base_url": None, "organization": None},
        "AzureOpenAIConnection": {"api_type": "azure", "api_version": "2024-02-01"},
        "AzureContentSafetyConnection": {"api_version": "2023-10-01"},
    }.items()
}


def tool(function: Callable[..., Any] | None = None, **_: Any) -> Any:
    """Mark what a node calls."""
    if function is None:
        return tool
    vars(function)["is_tool"] = True
    return function


def log_metric(key: str, value: float, variant_id: str | None = None) -> None:  # noqa: ARG001
    """Keep a metric of the run."""
    _metrics.get({})[key] = value


@contextmanager
def collecting_metrics() -> Iterator[dict[str, float]]:
    """The metrics that are logged while the block runs."""
    metrics: dict[str, float] = {}
    token = _metrics.set(metrics)
    try:
        yield metrics
    finally:
        _metrics.reset(token)


def class_and_text(error: Exception) -> tuple[str, str]:
    """The class and the text by which engine promptflow tells a failed line of ``error``."""
    if isinstance(error, ImportError) and (error.name or "").partition(".")[0] == "promptflow":
        return "ImportError", str(explain_import(error))
    if not isinstance(error, UserErrorException):
        return type(error).__name__, str(error)
    told = (error.additional_info or {}).get("ToolExecutionErrorDetails")
    if told:
        return told["type"], told["message"]
    classes = type(error).__mro__
    place = classes.index(UserErrorException)
    return classes[place - 1].__name__ if place else "UserError", error.message


def _run_async(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return asyncio.run(function(*args, **kwargs))


_MODULES: dict[str, dict[str, Any]] = {
    "promptflow": {"tool": tool, "log_metric": log_metric},
    "promptflow.core": {"tool": tool, "log_metric": log_metric},
    "promptflow.connections": dict(CONNECTIONS),
    "promptflow.exceptions": {
        "UserErrorException": UserErrorException,
        "ErrorTarget": SimpleNamespace(TOOL="Tool"),
    },
    "promptflow.tools": {},
    "promptflow.tools.openai": {"OpenAI": OpenAI},
    "promptflow.tools.aoai": {"AzureOpenAI": AzureOpenAI},
    "promptflow.tools.common": {"handle_openai_error": as_promptflow_tells},
    "promptflow._utils": {},
    "promptflow._utils.async_utils": {"async_run_allowing_running_loop": _run_async},
}


class _StandIn(ModuleType):
    """A module of promptflow's name; a flow may do without a name that it has not."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise ImportError(f"no {name} in {self.__name__}", name=self.__name__)


def stand_in() -> None:
    """Take promptflow's place in this process.

    Raises:
        FixableError: promptflow itself is in use here.
    """
    loaded = sys.modules.get("promptflow")
    if isinstance(loaded, _StandIn):
        return
    if loaded is not None:
        what = "engine plain cannot run in a process that has loaded promptflow"
        raise FixableError(what, "start it in a process of its own")
    installed = importlib.util.find_spec("promptflow")
    for name, content in _MODULES.items():
        module = sys.modules[name] = _StandIn(name)
        module.__spec__, module.__path__ = ModuleSpec(name, None), []
        vars(module).update(content)
        parent, _, child = name.rpartition(".")
        if parent:
            vars(sys.modules[parent])[child] = module
    evals = Path(installed.origin or "").parent / "evals" if installed else None
    if evals and evals.is_dir():
        lend_evals(evals)


def lend_evals(folder: Path) -> None:
    """Let the package promptflow-evals be found: its F1 and ROUGE need nothing else than this."""
    module = sys.modules["promptflow.evals"] = _StandIn("promptflow.evals")
    module.__spec__ = spec = ModuleSpec("promptflow.evals", None)
    spec.submodule_search_locations = [str(folder)]


def provides(module: str, name: str) -> bool:
    """Tell whether the stand-in has ``name`` of promptflow's ``module``, "" for the module."""
    return module in _MODULES and (not name or name in _MODULES[module])


def explain_import(error: ImportError) -> FixableError | None:
    """A name of promptflow's that is missing, as the user's to fix; None for any other import."""
    if (error.name or "").partition(".")[0] != "promptflow":
        return None
    what = f"the flow needs of promptflow what engine plain does not have ({error.msg})"
    return FixableError(what, "pip install promptflow promptflow-tools; --engine promptflow")
