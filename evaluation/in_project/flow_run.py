"""One batch run in the project: found, submitted, followed, its lines counted."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

from evaluation.engines.flow_run import FlowRun
from setup.azure.client.explain import AGAIN, one_line
from setup.azure.client.money import UNKNOWN, Billable, confirm
from setup.azure.client.names import derive_names
from setup.azure.client.session import AzureSession
from setup.azure.project import client as projects
from setup.common import console
from setup.common.errors import FixableError

_ENDED = ("Completed", "Failed", "Canceled")
_FINISHED = re.compile(r"Finished (\d+) / \d+ lines")
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 15.0  # seconds between two looks
_SLOWER = 1.5  # the factor from one pause to the next
_PATIENCE = 3  # looks in a row that may fail
_PAGE = 25  # lines of a run that are read at a time, as the portal does
_ENDPOINTS = "2024-04-01"
_STUCK = 45 * 60.0  # seconds without news; a compute session takes 10 minutes to start


@dataclass(frozen=True)
class ProjectFlow(FlowRun):
    """A run over ``rows`` of data, of which ``expected`` can have outputs.

    A row that failed in the run it is over cannot be evaluated.
    """

    rows: int = 0
    expected: int = 0


@dataclass(frozen=True)
class Done:
    """A run that has ended: ``ok`` of its lines have outputs; ``changed``: it ran just now."""

    name: str
    ok: int
    link: str
    changed: bool


class FlowRuns:
    """The runs of one project; ``max_error_rate`` of a run's lines may fail.

    ``served`` is which model answers there, by deployment, with its share of the traffic.
    """

    def __init__(self, session: AzureSession, max_error_rate: float) -> None:
        self._session, project = session, session.recipe.azure.project
        self._max_error_rate, self._agreed = max_error_rate, False
        with console.progress_bar(f"Opening project {project}"):
            self.served = _require_steps(self._session)
            with self._errors(f"running the flow in project {project}"):
                self._client = projects.project_client(self._session)

    def carry_out(self, flow_run: ProjectFlow) -> Done:
        """The finished run: as it was found, else followed or made.

        A run that failed is made again under the next number. One of which too many lines failed is
        resumed, so that what was answered is not asked again.
        """
        resumed, attempt = "", 1
        while True:
            name = flow_run.name if attempt == 1 else f"{flow_run.name}-{attempt}"
            run = self._find(name)
            if run is None or run.status not in _ENDED:
                break
            if run.status == "Completed":
                lines = self._lines(name, flow_run.rows)
                if self._good(_ok(lines), flow_run.expected):
                    return Done(name, _ok(lines), _link(run), changed=False)
                resumed = name
            attempt += 1
        if run is None:
            self._submit(flow_run, name, resumed)
        return self._finish(flow_run, name)

    def metrics(self, name: str) -> dict[str, float]:
        """Return what ``pfazure run show-metrics`` shows."""
        with self._errors(f"reading the metrics of run {name}"):
            return dict(self._client.get_metrics(name))

    def node_outputs(self, name: str, node: str, rows: int) -> dict[int, Any]:
        """Return what ``node`` put out for each line of a run, as far as the service kept it."""
        runs, outputs = self._client.runs, dict[int, Any]()
        for start in range(0, rows, _PAGE):
            with self._errors(f"reading what node {node} of run {name} put out"):
                page = runs._service_caller.caller.bulk_runs.get_flow_node_runs(
                    subscription_id=runs._operation_scope.subscription_id,
                    resource_group_name=runs._operation_scope.resource_group_name,
                    workspace_name=runs._operation_scope.workspace_name,
                    flow_run_id=name,
                    node_name=node,
                    start_index=start,
                    end_index=start + _PAGE - 1,
                    headers=runs._get_headers(),
                )
            outputs |= {line["index"]: line.get("output") for line in page or ()}
        return outputs

    def _find(self, name: str) -> Any:
        from promptflow._sdk._errors import RunNotFoundError

        for attempt in count(1):  # the client asks the run history once, and waits for nothing
            try:
                with self._errors(f"reading run {name}"):
                    try:
                        return self._client.runs.get(name)
                    except RunNotFoundError:
                        return None
            except FixableError:
                if attempt == _PATIENCE:
                    raise
            time.sleep(_FIRST_PAUSE * attempt)
        raise AssertionError("count never ends")

    def _errors(self, doing: str) -> contextlib.AbstractContextManager[None]:
        return projects.flow_errors(self._session, doing)

    def _submit(self, flow_run: ProjectFlow, name: str, resumed: str) -> None:
        from promptflow._sdk._errors import RunNotFoundError
        from promptflow.exceptions import PromptflowException

        self._agree()
        with self._errors(f"submitting run {name}"):
            try:
                if resumed:
                    self._client.run(resume_from=resumed, name=name)
                else:
                    self._client.run(**replace(flow_run, name=name).arguments(), display_name=name)
            except RunNotFoundError:
                return  # submitted, and not yet in the run history, which is asked next
            except PromptflowException as error:
                # The client repeats what got no answer, and the service says that it is there.
                if getattr(projects.azure_cause(error), "status_code", 0) != 409:
                    raise

    def _agree(self) -> None:
        if not self._agreed:
            what = f"compute session of project {self._session.recipe.azure.project}"
            until = "while runs last, and up to an hour after"
            confirm([Billable(what, "serverless, size chosen by Azure", 1, UNKNOWN, until)])
        self._agreed = True

    def _finish(self, flow_run: ProjectFlow, name: str) -> Done:
        run = self._follow(name, flow_run.rows)
        if run.status != "Completed":
            said = ((run._error or {}).get("error") or {}).get("message") or "no reason given"
            what = f"run {name} ended as {run.status}: {one_line(str(said))}"
            raise FixableError(what, f"see {_link(run) or 'the portal'}; then {AGAIN}")
        lines = self._lines(name, flow_run.rows)
        if not self._good(_ok(lines), flow_run.expected):
            raise self._too_many(name, lines, flow_run.expected, _link(run))
        return Done(name, _ok(lines), _link(run), changed=True)

    def _follow(self, name: str, rows: int) -> Any:
        """Look until it has ended, and say so when its status changes."""
        status, news = "", (time.monotonic(), "")
        with console.progress_bar(f"Run {name}", rows) as bar:
            for pause in _pauses():
                run = self._find(name)
                now = run.status if run else "NotStarted"  # the run history lags behind
                finished = self._finished(name) if now == "Running" else 0
                if now != status:
                    console.err.print(f"run {name}: {now}", markup=False)
                    status = now
                if run and now in _ENDED:
                    return run
                bar.update(console.TASK, completed=finished)
                if f"{now} {finished}" != news[1]:
                    news = (time.monotonic(), f"{now} {finished}")
                self._refuse_stuck(name, now, time.monotonic() - news[0])
                time.sleep(pause)
        raise AssertionError("the pauses never end")

    def _refuse_stuck(self, name: str, status: str, seconds: float) -> None:
        if seconds > _STUCK:
            what = f"run {name} is {status} without news for {seconds / 60:.0f} minutes"
            raise FixableError(what, f"see it in the portal; to go on following it, {AGAIN}")

    def _finished(self, name: str) -> int:
        try:
            with self._errors(f"reading the log of run {name}"):
                log = str(self._client.runs._get_log(flow_run_id=name) or "")
        except FixableError:
            return 0  # only the bar needs it, and there is none before the session has started
        counts = _FINISHED.findall(log)
        return int(counts[-1]) if counts else 0

    def _lines(self, name: str, rows: int) -> list[dict[str, Any]]:
        with self._errors(f"reading the lines of run {name}"):
            return list(self._client.runs._get_flow_runs_pagination(name, max_results=rows))

    def _good(self, ok: int, rows: int) -> bool:
        return ok > 0 and rows - ok <= self._max_error_rate * rows

    def _too_many(
        self, name: str, lines: list[dict[str, Any]], rows: int, link: str
    ) -> FixableError:
        error = rows - _ok(lines)
        said = [str((line.get("error") or {}).get("message") or "") for line in lines]
        last = one_line(next((text for text in reversed(said) if text), "no reason given"))
        return FixableError(
            f"n={rows} ok={rows - error} error={error}: {error / rows:.1%} of the lines of run "
            f"{name} failed, more than --max-error-rate {self._max_error_rate:.1%}, "
            f"the last with {last}",
            f"see {link or 'the portal'}; the same command asks the failed lines again",
        )


def _require_steps(session: AzureSession) -> dict[str, Any]:
    recipe = session.recipe
    projects.require_project(session)
    if not projects.is_there(session, f"/connections/{recipe.connection}"):
        what = f"project {recipe.azure.project} has no connection {recipe.connection}"
        raise FixableError(what, recipe.command("connect"))
    return served_models(session)


def served_models(session: AzureSession) -> dict[str, Any]:
    """Return which model answers: the endpoint's traffic, and the model of each with some."""
    recipe = session.recipe
    name = derive_names(recipe, session.subscription_id).endpoint
    path = f"{session.workspace_path()}/onlineEndpoints/{name}"
    with session.errors(f"reading endpoint {name}"):
        endpoint = session.arm.find(path, _ENDPOINTS)
        traffic = (endpoint or {}).get("properties", {}).get("traffic") or {}
        deployments = session.arm.list(f"{path}/deployments", _ENDPOINTS) if endpoint else []
    if not any(traffic.values()):
        lacks = "has no traffic" if endpoint else "is not there"
        raise FixableError(f"endpoint {name} {lacks}", recipe.command("deploy"))
    models = {
        deployment["name"]: deployment["properties"].get("model") for deployment in deployments
    }
    return {key: [share, models.get(key)] for key, share in traffic.items() if share}


def _ok(lines: list[dict[str, Any]]) -> int:
    return sum(line.get("status") == "Completed" for line in lines)


def _link(run: Any) -> str:
    return str(run._portal_url or "")


def _pauses() -> Iterator[float]:
    pause = _FIRST_PAUSE
    while True:
        yield pause
        pause = min(pause * _SLOWER, _LONGEST_PAUSE)
