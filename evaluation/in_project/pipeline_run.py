"""An evaluation over several machines: submitted, followed, and brought back as a run's folder.

The job has a name that follows from everything that decides its outcome. So the same command again
finds it, follows it while it runs, and begins a new attempt only where one has failed.
"""

from __future__ import annotations

import hashlib
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
from setup.azure.client import money, waiting
from setup.azure.client.session import AzureSession
from setup.azure.data import blobs
from setup.azure.deploy.online_endpoint import ManagedEndpoint
from setup.azure.finetune.attempts import Attempt, attempt_name, last_of
from setup.azure.finetune.follow import Bounds, Follower
from setup.azure.finetune.job_history import History, Run
from setup.azure.project.connections import connect_project, connection_configs
from setup.azure.provision.batch_cluster import BatchCluster
from setup.common import console
from setup.common.errors import FixableError
from setup.common.paths import read_json, runs_folder, write_private

_DIGEST = 10  # characters of a hash in the name of a job
_FOLDER = "finetune-phi/evaluation"  # of the blob store
_UNANSWERED = "NotAnswered"


@dataclass(frozen=True)
class Order:
    """An evaluation that is asked for: the rows, over how many machines, again by which command."""

    data: RunData
    nodes: int
    served: Mapping[str, Any]
    command: str
    request: results.Request
    name: str = ""


