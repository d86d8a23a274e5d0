"""One run from its plan to its folder: ask, evaluate, write every row once."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from evaluation.ask.evaluators import CHAT, Evaluator
from evaluation.ask.plan import Plan, refuse_changes
from evaluation.ask.rows_in import Row
from evaluation.ask.rows_out import Evaluated, as_row, summarise
from evaluation.batch.journal import Journal, Outcome, line_key, recall, write_lines
from evaluation.batch.pf_run import FlowRun, free_name, is_completed, mark_ended
from evaluation.batch.watch import run_watched
from evaluation.results.folder import CONFIG, ROWS, SUMMARY, RunFolder, open_run
from evaluation.results.request import Mode
from setup.common.errors import FixableError
from setup.common.paths import read_json, write_private

_DATA, _JOURNAL, _STARTED = "data.jsonl", "answers.jsonl", "pf_runs.json"
_COLUMNS = {"question": "${data.question}", "chat_history": "${data.chat_history}"}


def make_run(plan: Plan, mode: Mode = "new") -> RunFolder:
    """Carry ``plan`` out and return the finished run.

    ``resume`` asks only what has neither an answer nor an error yet, ``retry`` also what has an
    error. A finished run with nothing left to ask is returned as it is.

    Raises:
        FixableError: Going on, the run is another one by now; promptflow refused it; or every line
            failed.
        Interrupted: Ctrl-C; what was answered is kept.
    """
    config = plan.config()
    if mode == "new":
        write_private(plan.folder / CONFIG, config)
    else:
        refuse_changes(plan.folder, config)
    side = _Side(plan, read_json(plan.folder / _STARTED) or {})
    known = {n: o for n, o in side.journal.read().items() if o.error is None or mode == "resume"}
    if len(known) == len(plan.data.rows) and _is_finished(plan, mode):
        return open_run(plan.folder)
    (plan.folder / SUMMARY).unlink(missing_ok=True)
    write_lines(side.data, plan.data.rows)
    seconds = side.ask(known)
    outcomes = side.journal.read()
    _refuse_nothing_answered(plan, outcomes)
    evaluated = [side.evaluate(evaluator, mode) for evaluator in plan.evaluators]
    rows = (as_row(n, row, outcomes[n], evaluated) for n, row in enumerate(plan.data.rows))
    write_lines(plan.folder / ROWS, rows)
    summary = summarise(outcomes, evaluated, side.pf_runs, plan.workers)
    rate = round((len(plan.data.rows) - len(known)) / seconds, 3) if seconds else None
    summary |= {"seconds": round(seconds, 3), "lines_per_second": rate}
    write_private(plan.folder / SUMMARY, summary)
    return open_run(plan.folder)


@dataclass
class _Side:
    """A run being made; ``pf_runs`` are the names promptflow knows its parts by."""

    plan: Plan
    pf_runs: dict[str, str]

    @property
    def data(self) -> Path:
        return self.plan.folder / _DATA

    @property
    def journal(self) -> Journal:
        return Journal(self.plan.folder / _JOURNAL)

    def ask(self, known: Mapping[int, Outcome]) -> float:
        """Run the chat flow over the lines that are not known; seconds it took."""
        missing = len(self.plan.data.rows) - len(known)
        if not missing and is_completed(self.pf_runs.get("chat", "")):
            return 0.0
        connection = self.plan.connection.name
        flow_run = FlowRun(
            self._name("chat"),
            CHAT,
            self.data,
            _COLUMNS,
            variant=self.plan.variant,
            connections={"chat": connection},
        )
        label, journal, started = f"Asking {connection}", self.journal, time.monotonic()
        with journal.writing():
            run_watched(flow_run, label, missing, self.plan.workers, known, [journal.append])
        return time.monotonic() - started

    def evaluate(self, evaluator: Evaluator, mode: Mode) -> Evaluated:
        """Run an evaluation flow over the answers; what it says of each row, and its metrics."""
        asked = self.journal.read()
        lines = evaluator.own_lines(self.plan.data.rows, asked)
        journal = Journal(self.plan.folder / f"evaluated-{evaluator.name}.jsonl")
        if lines is None:
            journal.path.unlink(missing_ok=True)
        keys = [line_key(line) for line in lines or ()]
        known = recall(journal, keys)
        if mode == "retry":
            known = {
                line: outcome for line, outcome in known.items() if evaluator.is_whole(outcome)
            }
        total = len(keys) or sum(outcome.error is None for outcome in asked.values())
        flow_run = self._evaluation(evaluator, lines, asked)

        def keep(outcome: Outcome) -> None:
            journal.append(replace(outcome, key=keys[outcome.line]) if keys else outcome)

        label = f"Evaluating {self.plan.connection.name}: {evaluator.name}"
        with journal.writing():
            metrics = run_watched(
                flow_run, label, total - len(known), evaluator.workers, known, [keep]
            )
        outcomes = recall(journal, keys) if keys else journal.read()
        return Evaluated(evaluator.name, evaluator.collect(lines, outcomes), metrics)

    def _evaluation(
        self, evaluator: Evaluator, lines: Sequence[Row] | None, asked: Mapping[int, Outcome]
    ) -> FlowRun:
        """Over the chat run and its data with each answer's usage, or over the evaluator's lines.

        The usage is no output of the chat flow, so promptflow cannot map it from the chat run.
        """
        data = self.plan.folder / f"data-{evaluator.name}.jsonl"
        rows = enumerate(self.plan.data.rows)
        with_usage = ({**row, "usage": asked[n].usage or {}} for n, row in rows)
        write_lines(data, with_usage if lines is None else lines)
        return FlowRun(
            self._name(evaluator.name),
            evaluator.flow,
            data,
            dict(evaluator.columns),
            run=self.pf_runs["chat"] if lines is None else "",
            connections=dict(evaluator.connections),
        )

    def _name(self, part: str) -> str:
        """A name for a part of the run, on disk before promptflow has it."""
        if part in self.pf_runs:
            mark_ended(self.pf_runs[part])
        self.pf_runs[part] = free_name(f"{self.plan.name}-{self.plan.connection.name}-{part}")
        write_private(self.plan.folder / _STARTED, self.pf_runs)
        return self.pf_runs[part]


def _is_finished(plan: Plan, mode: Mode) -> bool:
    """Tell whether summary and rows are there; an answer without a score is one more to retry."""
    summary, rows = read_json(plan.folder / SUMMARY), plan.folder / ROWS
    if summary is None or not rows.is_file():
        return False
    if mode == "retry" and (summary["unscored"] or summary.get("no_verdict")):
        return False
    return rows.read_bytes().count(b"\n") == len(plan.data.rows)


def _refuse_nothing_answered(plan: Plan, outcomes: Mapping[int, Outcome]) -> None:
    errors = [outcome.error for outcome in outcomes.values() if outcome.error]
    if len(errors) == len(outcomes):
        last, _, fix = f"{errors[-1].type}: {errors[-1].message}".partition(". Fix: ")
        raise FixableError(
            f"every line of run {plan.name}/{plan.connection.name} failed ({len(errors)} of "
            f"{len(errors)}), the last with {last}",
            f"{fix or 'python -m setup doctor'}; then the same command with --retry-errors",
        )
