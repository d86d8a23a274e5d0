"""A test split asked and scored: ours on threads, ``pf run create`` on processes, a bare client.

All ask the same questions of a mock endpoint that answers each after the same time; the bare
asyncio client scores nothing. They take turns in an order that moves by one each round. Lines a
second are those
between the 10th and the 90th percent of the answers, by the endpoint's clock, so that nobody's
start counts; seconds are those of the whole command. Exits 1 when a target is missed.

Example: python -m benchmarks.batch --engines plain --concurrency 32 64 --processes 2
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from benchmarks.batch_contenders import BARE, OURS, PF, PLAIN, Bench, Contender, Turn, bench
from setup.common.paths import REPOSITORY

SAMPLE = REPOSITORY / "data" / "sample" / "test.jsonl"
STEADY, WHOLE = 0.9, 3.0
"""Targets: of the bare client's rate, and how many times as fast as pf's default."""
ONE_CORE = 32
"""Questions in flight up to which STEADY is a target for engine promptflow: one core limits it."""

Turns = dict[Contender, list[Turn]]
Ratio = tuple[str, list[float], float | None]
"""What is divided by what, the quotient of each round, and the target of their median."""


def measure(given: argparse.Namespace, running: Bench) -> Turns:
    """The turns of every contender, in the order of the rounds."""
    engines = [{"promptflow": OURS, "plain": PLAIN}[engine] for engine in given.engines]
    contenders = [Contender(kind, c) for c in given.concurrency for kind in (*engines, BARE)]
    if PLAIN in engines and given.processes > 1:
        contenders += [Contender(PLAIN, c, given.processes) for c in given.concurrency]
    if OURS in engines:
        contenders += [Contender(PF, workers) for workers in (0, *given.workers)]
    turns: Turns = defaultdict(list)
    for number in range(given.rounds):
        print(f"round {number + 1} of {given.rounds}", file=sys.stderr)
        first = number % len(contenders)
        for place, contender in enumerate(contenders[first:] + contenders[:first]):
            turn = running.take_turn(contender, f"bench-{number}-{place}")
            turns[contender].append(turn)
            told = f"{turn.rate:.1f} lines/s, {turn.seconds:.1f} s"
            print(f"  {contender.told}: {told}", file=sys.stderr)
    if len({turn.asked for taken in turns.values() for turn in taken}) > 1:
        raise SystemExit("the contenders did not send the same bodies")
    return {contender: turns[contender] for contender in contenders}


def ratios(turns: Turns) -> list[Ratio]:
    """Ours against the bare client for each concurrency, and against pf's default and its best."""
    ours = [contender for contender in turns if contender.kind in (OURS, PLAIN)]
    found: list[Ratio] = []
    for mine in ours:
        bare = Contender(BARE, mine.concurrency)
        is_possible = mine.kind == PLAIN or mine.concurrency <= ONE_CORE
        target = STEADY if is_possible else None
        found.append((f"lines/s, {mine.told} / {bare.told}", _by_round(turns, mine, bare), target))
    default, best = Contender(PF, 0), _best_pf(turns)
    for mine in (contender for contender in ours if contender.kind == OURS):
        for theirs, target in ((default, WHOLE), (best, None)):
            if theirs:
                told = f"seconds, {theirs.told} / {mine.told}"
                found.append((told, _by_round(turns, theirs, mine, _seconds), target))
    return found


def _rate(turn: Turn) -> float:
    return turn.rate


def _seconds(turn: Turn) -> float:
    return turn.seconds


def _by_round(
    turns: Turns, above: Contender, below: Contender, figure: Callable[[Turn], float] = _rate
) -> list[float]:
    pairs = zip(turns[above], turns[below], strict=True)
    return [figure(a) / figure(b) for a, b in pairs]


def _best_pf(turns: Turns) -> Contender | None:
    """The number of workers, given by hand, with the shortest command."""
    tried = [contender for contender in turns if contender.kind == PF and contender.concurrency]
    return min(tried, key=lambda one: statistics.median(map(_seconds, turns[one])), default=None)


def report(turns: Turns) -> None:
    """Two Markdown tables."""
    print("| contender | lines/s | lowest to highest | whole command | peak memory |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for contender, taken in turns.items():
        rates, seconds = [turn.rate for turn in taken], [turn.seconds for turn in taken]
        memory = statistics.median(turn.peak_memory for turn in taken) / 1e6
        whole = f"{statistics.median(seconds):.1f} s ({min(seconds):.1f} to {max(seconds):.1f})"
        print(
            f"| {contender.told} | {statistics.median(rates):.1f} "
            f"| {min(rates):.1f} to {max(rates):.1f} | {whole} | {memory:,.0f} MB |"
        )
    print("\n| ratio | median | by round | target |")
    print("| --- | ---: | ---: | ---: |")
    for told, rounds, target in ratios(turns):
        by_round = ", ".join(f"{value:.2f}" for value in rounds)
        print(f"| {told} | {statistics.median(rounds):.2f} | {by_round} | {target or ''} |")


def missed(turns: Turns) -> list[str]:
    """A line for each target that the median does not reach."""
    return [
        f"{told} is {statistics.median(rounds):.2f}, the target {target}"
        for told, rounds, target in ratios(turns)
        if target and statistics.median(rounds) < target
    ]


def main() -> None:
    """Measure, print the tables, exit 1 when a target is missed."""
    given = _parser().parse_args()
    rows = (json.loads(line) for line in SAMPLE.read_text(encoding="utf-8").splitlines())
    # A row that comes again has no id of its own.
    lines = [json.dumps({**row, "id": None, "prompt_id": None}) + "\n" for row in rows]
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "rows.jsonl"
        data.write_text("".join(itertools.islice(itertools.cycle(lines), given.rows)), "utf-8")
        with bench(data, given.rows, given.seconds) as running:
            turns = measure(given, running)
    report(turns)
    failures = missed(turns)
    for failure in failures:
        print(f"missed: {failure}", file=sys.stderr)
    raise SystemExit(1 if failures else 0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.batch",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--rounds", type=int, default=3, help="turns of each contender, default: %(default)s")
    add("--rows", type=int, default=400, help="lines of a run, default: %(default)s")
    add("--seconds", type=float, default=0.2, help="of one answer, default: %(default)s")
    add(
        "--concurrency",
        type=int,
        nargs="+",
        default=[16, 32],
        help="questions in flight, ours and the bare client's, default: %(default)s",
    )
    add(
        "--engines",
        nargs="+",
        choices=("promptflow", "plain"),
        default=["promptflow", "plain"],
        help="ours, worked off by these; plain alone leaves pf out, default: %(default)s",
    )
    add("--processes", type=int, default=1, help="plain once more, in so many processes")
    add(
        "--workers",
        type=int,
        nargs="*",
        default=[16, 32],
        help="PF_WORKER_COUNT to try beside pf's default of 4, default: %(default)s",
    )
    return parser


if __name__ == "__main__":
    main()
