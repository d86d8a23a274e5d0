"""The reason why a job did not complete, in one line: what it printed, what Azure ML says."""

from __future__ import annotations

import re
from collections.abc import Sequence

from setup.azure.client.explain import explain, likely_cause, one_line
from setup.azure.client.session import AzureSession
from setup.azure.data.blobs import log_end
from setup.azure.finetune.job_history import Run
from setup.common import console
from setup.common.errors import FixableError

_LINES = 200  # of a failed step's log that are read
_SHOWN = 20  # of them that are shown and searched
_SAYS_ERROR = re.compile(r"^[\w.]*(?:Error|Exception)\b|\berror\b", re.IGNORECASE)
# torchrun ends the log of whatever failed in it with a traceback of its own, which says only that.
_LAUNCHER = re.compile(r"elastic/multiprocessing/api\.py.*\bfailed \(exitcode")
_AGAIN = "read the lines above and change the recipe; the same command then starts a new attempt"


def explain_failure(session: AzureSession, run: Run, steps: Sequence[Run]) -> FixableError:
    """Explain why an ended job did not complete; prints the end of the failing step's log."""
    if run.status == "Canceled":
        limit = session.recipe.finetune.max_hours
        if run.hours >= limit:
            return ran_too_long(run.name, limit)
        return FixableError(
            f"job {run.name} was cancelled", "the same command starts a new attempt"
        )
    step = next((part for part in steps if part.status == "Failed"), run)
    log, launcher = _read_log(session, step)
    cause, fix = what_went_wrong(session, [*launcher, step.error or run.error], log)
    where = f" in step {step.title}" if step is not run else ""
    return FixableError(f"job {run.name} failed{where}: {cause}", fix)


def ran_too_long(job: str, limit: float) -> FixableError:
    """The end of a job by ``finetune.max_hours``, whether Azure kept it or the follower."""
    return FixableError(
        f"job {job} ran longer than finetune.max_hours ({limit:g}) and was cancelled",
        "raise finetune.max_hours, or train on less; the same command starts a new attempt",
    )


def what_went_wrong(
    session: AzureSession, said: Sequence[str], log: Sequence[str]
) -> tuple[str, str]:
    """Say what probably went wrong, with the line that shows it, and what helps.

    ``said`` is what others say of the job, the surest last; ``log`` what it printed itself.
    """
    if known := likely_cause("job", [*said, *log], session.recipe.options):
        return f"{known.cause} ({known.line})", known.fix
    last = next((line for line in reversed(log) if _SAYS_ERROR.search(line.strip())), said[-1])
    return one_line(last) or "it gave no reason", _AGAIN


def _read_log(session: AzureSession, step: Run) -> tuple[list[str], list[str]]:
    """The end of what the step printed, which is shown too, and of what its launcher printed.

    Both are empty where the log cannot be read.
    """
    from azure.core.exceptions import AzureError  # noqa: PLC0415 - slow

    try:
        name, lines = log_end(session, step.name, _LINES)
    except AzureError as error:  # what Azure ML says of the job is still worth telling
        console.err.print(explain(error, f"reading the log of job {step.name}").what, markup=False)
        return [], []
    ends = next((n for n, line in enumerate(lines) if _LAUNCHER.search(line)), len(lines))
    own = lines[:ends][-_SHOWN:]
    if own:
        console.err.print(f"the end of {name} of {step.title}:", markup=False)
    for line in own:
        console.err.print(f"  {one_line(line)}", markup=False)
    return own, lines[ends:]
