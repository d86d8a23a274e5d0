"""Known causes of failures, by the signs they leave: ``job_causes`` and ``deployment_causes``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import yaml

from setup.azure.explain import one_line

Table = Literal["job", "deployment"]


class Cause(NamedTuple):
    """A probable cause, what helps, and the line that shows it."""

    cause: str
    fix: str
    line: str = ""


def likely_cause(table: Table, texts: Iterable[str], recipe: str = "NAME") -> Cause | None:
    """The first cause of the table that has left a sign in a line, as the last such line shows it.

    The line is cleared of secrets; ``recipe`` is what commands of the fix name. None where no sign
    is known.
    """
    lines = [line for text in texts for line in text.splitlines()]
    for row in _causes(table):
        for line in reversed(lines):
            if re.search(row["sign"], line, re.IGNORECASE):
                fix = row["fix"].replace("--recipe NAME", f"--recipe {recipe}")
                return Cause(row["cause"], fix, one_line(line))
    return None


@cache
def _causes(table: Table) -> list[dict[str, Any]]:
    path = Path(__file__).with_name(f"{table}_causes.yaml")
    content: list[dict[str, Any]] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return content
