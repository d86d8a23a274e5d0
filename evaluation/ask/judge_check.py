"""A judge asked for a real verdict before row 1: a wrong key, a model that does not follow."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from evaluation.ask.evaluators import FLOWS
from evaluation.ask.judging import JudgeConnection
from flows.evaluate_with_evals_judge.evals_judging.scores import as_outputs
from flows.evaluate_with_judge.judging.material import BASELINE_FIRST, Material
from flows.evaluate_with_judge.judging.rules import Unparsed, parse_preference, parse_verdict
from setup.common.console import shorten
from setup.common.errors import FixableError

QUESTION = "What is the capital of France?"
PAIRWISE = "pairwise"
_MATERIAL = Material(QUESTION, [], "It is Paris.", "I do not know.", "Paris.")
_ATTEMPTS = 3  # a judge that fails now and then is counted, not refused
_SAMPLING = {"temperature": 0.0, "top_p": 1.0}


def check_judge(judge: JudgeConnection, kinds: Iterable[str]) -> None:
    """Ask for a verdict of each of ``kinds``: evaluators, or :data:`PAIRWISE`.

    Raises:
        FixableError: No answer, or none that is a verdict, with what the judge said.
    """
    for kind in kinds:
        _check(judge, kind)


def _check(judge: JudgeConnection, kind: str) -> None:
    ask, problem_of = _KINDS[kind]
    said, problem = "", ""
    for _ in range(_ATTEMPTS):
        said = _reply(judge, ask())
        problem = problem_of(said)
        if not problem:
            return
    raise FixableError(
        f"judge {judge.model} of connection {judge.name} gives no verdict: asked about a simple "
        f'answer it said "{shorten(said, 120)}" ({shorten(problem)})',
        f"name a model that can follow {_RUBRICS[kind]}: --judge-model NAME, or --judge CONNECTION",
    )


def _reply(judge: JudgeConnection, asked: dict[str, Any]) -> str:
    from openai import OpenAIError  # noqa: PLC0415 - half a second

    key = judge.client.api_key or "\0"
    try:
        done = judge.client.chat.completions.create(model=judge.model, **_SAMPLING, **asked)
        text = done.choices[0].message.content
    except (OpenAIError, UnicodeError, AttributeError, IndexError, TypeError) as error:
        reason = " ".join(str(error).replace(key, "…").split())[:300]
        raise FixableError(
            f"judge {judge.model} of connection {judge.name} gives no answer: {reason}",
            f"pf connection show --name {judge.name}",
        ) from None
    return str(text or "").replace(key, "…")


def _ask_rubric(mode: str, order: str) -> dict[str, Any]:
    template = (FLOWS / "evaluate_with_judge" / "judge.jinja2").read_text(encoding="utf-8")
    material = _MATERIAL.render(mode, order, "check")
    return {"messages": _messages(template, mode=mode, material=material), "max_tokens": 512}


def _ask_evals() -> dict[str, Any]:
    """The prompt of one of the judges of promptflow-evals, which asks for one digit."""
    package = importlib.util.find_spec("promptflow.evals")
    if package is None or not package.submodule_search_locations:
        raise FixableError("promptflow-evals is missing", "pip install promptflow-evals==0.3.5")
    folder = Path(package.submodule_search_locations[0]) / "evaluators" / "_fluency"
    _, _, prompt = (folder / "fluency.prompty").read_text(encoding="utf-8").split("---", 2)
    messages = _messages(prompt, question=QUESTION, answer=_MATERIAL.answer)
    return {"messages": messages, "max_tokens": 1}


def _messages(template: str, **texts: str) -> Any:
    """As promptflow's own node makes them."""
    from promptflow.tools.common import build_messages  # noqa: PLC0415 - imports promptflow

    return build_messages(prompt=template, **texts)


def _problem(reply: str, parse: Callable[[str], Any]) -> str:
    verdict = parse(reply)
    return verdict.problem if isinstance(verdict, Unparsed) else ""


def _problem_of_digit(reply: str) -> str:
    digit = re.search(r"\d", reply)
    outputs = as_outputs({"fluency": float(digit.group()) if digit else float("nan")})
    return "no digit from 1 to 5" if outputs["evals_fluency"] is None else ""


_KINDS: dict[str, tuple[Callable[[], dict[str, Any]], Callable[[str], str]]] = {
    "judge": (lambda: _ask_rubric("score", ""), lambda reply: _problem(reply, parse_verdict)),
    PAIRWISE: (
        lambda: _ask_rubric("pairwise", BASELINE_FIRST),
        lambda reply: _problem(reply, parse_preference),
    ),
    "evals-judge": (_ask_evals, _problem_of_digit),
}
_RUBRICS = {
    "judge": "flows/evaluate_with_judge/judge.jinja2",
    PAIRWISE: "flows/evaluate_with_judge/judge.jinja2",
    "evals-judge": "promptflow-evals, which asks for one digit",
}
