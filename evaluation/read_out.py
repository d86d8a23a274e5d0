"""The reading of finished runs: comparison, gates and report, found together and printed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from evaluation.compare.compare import compare_runs
from evaluation.compare.comparison import Comparison
from evaluation.gate import GATES, NO_SCORE, GateResult, check_gates
from evaluation.report.terminal import show_comparison, show_run
from evaluation.report.write import ReportFiles, write_report, write_single_report
from evaluation.results.folder import RunFolder
from setup.cli.options import show
from setup.common import console
from setup.common.errors import FixableError


@dataclass(frozen=True)
class Finding:
    """One run, or a baseline and a candidate, and what was found."""

    sides: Sequence[RunFolder]
    comparison: Comparison | None
    gates: Sequence[GateResult]
    files: ReportFiles | None


def find(
    sides: Sequence[RunFolder],
    folder: Path | None,
    *,
    primary: str = "",
    seed: int = 0,
    gates: Path | None = None,
) -> Finding:
    """Compare the first with the last of ``sides``, check ``gates``, report into ``folder``.

    Raises:
        FixableError: The runs cannot be compared, or the gates file is wrong.
    """
    *baselines, candidate = sides
    baseline = baselines[0] if baselines else None
    with console.progress_bar("Comparing" if baseline else "Reading the run"):
        comparison = (
            compare_runs(baseline, candidate, primary=primary, seed=seed) if baseline else None
        )
        results = check_gates(gates, candidate, comparison) if gates else []
    files = None
    if folder:
        with console.progress_bar("Writing the report"):
            files = (
                write_report(folder, comparison, baseline, candidate, results)
                if comparison and baseline
                else write_single_report(folder, candidate, results)
            )
    return Finding(sides, comparison, results, files)


def print_finding(
    finding: Finding,
    as_json: bool,
    *,
    only_gates: bool = False,
    problem: FixableError | None = None,
) -> None:
    """Print it for people, or as one JSON object, which says ``problem`` as well."""
    if as_json:
        error = {"ok": False, "error": problem.what, "fix": problem.fix} if problem else {}
        show(_as_dict(finding) | error, "", as_json)
        return
    if not only_gates:
        if finding.comparison:
            show_comparison(finding.comparison)
        else:
            show_run(finding.sides[-1])
    for result in finding.gates:
        verdict = "pass" if result.passed else "FAIL"
        console.out.print(f"{verdict}  {result.name}: {result.detail}", markup=False)
    absent = sum(result.detail.startswith(NO_SCORE) for result in finding.gates)
    if absent:
        note = f"note: {absent} gates are of metrics that no row has. Copy evaluation/{GATES.name},"
        rest = "keep the metrics that your data has, and name the copy with --gates"
        console.out.print(f"{note} {rest}", markup=False)
    if finding.files:
        console.out.print(f"report: {finding.files.html}", markup=False)


def _as_dict(finding: Finding) -> dict[str, object]:
    return {
        "ok": all(result.passed for result in finding.gates),
        "runs": [{"name": side.name, "summary": side.summary} for side in finding.sides],
        "comparison": finding.comparison and finding.comparison.as_dict(),
        "gates": [asdict(result) for result in finding.gates],
        "report": finding.files and str(finding.files.html),
    }
