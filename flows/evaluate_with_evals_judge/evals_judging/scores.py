"""The judges of promptflow-evals: loading them, asking them, reading what they give."""

from __future__ import annotations

import asyncio
import functools
import importlib.util
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

SECONDS = 180.0  # for all judges of a line; promptflow-evals would repeat a failing call for 400 s

INPUTS = {
    "relevance": ("question", "answer", "context"),
    "coherence": ("question", "answer"),
    "fluency": ("question", "answer"),
    "similarity": ("question", "answer", "ground_truth"),
    "groundedness": ("answer", "context"),
}
"""The judges, and the texts each of them takes."""
LOWEST, HIGHEST = 1, 5


class EvaluatorError(ValueError):
    """The line cannot be judged; the text says what is wrong and what to do."""


@dataclass(frozen=True)
class Texts:
    """The texts that are judged; ``context`` of the judges is the reference answer."""

    question: str
    answer: str
    ground_truth: str

    def given_to(self, name: str) -> dict[str, str]:
        """The texts that the judge ``name`` takes; promptflow-evals refuses a blank one."""
        texts = vars(self) | {"context": self.ground_truth}
        inputs = {field: texts[field] for field in INPUTS[name]}
        blank = [field for field, text in inputs.items() if not text.strip()]
        if blank:
            raise EvaluatorError(
                f"{name} needs {blank[0]}, which is blank. Fix: the data line, or leave {name} "
                "out of evaluators"
            )
        return inputs


def chosen(evaluators: str) -> list[str]:
    """The judges in a list with commas."""
    names = list(dict.fromkeys(name.strip() for name in evaluators.split(",") if name.strip()))
    unknown = [name for name in names if name not in INPUTS]
    if unknown or not names:
        raise EvaluatorError(
            f"evaluators {evaluators!r} names no judge of promptflow-evals. "
            f"Fix: some of {','.join(INPUTS)}"
        )
    return names


def judge_line(evaluators: str, texts: Texts, model: Any) -> dict[str, int | None]:
    """The outputs of the line by the judges in ``evaluators``, a list with commas."""
    return as_outputs(asyncio.run(ask_all(chosen(evaluators), texts, model)))


async def ask_all(names: Sequence[str], texts: Texts, model: Any) -> dict[str, float]:
    """The score of each judge, nan where it gave no digit; ``model`` is a model configuration.

    Raises:
        EvaluatorError: A text is blank, or the answers took longer than ``SECONDS``.
        UserErrorException: The judge's endpoint failed, as promptflow reports it.
    """
    inputs = {name: texts.given_to(name) for name in names}
    asked = [_load(name)(model)._to_async()(**inputs[name]) for name in names]
    try:
        results = await asyncio.wait_for(asyncio.gather(*asked), SECONDS)
    except asyncio.TimeoutError:  # no TimeoutError before Python 3.11
        raise EvaluatorError(
            f"the judge gave no answer within {SECONDS:.0f} s, or failed all that time. "
            "Fix: look at its log; it may want fewer lines at once"
        ) from None
    return {name: result[f"gpt_{name}"] for name, result in zip(names, results)}


def as_outputs(scores: Mapping[str, float]) -> dict[str, int | None]:
    """The outputs of the line; what is not from 1 to 5 is no score and counts as unparsed.

    promptflow-evals takes the first digit of a reply for the score, whatever it was.
    """
    read = {
        name: int(score) if math.isfinite(score) and LOWEST <= score <= HIGHEST else None
        for name, score in scores.items()
    }
    outputs: dict[str, int | None] = {f"evals_{name}": read.get(name) for name in INPUTS}
    return outputs | {"evals_unparsed": list(read.values()).count(None)}


def summarize(lines: Sequence[Mapping[str, int | None]]) -> dict[str, float]:
    """The mean of each score over the lines that have it, and how many gave none."""
    known = {
        name: [score for line in lines if (score := line[name]) is not None]
        for name in (f"evals_{judge}" for judge in INPUTS)
    }
    means = {name: fmean(scores) for name, scores in known.items() if scores}
    return means | {"evals_unparsed": sum(line["evals_unparsed"] or 0 for line in lines)}


@functools.cache
def _load(name: str) -> Any:
    # By its file: the package around it imports evaluators that make NLTK download data.
    try:
        package = importlib.util.find_spec("promptflow.evals")
    except ModuleNotFoundError:  # nothing of promptflow is installed
        package = None
    if package is None or not package.submodule_search_locations:
        raise EvaluatorError(
            "promptflow-evals is missing. Fix: pip install promptflow-evals==0.3.5"
        )
    folder = Path(package.submodule_search_locations[0]) / "evaluators" / f"_{name}"
    spec = importlib.util.spec_from_file_location(f"evals_judge_{name}", folder / f"_{name}.py")
    if spec is None or spec.loader is None:
        raise EvaluatorError(f"promptflow-evals has no {name}. Fix: promptflow-evals==0.3.5")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, f"{name.capitalize()}Evaluator")
