"""Who may import promptflow: the thin `@tool` files of flows, and the few files that run it."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flows.conftest import ROOT

LINES_OF_A_SKIN, LINES_OF_ALL_SKINS = 40, 350
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
    "flows/evaluate_with_evals_judge/evals_judging/scores.py",
}
RUNNERS = {  # run flows, or keep their connections
    "evaluation/ask/connections.py",
    "evaluation/ask/judge_check.py",
    "evaluation/batch/pf_run.py",
    "evaluation/batch/storage.py",
    "evaluation/batch/threads.py",
    "evaluation/in_project/flow_run.py",
    "setup/azure/project/client.py",
    "setup/azure/project/connections.py",
    "setup/azure/project/upload.py",
    "setup/common/promptflow_store.py",
}
FOLDERS = sorted(path.parent for path in ROOT.glob("flows/*/flow.dag.yaml"))


def imported(tree: ast.Module) -> Iterator[str]:
    """Every module that is imported anywhere in a file, by a statement or by its name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module or ""
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if called in ("import_module", "find_spec", "__import__"):
                yield str(node.args[0].value)


def test_promptflow_is_imported_by_the_files_named_here_and_no_others() -> None:
    files = [
        path for top in ("flows", "evaluation", "setup") for path in (ROOT / top).rglob("*.py")
    ]
    assert len(files) > 100
    importing = {
        path.relative_to(ROOT).as_posix()
        for path in files
        if any(
            name.partition(".")[0] == "promptflow"
            for name in imported(ast.parse(path.read_text(encoding="utf-8")))
        )
    }
    assert importing == SKINS | LIBRARIES | RUNNERS


def test_skins_are_thin() -> None:
    lines = {name: len((ROOT / name).read_text(encoding="utf-8").splitlines()) for name in SKINS}
    assert {name: n for name, n in lines.items() if n > LINES_OF_A_SKIN} == {}
    assert sum(lines.values()) <= LINES_OF_ALL_SKINS


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.name))
def test_a_flow_is_its_skin_and_one_package(folder: Path) -> None:
    modules = {path.relative_to(ROOT).as_posix() for path in folder.glob("*.py")}
    assert modules == {name for name in SKINS if name.startswith(f"flows/{folder.name}/")}
    [package] = folder.glob("*/__init__.py")
    assert package.parent.name not in sys.stdlib_module_names


def test_flows_share_no_name_of_a_module() -> None:
    """promptflow puts the folders of all flows that it runs in one process on its path."""
    paths = [path for folder in FOLDERS for path in (*folder.glob("*.py"), *folder.glob("*/"))]
    names = [path.stem for path in paths if not path.name.startswith((".", "__"))]
    assert sorted(names) == sorted(set(names))
