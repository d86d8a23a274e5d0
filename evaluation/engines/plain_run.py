"""The engine plain as one of a run: no promptflow, and the connections of our own store."""

from __future__ import annotations

from typing import Any

from evaluation.ask.watch import Watch
from evaluation.engines import chat_api, names
from evaluation.engines.flow_run import Engine, FlowRun
from evaluation.engines.plain import Flow, map_columns
from setup.common import connection_store
from setup.common.errors import FixableError
from setup.common.json_rows import read_objects

_OF_PROMPTFLOW = "pf connection create --file"


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
