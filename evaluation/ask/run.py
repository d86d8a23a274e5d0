"""A run from its plans to its folders: ask, evaluate, write every row once."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from evaluation import results
from evaluation.ask import general
from evaluation.ask.evaluators import CHAT, FAILED, Evaluator, JudgeEvaluator
from evaluation.ask.journal import Journal, Outcome, write_lines
from evaluation.ask.plan import Plan
from evaluation.ask.reuse import EarlierAnswers
from evaluation.ask.watch import AGAIN, Watch
from evaluation.engines.flow_run import FlowRun
from evaluation.metrics import METRICS
from setup.common.errors import FixableError
from setup.common.paths import read_json, runs_folder, write_private

_STARTED = "pf_runs.json"
ANSWERS = "answers.jsonl"
_GENERAL_DATA, _GENERAL_ANSWERS = "data-general.jsonl", "answers-general.jsonl"
_FLOW_COLUMNS = ("ground_truth", "facts", "must_decline", "category")
_COLUMNS = {"question": "${data.question}", "chat_history": "${data.chat_history}"}


@dataclass(frozen=True)
class Run:
    """The finished sides of a run, the baseline first, and the folder around them."""

    name: str
    folder: Path
    sides: list[results.RunFolder]

    def too_many_failed(self, limit: float) -> FixableError | None:
        """The error where a larger share of rows of a side than ``limit`` is not whole.

        Those have no answer, no score or no verdict of the judge.
        """
        names = ("error", "unscored", "no_verdict")
        summaries = [side.summary for side in self.sides]
        share = max(sum(int(s.get(name, 0)) for name in names) / int(s["n"]) for s in summaries)
        if share <= limit:
            return None
        silent = sum(summary.get("no_verdict", 0) for summary in summaries)
        on = f" (on {silent} the judge gave no verdict)" if silent else ""
        return FixableError(
            f"{share:.1%} of the rows of run {self.name} failed{on}, more than "
            f"--max-error-rate {limit:.1%}",
            f"python -m evaluation run --retry-errors --name {self.name}",
        )


def carry_out(plans: Sequence[Plan], mode: results.Mode = "new") -> Run:
    """Make every planned run; a side that an interrupted run never reached is started.

    ``resume`` asks only what has neither an answer nor an error yet, ``retry`` also what has an
    error. A finished run with nothing left to ask is returned as it is.

    Raises:
        FixableError: Going on, the run is another one by now; promptflow refused it; or every line
            failed.
        Interrupted: Ctrl-C; what was answered is kept.
    """
    folder = runs_folder() / plans[0].name
    with _alone(folder):
        sides = [_Side(plan, mode if plan.is_begun else "new").make() for plan in plans]
    return Run(plans[0].name, folder, sides)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Two commands on one run would ask twice and write over each other."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", blocking=False):
            yield
    except Timeout:
        what = f"another command works on run {folder.name}"
        raise FixableError(what, "wait for it, or end it") from None


class _Side:
    """A run being made; ``pf_runs`` are the names promptflow knows its parts by."""

    def __init__(self, plan: Plan, mode: results.Mode) -> None:
        self.plan, self.mode, self.rows = plan, mode, plan.data.rows
        self.engine = plan.engine
        self.folder, self.data = plan.folder, plan.folder / "data.jsonl"
        self.journal = Journal(plan.folder / ANSWERS)
        self.pf_runs: dict[str, str] = read_json(plan.folder / _STARTED) or {}

    def make(self) -> results.RunFolder:
        """Ask what is missing, evaluate the answers, write rows and summary."""
        self.plan.begin(self.mode)
        if self.mode == "new" and self.plan.request.reuse:
            self._take_over()
        before, again = self.journal.read(), self.mode == "retry"
        known = {n: o for n, o in before.items() if o.error is None or not again}
        if len(known) == len(self.rows) and self._is_finished():
            return results.open_run(self.folder)
        (self.folder / results.SUMMARY).unlink(missing_ok=True)
        write_lines(self.data, self.rows)
        seconds = self._ask(known)
        outcomes = self.journal.read()
        self._refuse_nothing_answered(outcomes)
        evaluated = [self._evaluate(each, outcomes) for each in self.plan.evaluators]
        kept = self._ask_general()
        rows = (finished_row(n, row, outcomes[n], evaluated) for n, row in enumerate(self.rows))
        write_lines(self.folder / results.ROWS, rows)
        summary = summarise(outcomes, evaluated) | {"pf_runs": self.pf_runs}
        rate = round((len(self.rows) - len(known)) / seconds, 3) if seconds else None
        summary |= {"general": kept} if kept else {}
        summary |= {"workers": self.plan.workers, "seconds": round(seconds, 3)}
        write_private(self.folder / results.SUMMARY, summary | {"lines_per_second": rate})
        return results.open_run(self.folder)

    def _take_over(self) -> None:
        """Answer from earlier runs what they have; config.json says how much is from where."""
        earlier = EarlierAnswers(self.plan.config())
        known = earlier.of(self.rows, self.data.name, ANSWERS, self.plan.request.variant)
        self.journal.extend(known)
        if self.plan.general:
            known = earlier.of(self.plan.general.lines, _GENERAL_DATA, _GENERAL_ANSWERS)
            Journal(self.folder / _GENERAL_ANSWERS).extend(known)
        self.plan.note_reused(earlier.taken)

    def _is_finished(self) -> bool:
        """Tell if summary and rows are there; an answer without a score is one more to retry."""
        summary, rows = read_json(self.folder / results.SUMMARY), self.folder / results.ROWS
        if summary is None or not rows.is_file():
            return False
        if self.mode == "retry" and (summary["unscored"] or summary.get("no_verdict")):
            return False
        if self.plan.general and not self._knows_general(summary):
            return False
        return rows.read_bytes().count(b"\n") == len(self.rows)

    def _knows_general(self, summary: Mapping[str, Any]) -> bool:
        kept = summary.get("general")
        again = self.mode == "retry" and kept and kept["error"]
        return bool(kept) and not again and (self.folder / results.GENERAL).is_file()

    def _ask_general(self) -> dict[str, Any] | None:
        """Ask what is missing of the general questions and write their rows; what to count."""
        questions, connection = self.plan.general, self.plan.connection.name
        if questions is None:
            return None
        flow_run = FlowRun(
            self._name("general"),
            CHAT,
            self.folder / _GENERAL_DATA,
            _COLUMNS,
            variant=general.VARIANT,
            connections={"chat": connection},
        )
        journal = Journal(self.folder / _GENERAL_ANSWERS)
        view = (f"General questions, {connection}", self.plan.workers, AGAIN)
        answered, _ = self.engine.judge_lines(flow_run, questions.lines, journal, view, retry=False)
        rows = list(questions.scored(journal.read() | answered))
        write_lines(self.folder / results.GENERAL, rows)
        return general.count(rows)

    def _ask(self, known: Mapping[int, Outcome]) -> float:
        """Run the chat flow over the lines that are not known; seconds it took."""
        missing = len(self.rows) - len(known)
        if not missing and self.engine.is_completed(self.pf_runs.get("chat", "")):
            return 0.0
        connection, variant = self.plan.connection.name, self.plan.request.variant
        flow_run = FlowRun(
            self._name("chat"),
            CHAT,
            self.data,
            _COLUMNS,
            variant=variant,
            connections={"chat": connection},
        )
        label, keep = f"Asking {connection}", self.journal.append
        started = time.monotonic()
        with self.journal.writing():
            self.engine.carry_out(flow_run, Watch(label, missing, self.plan.workers, known, keep))
        return time.monotonic() - started

    def _refuse_nothing_answered(self, outcomes: Mapping[int, Outcome]) -> None:
        failures = [outcome.error for outcome in outcomes.values() if outcome.error]
        if len(failures) == len(outcomes):
            raise FixableError(
                f"every line of run {self.plan.name}/{self.plan.connection.name} failed "
                f"({len(failures)} of {len(failures)}), the last with {failures[-1]}",
                f"{failures[-1].fix or 'python -m setup doctor'}; then the same command with "
                "--retry-errors",
            )

    def _evaluate(self, evaluator: Evaluator, asked: Mapping[int, Outcome]) -> Evaluated:
        """Run an evaluation flow over the answers; what it says of each row, and its metrics.

        It is over the chat run and its data with each answer's usage, which is no output of the
        chat flow, so promptflow cannot map it from there; or over the evaluator's own lines.
        """
        name, judges = evaluator.name, isinstance(evaluator, JudgeEvaluator)
        journal = Journal(self.folder / f"evaluated-{name}.jsonl")
        flow_run = FlowRun(
            self._name(name),
            evaluator.flow,
            self.folder / f"data-{name}.jsonl",
            dict(evaluator.columns),
            run="" if judges else self.pf_runs.get("chat", ""),
            answers=None if judges else {n: o.outputs for n, o in asked.items() if o.outputs},
            connections=dict(evaluator.connections),
        )
        label, workers = f"Evaluating {self.plan.connection.name}: {name}", evaluator.workers
        if isinstance(evaluator, JudgeEvaluator):
            lines = evaluator.lines(self.rows, asked)
            view, retry = (label, workers, AGAIN), self.mode == "retry"
            outcomes, metrics = self.engine.judge_lines(flow_run, lines, journal, view, retry)
            return Evaluated(name, evaluator.collect(lines, outcomes), metrics)
        journal.path.unlink(missing_ok=True)
        usages = [{"usage": asked[number].usage or {}} for number in range(len(self.rows))]
        rows = zip(self.rows, usages, strict=True)
        write_lines(flow_run.data, (row | usage for row, usage in rows))
        total = sum(outcome.error is None for outcome in asked.values())
        with journal.writing():
            watch = Watch(label, total, workers, {}, journal.append)
            metrics = self.engine.carry_out(flow_run, watch)
        return Evaluated(name, journal.read(), metrics)

    def _name(self, part: str) -> str:
        """A name for a part of the run, on disk before the engine has it, if it keeps runs."""
        name = f"{self.plan.name}-{self.plan.connection.name}-{part}"
        if not self.engine.keeps_runs:
            return name
        if part in self.pf_runs:
            self.engine.mark_ended(self.pf_runs[part])
        name = self.engine.free_name(name)
        self.pf_runs[part] = name
        write_private(self.folder / _STARTED, self.pf_runs)
        return name


@dataclass(frozen=True)
class Evaluated:
    """The result of an evaluation flow: an outcome for each answered line, and its metrics."""

    name: str
    lines: Mapping[int, Outcome]
    metrics: Mapping[str, float]

    def has_failed_on(self, line: int) -> bool:
        """True where the flow failed on the line, in one repeat or all."""
        outcome = self.lines.get(line)
        return outcome is None or bool(outcome.error or (outcome.outputs or {}).get(FAILED))


def finished_row(
    line: int, row: results.Row, asked: Outcome, evaluated: Sequence[Evaluated]
) -> results.Row:
    """The row as rows.jsonl has it; a failed one keeps its error and has no score."""
    outputs = asked.outputs or {}
    content: results.Row = {
        "id": row["id"],
        "line": line,
        "inputs": {"question": row["question"], "chat_history": row["chat_history"]},
        **{column: row[column] for column in _FLOW_COLUMNS},
        "answer": outputs.get("answer"),
        "error": asked.error and asked.error.as_dict(),
        "scores": {},
        "reasons": {},
    }
    for each in evaluated if asked.error is None else ():
        _add_scores(content, each.name, each.lines.get(line))
    return content


def _add_scores(content: results.Row, evaluator: str, outcome: Outcome | None) -> None:
    if outcome is None or outcome.error:
        why = (
            f"{outcome.error.kind}: {outcome.error.line}"
            if outcome and outcome.error
            else "not run"
        )
        content["reasons"][evaluator] = f"{results.NOT_EVALUATED}{why}"
        return
    for name, value in _values(outcome).items():
        if name in {results.REPLIES, results.UNPARSED}:
            content[name] = content.get(name, 0) + value
        elif name in METRICS:
            content["scores"][name] = value
        elif name not in {"scores", FAILED} and value not in (None, ""):
            content["reasons"][name] = value


def _values(outcome: Outcome) -> dict[str, Any]:
    outputs = outcome.outputs or {}
    return {**outputs, **outputs.get("scores", {})}


def summarise(outcomes: Mapping[int, Outcome], evaluated: Sequence[Evaluated]) -> dict[str, Any]:
    """The counts first, then the metrics exactly as promptflow aggregated them.

    ``unscored`` counts answers that an evaluation flow failed on, in one repeat or all,
    ``no_verdict`` the others of which a judge said something that is no verdict; ``scored`` how
    many have a score, by metric.
    """
    answered = [line for line, outcome in outcomes.items() if outcome.error is None]
    unscored = {n for each in evaluated for n in answered if each.has_failed_on(n)}
    lines = [(n, _values(o)) for each in evaluated for n, o in each.lines.items()]
    silent = {line for line, values in lines if values.get(results.UNPARSED)}
    scored = Counter(
        name
        for _, values in lines
        for name, value in values.items()
        if name in METRICS and value is not None
    )
    return {
        "n": len(outcomes),
        "ok": len(answered),
        "error": len(outcomes) - len(answered),
        "unscored": len(unscored),
        "no_verdict": len(silent - unscored),
        "scored": dict(scored),
        "metrics": {name: value for each in evaluated for name, value in each.metrics.items()},
    }
