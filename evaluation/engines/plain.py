"""The engine plain: a flow's lines on threads of this process, or of several; no promptflow."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import queue
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from evaluation.ask.journal import USAGE_NODE, Outcome
from evaluation.ask.watch import Watch
from evaluation.engines import calls, chat_api, names
from evaluation.engines.flow_run import Engine, FlowRun
from evaluation.engines.graph import Graph
from evaluation.failure import Failure
from setup.common import connection_store
from setup.common.errors import FixableError
from setup.common.json_rows import read_objects

Inputs = Mapping[str, Any]
_OF_PROMPTFLOW = "pf connection create --file"
_REFERENCE = re.compile(r"\$\{([^{}]+)\}")


class Flow:
    """A flow that is loaded: its graph, functions and connections; threads may share it.

    ``connections`` gives ``NODE.INPUT``, or ``NODE`` for its ``connection``, another connection
    than the flow's own.

    Raises:
        FixableError: The flow needs what only promptflow does, or a connection is missing.
    """

    def __init__(
        self, flow: Path, variant: str = "", connections: Mapping[str, str] | None = None
    ) -> None:
        names.stand_in()
        self._spec = (flow, variant, dict(connections or {}))
        self.graph = Graph.read(flow.resolve(), variant)
        self._calls = calls.load(self.graph, self._spec[2])
        self._late = [node for node in self.graph.nodes if node.aggregation]

    def line(self, number: int, row: Inputs) -> Outcome:
        """The outcome of one line, which may be an error."""
        outputs: dict[str, Any] = {}
        try:
            inputs = self.graph.line_inputs(row)
            for node in self.graph.nodes:
                if not node.aggregation:
                    values = {k: r.find(inputs, outputs) for k, r in node.references.items()}
                    outputs[node.name] = self._calls[node.name](**values)
            answer = {k: _whole(r.find(inputs, outputs)) for k, r in self.graph.outputs.items()}
            late = [r for node in self._late for r in node.references.values()]
            kept = {r.text: r.find(inputs, outputs) for r in late if r.node in outputs}
        except Exception as error:  # noqa: BLE001 - the other lines go on
            return Outcome(number, error=Failure.parse(*names.class_and_text(error)))
        usage = outputs.get(USAGE_NODE)
        usage = usage if isinstance(usage, dict) else None
        return Outcome(number, answer, aggregation=kept, usage=usage)

    def run(  # noqa: PLR0913 - one batch run has so many sides
        self,
        lines: Mapping[int, Inputs],
        on_line: Callable[[Outcome], None],
        *,
        workers: int = 16,
        processes: int = 1,
        known: Mapping[int, Outcome] | None = None,
        stopping: threading.Event | None = None,
    ) -> dict[str, float]:
        """Work the lines off, ``workers`` at a time in all, and return the metrics of the run.

        ``on_line`` hears of each line that was run, from the threads; ``known`` outcomes of an
        earlier attempt are only aggregated. After ``stopping`` is set no line is begun.

        Raises:
            FixableError: It was stopped, a process died, or a node after all lines failed.
        """
        stopping, outcomes = stopping or threading.Event(), dict(known or {})
        waiting = [(number, line) for number, line in lines.items() if number not in outcomes]

        def keep(outcome: Outcome) -> None:
            outcomes[outcome.line] = outcome
            on_line(outcome)

        with contextlib.redirect_stdout(sys.stderr):  # what a node prints is no result
            if processes > 1:
                self._in_processes(waiting, keep, workers, processes, stopping)
            else:
                self._on_threads(waiting, keep, workers, stopping)
            if len(outcomes) < len(lines):
                raise FixableError(f"stopped after {len(outcomes)} of {len(lines)} lines")
            done = [number for number in sorted(lines) if outcomes[number].error is None]
            return self._aggregate([(lines[n], outcomes[n].aggregation) for n in done])

    def _on_threads(
        self,
        lines: Sequence[tuple[int, Inputs]],
        keep: Callable[[Outcome], None],
        workers: int,
        stopping: threading.Event,
    ) -> None:
        waiting, taking = iter(lines), threading.Lock()

        def work() -> None:
            while not stopping.is_set():
                with taking:
                    line = next(waiting, None)
                if line is None:
                    return
                keep(self.line(*line))

        with ThreadPoolExecutor(workers) as pool:
            for done in [pool.submit(work) for _ in range(workers)]:
                done.result()

    def _in_processes(
        self,
        lines: Sequence[tuple[int, Inputs]],
        keep: Callable[[Outcome], None],
        workers: int,
        processes: int,
        stopping: threading.Event,
    ) -> None:
        context = multiprocessing.get_context("spawn")
        results, stopped, answered = context.Queue(), context.Event(), 0
        begin = (self._spec, max(1, workers // processes), results, stopped)
        with ProcessPoolExecutor(processes, context, _begin, begin) as pool:
            shares = [pool.submit(_work, lines[n::processes]) for n in range(processes)]
            done = False
            try:
                while not done or answered < sum(share.result() for share in shares):
                    done = all(share.done() for share in shares)
                    if stopping.is_set():
                        stopped.set()
                    with contextlib.suppress(queue.Empty):
                        keep(Outcome.from_dict(json.loads(results.get(timeout=0.1))))
                        answered += 1
            except BrokenProcessPool:
                what = f"a process of the run died after {answered} of {len(lines)} lines"
                raise FixableError(what, "--resume, with fewer processes or more memory") from None

    def _aggregate(self, lines: Sequence[tuple[Inputs, Inputs]]) -> dict[str, float]:
        """Run the nodes after all lines; of each the inputs, and what it kept for them."""
        inputs = [self.graph.line_inputs(row) for row, _ in lines]
        outputs: dict[str, Any] = {}
        with names.collecting_metrics() as metrics:
            for node in self._late if lines else ():
                values: dict[str, Any] = {
                    key: r.find({}, outputs)
                    if r.node in outputs
                    else [kept[r.text] for _, kept in lines]
                    if r.node
                    else [line[r.path] for line in inputs]
                    for key, r in node.references.items()
                }
                try:
                    outputs[node.name] = self._calls[node.name](**values)
                except Exception as error:  # noqa: BLE001 - a node may raise anything
                    told = ": ".join(names.class_and_text(error))
                    what = f"{self.graph.path}: node {node.name}, after all lines: {told}"
                    raise FixableError(what, "correct the node; no line is lost") from None
        return metrics


def map_columns(
    graph: Graph, columns: Mapping[str, Any], sources: Mapping[str, Mapping[int, Inputs]]
) -> dict[int, dict[str, Any]]:
    """The inputs of each line that all sources have, by promptflow's rules of column mapping.

    ``sources`` are rows by line: ``data``, and of a run that is evaluated ``run.outputs``.

    Raises:
        FixableError: A line has not the column that is mapped.
    """
    own = {name: f"${{data.{name}}}" for name in graph.types if name not in graph.defaults}
    numbers = sorted(set.intersection(*(set(rows) for rows in sources.values())))
    lines: dict[int, dict[str, Any]] = {number: {} for number in numbers}
    for name, value in {**own, **columns}.items():
        reference = _REFERENCE.fullmatch(value) if isinstance(value, str) else None
        for number, line in lines.items():
            rows = {f"{source}.": rows[number] for source, rows in sources.items()}
            line[name] = _column(rows, reference[1], f"line {number}") if reference else value
    return lines


def _column(rows: Mapping[str, Inputs], column: str, where: str) -> Any:
    for prefix, row in rows.items():
        if column.startswith(prefix) and column.removeprefix(prefix) in row:
            return row[column.removeprefix(prefix)]
    raise FixableError(f"{where} has no {column}, which an input is mapped to", "map another")


def _whole(value: Any) -> Any:
    """A streamed output in one piece."""
    return "".join(map(str, value)) if isinstance(value, Iterator) else value


class Plain(Engine):
    """Lines on threads of this process; with more than one of ``processes``, of so many."""

    name = "plain"

    def __init__(self, processes: int = 1) -> None:
        names.stand_in()
        self._processes = processes

    def carry_out(self, run: FlowRun, watch: Watch) -> dict[str, float]:
        """Run it; nothing is kept but what ``watch`` keeps."""
        flow = Flow(run.flow, run.variant, run.connections)
        data = {number: row for number, (_, row) in enumerate(read_objects(run.data)[0])}
        sources = {"data": data} | ({} if run.answers is None else {"run.outputs": run.answers})
        lines = map_columns(flow.graph, run.columns, sources)
        # What computes is worked off one line at a time, and needs no process of its own.
        processes, metrics = min(self._processes, watch.workers), dict[str, float]()
        with watch.watching(run.name):
            metrics.update(
                flow.run(
                    lines,
                    watch.see,
                    workers=watch.workers,
                    processes=processes,
                    known=watch.known,
                    stopping=watch.stopping,
                )
            )
        return metrics

    def connection(self, name: str, fix: str) -> Any:
        """The connection ``name`` of our own store."""
        by_file = fix.startswith(_OF_PROMPTFLOW)
        if by_file and name not in connection_store.names():
            own = fix.replace(_OF_PROMPTFLOW, "python -m setup connection")
            raise FixableError(f"no connection {name} for engine plain", own)
        stored = connection_store.read(name)
        return names.CONNECTIONS[stored.kind](name, stored.configs, stored.secrets)

    def messages(self, template: str, **texts: str) -> Any:
        """The conversation, by the rules of promptflow's node."""
        return chat_api.as_messages(template, texts)


_process: dict[str, Any] = {}
"""The flow of this process and how it is worked off, where it is one of several."""


def _begin(spec: tuple[Any, ...], workers: int, results: Any, stopped: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process says when to stop
    _process.update(flow=Flow(*spec), workers=workers, results=results, stopped=stopped)


def _work(lines: Sequence[tuple[int, Inputs]]) -> int:
    """Answer these lines; how many were."""
    answered: list[int] = []

    def keep(outcome: Outcome) -> None:
        answered.append(outcome.line)
        _process["results"].put(json.dumps(outcome.as_dict()))

    with contextlib.redirect_stdout(sys.stderr):
        _process["flow"]._on_threads(lines, keep, _process["workers"], _process["stopped"])
    return len(answered)
