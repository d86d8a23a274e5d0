"""The three request and reply shapes in use, each as a pair of functions.

A ``score``
    Catalog fine-tunes on Azure ML managed endpoints. A 200 can be a failure there.
    https://learn.microsoft.com/azure/machine-learning/how-to-deploy-models-phi-3
B ``mlflow``
    MLflow no-code deployments.
    https://learn.microsoft.com/azure/machine-learning/how-to-deploy-mlflow-models-online-endpoints
C ``openai``
    Serverless endpoints, vLLM, llama.cpp and newer Azure containers.
    https://platform.openai.com/docs/api-reference/chat
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .errors import InputError
from .reply import Reply, mlflow_reply, openai_reply, score_reply
from .settings import Settings

Message = dict[str, str]
"""``{"role": "system" | "user" | "assistant", "content": text}``."""
Body = dict[str, Any]


@dataclass(frozen=True)
class Generation:
    """Sampling settings; temperature 0 is greedy, a negative ``seed`` is not sent."""

    temperature: float = 0.0
    top_p: float = 1.0
    max_new_tokens: int = 256
    seed: int = -1

    def __post_init__(self) -> None:
        """Check the ranges; an InputError names the setting that is out of its."""
        for name, good, rule in (
            ("temperature", 0 <= self.temperature <= 2, "from 0 to 2"),
            ("top_p", 0 < self.top_p <= 1, "above 0 and at most 1"),
            ("max_new_tokens", self.max_new_tokens >= 1, "at least 1"),
        ):
            if not good:
                raise InputError(f"{name} is {getattr(self, name)}", fix=f"give a value {rule}")


def score_body(messages: list[Message], generation: Generation, settings: Settings) -> Body:
    """Contract A. Server generations differ in ``max_new_tokens`` and ``max_tokens``, and some
    refuse the one beside the other: the second name goes to those that ask for it (``dialect.py``).
    """
    limits = _limits(generation, settings, "max_new_tokens")
    parameters = _sampling(generation, settings, do_sample=True) | limits
    if generation.seed >= 0:
        parameters["seed"] = generation.seed
    return {"input_data": {"input_string": messages, "parameters": parameters}}


def mlflow_body(messages: list[Message], generation: Generation, settings: Settings) -> Body:
    """Contract B takes text, see :func:`as_text`."""
    limits = _limits(generation, settings, "max_new_tokens")
    params = _sampling(generation, settings, do_sample=True) | limits
    return {"input_data": [as_text(messages)], "params": params}


def openai_body(messages: list[Message], generation: Generation, settings: Settings) -> Body:
    """Contract C, not streaming."""
    body: Body = {
        "messages": messages,
        **_limits(generation, settings, "max_tokens"),
        **_sampling(generation, settings),
        "stream": False,
    }
    if settings.model:
        body["model"] = settings.model
    if generation.seed >= 0:
        body["seed"] = generation.seed
    return body


def as_text(messages: list[Message]) -> str:
    """Messages as one text: a lone message as it is, else ``role: text`` lines and a last
    ``assistant:`` for the model to go on from, since the chat template stays on the server."""
    if len(messages) == 1:
        return messages[0]["content"]
    lines = [f"{message['role']}: {message['content']}" for message in messages]
    return "\n".join([*lines, "assistant:"])


def _limits(generation: Generation, settings: Settings, *names: str) -> dict[str, int]:
    """The longest answer under the names of the connection's ``answer_limit``, else ``names``."""
    named = {"auto": names, "both": ("max_new_tokens", "max_tokens")}
    chosen = named.get(settings.answer_limit, (settings.answer_limit,))
    return dict.fromkeys(chosen, generation.max_new_tokens)


def _sampling(generation: Generation, settings: Settings, *, do_sample: bool = False) -> Body:
    if settings.sampling == "omit":
        return {}
    sampling: Body = {"temperature": generation.temperature, "top_p": generation.top_p}
    return sampling | ({"do_sample": generation.temperature > 0} if do_sample else {})


Make = Callable[[list[Message], Generation, Settings], Body]
Parse = Callable[[Any, Body, Settings], Reply]
CONTRACTS: dict[str, tuple[Make, Parse]] = {
    "score": (score_body, score_reply),
    "mlflow": (mlflow_body, mlflow_reply),
    "openai": (openai_body, openai_reply),
}
