"""The reading of finished runs: comparison, gates and report, found together and printed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import typer

from evaluation import gate, metrics, wording
from evaluation.compare.compare import compare_runs
from evaluation.compare.comparison import Comparison
from evaluation.compare.table import Table, read_table
from evaluation.report import terminal
from evaluation.report.write import ReportFiles, write_report
from evaluation.results import RunFolder
from setup.cli.options import show
from setup.common import console
from setup.common.errors import FixableError

_GATE_FAILED = 3  # the exit code


@dataclass(frozen=True)
class Finding:
    """One run, or a baseline and a candidate, and what was found."""

    sides: Sequence[RunFolder]
    content: Comparison | Table
    gates: Sequence[gate.GateResult]
    files: ReportFiles | None

    @classmethod
    def of(
        cls,
        sides: Sequence[RunFolder],
        folder: Path | None = None,
        *,
        primary: str = "",
        seed: int = 0,
        gates: Path | None = None,
    ) -> Finding:
        """Compare the first with the last of ``sides``, check ``gates``, report into ``folder``."""
        *baselines, last = sides
        comparison: Comparison | None = None
        with console.progress_bar("Comparing" if baselines else "Reading the run"):
            if baselines:
                comparison = compare_runs(baselines[0], last, primary=primary, seed=seed)
            table = comparison.tables[-1] if comparison else read_table(last)
            results = gate.check_gates(gates, table, comparison) if gates else []
        content, files = comparison or table, None
        if folder:
            with console.progress_bar("Writing the report"):
                files = write_report(folder, content, results)
        return cls(sides, content, results, files)

    @property
    def tables(self) -> tuple[Table, ...]:
        """The numbers of each side."""
        return (self.content,) if isinstance(self.content, Table) else self.content.tables

    @staticmethod
    def check_names(primary: str, gates: Path | None) -> None:
        """Refuse before the first row what would be refused after the last."""
        if primary:
            metrics.known_metric(primary)
        if gates:
            gate.load_gates(gates)

    def print(
        self, as_json: bool, *, only_gates: bool = False, problem: FixableError | None = None
    ) -> None:
        """Print it for people, or as one JSON object, which says ``problem`` as well; exit by it.

        A ``problem`` ends the command with exit code 1.
        """
        if as_json:
            error = {"ok": False, "error": problem.what, "fix": problem.fix} if problem else {}
            show(self._as_dict() | error, "", as_json)
        else:
            self._print(only_gates)
        if problem:
            raise typer.Exit(1) if as_json else problem

    def exit_by_gates(self) -> None:
        """End with exit code 3 when a gate failed."""
        if not all(result.passed for result in self.gates):
            raise typer.Exit(_GATE_FAILED)

    def _print(self, only_gates: bool) -> None:
        if not only_gates:
            terminal.show(self.content)
        for result in self.gates:
            verdict = "pass" if result.passed else "FAIL"
            console.out.print(f"{verdict}  {result.name}: {result.detail}", markup=False)
        absent = sum(result.detail.startswith(gate.NO_SCORE) for result in self.gates)
        if absent:
            name = f"evaluation/{gate.GATES.name}"
            note = f"note: {absent} gates are of metrics that no row has. Copy {name}, keep the"
            rest = "metrics that your data has, and name the copy with --gates"
            console.out.print(f"{note} {rest}", markup=False)
        if self.files:
            console.out.print(f"report: {self.files.html}", markup=False)

    def _as_dict(self) -> dict[str, object]:
        comparison = self.content if isinstance(self.content, Comparison) else None
        return {
            "ok": all(result.passed for result in self.gates),
            "runs": [{"name": side.name, "summary": side.summary} for side in self.sides],
            "comparison": comparison and comparison.as_dict(),
            "gates": [asdict(result) for result in self.gates],
            "report": self.files and str(self.files.html),
        }


def list_cells(summary: dict[str, Any] | None) -> list[str]:
    """The counts of a run, and the mean of the metric that decides about it, as ``F1 0.91``."""
    if summary is None:
        return ["unfinished"]
    rare = [f"{summary[name]} {name}" for name in ("unscored", "no_verdict") if summary.get(name)]
    errors = ", ".join([str(summary["error"]), *rare])
    name = metrics.deciding_metric(summary.get("scored", {}), summary["ok"])
    mean = summary.get("metrics", {}).get(name)
    score = "-" if mean is None else wording.mean_of(name, mean)
    return [str(summary["n"]), str(summary["ok"]), errors, score]
