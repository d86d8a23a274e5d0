"""``python -m evaluation.engines.worker ENGINE JOB RESULT``: flows over given lines on one engine.

Engines may need environments of their own, so each of a comparison is such a process; connections
are those of its home. The job is a list of cases, the result has the outcomes of each by its name.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml

from evaluation.ask.journal import Outcome
from evaluation.engines.plain import Flow
from setup.common import connection_store
from setup.common.errors import FixableError

_WORKERS = 16
Lines = Sequence[Mapping[str, Any]]
Result = dict[str, Any]


def main() -> None:
    """Run the job's cases and write their results."""
    engine, job, result = sys.argv[1:]
    run = run_plain if engine == "plain" else run_promptflow
    results = {}
    for case in json.loads(Path(job).read_text(encoding="utf-8")):
        draft = Path(result).with_suffix(".dag.yaml")
        try:
            results[case["name"]] = run(Path(case["flow"]), case["variant"], case["lines"], draft)
        except FixableError as error:
            results[case["name"]] = {"refused": str(error)}
    Path(result).write_text(json.dumps(results), encoding="utf-8")


def run_plain(flow: Path, variant: str, lines: Lines, _: Path | None = None) -> Result:
    """The outputs of each line, ``[class, text]`` where it failed, and the metrics."""
    told: list[Any] = [None] * len(lines)

    def keep(outcome: Outcome) -> None:
        told[outcome.line] = tell(outcome.as_dict())

    metrics = Flow(flow, variant).run(dict(enumerate(lines)), keep, workers=_WORKERS)
    return {"lines": told, "metrics": metrics}


def tell(outcome: Mapping[str, Any]) -> Any:
    """The outputs of a line, or the class and the text of its error."""
    error = outcome["error"]
    if not error:
        return outcome["outputs"]
    return [error["type"], ". Fix: ".join(filter(None, (error["message"], error.get("fix"))))]


def run_promptflow(flow: Path, variant: str, lines: Lines, draft: Path) -> Result:
    """As :func:`run_plain`, by promptflow's executor; ``draft`` is where its YAML may stand."""
    from promptflow.executor import FlowExecutor

    dag = yaml.safe_load((flow / "flow.dag.yaml").read_text(encoding="utf-8"))
    if variant:
        node, _, chosen = variant[2:-1].partition(".")
        dag["node_variants"][node]["default_variant_id"] = chosen
    draft.write_text(yaml.safe_dump(dag), encoding="utf-8")
    executor = FlowExecutor.create(draft, _connections(), flow, raise_ex=False)
    with ThreadPoolExecutor(_WORKERS) as pool:
        results = list(pool.map(executor.exec_line, lines))
    good = [result for result in results if not result.run_info.error]
    inputs = _columns([result.run_info.inputs for result in good])
    kept = _columns([result.aggregation_inputs for result in good])
    metrics = executor.exec_aggregation(inputs, kept).metrics if good else {}
    return {"lines": [_told(result) for result in results], "metrics": metrics}


def _columns(rows: Lines) -> dict[str, list[Any]]:
    return {name: [row[name] for row in rows] for name in (rows[0] if rows else ())}


def _told(result: Any) -> Any:
    error = result.run_info.error
    if not error:
        return result.output
    for extra in error.get("additionalInfo") or ():
        return [extra["info"]["type"], extra["info"]["message"]]
    return [(error.get("innerError") or error)["code"], error["message"]]


def _connections() -> dict[str, Any]:
    """Those of our store, as promptflow's executor takes them."""
    return {
        stored.name: {
            "type": stored.kind,
            "module": "promptflow.connections",
            "value": {**stored.configs, **stored.secrets},
            "secret_keys": list(stored.secrets),
        }
        for stored in map(connection_store.read, connection_store.names())
    }


if __name__ == "__main__":
    main()
