"""The judges of a line: which are asked, with what texts, and what their scores come to."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from .packages import JUDGES, PREFIXES, EvaluatorError, Package, choose_package

SECONDS = 180.0  # for all judges of a line; their packages would repeat a failing call for minutes

INPUTS = {
    "relevance": ("question", "answer", "context"),
    "coherence": ("question", "answer"),
    "fluency": ("question", "answer"),
    "similarity": ("question", "answer", "ground_truth"),
    "groundedness": ("answer", "context"),
}
"""The judges, and the texts each of them takes."""
NOT_TAKEN = {"azure": {"relevance": ("context",), "fluency": ("question",)}}
"""The texts of these that a package's judge does not take."""
LOWEST, HIGHEST = 1, 5


@dataclass(frozen=True)
class Texts:
    """The texts that are judged; ``context`` of the judges is the reference answer."""

    question: str
    answer: str
    ground_truth: str

    def given_to(self, name: str, prefix: str = "evals") -> dict[str, str]:
        """The texts that the judge ``name`` of a package takes; a blank one is refused."""
        texts = vars(self) | {"context": self.ground_truth}
        left_out = NOT_TAKEN.get(prefix, {}).get(name, ())
        inputs = {field: texts[field] for field in INPUTS[name] if field not in left_out}
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


def judge_line(evaluators: str, texts: Texts, connection: Any, model: str) -> dict[str, int | None]:
    """The outputs of the line by the judges in ``evaluators``, a list with commas."""
    names, package = chosen(evaluators), choose_package()
    scores = asyncio.run(ask_all(names, texts, package(connection, model)))
    return as_outputs(scores, package.prefix)


async def ask_all(names: Sequence[str], texts: Texts, package: Package) -> dict[str, float]:
    """The score of each judge, nan where it gave none.

    Raises:
        EvaluatorError: A text is blank, or the answers took longer than ``SECONDS``.
        UserErrorException: The judge's endpoint failed, as promptflow reports it.
    """
    inputs = {name: texts.given_to(name, package.prefix) for name in names}
    asked = [package.judge(name)(**inputs[name]) for name in names]
    try:
        results = await asyncio.wait_for(asyncio.gather(*asked), SECONDS)
    except asyncio.TimeoutError:  # no TimeoutError before Python 3.11
        raise EvaluatorError(
            f"the judge gave no answer within {SECONDS:.0f} s, or failed all that time. "
            "Fix: look at its log; it may want fewer lines at once"
        ) from None
    return {name: package.read(name, result) for name, result in zip(names, results)}


def as_outputs(scores: Mapping[str, float], prefix: str = "evals") -> dict[str, int | None]:
    """The outputs of the line; what is not from 1 to 5 is no score and counts as unparsed.

    promptflow-evals takes the first digit of a reply for the score, whatever it was. The columns of
    the package that did not judge are null.
    """
    read = {
        name: int(score) if math.isfinite(score) and LOWEST <= score <= HIGHEST else None
        for name, score in scores.items()
    }
    names = (*JUDGES, "unparsed")
    outputs: dict[str, int | None] = {f"{p}_{name}": None for p in PREFIXES for name in names}
    outputs.update({f"{prefix}_{name}": score for name, score in read.items()})
    return outputs | {f"{prefix}_unparsed": list(read.values()).count(None)}


def summarize(lines: Sequence[Mapping[str, int | None]]) -> dict[str, float]:
    """The mean of each score over the lines that have it, and how many gave none."""
    summary: dict[str, float] = {}
    for prefix in PREFIXES:
        for name in JUDGES:
            scores = [s for line in lines if (s := line[f"{prefix}_{name}"]) is not None]
            summary.update({f"{prefix}_{name}": fmean(scores)} if scores else {})
        unparsed = [n for line in lines if (n := line[f"{prefix}_unparsed"]) is not None]
        summary.update({f"{prefix}_unparsed": sum(unparsed)} if unparsed else {})
    return summary
