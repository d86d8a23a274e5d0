"""promptflow-evals without a download: in processes of their own, with the network shut."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from flows.evaluate_answers.answer_metrics.evaluators import CATEGORIES, write_character_lists
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
from nltk.tokenize.nist import NISTTokenizer
text = "Alibaba (阿里巴巴集团 有限公司) 3€ + foo☄bar 10。20 £5."
print(*NISTTokenizer().international_tokenize(text))
assert not tried, tried
"""
INSTALLED = f"""{SHUT}
from flows.evaluate_answers.answer_metrics.evaluators import _character_lists
with _character_lists():
    from nltk.tokenize.nist import NISTTokenizer
print(NISTTokenizer.pup_number)
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
    tokens = "Alibaba ( 阿里巴巴集团 有限公司 ) 3 € + foo ☄ bar 10 。 20 £ 5 ."
    assert done.stdout.split() == tokens.split()
    assert list(tmp_path.rglob("perluniprops")) == []


def test_the_resource_of_nltk_goes_first(tmp_path: Path) -> None:
    installed = tmp_path / "data" / "misc" / "perluniprops"
    installed.mkdir(parents=True, mode=0o700)
    for name in CATEGORIES:
        (installed / f"{name}.txt").write_text("0123\n", encoding="utf-8")
        (installed / f"{name}.txt").chmod(0o600)
    done = python(INSTALLED, tmp_path, NLTK_DATA=str(tmp_path / "data"))
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.strip()) == list("0123")


@pytest.fixture(scope="module")
def lists(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nltk") / "misc" / "perluniprops"
    write_character_lists(folder)
    return folder


@pytest.mark.parametrize(("name", "category"), CATEGORIES.items())
def test_the_lists_are_the_properties_of_perl(lists: Path, name: str, category: str) -> None:
    """The module ``regex`` has Unicode tables of its own, and Perl's syntax."""
    regex: Any = importlib.import_module("regex")
    text = (lists / f"{name}.txt").read_text(encoding="utf-8")
    assigned = "".join(c for c in map(chr, range(0x110000)) if unicodedata.category(c) != "Cn")
    assert text == "".join(regex.findall(rf"\p{{{category}}}", assigned))
    assert len(text) > 800


def test_the_lists_are_private(lists: Path) -> None:
    if os.name == "posix":
        modes = {path.stat().st_mode & 0o077 for path in (lists, *lists.iterdir())}
        assert modes == {0}
