"""The judge's connection: never the model under test, and asked for a real verdict before row 1."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from evaluation.ask.connections import KnownConnection
from evaluation.ask.evaluators import FLOWS
from evaluation.engines.flow_run import Engine
from flows.evaluate_with_evals_judge.evals_judging.packages import EvaluatorError, choose_package
from flows.evaluate_with_evals_judge.evals_judging.scores import as_outputs
from flows.evaluate_with_judge.judging import rules
from flows.evaluate_with_judge.judging.material import BASELINE_FIRST, Material
from setup.common.console import shorten
from setup.common.errors import FixableError

Messages = Callable[..., Any]
QUESTION = "What is the capital of France?"
PAIRWISE = "pairwise"
_CONNECT = "pf connection create --file connections/judge.yaml"
_MATERIAL = Material(QUESTION, [], "It is Paris.", "I do not know.", "Paris.")
_ATTEMPTS = 3  # a judge that fails now and then is counted, not refused
_SAMPLING = {"temperature": 0.0, "top_p": 1.0}


@dataclass(frozen=True)
class JudgeConnection:
    """An OpenAI or Azure OpenAI connection and the model, or deployment, that judges."""

    name: str
    model: str
    address: str
    client: Any = field(repr=False)
    engine: Engine

    @classmethod
    def read(cls, name: str, model: str, engine: Engine) -> JudgeConnection:
        """The judge's connection in the engine's store."""
        from openai import OpenAIError

        connection = engine.connection(name, _CONNECT)
        if not model:
            fix = "--judge-model NAME (Azure: the deployment)"
            raise FixableError("the judge has no model", fix)
        kind = type(connection).__name__
        if kind not in ("OpenAIConnection", "AzureOpenAIConnection"):
            what = f"connection {name} is a {kind}, no judge speaks through it"
            raise FixableError(what, _CONNECT)
        bases = (getattr(connection, part, None) for part in ("base_url", "api_base"))
        address = str(next(filter(None, bases), "https://api.openai.com/v1"))
        try:
            _place(address)
            return cls(name, model, address, _client(connection, kind), engine)
        except (OpenAIError, ValueError) as error:
            what = f"connection {name} is no use for a judge: {error}"
            raise FixableError(what, _CONNECT) from None

    def refuse_own_answers(self, tested: Sequence[KnownConnection]) -> None:
        """Refuse a judge that is the model under test: it would grade its own answers.

        It is taken for the same where host and port are, and the judge's model is the connection's
        deployment or model, or the connection leaves the choice to the endpoint.
        """
        for connection in tested:
            settings = connection.settings
            named = {settings.deployment, settings.model} - {""}
            same_place = _place(settings.endpoint) == _place(self.address)
            if same_place and (not named or self.model in named):
                raise FixableError(
                    f"the judge {self.model} of connection {self.name} is the model under test of "
                    f"connection {connection.name}",
                    "another judge, or --force-judge",
                )

    def check(self, kinds: Iterable[str]) -> None:
        """Ask for a verdict of each of ``kinds``: evaluators, or :data:`PAIRWISE`."""
        for kind in kinds:
            ask, problem_of, rubric = _KINDS[kind]
            said, problem = "", ""
            for _ in range(_ATTEMPTS):
                said = self._reply(ask(self.engine.messages))
                problem = problem_of(said)
                if not problem:
                    break
            else:
                raise FixableError(
                    f"judge {self.model} of connection {self.name} gives no verdict: asked about a "
                    f'simple answer it said "{shorten(said, 120)}" ({shorten(problem)})',
                    f"name a model that can follow {rubric}: --judge-model NAME, or "
                    "--judge CONNECTION",
                )

    def _reply(self, asked: dict[str, Any]) -> str:
        from openai import OpenAIError

        key = self.client.api_key or "\0"
        try:
            done = self.client.chat.completions.create(model=self.model, **_SAMPLING, **asked)
            text = done.choices[0].message.content
        except (OpenAIError, UnicodeError, AttributeError, IndexError, TypeError) as error:
            reason = " ".join(str(error).replace(key, "…").split())[:300]
            raise FixableError(
                f"judge {self.model} of connection {self.name} gives no answer: {reason}",
                f"pf connection show --name {self.name}",
            ) from None
        return str(text or "").replace(key, "…")


def _client(connection: Any, kind: str) -> Any:
    from openai import AzureOpenAI, OpenAI

    if kind == "OpenAIConnection":
        organization = connection.organization or None
        where = {"base_url": connection.base_url, "organization": organization}
        return OpenAI(api_key=connection.api_key, timeout=60, **where)
    where = {"azure_endpoint": connection.api_base, "api_version": connection.api_version}
    return AzureOpenAI(api_key=connection.api_key, timeout=60, **where)


def _place(url: str) -> tuple[str | None, int | None]:
    parts = urlsplit(url)
    host = "127.0.0.1" if parts.hostname == "localhost" else parts.hostname
    return host, parts.port or {"https": 443, "http": 80}.get(parts.scheme)


def _ask_rubric(messages: Messages, mode: str, order: str) -> dict[str, Any]:
    template = (FLOWS / "evaluate_with_judge" / "judge.jinja2").read_text(encoding="utf-8")
    material = _MATERIAL.render(mode, order, "check")
    return {"messages": messages(template, mode=mode, material=material), "max_tokens": 512}


def _ask_evals(messages: Messages) -> dict[str, Any]:
    """The prompt of one of the judges of Microsoft's package, which asks for a digit or JSON."""
    try:
        package = choose_package()
    except EvaluatorError as error:
        what, _, fix = str(error).partition(". Fix: ")
        raise FixableError(what, fix) from None
    _, _, prompt = package.prompt("fluency").read_text(encoding="utf-8").split("---", 2)
    texts = {"question": QUESTION, "answer": _MATERIAL.answer, "response": _MATERIAL.answer}
    return {"messages": messages(prompt, **texts), **package.settings}


def _problem(reply: str, parse: Callable[[str], Any]) -> str:
    verdict = parse(reply)
    return verdict.problem if isinstance(verdict, rules.Unparsed) else ""


def _problem_of_digit(reply: str) -> str:
    digit = re.search(r"\d", reply.rpartition('"score"')[2])
    outputs = as_outputs({"fluency": float(digit.group()) if digit else float("nan")})
    return "no digit from 1 to 5" if outputs["evals_fluency"] is None else ""


_RUBRIC = "flows/evaluate_with_judge/judge.jinja2"
# How each kind is asked, what is wrong with a reply, and what the judge could not follow.
_KINDS: dict[str, tuple[Callable[[Messages], dict[str, Any]], Callable[[str], str], str]] = {
    "judge": (
        lambda messages: _ask_rubric(messages, "score", ""),
        lambda reply: _problem(reply, rules.parse_verdict),
        _RUBRIC,
    ),
    PAIRWISE: (
        lambda messages: _ask_rubric(messages, "pairwise", BASELINE_FIRST),
        lambda reply: _problem(reply, rules.parse_preference),
        _RUBRIC,
    ),
    "evals-judge": (
        _ask_evals,
        _problem_of_digit,
        "promptflow-evals, which asks for one digit, or azure-ai-evaluation, which asks for JSON",
    ),
}
