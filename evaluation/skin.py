"""The files that may import promptflow: flows' thin `@tool` files, and the few that run it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from setup.common.paths import REPOSITORY

SKINS = {
    "flows/chat/chat.py",
    "flows/chat/usage.py",
    "flows/evaluate_answers/score.py",
    "flows/evaluate_answers/summarize.py",
    "flows/evaluate_safety/safety_aggregate.py",
    "flows/evaluate_safety/safety_content.py",
    "flows/evaluate_safety/safety_score.py",
    "flows/evaluate_with_evals_judge/evals_judge.py",
    "flows/evaluate_with_evals_judge/evals_judge_metrics.py",
    "flows/evaluate_with_judge/judge_case.py",
    "flows/evaluate_with_judge/judge_metrics.py",
    "flows/evaluate_with_judge/judge_verdict.py",
}
LIBRARIES = {  # load promptflow-evals, where it is installed, by its files
    "flows/evaluate_answers/answer_metrics/text.py",
    "flows/evaluate_with_evals_judge/evals_judging/packages.py",
}
RUNNERS = {  # run flows, keep their connections, show them, or look whether promptflow is there
    "evaluation/engines/names.py",
    "evaluation/engines/pf_run.py",
    "evaluation/engines/threads.py",
    "evaluation/engines/worker.py",
    "evaluation/in_project/flow_run.py",
    "evaluation/in_project/pipeline.py",
    "setup/azure/project/client.py",
    "setup/azure/project/connections.py",
    "setup/azure/project/upload.py",
    "setup/cli/chat.py",
    "setup/common/promptflow_store.py",
}
ALLOWED = SKINS | LIBRARIES | RUNNERS
_IMPORTERS = ("import_module", "find_spec", "__import__")


def importing_files() -> set[str]:
    """The files of flows, evaluation and setup that import promptflow, by a statement or a name."""
    return {
        path.relative_to(REPOSITORY).as_posix()
        for top in ("flows", "evaluation", "setup")
        for path in (REPOSITORY / top).rglob("*.py")
        if any(promptflow_names(path))
    }


def promptflow_names(path: Path) -> Iterator[tuple[str, str]]:
    """The imports of promptflow in a file: modules, and of each the name, "" for all of it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        pairs: list[tuple[str, str]] = []
        if isinstance(node, ast.Import):
            pairs = [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            pairs = [(node.module or "", alias.name) for alias in node.names]
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = getattr(node.func, "attr", getattr(node.func, "id", ""))
            pairs = [(str(node.args[0].value), "")] if called in _IMPORTERS else []
        yield from (pair for pair in pairs if pair[0].partition(".")[0] == "promptflow")
