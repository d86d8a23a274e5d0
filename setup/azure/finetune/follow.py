"""Following a job until it ends, and the reason why it did not complete, in one line.

The job does not need to be followed and goes on without.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any, NoReturn

from setup.azure.client import explain, waiting
from setup.azure.client.session import AzureSession
from setup.azure.data.blobs import log_end
from setup.azure.finetune.job_history import WAITING, History, Run
from setup.common import console
from setup.common.errors import FixableError
from setup.recipe.azure import AzureRecipe, Compute

if TYPE_CHECKING:
    from azure.core.exceptions import AzureError

_PATIENCE = 300.0  # seconds for which the cluster may be unable to grow
_LOST = 600.0  # seconds without an answer: not more, for nobody else ends a pipeline in time
_MAY_PASS = (401, 404, 408, 409, 429)  # 404: the history of a new job comes a little late
_LINES = 200  # of a failed step's log that are read
_SHOWN = 20  # of them that are shown and searched
_SAYS_ERROR = re.compile(r"^[\w.]*(?:Error|Exception)\b|\berror\b", re.IGNORECASE)
# torchrun ends the log of whatever failed in it with a traceback of its own, which says only that.
_LAUNCHER = re.compile(r"elastic/multiprocessing/api\.py.*\bfailed \(exitcode")
_AGAIN = "read the lines above and change the recipe; the same command then starts a new attempt"


@dataclass(frozen=True)
class Bounds:
    """The cluster of a job, and the hours it may work, which ``section``.max_hours says.

    ``less`` is what else shortens it.
    """

    compute: Compute
    hours: float
    section: str
    less: str

    @classmethod
    def of_training(cls, recipe: AzureRecipe) -> Bounds:
        """Those of the fine-tuning."""
        settings = recipe.finetune
        return cls(settings.compute, settings.max_hours, "finetune", "train on less")


class Follower:
    """One job of the recipe's workspace.

    The follower cancels what works for longer than ``bounds`` say: in Azure only command jobs take
    a limit, pipelines have none, and the steps inside a registry's component are not ours.
    https://learn.microsoft.com/azure/machine-learning/reference-yaml-job-pipeline
    """

    def __init__(self, session: AzureSession, job: str, command: str, bounds: Bounds) -> None:
        self.session, self.job, self.command, self.bounds = session, job, command, bounds
        self._history: History | None = None
        self._said = ""
        self._refused_since: float | None = None  # when the cluster was first seen unable to grow
        self._seen: datetime | None = None  # when it was first seen running

    def follow(self) -> None:
        """Tell how the job gets on until it has completed.

        After Ctrl-C a line says how to go on.
        """
        try:
            with console.err.status(f"job {self.job}") as status:
                waiting.wait_until(partial(self._is_completed, status), inf, waiting.PAUSE, "")
        except KeyboardInterrupt:
            console.err.print(
                f"job {self.job} goes on in Azure, and costs; the same command follows it, "
                f"{self._cancel} ends it",
                markup=False,
            )
            raise

    @property
    def _cancel(self) -> str:
        return self.session.recipe.command("cancel", self.job)

    def _is_completed(self, status: Any) -> bool:
        run, steps = self._look()
        self._tell(run, steps, status)
        if run.status == "Completed":
            return True
        if run.over:
            raise explain_failure(self.session, run, steps, self.bounds)
        self._refuse_endless_wait(run, steps)
        if self._hours(run, steps) > self.bounds.hours:
            self._end()
        return False

    def _hours(self, run: Run, steps: Sequence[Run]) -> float:
        """Return for how long machines have worked: a pipeline itself runs while its steps wait."""
        now = datetime.now(UTC)
        working = [part for part in steps or [run] if part.status not in WAITING]
        if not working:
            return 0.0
        self._seen = self._seen or now
        started = min((part.started for part in working if part.started), default=self._seen)
        return ((run.ended or now) - started).total_seconds() / 3600

    def _look(self) -> tuple[Run, list[Run]]:
        """Return the job and its steps, through lost connections, throttling, expired tokens."""
        from azure.core.exceptions import AzureError

        failures: list[AzureError] = []

        def ask() -> tuple[Run, list[Run]] | None:
            try:
                self._history = self._history or History(self.session)
                return self._history.run(self.job), self._history.steps(self.job)
            except AzureError as error:
                if not _passes(error):
                    raise self._lost(error) from None
                if getattr(error, "status_code", None) == explain.UNAUTHORIZED:
                    self.session.renew()
                    self._history = None
                if failures:
                    self._say(f"job {self.job}: no answer from Azure, asking again")
                failures.append(error)
                return None

        try:
            return waiting.wait_until(ask, _LOST, waiting.PAUSE, "")
        except waiting.NotYetError:
            raise self._lost(failures[-1]) from None

    def _lost(self, error: AzureError) -> FixableError:
        lost = explain.explain(error, f"following job {self.job}")
        going = f"the job goes on, and costs: {self.command} follows it, {self._cancel} ends it"
        return FixableError(lost.what, f"{lost.fix}; {going}")

    def _tell(self, run: Run, steps: Sequence[Run], status: Any) -> None:
        """A line whenever something has changed; on a terminal also the minutes in between."""
        done = sum(step.status == "Completed" for step in steps)
        active = [step for step in steps if not step.over and step.status not in WAITING]
        parts = [run.status]
        if steps:
            parts.append(f"{done} of {len(steps)} steps done")
        parts += [f"{step.title} {step.status.lower()}" for step in active]
        if any(step.status in WAITING for step in steps) and not active:
            parts.append("waiting for a machine")
        line = ", ".join(parts)
        minutes = f"{self._hours(run, steps) * 60:.0f} minutes"
        status.update(f"job {self.job}: {line}, {minutes}")
        self._say(f"job {self.job}: {line}", f" ({minutes})")

    def _say(self, line: str, more: str = "") -> None:
        """Print a line unless it was the last one; ``more`` may differ."""
        if line != self._said:
            console.err.print(line + more, markup=False)
        self._said = line

    def _refuse_endless_wait(self, run: Run, steps: Sequence[Run]) -> None:
        """Say why no machine comes, once the cluster has not been able to grow for a while."""
        waiting = [part for part in (run, *steps) if part.status in WAITING]
        busy = any(not part.over and part.status not in WAITING for part in steps or [run])
        reason = "" if busy or not waiting else self._why_no_machine()
        self._refused_since = (self._refused_since or monotonic()) if reason else None
        if self._refused_since is None or monotonic() - self._refused_since < _PATIENCE:
            return
        _, fix = what_went_wrong(self.session, [reason], [], self.bounds.section)
        raise FixableError(
            f"job {self.job} gets no machine: {explain.one_line(reason)}",
            f"{fix}; the job waits for free, {self.command} follows it, {self._cancel} ends it",
        )

    def _why_no_machine(self) -> str:
        """Return what the cluster says against growing, empty where it can or has its nodes."""
        try:
            cluster = self.session.find_cluster(self.bounds.compute.name) or {}
        except FixableError:
            return ""  # the next look asks again
        if int(cluster.get("currentNodeCount") or 0) >= self.bounds.compute.nodes:
            return ""
        for row in cluster.get("errors") or cluster.get("provisioningErrors") or []:
            error = row.get("error") or row
            return f"{error.get('code')}: {error.get('message')}"
        return ""

    def _end(self) -> NoReturn:
        with self.session.errors(f"cancelling job {self.job}"):
            self.session.ml().jobs.begin_cancel(self.job).wait()
        raise ran_too_long(self.job, self.bounds)


def _passes(error: Any) -> bool:
    """Tell whether another look may succeed: no connection, throttled, a token that is over."""
    if explain.is_signed_out(error):
        return False
    status = getattr(error, "status_code", None)
    return status is None or status in _MAY_PASS or status >= 500


def why_ended(session: AzureSession, job: str) -> str:
    """Read why a job that is over did not complete."""
    with session.errors(f"reading why job {job} ended"):
        history = History(session)
        run, steps = history.run(job), history.steps(job)
    return explain_failure(session, run, steps).what


def explain_failure(
    session: AzureSession, run: Run, steps: Sequence[Run], bounds: Bounds | None = None
) -> FixableError:
    """Explain why an ended job did not complete; prints the end of the failing step's log."""
    bounds = bounds or Bounds.of_training(session.recipe)
    if run.status == "Canceled":
        if run.hours >= bounds.hours:
            return ran_too_long(run.name, bounds)
        return FixableError(
            f"job {run.name} was cancelled", "the same command starts a new attempt"
        )
    step = next((part for part in steps if part.status == "Failed"), run)
    log, launcher = _read_log(session, step)
    cause, fix = what_went_wrong(session, [*launcher, step.error or run.error], log, bounds.section)
    where = f" in step {step.title}" if step is not run else ""
    return FixableError(f"job {run.name} failed{where}: {cause}", fix)


