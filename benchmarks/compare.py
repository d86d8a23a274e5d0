"""Seconds and memory of comparing two runs, and of their report, at a size that no test has.

Both runs are made up: every row has a score of every metric, so that this is the most that a file
of as many rows can cost. Memory is the peak of the whole process, the libraries included.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from evaluation.compare.compare import compare_runs
from evaluation.metrics import METRICS
from evaluation.report.write import write_report
from evaluation.results import Row, RunFolder, open_run
from evaluation.wording import verdict_sentence
from tests.evaluation.made_runs import lost_row, made_row, made_run

SIDES = {"phi-base": 0.1, "phi-tuned": 0.5}
ANSWER = "The Finch air purifier costs 129 euros, and its filter is changed once a year. " * 3
CHUNK = 1000


def made_rows(count: int, level: float, seed: int) -> Iterator[Row]:
    """``count`` rows, one in a hundred of them failed; ``level`` is where the scores centre."""
    generator = np.random.default_rng(seed)
    for start in range(0, count, CHUNK):
        drawn = generator.beta(2 * level, 2 * (1 - level), size=(CHUNK, len(METRICS)))
        for index in range(start, min(start + CHUNK, count)):
            if index % 100 == 99:
                yield lost_row(f"row-{index}")
                continue
            values = zip(METRICS.values(), drawn[index - start].tolist(), strict=True)
            scores = {
                metric.name: round(value) if metric.kind == "rate" else value * (metric.scale or 30)
                for metric, value in values
            }
            yield made_row(f"row-{index}", scores, answer=ANSWER)


def measure(folder: Path) -> None:
    """Compare and report the runs in ``folder``, and print what it took."""
    baseline, candidate = (open_run(folder / "made" / side) for side in SIDES)
    _say("before", 0.0)
    started = time.perf_counter()
    comparison = compare_runs(baseline, candidate)
    _say("compare", time.perf_counter() - started)
    started = time.perf_counter()
    write_report(folder / "report", comparison)
    _say("report", time.perf_counter() - started)
    print(f"\n{verdict_sentence(comparison)}")


def _say(step: str, seconds: float) -> None:
    print(f"| {step} | {seconds:.1f} s | {_peak_megabytes():.0f} MB |")


def _peak_megabytes() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def make_runs(folder: Path, rows: int) -> list[RunFolder]:
    """Both runs, below ``folder``."""
    return [
        made_run(folder, f"made/{side}", made_rows(rows, level, seed))
        for seed, (side, level) in enumerate(SIDES.items())
    ]


def main() -> None:
    """The command."""
    options = _parser().parse_args()
    if options.child:
        measure(options.folder)
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        runs = make_runs(Path(temporary), options.rows)
        size = sum(run.rows_path.stat().st_size for run in runs) / 1e6
        print(f"{options.rows:,} rows a side, {len(METRICS)} metrics, {size:,.0f} MB of rows\n")
        print("| step | time | peak of the process |\n| --- | ---: | ---: |", flush=True)
        child = [sys.executable, "-m", "benchmarks.compare", "--child", "--folder", temporary]
        subprocess.run(child, check=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.compare",
        description="Seconds and memory of comparing two runs, and of their report.",
        epilog="Example: python -m benchmarks.compare --rows 100000",
    )
    parser.add_argument("--rows", type=int, default=100_000, help="default: %(default)s")
    parser.add_argument("--folder", type=Path, help="where temporary files go")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    main()
