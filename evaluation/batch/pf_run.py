"""One run of a flow through promptflow's SDK; imports promptflow only when it is called."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from setup.common.errors import FixableError
from setup.common.json_rows import read_objects
from setup.common.paths import read_json
from setup.common.promptflow_store import quieten_promptflow

if TYPE_CHECKING:
    from evaluation.batch.threads import Lines

TABLES = (".csv", ".tsv", ".parquet")  # promptflow reads these as they are


@dataclass(frozen=True)
class FlowRun:
    """The arguments of ``pf run create``: the flow, the data, the mapping, and over which run.

    ``connections`` maps ``node.input`` (or a node, whose input is then ``connection``) to the
    connection to use there instead of the flow's own. ``data`` may be None beside a ``run``.
    """

    name: str
    flow: Path
    data: Path | None
    columns: dict[str, str]
    run: str = ""
    variant: str = ""
    connections: dict[str, str] = field(default_factory=dict)


def run_flow(flow_run: FlowRun, lines: Lines) -> dict[str, float]:
    """Run it and return its metrics, as ``pf run show-metrics`` has them.

    Raises:
        FixableError: promptflow refused it, or it ended before its last line.
    """
    from promptflow.exceptions import PromptflowException  # noqa: PLC0415 - two seconds

    from evaluation.batch.threads import on_threads  # noqa: PLC0415

    client = _client()
    try:
        with on_threads(lines), _read_exactly():
            run = client.run(
                flow=str(flow_run.flow),
                data=str(flow_run.data) if flow_run.data else None,
                run=flow_run.run or None,
                column_mapping=flow_run.columns or None,
                variant=flow_run.variant or None,
                connections=_by_node(flow_run.connections) or None,
                name=flow_run.name,
            )
    except PromptflowException as error:
        raise _refused(flow_run, str(error)) from None
    if run.status != "Completed":
        raise _refused(flow_run, _reason(Path(run.properties["output_path"])))
    return dict(client.get_metrics(flow_run.name))


@contextmanager
def _read_exactly() -> Iterator[None]:
    """Let promptflow take the values of JSON lines as they are while the block runs.

    It reads them through pandas: a byte order mark ends the run without a word of it, a column
    called ``date`` becomes a point in time, a missing one the text "nan".
    """
    from promptflow.batch import _batch_inputs_processor as reader  # noqa: PLC0415 - two seconds

    by_pandas = reader.load_data

    def load_data(local_path: Path, **options: Any) -> list[dict[str, Any]]:
        if Path(local_path).suffix.lower() in TABLES:
            return list(by_pandas(local_path=local_path, **options))
        return [row for _, row in read_objects(Path(local_path))[0]]

    reader.load_data = load_data
    try:
        yield
    finally:
        reader.load_data = by_pandas


def _by_node(connections: Mapping[str, str]) -> dict[str, dict[str, str]]:
    nodes: dict[str, dict[str, str]] = {}
    for place, name in connections.items():
        node, _, node_input = place.partition(".")
        nodes.setdefault(node, {})[node_input or "connection"] = name
    return nodes


def free_name(name: str) -> str:
    """``name``, or with the first number behind it that no run has yet."""
    from promptflow.exceptions import PromptflowException  # noqa: PLC0415

    client, attempt, candidate = _client(), 1, name
    while True:
        try:
            client.runs.get(candidate)
        except PromptflowException:
            return candidate
        attempt += 1
        candidate = f"{name}-{attempt}"


def nodes_of(run: str, node: str) -> dict[int, Any]:
    """The output of ``node`` by line, out of the record that promptflow keeps of ``run``.

    Raises:
        FixableError: promptflow has no such run, or it no such node.
    """
    from promptflow.exceptions import PromptflowException  # noqa: PLC0415

    try:
        record = Path(_client().runs.get(run).properties["output_path"])
    except PromptflowException as error:
        raise FixableError(f"run {run}: {error}", "pf run list") from None
    folder = record / "node_artifacts"
    lines = [read_json(path) or {} for path in sorted((folder / node).glob("*.jsonl"))]
    if not lines:
        names = ", ".join(sorted(path.name for path in folder.glob("*"))) or "none"
        raise FixableError(f"run {run} has no record of a node {node}", f"name one of: {names}")
    return {line["line_number"]: line["run_info"]["output"] for line in lines if line}


def is_completed(name: str) -> bool:
    """Tell whether promptflow has a run ``name`` that came to its end."""
    from promptflow.exceptions import PromptflowException  # noqa: PLC0415

    try:
        return bool(name) and _client().runs.get(name).status == "Completed"
    except PromptflowException:
        return False


def mark_ended(name: str) -> None:
    """Record a run that was killed as canceled: promptflow believes that it runs for ever."""
    from promptflow.exceptions import PromptflowException  # noqa: PLC0415

    client = _client()
    try:
        if client.runs.get(name).status == "Running":
            client.runs.update(name, status="Canceled")
    except PromptflowException:
        return


def _client() -> Any:
    os.environ.setdefault("PF_TRACING_SKIP_LOCAL_SETUP", "true")
    from promptflow.client import PFClient  # noqa: PLC0415

    client = PFClient()
    quieten_promptflow()
    return client


def _reason(folder: Path) -> str:
    """Read what promptflow wrote down as the cause of a failed run."""
    content = read_json(folder / "error.json") or {}
    message = content.get("message") or (content.get("batchError") or {}).get("message")
    return str(message or json.dumps(content)[:500])


def _refused(flow_run: FlowRun, reason: str) -> FixableError:
    lines = reason.strip().splitlines() or ["no reason given"]
    return FixableError(
        f"run {flow_run.name} of {flow_run.flow.name} failed: {lines[0].rstrip('.')}",
        f"pf run show --name {flow_run.name}, python -m setup doctor",
    )