class PipelineRun:
    """One evaluation by a pipeline, from its name to its folder."""

    def __init__(self, session: AzureSession, order: Order) -> None:
        self._session, self._recipe, self._order = session, session.recipe, order
        self._flows = pipeline.Flows.prepare(session.recipe.connection)
        self._endpoint = ManagedEndpoint(session)
        self._configs = connection_configs(session.recipe, self._endpoint.need())
        self._first = self._job_name()

    def _job_name(self) -> str:
        decides = [self._flows.sha256, self._lines, dict(self._order.served), self._configs]
        digest = hashlib.sha256(orjson.dumps(decides, option=orjson.OPT_SORT_KEYS)).hexdigest()
        return f"{self._recipe.name}-eval-{digest[:_DIGEST]}"

    @property
    def _lines(self) -> list[results.Row]:
        names = ("id", "question", "chat_history", "ground_truth", "facts", "must_decline")
        return [{name: row[name] for name in names} for row in self._order.data.rows]

    @property
    def name(self) -> str:
        """The name of the run, and of its folder."""
        return self._order.name or self._first

    @property
    def folder(self) -> Path:
        """The folder of its one side."""
        return runs_folder() / self.name / self._recipe.connection

    def carry_out(self, again: bool = False) -> results.RunFolder:
        """Find, follow or submit the job, and bring its results back.

        ``again`` submits a new one where rows of the last have failed.

        Raises:
            FixableError: Nobody agrees to the price, Azure refuses, the job fails, or it answered
                no row at all.
            KeyboardInterrupt: After Ctrl-C; the job goes on.
        """
        self._refuse_other_run()
        last = last_of(self._session, self._first)
        if last and last.completed:
            side = self._known(last.job) or self._bring_back(last.job)
            if not again or not (side.summary["error"] or side.summary["unscored"]):
                return side
        cluster = BatchCluster(self._session, self._order.nodes)
        job = last.job if last and not last.over else self._submit(cluster, last)
        Follower(self._session, job, self._order.command, self._bounds(cluster)).follow()
        return self._bring_back(job)

    def _bounds(self, cluster: BatchCluster) -> Bounds:
        hours = self._recipe.evaluation.max_hours
        return Bounds(cluster.compute, hours, "evaluation", "take more --nodes")

    def _known(self, job: str) -> results.RunFolder | None:
        """What was brought back of the job before."""
        config = read_json(self.folder / results.CONFIG) or {}
        whole = (self.folder / results.SUMMARY).is_file()
        return results.open_run(self.folder) if whole and config.get("job") == job else None

    def _refuse_other_run(self) -> None:
        config = read_json(self.folder / results.CONFIG)
        request = (runs_folder() / self.name / results.REQUEST).is_file()
        job = str((config or {}).get("job") or "")
        if (config or request) and not job.startswith(self._first):
            results.refuse_existing(self.name)

    def _submit(self, cluster: BatchCluster, last: Attempt | None) -> str:
        session, recipe = self._session, self._recipe
        name = attempt_name(self._first, last.number + 1 if last else 1)
        cluster.refuse_other()
        money.confirm([cluster.costs])
        cluster.ensure()
        key = self._endpoint.key()
        connect_project(session, self._configs, key, recipe.azure.workspace)
        self._flows.describe_tools()
        store = f"azureml://datastores/{blobs.DATA_STORE}/paths"
        places = {part: f"{store}/{_place(name, part)}" for part in _PARTS}
        rows = self._upload()
        job = pipeline.pipeline_job(recipe, self._flows, rows, self._order.nodes, places)
        job.name = job.display_name = name
        job.experiment_name = recipe.name
        job.tags = {**session.tags, "rows": str(len(self._lines))}
        try:
            with session.errors(f"submitting job {name}"), waiting.nothing_printed():
                session.ml().jobs.create_or_update(job)
        except KeyboardInterrupt:
            told = f"job {name} may run in Azure, and cost; the same command finds and follows it"
            console.err.print(told, markup=False)
            raise
        console.err.print(f"job {name} is submitted", markup=False)
        return name

    def _upload(self) -> str:
        with tempfile.TemporaryDirectory(prefix="finetune-phi-") as folder:
            file = Path(folder) / "rows.jsonl"
            write_lines(file, self._lines)
            path = f"{_FOLDER}/{self._first}/{file.name}"
            with (
                self._session.errors("uploading the rows"),
                console.counting("Uploading the rows") as told,
            ):
                return blobs.upload(self._session, file, path, told)

    def _bring_back(self, job: str) -> results.RunFolder:
        session, rows = self._session, self._order.data.rows
        with console.progress_bar("Bringing the results back"):
            with session.errors(f"reading what job {job} left"):
                answers, scores = (_by_line(session, job, part) for part in _PARTS)
            run, metrics = self._history(job)
        link = f"https://ml.azure.com/runs/{job}?wsid={session.workspace_path()}"
        outcomes = {n: _outcome(n, answers.get(n), job, link) for n in range(len(rows))}
        if not answers:
            fix = f"see {link}: the log of step {pipeline.ASK} says why; then {self._order.command}"
            fix += " --retry-errors"
            raise FixableError(f"job {job} answered none of the {len(rows)} rows", fix)
        scored = {n: Outcome(n, {"scores": score["scores"]}) for n, score in scores.items()}
        evaluated = [Evaluated(pipeline.EVALUATOR.name, scored, metrics)]
        self._write(job, link, run, outcomes, evaluated)
        return results.open_run(self.folder)

    def _history(self, job: str) -> tuple[Run, dict[str, float]]:
        """The job, and what its scoring step logged of all rows."""
        with self._session.errors(f"reading the metrics of job {job}"):
            history = History(self._session)
            steps = [step for step in history.steps(job) if step.title == pipeline.SCORE]
            metrics = history.metrics(steps[-1].name) if steps else {}
            return history.run(job), metrics

    def _write(
        self,
        job: str,
        link: str,
        run: Run,
        outcomes: Mapping[int, Outcome],
        evaluated: list[Evaluated],
    ) -> None:
        folder, rows = self.folder, self._order.data.rows
        folder.mkdir(parents=True, exist_ok=True)
        (folder / results.SUMMARY).unlink(missing_ok=True)
        self._order.request.save(self.name)
        write_private(folder / results.CONFIG, self._config(job, link))
        write_lines(folder / "data.jsonl", rows)
        (folder / ANSWERS).unlink(missing_ok=True)
        Journal(folder / ANSWERS).extend(outcomes.values())
        finished = (finished_row(n, row, outcomes[n], evaluated) for n, row in enumerate(rows))
        write_lines(folder / results.ROWS, finished)
        seconds = run.hours * 3600
        pace: dict[str, float | None] = {"seconds": round(seconds, 3)}
        pace["lines_per_second"] = round(len(rows) / seconds, 3) if seconds else None
        summary = summarise(outcomes, evaluated) | {"pf_runs": {}, "workers": self._order.nodes}
        write_private(folder / results.SUMMARY, summary | pace)

    def _config(self, job: str, link: str) -> dict[str, Any]:
        data, recipe = self._order.data, self._recipe
        hashes = {flow.name: flow.sha256 for flow in (self._flows.chat, self._flows.scores)}
        return {
            "name": f"{self.name}/{recipe.connection}",
            "connection": recipe.connection,
            "configs": self._configs,
            "data": {"path": data.path.name, "sha256": data.sha256, "rows": len(data.rows)},
            "general": None,
            "notes": list(data.notes),
            "column_mapping": dict(data.mapping),
            "flows": hashes,
            "variant": "",
            "evaluators": {pipeline.EVALUATOR.name: {}},
            "limit": self._order.request.limit,
            "seed": self._order.request.seed,
            "workers": self._order.nodes,
            "engine": "azureml",
            "job": job,
            "link": link,
            "recipe": recipe.model_dump(mode="json", exclude={"azure"}),
            "model": {"served": dict(self._order.served)},
            "versions": {"python": platform.python_version()},
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
        }


_PARTS = (pipeline.ANSWERS, pipeline.SCORES)


def _place(job: str, part: str) -> str:
    return f"{_FOLDER}/{job}/{part}/"


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
