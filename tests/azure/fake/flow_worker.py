"""A step of flow components at work: the machines of one parallel step, in a process of its own.

``python -m tests.azure.fake.flow_worker STEP.json`` runs the flow by promptflow's own executor, a
mini-batch at a time on each machine, as promptflow-parallel does: a row that raises fails its whole
mini-batch, which is tried again and then left out. Nothing of ours is imported.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from typing import Any

Row = dict[str, Any]
FILE = "parallel_run_step.jsonl"


def _rows(folder: Path) -> Iterator[Row]:
    for path in sorted(folder.glob("*")):
        yield from map(json.loads, path.read_text(encoding="utf-8").splitlines())


def _executor(step: Row) -> Any:
    from promptflow.executor import FlowExecutor

    dag = Path(step["flow"]) / "flow.dag.yaml"
    override = step["override"]
    return FlowExecutor.create(dag, step["connections"], node_override=override, raise_ex=True)


class _Machine(Thread):
    """One machine: it takes mini-batches until none is left, and keeps what came of them."""

    def __init__(self, step: Row, number: int, batches: Queue[list[tuple[int, Row]]]) -> None:
        super().__init__()
        self.step, self.number, self.batches = step, number, batches
        self.executor = _executor(step)
        self.written: list[Row] = []
        self.failures: list[str] = []
        before = step["run_outputs"]
        earlier = _rows(Path(before)) if before else iter(())
        self.earlier = {int(row["line_number"]): row for row in earlier}

    def run(self) -> None:
        while True:
            try:
                batch = self.batches.get_nowait()
            except Empty:
                return
            for left in reversed(range(self.step["retries"] + 1)):
                try:
                    self.written += [self._line(*line) for line in batch]
                    break
                except Exception as error:  # noqa: BLE001 - as the service: whatever a row raises
                    if not left:
                        self.failures.append(f"line {batch[0][0]}: {error}")

    def _line(self, number: int, row: Row) -> Row:
        from promptflow.executor import FlowExecutor, FlowValidator

        sources: dict[str, Any] = {"data": row}
        if number in self.earlier:
            sources["run.outputs"] = self.earlier[number]
        mapped = FlowExecutor.apply_inputs_mapping(sources, self.step["mapping"])
        inputs = FlowValidator.resolve_flow_inputs_type(self.executor._flow, mapped)
        done = self.executor.exec_line(inputs, index=number)
        return {
            "output": done.output,
            "inputs": inputs,
            "aggregation_inputs": done.aggregation_inputs,
        }


def _aggregate(executor: Any, lines: list[Row]) -> dict[str, float]:
    if not executor.has_aggregation_node or not lines:
        return {}
    columns: dict[str, dict[str, list[Any]]] = {"inputs": {}, "aggregation_inputs": {}}
    for line in lines:
        for part, values in columns.items():
            for name, value in line[part].items():
                values.setdefault(name, []).append(value)
    return dict(executor.exec_aggregation(*columns.values()).metrics)


def main(path: Path) -> None:
    """Carry the step out; its outputs, metrics and failures are files beside ``path``."""
    step = json.loads(path.read_text(encoding="utf-8"))
    os.chdir(step["flow"])
    rows = list(enumerate(_rows(Path(step["rows"]))))
    size, batches = step["batch"], Queue[list[tuple[int, Row]]]()
    for start in range(0, len(rows), size):
        batches.put(rows[start : start + size])
    machines = [_Machine(step, number, batches) for number in range(step["instances"])]
    for machine in machines:
        machine.start()
    for machine in machines:
        machine.join()
    lines = [line for machine in machines for line in machine.written]
    out = Path(step["out"])
    out.mkdir()
    text = "".join(json.dumps(line["output"]) + "\n" for line in lines)
    (out / FILE).write_text(text, encoding="utf-8")
    report = {
        "metrics": _aggregate(machines[0].executor, lines),
        "failures": [text for machine in machines for text in machine.failures],
        "by_machine": [len(machine.written) for machine in machines],
    }
    path.with_suffix(".done").write_text(json.dumps(report), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
