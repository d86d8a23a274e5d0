"""The packages that bring the judges: promptflow-evals beside promptflow, else azure-ai-evaluation.

Their judges have the same names and other prompts: what each says stands in columns of its own.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Union

JUDGES = ("relevance", "coherence", "fluency", "similarity", "groundedness")
PREFIXES = {"evals": "promptflow-evals", "azure": "azure-ai-evaluation"}


class EvaluatorError(ValueError):
    """The line cannot be judged; the text says what is wrong and what to do."""


class PromptflowEvals:
    """The judges of promptflow-evals, which need promptflow; ``model`` is the judge's."""

    prefix = "evals"
    settings: Mapping[str, Any] = {"max_tokens": 1}

    def __init__(self, connection: Any, model: str) -> None:
        kind = f"{_kind(connection)}ModelConfiguration"
        core = importlib.import_module("promptflow.core")
        self._configuration = getattr(core, kind).from_connection(connection, model)

    @staticmethod
    def prompt(name: str) -> Path:
        """The file of the judge's prompt."""
        return (folder_of_promptflow_evals() or Path()) / f"evaluators/_{name}/{name}.prompty"

    def judge(self, name: str) -> Any:
        """The judge ``name``, to be awaited."""
        return _load(name)(self._configuration)._to_async()

    def read(self, name: str, result: Mapping[str, Any]) -> float:
        """The score in what the judge gave, nan where there is none."""
        return float(result[f"gpt_{name}"])


class AzureAiEvaluation:
    """The judges of azure-ai-evaluation; ``model`` is the judge's, on Azure the deployment."""

    prefix = "azure"
    settings: Mapping[str, Any] = {"max_tokens": 800, "response_format": {"type": "json_object"}}

    def __init__(self, connection: Any, model: str) -> None:
        values: dict[str, Any] = {"api_key": connection.api_key}
        if _kind(connection) == "AzureOpenAI":
            values.update(azure_endpoint=connection.api_base, azure_deployment=model)
            values.update(type="azure_openai", api_version=connection.api_version)
        else:
            values.update(type="openai", model=model, organization=connection.organization)
            values.update(base_url=connection.base_url)
        self._configuration = {name: value for name, value in values.items() if value}

    @staticmethod
    def is_installed() -> bool:
        """Tell whether the package is there."""
        return _folder_of("azure.ai.evaluation") is not None

    @staticmethod
    def prompt(name: str) -> Path:
        """The file of the judge's prompt."""
        return (_folder_of("azure.ai.evaluation") or Path()) / f"_evaluators/_{name}/{name}.prompty"

    def judge(self, name: str) -> Any:
        """The judge ``name``, to be awaited."""
        # Else it logs a failed call with its stack, and with the key where the endpoint repeats it.
        os.environ["PF_LOGGING_LEVEL"] = "CRITICAL"
        package = importlib.import_module("azure.ai.evaluation")
        evaluator = getattr(package, f"{name.capitalize()}Evaluator")(self._configuration)
        asked = evaluator._to_async()

        async def ask(**texts: str) -> Any:
            names = {"question": "query", "answer": "response"}
            try:
                return await asked(**{names.get(key, key): text for key, text in texts.items()})
            except Exception as error:  # noqa: BLE001 - the package raises its own of openai's
                said = " ".join(str(error).split()).replace(self._configuration["api_key"], "…")
                raise EvaluatorError(f"{name} failed: {said}. Fix: look at the judge") from None

        return ask

    def read(self, name: str, result: Mapping[str, Any]) -> float:
        """The score in what the judge gave, nan where there is none."""
        score = result[name]
        return float("nan") if score is None else float(score)


Package = Union[PromptflowEvals, AzureAiEvaluation]


def choose_package() -> type[Package]:
    """The class of the package that judges in this process.

    Raises:
        EvaluatorError: Neither can.
    """
    if folder_of_promptflow_evals():
        return PromptflowEvals
    if AzureAiEvaluation.is_installed():
        return AzureAiEvaluation
    raise EvaluatorError(
        "the judges of promptflow-evals need promptflow beside it, and azure-ai-evaluation, which "
        "has others, is not installed. Fix: pip install azure-ai-evaluation"
    )


def folder_of_promptflow_evals() -> Path | None:
    """The folder of the package where it can run: beside promptflow itself."""
    try:
        # Not there where promptflow is not installed, or another engine is in its place.
        _ = importlib.import_module("promptflow.core").OpenAIModelConfiguration
    except ImportError:
        return None
    return _folder_of("promptflow.evals")


def _folder_of(package: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(package)
    except ImportError:  # nor is there the package around it
        return None
    places = spec.submodule_search_locations if spec else None
    return Path(places[0]) if places else None


def _kind(connection: Any) -> str:
    return "AzureOpenAI" if type(connection).__name__ == "AzureOpenAIConnection" else "OpenAI"


@functools.cache
def _load(name: str) -> Any:
    # By its file: the package around it imports evaluators that make NLTK download data.
    file = PromptflowEvals.prompt(name).with_name(f"_{name}.py")
    spec = importlib.util.spec_from_file_location(f"evals_judge_{name}", file)
    if spec is None or spec.loader is None or not file.is_file():
        raise EvaluatorError(f"promptflow-evals has no {name}. Fix: promptflow-evals==0.3.5")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, f"{name.capitalize()}Evaluator")
