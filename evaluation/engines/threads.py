"""promptflow's executor with its lines on threads; importing this imports promptflow.

``BatchEngine.register_executor`` is promptflow's own place for another executor. Everything around
the lines stays promptflow's: column mapping, aggregation, storage, the record of the run.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from contextvars import copy_context
from dataclasses import fields
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from promptflow._proxy import ProxyFactory
from promptflow._proxy._python_executor_proxy import PythonExecutorProxy
from promptflow._sdk.operations._local_storage_operations import LocalStorageOperations
from promptflow._utils.logger_utils import flow_logger
from promptflow._utils.multimedia_utils import MultimediaProcessor
from promptflow.batch import BatchEngine
from promptflow.contracts.multimedia import Image
from promptflow.contracts.run_info import FlowRunInfo, Status
from promptflow.contracts.run_mode import RunMode
from promptflow.exceptions import UserErrorException
from promptflow.executor._result import LineResult
from promptflow.tracing._operation_context import OperationContext
from promptflow.tracing._utils import serialize

from evaluation.ask.journal import USAGE_NODE, Outcome
from evaluation.ask.watch import Watch
from evaluation.failure import Failure

_PYTHON = "python"
_FAILED_IN = "ToolExecutionErrorDetails"
_NUMBER = "line_number"
_PLAIN = frozenset({str, int, float, bool, type(None)})


class StoppedError(UserErrorException):  # type: ignore[misc]
    """The run was stopped before its last line; promptflow records it as failed."""


@contextmanager
def on_threads(watch: Watch) -> Iterator[None]:
    """Runs that promptflow starts while the block runs work their lines off as ``watch`` says."""

    class Threads(PythonExecutorProxy):  # type: ignore[misc]
        async def _exec_batch(
            self, batch_inputs: list[dict[str, Any]], _: Any, run_id: str, **__: Any
        ) -> tuple[list[LineResult], bool]:
            executor = self._flow_executor
            with executor._run_tracker.node_log_manager:
                OperationContext.get_instance().run_mode = RunMode.Batch.name
                if isinstance(executor._run_tracker._storage, LocalStorageOperations):
                    executor._run_tracker._storage = QuickStorage(executor._run_tracker._storage)
                with _without_flow_log():
                    results = _work_off(executor, batch_inputs, run_id, watch)
                executor._add_line_results(results, executor._run_tracker)
            return results, False

    before = ProxyFactory().get_executor_proxy_cls(_PYTHON)
    BatchEngine.register_executor(_PYTHON, Threads)
    try:
        # promptflow catches what a node prints, and several lines at once leave its catcher behind.
        with redirect_stdout(sys.stdout), redirect_stderr(sys.stderr):
            yield
    finally:
        BatchEngine.register_executor(_PYTHON, before)


@contextmanager
def _without_flow_log() -> Iterator[None]:
    """Eight messages a line that go nowhere in a batch run, for a tenth of the line's work."""
    before = flow_logger.level
    flow_logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        flow_logger.setLevel(before)


def _work_off(
    executor: Any, inputs: list[dict[str, Any]], run_id: str, watch: Watch
) -> list[LineResult]:
    results = {}
    for line in inputs:
        if line[_NUMBER] in watch.known:
            results[line[_NUMBER]] = _recall(executor, line, run_id, watch.known[line[_NUMBER]])
    waiting = iter([line for line in inputs if line[_NUMBER] not in results])
    taking = threading.Lock()

    def work() -> None:
        while not watch.stopping.is_set():
            with taking:
                line = next(waiting, None)
            if line is None:
                return
            result = executor.exec_line(line, line[_NUMBER], run_id)
            results[line[_NUMBER]] = result
            watch.see(_outcome(result))

    with ThreadPoolExecutor(watch.workers) as pool:
        for done in [pool.submit(copy_context().run, work) for _ in range(watch.workers)]:
            done.result()
    if len(results) < len(inputs):
        raise StoppedError(message=f"stopped after {len(results)} of {len(inputs)} lines")
    return [results[line[_NUMBER]] for line in inputs]


def _outcome(result: LineResult) -> Outcome:
    info = result.run_info
    if info.status == Status.Completed:
        outputs = {name: value for name, value in result.output.items() if name != _NUMBER}
        aggregation, usage = dict(result.aggregation_inputs), _usage(result)
        return Outcome(info.index, outputs, aggregation=aggregation, usage=usage)
    return Outcome(info.index, error=_failure(info.error or {}))