def ran_too_long(job: str, bounds: Bounds) -> FixableError:
    """The end of a job by its ``max_hours``, whether Azure kept it or the follower."""
    setting = f"{bounds.section}.max_hours"
    return FixableError(
        f"job {job} ran longer than {setting} ({bounds.hours:g}) and was cancelled",
        f"raise {setting}, or {bounds.less}; the same command starts a new attempt",
    )


def what_went_wrong(
    session: AzureSession, said: Sequence[str], log: Sequence[str], section: str = "finetune"
) -> tuple[str, str]:
    """Say what probably went wrong, with the line that shows it, and what helps.

    ``said`` is what others say of the job, the surest last; ``log`` what it printed itself. The
    cluster it worked on is the one of the recipe's ``section``.
    """
    if known := explain.likely_cause("job", [*said, *log], session.recipe.options):
        fix = known.fix.replace("finetune.compute", f"{section}.compute")
        return f"{known.cause} ({known.line})", fix
    last = next((line for line in reversed(log) if _SAYS_ERROR.search(line.strip())), said[-1])
    return explain.one_line(last) or "it gave no reason", _AGAIN


def _read_log(session: AzureSession, step: Run) -> tuple[list[str], list[str]]:
    """The end of what the step printed, which is shown too, and of what its launcher printed.

    Both are empty where the log cannot be read.
    """
    from azure.core.exceptions import AzureError

    try:
        name, lines = log_end(session, step.name, _LINES)
    except AzureError as error:  # what Azure ML says of the job is still worth telling
        console.err.print(
            explain.explain(error, f"reading the log of job {step.name}").what, markup=False
        )
        return [], []
    ends = next((n for n, line in enumerate(lines) if _LAUNCHER.search(line)), len(lines))
    own = lines[:ends][-_SHOWN:]
    if own:
        console.err.print(f"the end of {name} of {step.title}:", markup=False)
    for line in own:
        console.err.print(f"  {explain.one_line(line)}", markup=False)
    return own, lines[ends:]
