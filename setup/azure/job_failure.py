"""Why a job failed, in one line, from what it printed and what Azure ML says of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from setup import console
from setup.azure.blobs import log_end
from setup.azure.explain import one_line
from setup.azure.history import Run
from setup.azure.session import AzureSession, azure_errors
from setup.errors import FixableError

_TABLE = Path(__file__).with_name("job_causes.yaml")
_LINES = 20  # of a failed step's log
_SAYS_ERROR = re.compile(r"^[\w.]*(?:Error|Exception)\b|\berror\b", re.IGNORECASE)
_AGAIN = "read the lines above and change the recipe; the same command then starts a new attempt"


def explain_failure(session: AzureSession, run: Run, steps: Sequence[Run]) -> FixableError:
    """Why an ended job did not complete; prints the end of the failing step's log.

    Raises:
        FixableError: Azure cannot be asked.
    """
    if run.status == "Canceled":
        return FixableError(
            f"job {run.name} was cancelled", "the same command starts a new attempt"
        )
    step = next((one for one in steps if one.status == "Failed"), run)
    with azure_errors(f"reading the log of job {step.name}"):
        name, lines = log_end(session, step.name, _LINES)
    if lines:
        console.err.print(f"the end of {name} of {step.title}:", markup=False)
        for line in lines:
            console.err.print(f"  {one_line(line)}", markup=False)
    cause, fix = likely_cause(step.error or run.error, lines)
    where = f" in step {step.title}" if step is not run else ""
    return FixableError(f"job {run.name} failed{where}: {cause}", fix)


def likely_cause(error: str, log: Sequence[str]) -> tuple[str, str]:
    """What probably went wrong, with the line that shows it, and what helps."""
    lines = [*reversed(log), error]  # a log ends with what is nearest to the failure
    for row in _causes():
        for line in lines:
            if re.search(row["sign"], line, re.IGNORECASE):
                return f"{row['cause']} ({one_line(line)})", row["fix"]
    last = next((line for line in reversed(log) if _SAYS_ERROR.search(line.strip())), error)
    return one_line(last) or "it gave no reason", _AGAIN


@cache
def _causes() -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = yaml.safe_load(_TABLE.read_text(encoding="utf-8"))
    return content
