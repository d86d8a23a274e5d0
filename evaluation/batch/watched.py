"""A batch run with its bar, given up when every line fails, ended in order by Ctrl-C."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping

from evaluation.batch.outcome import Outcome
from evaluation.batch.pf_run import FlowRun, run_flow
from evaluation.batch.watch import GIVE_UP_AFTER, Interrupted, Watch
from setup.errors import FixableError


def run_watched(  # noqa: PLR0913, PLR0917  # one batch run has so many sides
    wanted: FlowRun,
    label: str,
    total: int | None,
    workers: int,
    known: Mapping[int, Outcome],
    tell: Iterable[Callable[[Outcome], None]],
    again: str = "python -m setup doctor, then the same command with --retry-errors",
) -> dict[str, float]:
    """Run ``wanted`` with a bar of ``total`` lines (None: not known) and return its metrics.

    ``known`` lines are not run; ``tell`` hears of each of the others, one at a time. ``again`` is
    the fix to name when the run is given up.

    Raises:
        FixableError: promptflow refused it, or so many lines failed one after another that it was
            given up.
        Interrupted: Ctrl-C; promptflow has recorded the run as failed.
    """
    from evaluation.batch.threads import Lines  # noqa: PLC0415 - imports promptflow

    stopping = threading.Event()
    watch = Watch(label, total, stopping)
    listeners, one_at_a_time = [*tell, watch.see], threading.Lock()

    def on_line(outcome: Outcome) -> None:
        with one_at_a_time:
            for listen in listeners:
                listen(outcome)

    try:
        with watch.watching():
            metrics = run_flow(wanted, Lines(workers, known, on_line, stopping))
    except FixableError:
        if watch.interrupted:
            raise Interrupted(wanted.name) from None
        if watch.given_up:
            raise FixableError(
                f"{GIVE_UP_AFTER} lines failed one after another, the last with {watch.last_error}",
                again,
            ) from None
        raise
    if watch.interrupted:  # the lines in flight were the last ones
        raise Interrupted(wanted.name)
    return metrics
