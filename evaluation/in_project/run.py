"""Ask the flow in the project the rows of a data file, and evaluate its answers there.

Two batch runs of Prompt flow, the second over the first, each under a name that is derived from
everything that decides its outcome. So the same command again finds what was run, follows what is
running, and runs again what failed.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from evaluation import wording
from evaluation.ask.evaluators import COMPUTED
from evaluation.ask.journal import USAGE_NODE, write_lines
from evaluation.ask.rows_in import read_data
from evaluation.in_project.flow_run import Done, FlowRuns, ProjectFlow
from evaluation.in_project.order import rows_file
from evaluation.results import Row
from setup.azure.client.session import AzureSession
from setup.common import console
from setup.common.errors import FixableError
from setup.common.flow_folder import clean_flow

_EVALUATOR = COMPUTED["answers"]
_ASKED = {"question": "${data.question}", "chat_history": "${data.chat_history}"}
_COLUMNS = ("id", "question", "chat_history", "ground_truth", "facts", "must_decline")
_DIGEST = 10  # characters of a hash in the name of a run


@dataclass(frozen=True)
class ProjectRun:
    """The outcome: ``n`` rows asked, of which ``ok`` were answered and ``error`` failed.

    ``chat`` and ``evaluation`` are the names of the runs, ``links`` where the portal shows them.
    """

    chat: str
    evaluation: str
    n: int
    ok: int
    error: int
    changed: bool
    metrics: dict[str, float] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)

    def text(self) -> str:
        """For people."""
        counts = f"n={self.n} ok={self.ok} error={self.error}"
        lines = [f"run {self.chat}: {counts}" + ("" if self.changed else " (unchanged)")]
        for name, value in sorted(self.metrics.items()):
            lines.append(f"  {wording.mean_of(name, value, ': ')}")
        return "\n".join(lines + [f"{name}: {link}" for name, link in self.links.items()])

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return asdict(self)


def run_in_project(
    session: AzureSession,
    data: Path | None = None,
    limit: int | None = None,
    max_error_rate: float = 0.05,
) -> ProjectRun:
    """Ask the chat flow the rows of ``data`` in the recipe's project, then evaluate the answers.

    Args:
        session: Of the recipe whose project, connection and endpoint.
        data: JSONL with the columns of data/README.md; None is the recipe's test split.
        limit: So many rows of it, the same each time.
        max_error_rate: The share of rows that may fail, 0 to 1.

    Raises:
        FixableError: Something that a step before leaves is missing, the user does not agree to
            what it costs, Azure refuses, a run fails, or too many of its lines do.
    """
    rows = read_data(rows_file(session, data), limit).rows
    lines = [{name: row[name] for name in _COLUMNS} for row in rows]
    runs = FlowRuns(session, max_error_rate)
    asked = runs.carry_out(_asking(session, lines, runs.served))
    scored = runs.carry_out(_scoring(session, lines, asked, _usage(runs, asked, len(lines))))
    links = {"answers": asked.link, "scores": scored.link}
    return ProjectRun(
        asked.name,
        scored.name,
        len(lines),
        asked.ok,
        len(lines) - asked.ok,
        asked.changed or scored.changed,
        runs.metrics(scored.name),
        {name: link for name, link in links.items() if link},
    )


def _asking(session: AzureSession, lines: list[Row], served: dict[str, Any]) -> ProjectFlow:
    flow = clean_flow("chat", session.recipe.connection)
    file = flow.folder.parent / "rows.jsonl"
    write_lines(file, lines)
    return ProjectFlow(
        _name(session, "chat", [flow.sha256, lines, served, session.recipe.connection]),
        flow.folder,
        file,
        _ASKED,
        connections={"chat": session.recipe.connection},
        rows=len(lines),
        expected=len(lines),
    )


def _scoring(
    session: AzureSession, lines: list[Row], asked: Done, usage: dict[int, Row]
) -> ProjectFlow:
    flow = clean_flow(_EVALUATOR.flow.name, session.recipe.connection)
    file = flow.folder.parent / "answered.jsonl"
    write_lines(file, [{**line, "usage": usage.get(n, {})} for n, line in enumerate(lines)])
    return ProjectFlow(
        _name(session, "scores", [flow.sha256, asked.name, *([] if usage else ["no usage"])]),
        flow.folder,
        file,
        dict(_EVALUATOR.columns),
        run=asked.name,
        rows=len(lines),
        expected=asked.ok,
    )


def _usage(runs: FlowRuns, asked: Done, rows: int) -> dict[int, Row]:
    """The tokens and seconds of each answer, out of the run's record: they are no output.

    Where the service does not tell, the answers are scored without, which one line says.
    """
    try:
        outputs = runs.node_outputs(asked.name, USAGE_NODE, rows)
        why = "its record holds none"
    except FixableError as error:
        outputs, why = {}, error.what
    usage = {line: output for line, output in outputs.items() if isinstance(output, dict)}
    if not usage:
        what = f"run {asked.name}: no latency and no tokens among the metrics, for {why}"
        console.err.print(what, markup=False)
    return usage


def _name(session: AzureSession, part: str, decides: list[Any]) -> str:
    content = json.dumps(decides, sort_keys=True).encode()
    return f"{session.recipe.name}-{part}-{hashlib.sha256(content).hexdigest()[:_DIGEST]}"
