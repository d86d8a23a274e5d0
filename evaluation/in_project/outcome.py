"""The input of a pipeline, rows, and its output: the folder of a run.

Both lie in the blob store of the recipe's workspace while the job works.
"""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from evaluation import results
from evaluation.ask.journal import USAGE_NODE, Journal, Outcome, write_lines
from evaluation.ask.rows_in import RunData
from evaluation.ask.run import ANSWERS, Evaluated, finished_row, summarise
from evaluation.failure import Failure
from evaluation.in_project import pipeline
from setup.azure.client.session import AzureSession
from setup.azure.data import blobs
from setup.azure.finetune.job_history import History, Run
from setup.common import console
from setup.common.errors import FixableError
from setup.common.paths import read_json, runs_folder, write_private

_FOLDER = "finetune-phi/evaluation"  # of the blob store
_PARTS = (pipeline.ANSWERS, pipeline.SCORES)
_COLUMNS = ("id", "question", "chat_history", "ground_truth", "facts", "must_decline")
_UNANSWERED = "NotAnswered"


class NothingAnsweredError(FixableError):
    """A job that completed without a single answer."""


@dataclass(frozen=True)
class RunOfJob:
    """The run that a job becomes.

    ``config`` is what decides about it, as config.json has it, and ``again`` the command that asks
    all rows anew.
    """

    name: str
    connection: str
    data: RunData
    request: results.Request
    nodes: int
    config: Mapping[str, Any]
    again: str

    @property
    def lines(self) -> list[results.Row]:
        """The rows as the flows take them."""
        return [{name: row[name] for name in _COLUMNS} for row in self.data.rows]

    @property
    def folder(self) -> Path:
        """The folder of its one side."""
        return runs_folder() / self.name / self.connection

    def refuse_other(self, first: str) -> None:
        """Refuse the name of a run that is none of the job whose first attempt is ``first``."""
        config = read_json(self.folder / results.CONFIG) or {}
        if not str(config.get("job") or "").startswith(first):
            results.refuse_existing(self.name)

    def known(self, job: str) -> results.RunFolder | None:
        """Everything that was brought back of the job before."""
        config = read_json(self.folder / results.CONFIG) or {}
        whole = (self.folder / results.SUMMARY).is_file()
        return results.open_run(self.folder) if whole and config.get("job") == job else None

    def upload(self, session: AzureSession, name: str) -> str:
        """Put the rows where the job reads them; their URI."""
        with tempfile.TemporaryDirectory(prefix="finetune-phi-") as folder:
            file = Path(folder) / "rows.jsonl"
            write_lines(file, self.lines)
            with (
                session.errors("uploading the rows"),
                console.counting("Uploading the rows") as told,
            ):
                return blobs.upload(session, file, f"{_FOLDER}/{name}/{file.name}", told)

    def bring_back(self, session: AzureSession, job: str) -> results.RunFolder:
        """Write the folder of what a completed job left.

        Raises:
            NothingAnsweredError: It answered no row.
            FixableError: It left what no flow leaves.
        """
        link = f"https://ml.azure.com/runs/{job}?wsid={session.workspace_path()}"
        with console.progress_bar("Bringing the results back"):
            with session.errors(f"reading what job {job} left"):
                answers, scores = (_by_line(session, job, part) for part in _PARTS)
            run, metrics = _history(session, job)
        if not answers:
            what = f"job {job} answered none of the {len(self.data.rows)} rows"
            why = f"see {link}: the log of step {pipeline.ASK} says why"
            raise NothingAnsweredError(what, f"{why}; then {self.again}")
        outcomes = {n: _outcome(n, answers.get(n), job, link) for n in range(len(self.data.rows))}
        scored = {n: Outcome(n, {"scores": score["scores"]}) for n, score in scores.items()}
        evaluated = [Evaluated(pipeline.EVALUATOR.name, scored, metrics)]
        self._write(outcomes, evaluated, {"job": job, "link": link}, run.hours * 3600)
        return results.open_run(self.folder)

    def _write(
        self,
        outcomes: Mapping[int, Outcome],
        evaluated: list[Evaluated],
        job: Mapping[str, str],
        seconds: float,
    ) -> None:
        folder, rows = self.folder, self.data.rows
        folder.mkdir(parents=True, exist_ok=True)
        (folder / results.SUMMARY).unlink(missing_ok=True)
        self.request.save(self.name)
        write_private(folder / results.CONFIG, self._config() | dict(job))
        write_lines(folder / "data.jsonl", rows)
        (folder / ANSWERS).unlink(missing_ok=True)
        Journal(folder / ANSWERS).extend(outcomes.values())
        finished = (finished_row(n, row, outcomes[n], evaluated) for n, row in enumerate(rows))
        write_lines(folder / results.ROWS, finished)
        pace = round(len(rows) / seconds, 3) if seconds else None
        summary = summarise(outcomes, evaluated) | {"pf_runs": {}, "workers": self.nodes}
        summary |= {"seconds": round(seconds, 3), "lines_per_second": pace}
        write_private(folder / results.SUMMARY, summary)

    def _config(self) -> dict[str, Any]:
        data = self.data
        return {
            "name": f"{self.name}/{self.connection}",
            "connection": self.connection,
            **self.config,
            "data": {"path": data.path.name, "sha256": data.sha256, "rows": len(data.rows)},
            "general": None,
            "notes": list(data.notes),
            "column_mapping": dict(data.mapping),
            "variant": "",
            "evaluators": {pipeline.EVALUATOR.name: {}},
            "limit": self.request.limit,
            "seed": self.request.seed,
            "workers": self.nodes,
            "engine": "azureml",
            "versions": {"python": platform.python_version()},
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
        }


