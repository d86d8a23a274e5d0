"""Runs a flow on engine plain in a process where promptflow cannot be found.

    python -m tests.evaluation.engines.without_promptflow JOB.json

The job: flow, variant, connections, columns, sources (rows by name), workers, processes.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from evaluation.engines import names
from evaluation.engines.plain import Flow, map_columns
from setup.common.errors import FixableError
from setup.common.promptflow_store import is_promptflow_installed


class Without(PathFinder):
    """Finds everything but promptflow."""

    @classmethod
    def find_spec(
        cls, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        hidden = fullname.partition(".")[0] == "promptflow"
        return None if hidden else PathFinder.find_spec(fullname, path, target)


def lend_text_metrics() -> None:
    """F1 and ROUGE of promptflow-evals, two files that need nothing else of promptflow."""
    found = PathFinder.find_spec("promptflow")
    assert found is not None
    assert found.origin is not None
    folder = Path(found.origin).parent / "evals"
    names.lend_evals(folder)
    lent = sys.modules["promptflow.evals.evaluators"] = ModuleType("promptflow.evals.evaluators")
    for name in ("f1_score", "rouge"):
        path = folder / "evaluators" / f"_{name}" / f"_{name}.py"
        spec = importlib.util.spec_from_file_location(f"lent_{name}", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        vars(lent).update({k: v for k, v in vars(module).items() if not k.startswith("_")})


def main() -> None:
    sys.meta_path = [Without if finder is PathFinder else finder for finder in sys.meta_path]
    assert importlib.util.find_spec("promptflow") is None
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    assert not is_promptflow_installed()
    names.stand_in()
    if job.get("text_metrics"):
        lend_text_metrics()
    try:
        flow = Flow(Path(job["flow"]), job.get("variant", ""), job.get("connections"))
        sources = {name: dict(enumerate(rows)) for name, rows in job["sources"].items()}
        lines = map_columns(flow.graph, job.get("columns", {}), sources)
        outcomes: list[Any] = []
        counts = {name: job[name] for name in ("workers", "processes") if name in job}
        metrics = flow.run(lines, outcomes.append, **counts)
    except FixableError as error:
        print(error, file=sys.stderr)
        raise SystemExit(1) from None
    found = sorted((outcome.as_dict() for outcome in outcomes), key=lambda one: int(one["line"]))
    print(json.dumps({"outcomes": found, "metrics": metrics}))


if __name__ == "__main__":
    main()
