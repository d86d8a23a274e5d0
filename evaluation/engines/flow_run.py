"""One run of a flow over a data file, whichever engine works its lines off."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from evaluation.ask.evaluators import missing_verdicts
from evaluation.ask.journal import Journal, Outcome, line_key, write_lines
from evaluation.ask.watch import Watch
from evaluation.results import Row


@dataclass(frozen=True)
class FlowRun:
    """The arguments of ``pf run create``: the flow, the data, the mapping, and over which run.

    ``connections`` gives a node another connection than the flow's own. ``answers`` are the outputs
    by line of the run it is over, for an engine that keeps no runs.
    """

    name: str
    flow: Path
    data: Path
    columns: dict[str, str]
    run: str = ""
    variant: str = ""
    connections: dict[str, str] = field(default_factory=dict)
    answers: Mapping[int, Row] | None = None

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


class Engine(ABC):
    """A way to run flows; its connections are in a store of their own."""

    name: str
    folders: Sequence[Path] = ()
    """Those with code of its own that decides answers, beside the flows."""
    keeps_runs = False
    """True where runs have a name that is free, begun, or ended in a store of the engine's."""

    @abstractmethod
    def carry_out(self, run: FlowRun, watch: Watch) -> dict[str, float]:
        """Work the lines of ``run`` off as ``watch`` says; returns its metrics.

        Raises:
            FixableError: The engine refused it, or so many lines failed one after another that it
                was given up.
            Interrupted: Ctrl-C.
        """

    @abstractmethod
    def connection(self, name: str, fix: str) -> Any:
        """The connection ``name``, of any kind, with its secrets.

        Raises:
            FixableError: There is none, or its secret cannot be read.
        """

    @abstractmethod
    def messages(self, template: str, **texts: str) -> Any:
        """The conversation of an LLM node's template."""

    def free_name(self, name: str) -> str:
        """``name``, or with the first number behind it that no run has yet."""
        return name

    def is_completed(self, name: str) -> bool:
        """Tell whether the engine has no use for a run ``name`` whose lines are all known."""
        del name
        return True

    def mark_ended(self, name: str) -> None:
        """Record a run that was killed as canceled, where runs are recorded."""
        del name

    def judge_lines(
        self,
        run: FlowRun,
        lines: Sequence[Row],
        journal: Journal,
        view: tuple[str, int, str],
        retry: bool,
    ) -> tuple[dict[int, Outcome], dict[str, float]]:
        """Carry ``run`` out over ``lines`` of its own: the outcome of each, and the metrics.

        What ``journal`` has is not asked again; with ``retry``, what is no verdict is. ``view`` is
        the bar's label, the lines in flight at a time, and the fix to name when it is given up.
        """
        write_lines(run.data, lines)
        keys = [line_key(line) for line in lines]
        known = journal.recall(keys)
        if retry:
            known = {n: outcome for n, outcome in known.items() if not missing_verdicts(outcome)}

        failed: dict[int, Outcome] = {}

        def keep(outcome: Outcome) -> None:
            journal.append(replace(outcome, key=keys[outcome.line]))
            failed.update({outcome.line: outcome} if outcome.error else {})

        label, workers, again = view
        watch = Watch(label, len(lines) - len(known), workers, known, keep, again)
        with journal.writing():
            metrics = self.carry_out(run, watch)
        return failed | journal.recall(keys), metrics
