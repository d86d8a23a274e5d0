"""The demo: one question and a small batch, asked with the same ``pf`` commands a user types."""

from __future__ import annotations

import json
import re
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
        subset = Path(folder) / "rows.jsonl"
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        subset.write_text("".join(lines), encoding="utf-8", newline="\n")
        outputs = _run_batch(recipe, name, subset, len(rows))
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


def _run_batch(recipe: Recipe, name: str, data: Path, total: int) -> Path:
    mapping = [f"{column}=${{data.{column}}}" for column in _COLUMNS]
    command = [*_pf_command(), "run", "create", "--flow", _FLOW, "--data", str(data)]
    command += ["--column-mapping", *mapping, "--name", name]
    command += ["--connections", f"chat.connection={recipe.connection}"]
    with tempfile.TemporaryFile("w+", encoding="utf-8") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, cwd=REPOSITORY, encoding="utf-8"
        )
        with console.progress_bar(f"pf run create, {total} rows", total) as bar:
            while process.poll() is None:
                bar.update(console.TASK, completed=_finished(output))
                time.sleep(0.3)
        output.seek(0)
        text = output.read()
    found = re.search(r'"output": (".*")', text)
    if process.returncode != 0 or not found:
        last = (text.strip().splitlines() or ["no output"])[-1]
        raise FixableError(f"pf run create failed: {last}", "python -m setup doctor")
    return Path(json.loads(found[1]))


def _finished(output: Any) -> int:
    """Lines done so far, from the log ``pf`` names first and writes while it runs."""
    output.seek(0)
    log = _SUBMITTED.search(output.read())
    if not log or not Path(log[1]).is_file():
        return 0
    counts = _FINISHED.findall(Path(log[1]).read_text(encoding="utf-8", errors="replace"))
    return int(counts[-1][0]) if counts else 0


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
    console.err.print("next: make chat                                   chat in the browser")
    console.err.print(f"      pf run show-details --name {name}   every line of this run")
    console.err.print(f"      pf run visualize --name {name}      the same as a page")
    console.err.print("      python -m setup stop                        stop the endpoint")


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
