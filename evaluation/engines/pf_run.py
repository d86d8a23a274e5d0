"""The engine promptflow: runs through its SDK; imports promptflow only when it is called.

``pf run create`` gives every worker a process of its own, which costs seconds before the first
line, and memory. A line that waits for an endpoint needs neither: here lines are on threads of this
process. promptflow records the run as any other: ``pf run list``, ``show-details``,
``show-metrics`` and ``visualize`` show it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from evaluation.ask.watch import Watch
from evaluation.engines.flow_run import Engine, FlowRun
from setup.common.errors import FixableError
from setup.common.json_rows import read_objects
from setup.common.paths import read_json
from setup.common.promptflow_store import quieten_promptflow


class Promptflow(Engine):
    """promptflow, whose store has the connections and, by name, every run."""

    name = "promptflow"
    keeps_runs = True

    def carry_out(self, run: FlowRun, watch: Watch) -> dict[str, float]:
        """Run it as ``pf run create`` does; the metrics are those of ``pf run show-metrics``."""
        from promptflow.exceptions import PromptflowException

        from evaluation.engines.threads import on_threads

        client = _client()
        with watch.watching(run.name):
            try:
                with on_threads(watch), _read_exactly():
                    done = client.run(**run.arguments())
            except PromptflowException as error:
                raise _refused(run, str(error)) from None
            if done.status != "Completed":
                raise _refused(run, _reason(Path(done.properties["output_path"])))
        return dict(client.get_metrics(run.name))

    def connection(self, name: str, fix: str) -> Any:
        """The connection ``name`` of promptflow's store."""
        from promptflow.client import PFClient
        from promptflow.exceptions import PromptflowException

        try:
            return PFClient().connections.get(name, with_secrets=True)
        except PromptflowException:
            raise FixableError(f"no connection {name}", fix) from None
        except Exception as error:
            # promptflow has no class of its own for a keyring that lost the store's key.
            if type(error) is not Exception:
                raise
            raise FixableError(f"connection {name}: {error}", fix) from None

    def messages(self, template: str, **texts: str) -> Any:
        """The conversation as promptflow's own node makes it."""
        from promptflow.tools.common import build_messages

        return build_messages(prompt=template, **texts)

    def free_name(self, name: str) -> str:
        """``name``, or with the first number behind it that no run has yet."""
        client, attempt, candidate = _client(), 1, name
        while _recorded(candidate, client):
            attempt += 1
            candidate = f"{name}-{attempt}"
        return candidate

    def is_completed(self, name: str) -> bool:
        """Tell whether promptflow has a run ``name`` that came to its end."""
        run = _recorded(name)
        return run is not None and run.status == "Completed"

    def mark_ended(self, name: str) -> None:
        """Record a run that was killed as canceled: promptflow believes that it runs for ever."""
        run = _recorded(name)
        if run is not None and run.status == "Running":
            _client().runs.update(name, status="Canceled")


def _refused(run: FlowRun, reason: str) -> FixableError:
    lines = reason.strip().splitlines() or ["no reason given"]
    return FixableError(
        f"run {run.name} of {run.flow.name} failed: {lines[0].rstrip('.')}",
        f"pf run show --name {run.name}, python -m setup doctor",
    )


@contextmanager
def _read_exactly() -> Iterator[None]:
    """Let promptflow take the values of JSON lines as they are while the block runs.

    It reads them through pandas, which makes a number of the text "007".
    """
    from promptflow.batch import _batch_inputs_processor as reader

    by_pandas = reader.load_data

    def load_data(local_path: Path, **_: Any) -> list[dict[str, Any]]:
        return [row for _, row in read_objects(Path(local_path))[0]]

    reader.load_data = load_data
    try:
        yield
    finally:
        reader.load_data = by_pandas


def _client() -> Any:
    os.environ.setdefault("PF_TRACING_SKIP_LOCAL_SETUP", "true")
    from promptflow.client import PFClient

    client = PFClient()
    quieten_promptflow()
    return client


def _recorded(name: str, client: Any = None) -> Any:
    """promptflow's record of the run ``name``, None where it has none."""
    from promptflow.exceptions import PromptflowException

    try:
        return (client or _client()).runs.get(name) if name else None
    except PromptflowException:
        return None


def _reason(folder: Path) -> str:
    """Read what promptflow wrote down as the cause of a failed run."""
    content = read_json(folder / "error.json") or {}
    message = content.get("message") or (content.get("batchError") or {}).get("message")
    return str(message or json.dumps(content)[:500])