def places(job: str) -> dict[str, str]:
    """The place of each output of a job, as a URI of the workspace's blob store."""
    store = f"azureml://datastores/{blobs.DATA_STORE}/paths"
    return {part: f"{store}/{_place(job, part)}" for part in _PARTS}


def _place(job: str, part: str) -> str:
    return f"{_FOLDER}/{job}/{part}/"


def _history(session: AzureSession, job: str) -> tuple[Run, dict[str, float]]:
    """The job, and what its scoring step logged of all rows."""
    with session.errors(f"reading the metrics of job {job}"):
        history = History(session)
        steps = [step for step in history.steps(job) if step.title == pipeline.SCORE]
        metrics = history.metrics(steps[-1].name) if steps else {}
        run = history.run(job)
    if not metrics:
        told = f"job {job} has logged no metrics: the means of a report are made of the rows"
        console.err.print(told, markup=False)
    return run, metrics


def _by_line(session: AzureSession, job: str, part: str) -> dict[int, results.Row]:
    """Return what a step put out for each line that did not fail, in whatever order it wrote it."""
    rows: dict[int, results.Row] = {}
    for text in blobs.read_lines(session, _place(job, part)):
        content: Any = None
        with suppress(orjson.JSONDecodeError):
            content = orjson.loads(text)
        if isinstance(content, dict) and isinstance(content.get("output"), dict):
            content = content["output"]
        if not isinstance(content, dict) or "line_number" not in content:
            what = f"job {job} left {part} that are no lines of a flow's outputs: {text[:60]!r}"
            raise FixableError(what, "see the job in the studio")
        rows[int(content.pop("line_number"))] = content
    return rows


def _outcome(line: int, answer: results.Row | None, job: str, link: str) -> Outcome:
    if answer is None:
        text = f"job {job} has no answer to this row; the log of its step {pipeline.ASK} says why"
        return Outcome(line, error=Failure(_UNANSWERED, text, f"see {link}"))
    usage = answer.get(USAGE_NODE)
    usage = usage if isinstance(usage, dict) else None
    return Outcome(line, {"answer": answer.get("answer")}, usage=usage)
