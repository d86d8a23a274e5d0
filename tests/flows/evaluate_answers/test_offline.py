"""promptflow-evals without a download: in processes of their own, with the network shut."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.home import ROOT

SHUT = """
import socket
def shut(*args, **kwargs):
    tried.append(args)
    raise OSError("the network is shut")
tried = []
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = shut
"""
FIRST_LINES = f"""{SHUT}
from concurrent.futures import ThreadPoolExecutor
from flows.evaluate_answers.answer_metrics import score_answer
with ThreadPoolExecutor(8) as pool:
    pairs = [["It runs 8 months.", "It runs 9 months."]] * 8
    scores = list(pool.map(lambda pair: score_answer(*pair), pairs))
assert [line["f1"] for line in scores] == [0.75] * 8, scores
assert [line["rouge_2"] for line in scores] == [1 / 3] * 8, scores
assert not tried, tried
"""


def python(code: str, home: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run ``code`` as a user whose home is new."""
    kept = {name: value for name, value in os.environ.items() if name != "NLTK_DATA"}
    places = {"HOME": str(home), "USERPROFILE": str(home), "TMPDIR": str(home), "TEMP": str(home)}
    return subprocess.run(
        [sys.executable, "-W", "default::RuntimeWarning", "-X", "utf8", "-c", code],
        cwd=ROOT,
        env=kept | places | env,
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )


def test_eight_threads_score_the_first_line_offline(tmp_path: Path) -> None:
    done = python(FIRST_LINES, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout == ""
    assert list(tmp_path.rglob("nltk_data")) == []
