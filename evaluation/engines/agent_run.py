"""The engine agent: the chat flow's twin on Agent Framework, in an environment of its own.

promptflow and Agent Framework can never share one, so the twin is asked in another process; what is
done with its answers is engine plain's work.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Generator, Mapping
from contextlib import closing
from typing import Any

from evaluation.ask.evaluators import CHAT, FLOWS
from evaluation.ask.journal import Outcome
from evaluation.ask.watch import Watch
from evaluation.engines.flow_run import FlowRun
from evaluation.engines.graph import Graph
from evaluation.engines.plain import Plain, map_columns
from evaluation.failure import Failure
from setup.common import connection_store
from setup.common.errors import FixableError
from setup.common.json_rows import read_objects
from setup.common.paths import REPOSITORY

TWIN = "flows.chat_agent"
_COUNTS = {"prompt_tokens": "input_token_count", "completion_tokens": "output_token_count"}
# The settings of the chat node, and their names in Agent Framework.
_OPTIONS = {"temperature": "temperature", "top_p": "top_p", "max_new_tokens": "max_tokens"}
_OPTIONS |= {"seed": "seed", "system_prompt": "instructions"}


class Agent(Plain):
    """Chat by flows/chat_agent, every other flow as engine plain; connections are our store's."""

    name = "agent"
    folders = (FLOWS / "chat_agent",)

    def __init__(self) -> None:
        super().__init__()
        find_python()

    def carry_out(self, run: FlowRun, watch: Watch) -> dict[str, float]:
        """Run it; of the chat flow nothing is kept but what ``watch`` keeps."""
        if run.flow != CHAT:
            return super().carry_out(run, watch)
        graph = Graph.read(run.flow, run.variant)
        options, connection = _settings(graph)
        connection = run.connections.get("chat", connection)
        data = {number: row for number, (_, row) in enumerate(read_objects(run.data)[0])}
        lines = map_columns(graph, run.columns, {"data": data})
        missing = {
            n: {**row, "options": options} for n, row in lines.items() if n not in watch.known
        }
        answered = 0
        with watch.watching(run.name):
            asking = ask_twin(missing, connection, watch.workers, _secrets(connection))
            with closing(asking) as outcomes:
                for answered, outcome in enumerate(outcomes, start=1):  # noqa: B007 - counted after
                    watch.see(outcome)
                    if watch.stopping.is_set():
                        break
            if answered < len(missing):
                raise FixableError(f"stopped after {answered} of {len(missing)} lines")
        return {}


def find_python(python: str = "") -> str:
    """The interpreter of the twin's environment, ``python`` if it is said.

    Raises:
        FixableError: There is no such environment.
    """
    folder = REPOSITORY / ".venv-agents"
    own = folder / "Scripts" / "python.exe" if os.name == "nt" else folder / "bin" / "python"
    if not python and not own.is_file():
        raise FixableError("engine agent has no environment", "make agents")
    return python or str(own)


def ask_twin(
    lines: Mapping[int, Mapping[str, Any]],
    connection: str,
    workers: int,
    environment: Mapping[str, str],
    python: str = "",
) -> Generator[Outcome]:
    """The outcomes of the lines as they come, ``workers`` asked at a time; closed, it is ended.

    Raises:
        FixableError: It ended before all were answered.
    """
    command = [find_python(python), "-m", TWIN, "ask", "--workers", str(workers)]
    command += ["--connection", connection]
    numbers, answered = list(lines), 0
    with tempfile.TemporaryFile("w+", encoding="utf-8") as asked, tempfile.TemporaryFile() as said:
        asked.writelines(f"{json.dumps(line)}\n" for line in lines.values())
        asked.seek(0)
        with subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env={**os.environ, **environment},
            stdin=asked,
            stdout=subprocess.PIPE,
            stderr=said,
            encoding="utf-8",
        ) as process:
            try:
                for text in process.stdout or ():
                    reply = json.loads(text)
                    yield _outcome(numbers[reply["line_number"]], reply)
                    answered += 1
            finally:
                process.terminate()
        said.seek(0)
        last = (said.read().decode(errors="replace").strip().splitlines() or ["it said nothing"])[
            -1
        ]
    if answered < len(lines):
        what, _, fix = last.partition(". Fix: ")
        raise FixableError(f"engine agent ended before its result: {what}", fix or "make agents")


def _outcome(number: int, reply: Mapping[str, Any]) -> Outcome:
    if "error" in reply:
        kind, _, line = reply["error"].partition(": ")
        return Outcome(number, error=Failure.parse(kind, line))
    counts = reply["usage"]
    usage = {name: counts.get(_COUNTS.get(name, name)) for name in (*_COUNTS, "seconds")}
    return Outcome(number, {"answer": reply["answer"]}, usage=usage)


def _settings(graph: Graph) -> tuple[dict[str, Any], str]:
    """The options of the twin as the chat node has them, and the node's connection.

    Raises:
        FixableError: The flow has what its twin has not.
    """
    nodes = {node.name: node for node in graph.nodes}
    chosen = dict(nodes["chat"].literals) if "chat" in nodes else {}
    connection, streams = str(chosen.pop("connection", "")), chosen.pop("stream", False)
    strange = [f"node {name}" for name in nodes if name not in ("chat", "usage")]
    strange += [f"input {name} of node chat" for name in chosen if name not in _OPTIONS]
    strange += ["input stream of node chat"] if streams else []
    if strange or not connection:
        what = f"{graph.path} has what flows/chat_agent has not: {(strange or ['its nodes'])[0]}"
        raise FixableError(what, "--engine plain")
    return {_OPTIONS[name]: value for name, value in chosen.items()}, connection


def _secrets(connection: str) -> dict[str, str]:
    """The connection's secrets as variables: the twin's environment reads no keyring."""
    prefix = re.sub(r"\W", "_", connection).upper()
    secrets = connection_store.read(connection).secrets
    return {f"{prefix}_{key.upper()}": secret for key, secret in secrets.items()}
