"""One run of a flow through promptflow's SDK; imports promptflow only when it is called.

``pf run create`` gives every worker a process of its own, which costs seconds before the first
line, and memory. A line that waits for an endpoint needs neither: here lines are on threads of this
process. promptflow records the run as any other: ``pf run list``, ``show-details``,
``show-metrics`` and ``visualize`` show it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from evaluation.ask.evaluators import missing_verdicts
from evaluation.ask.journal import Journal, Outcome, line_key, write_lines
from evaluation.ask.watch import Watch
from evaluation.results import Row
from setup.common.errors import FixableError
from setup.common.json_rows import read_objects
from setup.common.paths import read_json
from setup.common.promptflow_store import quieten_promptflow


@dataclass(frozen=True)
class FlowRun:
    """The arguments of ``pf run create``: the flow, the data, the mapping, and over which run.

    ``connections`` gives a node another connection than the flow's own.
    """

    name: str
    flow: Path
    data: Path
    columns: dict[str, str]
    run: str = ""
    variant: str = ""
    connections: dict[str, str] = field(default_factory=dict)

    def arguments(self) -> dict[str, Any]:
        """Its fields for a client of promptflow, on this machine or of a project."""
        connections = {node: {"connection": name} for node, name in self.connections.items()}
        return {
            "flow": str(self.flow),
            "data": str(self.data),
            "run": self.run or None,
            "column_mapping": self.columns,
            "variant": self.variant or None,
            "connections": connections or None,
            "name": self.name,
        }

    def carry_out(self, watch: Watch) -> dict[str, float]:
        """Run it and return its metrics, as ``pf run show-metrics`` has them.

        Raises:
            FixableError: promptflow refused it, or so many lines failed one after another that it
                was given up.
            Interrupted: Ctrl-C; promptflow has recorded the run as failed.
        """
        from promptflow.exceptions import PromptflowException  # noqa: PLC0415 - two seconds

        from evaluation.ask.threads import on_threads  # noqa: PLC0415

        client = _client()
        with watch.watching(self.name):
            try:
                with on_threads(watch), _read_exactly():
                    run = client.run(**self.arguments())
            except PromptflowException as error:
                raise self._refused(str(error)) from None
            if run.status != "Completed":
                raise self._refused(_reason(Path(run.properties["output_path"])))
        return dict(client.get_metrics(self.name))

    def judge_lines(
        self, lines: Sequence[Row], journal: Journal, view: tuple[str, int, str], retry: bool
    ) -> tuple[dict[int, Outcome], dict[str, float]]:
        """Run it over ``lines`` of its own, and return the outcome of each, and the metrics.

        What ``journal`` has is not asked again; with ``retry``, what is no verdict is. ``view`` is
        the bar's label, the lines in flight at a time, and the fix to name when it is given up.
        """
        write_lines(self.data, lines)
        keys = [line_key(line) for line in lines]
        known = journal.recall(keys)
        if retry:
            known = {n: outcome for n, outcome in known.items() if not missing_verdicts(outcome)}

        def keep(outcome: Outcome) -> None:
            journal.append(replace(outcome, key=keys[outcome.line]))

        label, workers, again = view
        watch = Watch(label, len(lines) - len(known), workers, known, keep, again)
        with journal.writing():
            metrics = self.carry_out(watch)
        return journal.recall(keys), metrics

    def _refused(self, reason: str) -> FixableError:
        lines = reason.strip().splitlines() or ["no reason given"]
        return FixableError(
            f"run {self.name} of {self.flow.name} failed: {lines[0].rstrip('.')}",
            f"pf run show --name {self.name}, python -m setup doctor",
        )


@contextmanager
def _read_exactly() -> Iterator[None]:
    """Let promptflow take the values of JSON lines as they are while the block runs.

    It reads them through pandas, which makes a number of the text "007".
    """
    from promptflow.batch import _batch_inputs_processor as reader  # noqa: PLC0415 - two seconds

    by_pandas = reader.load_data

    def load_data(local_path: Path, **_: Any) -> list[dict[str, Any]]:
        return [row for _, row in read_objects(Path(local_path))[0]]

    reader.load_data = load_data
    try:
        yield
    finally:
        reader.load_data = by_pandas


def _client() -> Any:
    os.environ.setdefault("PF_TRACING_SKIP_LOCAL_SETUP", "true")
    from promptflow.client import PFClient  # noqa: PLC0415

    client = PFClient()
    quieten_promptflow()
    return client


def _recorded(name: str, client: Any = None) -> Any:
    """promptflow's record of the run ``name``, None where it has none."""
    from promptflow.exceptions import PromptflowException  # noqa: PLC0415

    try:
        return (client or _client()).runs.get(name) if name else None
    except PromptflowException:
        return None


def free_name(name: str) -> str:
    """``name``, or with the first number behind it that no run has yet."""
    client, attempt, candidate = _client(), 1, name
    while _recorded(candidate, client):
        attempt += 1
        candidate = f"{name}-{attempt}"
    return candidate


def is_completed(name: str) -> bool:
    """Tell whether promptflow has a run ``name`` that came to its end."""
    run = _recorded(name)
    return run is not None and run.status == "Completed"


def mark_ended(name: str) -> None:
    """Record a run that was killed as canceled: promptflow believes that it runs for ever."""
    run = _recorded(name)
    if run is not None and run.status == "Running":
        _client().runs.update(name, status="Canceled")


def _reason(folder: Path) -> str:
    """Read what promptflow wrote down as the cause of a failed run."""
    content = read_json(folder / "error.json") or {}
    message = content.get("message") or (content.get("batchError") or {}).get("message")
    return str(message or json.dumps(content)[:500])
