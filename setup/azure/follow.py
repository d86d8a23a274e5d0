"""Following a job until it ends; the job does not need it and goes on without."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from time import sleep
from typing import Any, NoReturn

from setup import console
from setup.azure.explain import explain, one_line
from setup.azure.history import WAITING, History, Run
from setup.azure.job_failure import explain_failure, likely_cause
from setup.azure.session import AzureSession, azure_errors
from setup.errors import FixableError

PAUSE = 15.0  # seconds between two looks, where the service names no pace of its own
_PATIENCE = 20  # looks in a row that say why no machine comes: five minutes
_LOST = 8  # looks in a row that may fail
_CLUSTERS = "2024-04-01"
_UNAUTHORIZED = 401
_MAY_PASS = (_UNAUTHORIZED, 408, 409, 429)


class Follower:
    """One job of the recipe's workspace.

    ``limit`` is in hours: a pipeline has no limit of its own in Azure, so the follower cancels it.
    """

    def __init__(self, session: AzureSession, job: str, command: str, limit: float) -> None:
        self.session, self.job, self.command, self.limit = session, job, command, limit
        self._history: History | None = None
        self._said = ""
        self._refusals = 0
        self._seen: datetime | None = None  # when it was first seen running

    def follow(self) -> None:
        """Tell how the job gets on until it has completed.

        Raises:
            FixableError: It failed, was cancelled, ran too long, gets no machine, or Azure cannot
                be asked any more.
            KeyboardInterrupt: After Ctrl-C, with a line that says how to go on.
        """
        try:
            self._follow()
        except KeyboardInterrupt:
            console.err.print(
                f"job {self.job} goes on in Azure, and costs; the same command follows it, "
                f"{self._cancel} ends it",
                markup=False,
            )
            raise

    @property
    def _cancel(self) -> str:
        azure = self.session.recipe.azure
        return (
            f"az ml job cancel --name {self.job} --resource-group {azure.resource_group} "
            f"--workspace-name {azure.workspace}"
        )

    def _follow(self) -> None:
        with console.err.status(f"job {self.job}") as status:
            while True:
                run, steps = self._look()
                self._tell(run, steps, status)
                if run.status == "Completed":
                    return
                if run.over:
                    raise explain_failure(self.session, run, steps)
                self._refuse_endless_wait(run, steps)
                if self._hours(run) > self.limit:
                    self._end()
                sleep((self._history and self._history.pace) or PAUSE)

    def _hours(self, run: Run) -> float:
        now = datetime.now(UTC)
        if run.status not in WAITING:
            self._seen = self._seen or now
        return run.hours(now, self._seen)

    def _look(self) -> tuple[Run, list[Run]]:
        """The job and its steps, through lost connections, throttling and expired tokens."""
        from azure.core.exceptions import AzureError  # noqa: PLC0415 - slow

        for failed in range(_LOST):
            try:
                self._history = self._history or History(self.session)
                return self._history.run(self.job), self._history.steps(self.job)
            except AzureError as error:
                if failed == _LOST - 1 or not _passes(error):
                    lost = explain(error, f"following job {self.job}")
                    going = f"the job goes on: {self.command} follows it"
                    raise FixableError(lost.what, f"{lost.fix}; {going}") from None
                if getattr(error, "status_code", None) == _UNAUTHORIZED:
                    self._sign_in_again()
                sleep(min(0.1 * 2**failed, PAUSE))
        raise AssertionError("the last try returns or raises")

    def _sign_in_again(self) -> None:
        """A credential gives out the token it has until that itself says it is over."""
        known = self.session.subscription
        self.session, self._history = AzureSession(self.session.recipe), None
        self.session.subscription = known

    def _tell(self, run: Run, steps: Sequence[Run], status: Any) -> None:
        """A line whenever something has changed; on a terminal also the minutes in between."""
        done = sum(step.status == "Completed" for step in steps)
        active = [step for step in steps if not step.over and step.status not in WAITING]
        parts = [run.status]
        if steps:
            parts.append(f"{done} of {len(steps)} steps done")
        parts += [f"{step.title} {step.status.lower()}" for step in active]
        line = ", ".join(parts)
        minutes = f"{self._hours(run) * 60:.0f} minutes"
        status.update(f"job {self.job}: {line}, {minutes}")
        if line != self._said:
            console.err.print(f"job {self.job}: {line} ({minutes})", markup=False)
        self._said = line

    def _refuse_endless_wait(self, run: Run, steps: Sequence[Run]) -> None:
        """Say why no machine comes, once it has been so for a while."""
        waiting = [one for one in (run, *steps) if one.status in WAITING]
        busy = any(not one.over and one.status not in WAITING for one in steps or [run])
        reason = "" if busy or not waiting else self._why_waiting(waiting)
        self._refusals = self._refusals + 1 if reason else 0
        if self._refusals < _PATIENCE:
            return
        _, fix = likely_cause(reason, [])
        raise FixableError(
            f"job {self.job} gets no machine: {one_line(reason)}",
            f"{fix}; the job waits for free, {self.command} follows it, {self._cancel} ends it",
        )

    def _why_waiting(self, waiting: Sequence[Run]) -> str:
        """What the cluster says against growing, else what the job waits for."""
        from azure.core.exceptions import AzureError  # noqa: PLC0415 - slow

        name = self.session.recipe.finetune.compute.name
        workspace = self.session.recipe.azure.workspace
        path = (
            f"{self.session.group_id}/providers/Microsoft.MachineLearningServices"
            f"/workspaces/{workspace}/computes/{name}"
        )
        try:
            found = (self.session.arm.find(path, _CLUSTERS) or {}).get("properties") or {}
            errors = (found.get("properties") or {}).get("errors") or found.get(
                "provisioningErrors"
            )
            for row in errors or []:
                error = row.get("error") or row
                return f"{error.get('code')}: {error.get('message')}"
            return self._history.waits_for(waiting[-1].name) if self._history else ""
        except AzureError:
            return ""  # the next look asks again

    def _end(self) -> NoReturn:
        with azure_errors(f"cancelling job {self.job}"):
            workspace = self.session.ml(self.session.recipe.azure.workspace)
            workspace.jobs.begin_cancel(self.job).wait()
        raise FixableError(
            f"job {self.job} ran longer than finetune.max_hours ({self.limit:g}) and was cancelled",
            "raise finetune.max_hours, or train on less; the same command starts a new attempt",
        )


def _passes(error: Any) -> bool:
    """Whether another look may succeed: no connection, throttled, a token that is over."""
    status = getattr(error, "status_code", None)
    return status is None or status in _MAY_PASS or status >= 500
