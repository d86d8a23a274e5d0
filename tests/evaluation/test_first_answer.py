"""``python -m evaluation demo``: first an answer, with nothing of what comes only to train."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.home import Home
from tests.tiny import make_tiny_llama

TRAINED_WITH = "torch", "transformers", "mlflow"
PIP = """
import sys
print("ERROR: no room for", *sys.argv[-1:], file=sys.stderr)
sys.exit(1)
"""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A machine without torch, whose pip fails and where an early import of it fails as well."""
    base, packages = make_tiny_llama(tmp_path), tmp_path / "packages"
    for name in TRAINED_WITH:
        (packages / name).mkdir(parents=True)
        (packages / name / "__init__.py").write_text('raise ImportError("before the answer")')
    (packages / "torch-0.0.1.dist-info").mkdir()
    metadata = "Metadata-Version: 2.1\nName: torch\nVersion: 0.0.1\n"
    (packages / "torch-0.0.1.dist-info" / "METADATA").write_text(metadata)
    (packages / "pip").mkdir()
    (packages / "pip" / "__init__.py").touch()
    (packages / "pip" / "__main__.py").write_text(PIP)
    sets = [f"model.source={base}", "model.precision=keep", "model.context_window=512"]
    env = {"PYTHONPATH": str(packages), "TORCH_INDEX": ""}
    return Home(tmp_path / "home", tmp_path / "models", sets=sets, extra_env=env)


def test_the_answer_waits_for_no_torch_and_its_failure_is_said(home: Home) -> None:
    sets = [f"endpoint.port={home.port}", *home.sets]
    options = [part for value in sets for part in ("--set", value)]
    try:
        done = home.run("-m", "evaluation", "demo", *options, timeout=300)
    finally:
        home.setup("stop")
    said = done.stdout.splitlines()
    places = [
        next((n for n, line in enumerate(said) if line.startswith(text)), None)
        for text in ("deploy: deployment base", "connect: ", "question: ", "phi-base: ", "data: ")
    ]
    assert None not in places, done.stdout + done.stderr
    assert places == sorted(places, key=lambda place: place or 0)
    # The page knows no recipe: with --set behind it the command would be refused.
    assert "chat with it meanwhile, in another terminal: python -m setup chat\n" in done.stderr
    log = home.folder / "install-torch.log"
    assert f"torch is installed meanwhile; its log is {log}" in done.stderr
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(
        "error: torch could not be installed: ERROR: no room for "
    )
    assert f"Fix: {sys.executable} -m setup.install_torch, then run it again" in done.stderr
    assert "before the answer" not in done.stdout + done.stderr + log.read_text(encoding="utf-8")
