"""promptflow-evals' F1 and ROUGE, imported without a download.

Its package imports NLTK's ``NISTTokenizer``, whose class body reads three character lists of the
NLTK resource ``perluniprops``: ``Number``, ``Punctuation`` and ``Symbol`` (nltk/tokenize/nist.py;
each is ``misc/perluniprops/NAME.txt``: UTF-8, the characters one after another). Where the resource
is missing promptflow-evals downloads it, and fails offline. Perl defines the three as the Unicode
general categories N, P and S (https://perldoc.perl.org/perluniprops), which are in ``unicodedata``:
they are written to a temporary folder for as long as the import lasts. F1 and ROUGE themselves use
neither the tokenizer nor the lists.
"""

from __future__ import annotations

import importlib
import shutil
import sys
import tempfile
import threading
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

Evaluator = Callable[..., dict[str, float]]

CATEGORIES = {"Number": "N", "Punctuation": "P", "Symbol": "S"}
_importing = threading.Lock()


@dataclass(frozen=True)
class Evaluators:
    """Each takes ``answer`` and ``ground_truth``; F1 of blank text is an error there."""

    f1: Evaluator
    rouge_1: Evaluator
    rouge_2: Evaluator
    rouge_l: Evaluator


def evaluators() -> Evaluators:
    """promptflow-evals' evaluators; the first call imports them, which takes seconds."""
    with _importing:
        return _load()


@cache
def _load() -> Evaluators:
    with _character_lists():
        evals: Any = importlib.import_module("promptflow.evals.evaluators")
    rouge, kinds = evals.RougeScoreEvaluator, evals.RougeType
    return Evaluators(
        evals.F1ScoreEvaluator(),
        rouge(rouge_type=kinds.ROUGE_1),
        rouge(rouge_type=kinds.ROUGE_2),
        rouge(rouge_type=kinds.ROUGE_L),
    )


@contextmanager
def _character_lists() -> Iterator[None]:
    """NLTK finds ``perluniprops`` while the block runs: its own where it is installed."""
    nltk: Any = importlib.import_module("nltk")
    try:
        nltk.corpus.perluniprops.ensure_loaded()
    except LookupError:
        # Private to this user: NLTK refuses to read a folder that others can write to.
        folder = tempfile.mkdtemp()
        try:
            write_character_lists(Path(folder) / "misc" / "perluniprops")
            nltk.data.path.append(folder)
            yield
        finally:
            if folder in nltk.data.path:
                nltk.data.path.remove(folder)
            shutil.rmtree(folder, ignore_errors=True)
    else:
        yield


def write_character_lists(folder: Path) -> None:
    """Write the three lists to ``folder``, in code point order, readable by this user alone."""
    for path in (folder.parent, folder):
        path.mkdir(mode=0o700, exist_ok=True)
    characters: dict[str, list[str]] = {category: [] for category in CATEGORIES.values()}
    for character in map(chr, range(sys.maxunicode + 1)):
        category = unicodedata.category(character)[0]
        if category in characters:
            characters[category].append(character)
    for name, category in CATEGORIES.items():
        path = folder / f"{name}.txt"
        path.touch(mode=0o600)
        path.write_bytes("".join(characters[category]).encode())
