"""A language model as judge: one line a repeat, a score a row, and never of its own answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any
from urllib.parse import urlsplit

from evaluation.ask.connections import KnownConnection, stored_connection
from evaluation.ask.evaluators import FLOWS, Evaluator
from evaluation.ask.rows_in import Row
from evaluation.ask.rows_out import FAILED, missing_verdicts, replies_of
from evaluation.batch.journal import LineError, Outcome
from evaluation.results.folder import REPLIES, UNPARSED
from setup.common.errors import FixableError

JUDGES = {
    "judge": ("evaluate_with_judge", "judge"),
    "evals-judge": ("evaluate_with_evals_judge", "judges"),
}
WORKERS = 4
_CONNECT = "pf connection create --file connections/judge.yaml"
TEMPERATURE = 0.7  # repeats of a judge that always says the same would show no spread


@dataclass(frozen=True)
class JudgeConnection:
    """An OpenAI or Azure OpenAI connection and the model, or deployment, that judges."""

    name: str
    model: str
    address: str
    client: Any = field(repr=False)


@dataclass(frozen=True)
class JudgeEvaluator(Evaluator):
    """An evaluation flow around a judge, its lines repeated ``repeats`` times."""

    repeats: int = 1

    def own_lines(self, rows: Sequence[Row], asked: Mapping[int, Outcome]) -> list[Row]:
        """``repeats`` lines for every answered row, each with its row's number as ``row``."""
        shared = {"judge_model": self.settings["model"]}
        if self.repeats > 1:
            shared |= {"judge_temperature": TEMPERATURE}
        return [
            _line(number, row, asked[number]) | shared | {"repeat": repeat, "judge_seed": repeat}
            for number, row in enumerate(rows)
            if asked[number].error is None
            for repeat in range(self.repeats)
        ]

    def collect(
        self, lines: Sequence[Row] | None, outcomes: Mapping[int, Outcome]
    ) -> dict[int, Outcome]:
        """Means over a row's repeats; a row whose every repeat failed keeps the last error."""
        by_row: dict[int, list[Outcome]] = {}
        for number, line in enumerate(lines or ()):
            failed = Outcome(number, error=LineError("NotRun", "the judge was not asked"))
            by_row.setdefault(line["row"], []).append(outcomes.get(number, failed))
        return {row: _combine(row, repeats) for row, repeats in by_row.items()}

    def is_whole(self, outcome: Outcome) -> bool:
        """True where every reply to the line was a verdict."""
        return not missing_verdicts(outcome)


def make_judge(name: str, connection: JudgeConnection, repeats: int) -> JudgeEvaluator:
    """The evaluator ``name``, one of :data:`JUDGES`, judging through ``connection``."""
    folder, node = JUDGES[name]
    inputs = ["question", "answer", "ground_truth", "judge_model"]
    if name == "judge":
        inputs += ["row_id", "repeat", "chat_history", "judge_seed"]
        inputs += ["judge_temperature"] if repeats > 1 else []
    return JudgeEvaluator(
        name,
        FLOWS / folder,
        {name: f"${{data.{name}}}" for name in inputs},
        WORKERS,
        {node: connection.name},
        {"connection": connection.name, "model": connection.model, "repeats": repeats},
        repeats,
    )


def read_judge(name: str, model: str) -> JudgeConnection:
    """The judge's connection in promptflow's store.

    Raises:
        FixableError: There is none, it is of another kind, or no model is named.
    """
    from openai import OpenAIError  # noqa: PLC0415 - half a second

    connection = stored_connection(name, _CONNECT)
    if not model:
        raise FixableError("the judge has no model", "--judge-model NAME (Azure: the deployment)")
    kind = type(connection).__name__
    if kind not in ("OpenAIConnection", "AzureOpenAIConnection"):
        raise FixableError(f"connection {name} is a {kind}, no judge speaks through it", _CONNECT)
    try:
        _place(_address(connection))
        return JudgeConnection(name, model, _address(connection), _client(connection, kind))
    except (OpenAIError, ValueError) as error:
        raise FixableError(f"connection {name} is no use for a judge: {error}", _CONNECT) from None


def refuse_self_judging(judge: JudgeConnection, tested: Sequence[KnownConnection]) -> None:
    """Refuse a judge that is the model under test: it would grade its own answers.

    It is taken for the same where host and port are, and the judge's model is the connection's
    deployment or model, or the connection leaves the choice to the endpoint.

    Raises:
        FixableError: Naming both.
    """
    for connection in tested:
        settings = connection.settings
        named = {settings.deployment, settings.model} - {""}
        same_place = _place(settings.endpoint) == _place(judge.address)
        if same_place and (not named or judge.model in named):
            raise FixableError(
                f"the judge {judge.model} of connection {judge.name} is the model under test of "
                f"connection {connection.name}",
                "another judge, or --force-judge",
            )


def _client(connection: Any, kind: str) -> Any:
    from openai import AzureOpenAI, OpenAI  # noqa: PLC0415 - half a second

    if kind == "OpenAIConnection":
        return OpenAI(
            api_key=connection.api_key,
            base_url=connection.base_url,
            organization=connection.organization or None,
            timeout=60,
        )
    return AzureOpenAI(
        api_key=connection.api_key,
        azure_endpoint=connection.api_base,
        api_version=connection.api_version,
        timeout=60,
    )


def _address(connection: Any) -> str:
    return str(
        getattr(connection, "base_url", None)
        or getattr(connection, "api_base", None)
        or "https://api.openai.com/v1"
    )


def _place(url: str) -> tuple[str | None, int | None]:
    parts = urlsplit(url)
    host = "127.0.0.1" if parts.hostname == "localhost" else parts.hostname
    return host, parts.port or {"https": 443, "http": 80}.get(parts.scheme)


def _line(number: int, row: Row, asked: Outcome) -> Row:
    return {
        "row": number,
        "row_id": row["id"],
        "question": row["question"],
        "chat_history": row["chat_history"],
        "answer": (asked.outputs or {})["answer"],
        "ground_truth": row["ground_truth"],
    }


def _combine(row: int, repeats: Sequence[Outcome]) -> Outcome:
    judged = [outcome.outputs for outcome in repeats if outcome.outputs is not None]
    if not judged:
        return replace(repeats[-1], line=row)
    names = [name for name in judged[0] if not name.endswith(("_reason", "_unparsed"))]
    combined: dict[str, Any] = {}
    for name in names:
        values = [line[name] for line in judged if isinstance(line.get(name), int | float)]
        combined[name] = fmean(values) if values else None
    # Of a reply that is no verdict it is the text, which says more than another repeat's reason.
    told = sorted(judged, key=lambda line: not line.get("judge_unparsed"))
    combined["judge_reason"] = next(
        (line["judge_reason"] for line in told if line.get("judge_reason")), ""
    )
    combined[REPLIES] = sum(map(replies_of, repeats))
    combined[UNPARSED] = sum(map(missing_verdicts, repeats))
    combined[FAILED] = sum(outcome.error is not None for outcome in repeats)
    return Outcome(row, combined)
