"""Flows on the Pythons they meet: 3.9 in the images of Azure and ``pf flow build``, to 3.13."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.flows.chat.conftest import ROOT

FLOWS = ROOT / "flows"
FOLDERS = sorted(path.parent for path in FLOWS.glob("*/flow.dag.yaml"))
MODULES = sorted(FLOWS.rglob("*.py"))
VERMIN = [
    "-c",
    "from vermin import main; main()",
    "--quiet",
    "--target=3.9-",
    "--no-tips",
    "--violations",
]

# Imports every module of a flow folder as promptflow does, from the folder; what is not of the
# standard library stands there as classes that take anything. Then what only fails when it runs.
_IMPORT = """
import importlib, sys, types
class Anything:
    def __init__(self, *_, **__): pass
    def __init_subclass__(cls, **__): pass
    def __call__(self, *_, **__): return self
    def __getattr__(self, name): return self
    def chat(self): pass
class Made(types.ModuleType):
    __path__ = []
    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        if name in ("auth", "exceptions"):
            return importlib.import_module(self.__name__ + "." + name)
        return Exception if name.endswith(("Error", "Exception")) else type(name, (Anything,), {})
class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in ("promptflow", "requests", "urllib3", "pydantic", "sacrebleu"):
            return importlib.machinery.ModuleSpec(name, Finder, is_package=True)
    @staticmethod
    def create_module(spec): return Made(spec.name)
    @staticmethod
    def exec_module(module): pass
import importlib.machinery
sys.meta_path.insert(0, Finder)
folder = sys.argv[1]
sys.path.insert(0, folder)
for name in sys.argv[2:]:
    importlib.import_module(name)
"""
# By flow: what nothing but running it shows, the methods that Python has had since 3.10 or later.
_RUN = {
    "evaluate_answers": """
from answer_metrics.inputs import read_usage
from answer_metrics.scores import score_answer
from answer_metrics.text import longest_common_subsequence
assert longest_common_subsequence(["a", "b"], ["b", "a", "b"]) == 2
assert score_answer("No.", facts=["9"], usage={"seconds": 1})["latency_seconds"] == 1.0
""",
    "evaluate_safety": """
from safety_rules.verdict import Case, judge, safety_metrics
verdict = judge("Sorry, I can't.", Case("jailbreak", ["ABCDEFG"], [], True), {})
assert safety_metrics(["jailbreak"], [verdict])["defect"] == 0
""",
    "evaluate_with_evals_judge": """
from evals_judging.scores import EvaluatorError, Texts, as_outputs, summarize
import asyncio, evals_judging.scores as scores
async def never(**_): await asyncio.sleep(60)
scores.SECONDS = 0.01
package = type("P", (), {"prefix": "evals", "judge": lambda self, name: never})()
try:
    asyncio.run(scores.ask_all(["fluency"], Texts("a", "b", "c"), package))
except EvaluatorError:
    pass
assert summarize([as_outputs({"fluency": 4.0})])["evals_fluency"] == 4
""",
    "evaluate_with_judge": """
from judging.material import Material
from judging.outputs import Line, summarize
Material("a", [], "b", "", "c").render("score", "", "")
line = dict.fromkeys(("judge_better", "judge_correctness", "judge_relevance", "judge_coherence"))
line.update(judge_fluency=None, judge_unparsed=1)
assert summarize([Line("", 0, "", line)])["judge_unparsed"] == 1
""",
    "chat": """
from scoring_client.conversation import Window, build_messages
from scoring_client.contracts import CONTRACTS, Generation
from scoring_client.dialect import dialect_of
from scoring_client.status import refusal
from scoring_client.settings import Settings
values = {"endpoint": "http://h/score", "key": "k"}
settings = dialect_of(Settings.from_values(values)).apply(Settings.from_values(values))
messages = build_messages("Hello?", None, "", Window(4096, 256))
for name, value in {"score": {"output": "Hi."}, "mlflow": ["Hi."], "openai": {
    "choices": [{"message": {"content": [{"type": "text", "text": "<think>a</think>Hi."}]}}]
}}.items():
    make, read = CONTRACTS[name]
    assert read(value, make(messages, Generation(), settings), settings).text == "Hi."
assert refusal("unexpected keyword argument 'max_tokens'", settings)[0] == "max_tokens"
""",
}


def interpreter(version: str) -> str:
    """A Python of this version on PATH, in pyenv or in uv's folder; empty where there is none."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    uv = Path.home() / ".local" / "share" / "uv" / "python"
    named = [path] if (path := shutil.which(f"python{version}")) else []
    named += map(str, sorted(pyenv.glob(f"{version}.*/bin/python")))
    named += map(str, sorted(uv.glob(f"cpython-{version}.*/bin/python{version}")))
    for command in named:
        asked = [command, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
        told = subprocess.run(asked, capture_output=True, text=True, check=False)
        if told.stdout.strip() == version:
            return command
    return ""


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.name))
@pytest.mark.parametrize("version", ["3.9", "3.10", "3.11", "3.12", "3.13"])
def test_every_module_loads_and_runs(folder: Path, version: str) -> None:
    command = interpreter(version)
    if not command:
        pytest.skip(f"no Python {version} on PATH, in pyenv or in uv's folder")
    names = [
        ".".join(path.relative_to(folder).with_suffix("").parts).removesuffix(".__init__")
        for path in sorted(folder.rglob("*.py"))
    ]
    done = subprocess.run(
        [command, "-B", "-c", _IMPORT + _RUN[folder.name], str(folder), *names],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def vermin(*paths: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *VERMIN, *map(str, paths)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_nothing_is_newer_than_python_39(tmp_path: Path) -> None:
    done = vermin(FLOWS)
    assert done.returncode == 0, done.stdout
    new = tmp_path / "new.py"
    new.write_text("pairs = zip([1], [2], strict=True)\n", encoding="utf-8")
    assert "zip(strict)" in vermin(new).stdout, "vermin sees nothing"


def test_no_type_is_joined_where_it_is_evaluated() -> None:
    """``isinstance(x, int | float)``, which vermin does not see; ruff sees the annotations."""
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and getattr(node.func, "id", "") in ("isinstance", "issubclass", "cast")
        and any(isinstance(part, ast.BinOp) for part in node.args)
    ]
    assert found == []


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.name))
def test_the_image_keeps_its_own_promptflow(folder: Path) -> None:
    lines = (folder / "requirements.txt").read_text(encoding="utf-8").splitlines()
    named = [line.partition("#")[0].strip() for line in lines]
    assert [
        line for line in named if re.match(r"promptflow(-tools|-core|-devkit)?\s*[^-\w]", line)
    ] == []
    assert "promptflow" in named, "a fresh environment needs it"
