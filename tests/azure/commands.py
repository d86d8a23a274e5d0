"""``python -m setup`` as a user types it, in the environment that the fixture ``azure`` set up."""

from __future__ import annotations

import subprocess
import sys

from tests.home import ROOT


def run_setup(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command, without a terminal to ask on."""
    return subprocess.run(
        [sys.executable, "-m", "setup", *arguments],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