def _usage(result: LineResult) -> dict[str, Any] | None:
    """The output of the node ``usage``, which is none of the flow's: a page shows all of those."""
    node = result.node_run_infos.get(USAGE_NODE)
    return node.output if node is not None and isinstance(node.output, dict) else None


def _failure(error: Mapping[str, Any]) -> Failure:
    """The tool's own exception where promptflow has wrapped it, else promptflow's."""
    for extra in error.get("additionalInfo") or []:
        if extra.get("type") == _FAILED_IN:
            info = extra["info"]
            return Failure.parse(str(info.get("type")), str(info.get("message")))
    inner = error.get("innerError") or {}
    return Failure.parse(str(inner.get("code") or error.get("code")), str(error.get("message")))


def _recall(executor: Any, line: dict[str, Any], run_id: str, known: Outcome) -> LineResult:
    """The result of an earlier attempt as one of this run."""
    now = datetime.now(UTC).replace(tzinfo=None)
    info = FlowRunInfo(
        run_id=f"{run_id}_{known.line}",
        status=Status.Completed if known.error is None else Status.Failed,
        error=known.error and _as_promptflow_error(known.error),
        inputs=line,
        output=known.outputs,
        metrics=None,
        request=None,
        parent_run_id=run_id,
        root_run_id=run_id,
        source_run_id=None,
        flow_id=executor._flow_id,
        start_time=now,
        end_time=now,
        index=known.line,
        api_calls=[],
        system_metrics={"duration": 0.0},
    )
    executor._run_tracker._storage.persist_flow_run(info)
    return LineResult(known.outputs or {}, known.aggregation, info, {})


def _as_promptflow_error(error: Failure) -> dict[str, Any]:
    details = {"type": _FAILED_IN, "info": {"type": error.kind, "message": error.line}}
    return {
        "message": f"({error.kind}) {error.line}",
        "code": "UserError",
        "innerError": {"code": "ToolExecutionError", "innerError": None},
        "additionalInfo": [details],
    }


class QuickStorage:
    """Writes the files of promptflow's ``LocalStorageOperations``, byte for byte.

    They are more than half of a line's processor time otherwise, which threads have to share:
    promptflow converts a record to plain values twice, copies it, and encodes it in Python. Here it
    is converted once and encoded in C.
    """

    def __init__(self, storage: Any) -> None:
        self._lines: Path = storage._run_infos_folder
        self._nodes: Path = storage._node_infos_folder
        self._line_file = storage._get_flow_run_info_file_name
        self._node_file = storage._get_node_run_info_file_name

    def persist_flow_run(self, info: Any) -> None:
        """Called by promptflow when a line begins, which leaves no file, and when it has ended."""
        if not Status.is_terminated(info.status):
            return
        record = {
            "line_number": info.index,
            **_common(info, self._lines),
            "name": info.name,
            "description": info.description,
            "status": info.status.value,
            "tags": info.tags,
        }
        _write(self._lines / self._line_file(info.index), record)

    def persist_node_run(self, info: Any) -> None:
        """Called by promptflow when a node has ended; an aggregation counts as line 0."""
        folder = self._nodes / info.node
        folder.mkdir(exist_ok=True)
        record = {
            "NodeName": info.node,
            "line_number": info.index,
            **_common(info, folder),
            "status": info.status.value,
        }
        _write(folder / self._node_file(info.index or 0), record)


def _common(info: Any, folder: Path) -> dict[str, Any]:
    """The part of a record that lines and nodes share; ``info`` gets the plain values, too."""
    if info.output:
        info.result = None
    encoder = MultimediaProcessor.create(info.message_format).get_file_reference_encoder(
        folder, None, use_absolute_path=True
    )
    images = {Image: partial(Image.serialize, encoder=encoder)}
    plain = {field.name: _plain(getattr(info, field.name), images) for field in fields(info)}
    info.inputs, info.output, info.api_calls = (
        plain[name] for name in ("inputs", "output", "api_calls")
    )
    return {
        "run_info": plain,
        "start_time": info.start_time.isoformat(),
        "end_time": info.end_time.isoformat(),
    }


def _plain(value: Any, images: dict[type, Any]) -> Any:
    """``value`` for JSON; promptflow decides about everything that JSON does not have already."""
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is dict:
        return {key: _plain(item, images) for key, item in value.items()}
    if kind is list:
        return [_plain(item, images) for item in value]
    return serialize(value, serialization_funcs=images)


def _write(path: Path, record: dict[str, Any]) -> None:
    path.write_text(json.dumps(record, ensure_ascii=False), encoding="utf-8")
