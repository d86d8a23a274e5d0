"""The demo: one question and a small batch, asked with the same ``pf`` commands a user types."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from setup import console
from setup.errors import FixableError
from setup.paths import REPOSITORY
from setup.recipe import Recipe

_FLOW = "flows/chat"
_FLOWS_OWN = "phi"  # `pf flow test` has no option for another connection than the flow names
_COLUMNS = ("question", "chat_history")
_WIDEST = 180
_FINISHED = re.compile(r"Finished (\d+) / (\d+) lines")
_SUBMITTED = re.compile(r"log path: (.+)$", re.MULTILINE)


def run_demo(recipe: Recipe, test_split: Path, limit: int) -> None:
    """Ask the first row of ``test_split`` with ``pf flow test``, ``limit`` rows with ``pf run``.

    Raises:
        FixableError: A ``pf`` command failed, or a line has no answer.
    """
    rows = [json.loads(line) for line in _head(test_split, limit)]
    if recipe.connection == _FLOWS_OWN:
        _ask_once(rows[0]["question"])
    name = f"chat-{datetime.now(timezone.utc):%Y%m%d-%H%M%S}"
    with tempfile.TemporaryDirectory() as folder:
        outputs = _run_batch(recipe, name, rows, Path(folder))
    answers = {row["line_number"]: row["answer"] for row in _read_lines(outputs / "output.jsonl")}
    _show_answers(rows, answers)
    _say_next(name)
    missing = len(rows) - len(answers)
    if missing:
        raise FixableError(
            f"{missing} of {len(rows)} lines of run {name} have no answer",
            f"pf run show-details --name {name}",
        )


def _head(path: Path, limit: int) -> Iterator[str]:
    with path.open(encoding="utf-8") as file:
        for _, line in zip(range(limit), file, strict=False):
            yield line


def _ask_once(question: str) -> None:
    with console.progress_bar("pf flow test"):
        done = _pf(["flow", "test", "--flow", _FLOW, "--inputs", f"question={question}"])
    answer = re.search(r'"answer": (".*")', done.stdout)
    if done.returncode != 0 or not answer:
        raise FixableError(f"pf flow test failed: {_last_line(done)}", "python -m setup doctor")
    console.out.print(f"Q: {question}\nA: {json.loads(answer[1])}\n", markup=False)


def _run_batch(recipe: Recipe, name: str, rows: list[dict[str, Any]], folder: Path) -> Path:
    data, printed = folder / "rows.jsonl", folder / "pf.txt"
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    data.write_text("".join(lines), encoding="utf-8", newline="\n")
    mapping = [f"{column}=${{data.{column}}}" for column in _COLUMNS]
    command = [*_pf_command(), "run", "create", "--flow", _FLOW, "--data", str(data)]
    command += ["--column-mapping", *mapping, "--name", name]
    command += ["--connections", f"chat.connection={recipe.connection}"]
    with printed.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, cwd=REPOSITORY)
        try:
            with console.progress_bar(f"pf run create, {len(rows)} rows", len(rows)) as bar:
                while process.poll() is None:
                    bar.update(console.TASK, completed=_finished(printed))
                    time.sleep(0.3)
        finally:
            _end(process)
    text = _read(printed)
    found = re.search(r'"output": (".*")', text)
    if process.returncode != 0 or not found:
        last = (text.strip().splitlines() or ["no output"])[-1]
        raise FixableError(f"pf run create failed: {last}", "python -m setup doctor")
    return Path(json.loads(found[1]))


def _end(process: subprocess.Popen[bytes]) -> None:
    """After Ctrl-C: pf got it too, and is given the time to end its workers."""
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.terminate()
        process.wait()


def _finished(printed: Path) -> int:
    """Lines done so far, from the log ``pf`` names first and writes while it runs."""
    log = _SUBMITTED.search(_read(printed))
    counts = _FINISHED.findall(_read(Path(log[1]))) if log else []
    return int(counts[-1][0]) if counts else 0


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def _show_answers(rows: list[dict[str, Any]], answers: dict[int, str]) -> None:
    table = Table("line", "question", "answer", "ground truth", show_lines=True)
    for number, row in enumerate(rows):
        answer = answers.get(number, "FAILED: no answer")
        cells = (_shorten(text) for text in (row["question"], answer, row["ground_truth"]))
        table.add_row(str(number), *cells)
    console.out.print(table, soft_wrap=False)
    console.out.print(f"n={len(rows)} ok={len(answers)} error={len(rows) - len(answers)}")


def _shorten(text: str) -> Text:
    """``text`` as one paragraph that leaves room for the other rows, markup left alone."""
    joined = " ".join(text.split())
    return Text(joined if len(joined) <= _WIDEST else f"{joined[: _WIDEST - 1]}…")


def _say_next(name: str) -> None:
    folder = "" if shutil.which("pf") else f"{Path(sys.executable).parent}{os.sep}"
    console.err.print("next: make chat        chat in the browser")
    console.err.print("      make stop        stop the endpoint")
    console.err.print(f"      {folder}pf run show-details --name {name}")
    console.err.print(f"      {folder}pf run visualize --name {name}")


def _pf(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*_pf_command(), *arguments],
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        cwd=REPOSITORY,
        check=False,
    )


def _pf_command() -> list[str]:
    """``pf`` of the Python that runs this, whether or not its folder is on PATH."""
    return [sys.executable, "-m", "promptflow._cli.pf"]


def _read_lines(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.strip()]


def _last_line(done: subprocess.CompletedProcess[str]) -> str:
    lines = (done.stdout + done.stderr).strip().splitlines()
    return lines[-1] if lines else f"exit code {done.returncode}"
