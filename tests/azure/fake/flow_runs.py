"""A batch run of a flow in the project: its lines, its states, what run history says of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

_STATES = ("NotStarted", "Preparing", "Running", "Completed")
_REFERENCE = re.compile(r"\$\{(data|run\.outputs|run\.inputs)\.(\w+)\}")


def echo(inputs: dict[str, Any]) -> dict[str, Any]:
    """A flow that answers with what it was asked."""
    said = str(inputs.get("question", inputs.get("answer", "")))
    return {"answer": f"You asked: {said}"}


def count_letters(inputs: dict[str, Any]) -> dict[str, Any]:
    """What the node ``usage`` says of an answer."""
    return {"prompt_tokens": len(str(inputs.get("question", ""))), "seconds": 0.5}


def share_equal(lines: list[dict[str, Any]]) -> dict[str, float]:
    """The share of lines whose answer is the ground truth."""
    equal = [line["inputs"].get("answer") == line["inputs"].get("ground_truth") for line in lines]
    return {"fact_recall": sum(equal) / len(equal)} if equal else {}


@dataclass
class Lines:
    """What a flow does, instead of the flow: ``answer`` for each line, ``measure`` for them all.

    ``fails`` maps a pattern to the error of the lines whose question it finds. ``nodes`` are those
    whose output the service keeps, with what it is.
    """

    answer: Callable[[dict[str, Any]], dict[str, Any]] = echo
    measure: Callable[[list[dict[str, Any]]], dict[str, float]] = share_equal
    fails: dict[str, str] = field(default_factory=dict)
    nodes: dict[str, Callable[[dict[str, Any]], Any]] = field(
        default_factory=lambda: {"usage": count_letters}
    )


@dataclass
class FlowRun:
    """One run: ``body`` as it was submitted, ``flow`` its files, ``before`` the run it is over.

    ``looks`` more looks and it has ended; ``kept`` are the lines of the run that it resumes.
    """

    name: str
    body: dict[str, Any]
    flow: dict[str, bytes]
    rows: list[dict[str, Any]]
    before: FlowRun | None
    looks: int
    status: str = _STATES[0]
    portal: str = ""
    error: str = ""
    kept: list[dict[str, Any]] = field(default_factory=list)
    lines: list[dict[str, Any]] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)

    @property
    def log(self) -> str:
        """What the executor logged so far."""
        done = len(self.lines) if self.status in ("Completed", "Failed") else len(self.rows) // 2
        return f"execution.bulk     INFO     Finished {done} / {len(self.rows)} lines.\n"

    def look(self, how: Lines, broken: list[str]) -> None:
        """Go on by one look; the last one carries the lines out."""
        if self.status in ("Completed", "Failed", "Canceled"):
            return
        self.looks -= 1
        if self.looks > 0:
            self.status = _STATES[min(_STATES.index(self.status) + 1, 2)]
            return
        if broken:
            self.status, self.error = "Failed", broken.pop(0)
            return
        known = {line["index"]: line for line in self.kept}
        self.lines = [known.get(index) or self._line(index, how) for index in range(len(self.rows))]
        if self.status != "Failed":
            self.status = "Completed"
            completed = [line for line in self.lines if line["status"] == "Completed"]
            self.metrics = how.measure(completed) if self.before else {}

    def _line(self, index: int, how: Lines) -> dict[str, Any]:
        row = self.rows[index]
        line: dict[str, Any] = {"index": index, "inputs": {}, "output": None, "error": None}
        for name, value in self.body["inputsMapping"].items():
            line["inputs"][name] = self._mapped(value, row, index)
        found = (why for what, why in how.fails.items() if re.search(what, str(line["inputs"])))
        before = self.before.lines[index] if self.before else None
        why = next(found, "the line it is over failed" if before and not before["output"] else "")
        if why:
            return line | {"status": "Failed", "error": {"message": why, "code": "UserError"}}
        return line | {"status": "Completed", "output": how.answer(line["inputs"])}

    def _mapped(self, value: str, row: dict[str, Any], index: int) -> Any:
        found = _REFERENCE.fullmatch(value)
        if found is None:
            return value
        source = row
        if found[1] != "data" and self.before:
            part = "output" if found[1] == "run.outputs" else "inputs"
            source = self.before.lines[index][part] or {}
            if not source:
                return None
        if found[2] not in source:
            self.status, self.error = "Failed", f"The input {value} is not in the data."
            return None
        return source[found[2]]

    def history(self, owner: str) -> dict[str, Any]:
        """As run history describes it."""
        kind = "EvaluationRun" if self.before else "FlowRun"
        return {
            "runId": self.name,
            "status": self.status,
            "runType": f"azureml.promptflow.{kind}",
            "displayName": self.body.get("runDisplayName"),
            "description": self.body.get("description"),
            "tags": self.body.get("tags") or {},
            "createdUtc": "2026-11-22T12:00:00Z",
            "createdBy": {"userObjectId": owner},
            "properties": {
                "azureml.promptflow.flow_name": self.body["runExperimentName"],
                "azureml.promptflow.input_data": self.body["batchDataInput"]["dataUri"],
            },
            "outputs": None,
            "error": {"error": {"code": "UserError", "message": self.error}}
            if self.error
            else None,
        }
