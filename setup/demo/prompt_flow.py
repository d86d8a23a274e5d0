"""The ``pf`` commands of a user, run for the demo: one question, and a batch."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from setup import console
from setup.errors import FixableError
from setup.paths import REPOSITORY

_FLOW = "flows/chat"
_COLUMNS = ("question", "chat_history")
_CONNECTION = re.compile(r"^(\s+connection: ).*$", re.MULTILINE)
_FINISHED = re.compile(r"Finished (\d+) / (\d+) lines")
_SUBMITTED = re.compile(r"log path: (.+)$", re.MULTILINE)


def ask_once(question: str, connection: str) -> str:
    """The answer of ``pf flow test`` through ``connection``.

    `pf flow test` knows no other connection than the one the flow names, so a copy of the flow
    that names this one is tested.

    Raises:
        FixableError: The command failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        flow = Path(shutil.copytree(REPOSITORY / _FLOW, Path(folder) / "chat"))
        graph = flow / "flow.dag.yaml"
        text = graph.read_text(encoding="utf-8")
        graph.write_text(_CONNECTION.sub(rf"\g<1>{connection}", text), encoding="utf-8")
        with console.progress_bar(f"pf flow test, connection {connection}"):
            done = _pf(["flow", "test", "--flow", str(flow), "--inputs", f"question={question}"])
    answer = re.search(r'"answer": (".*")', done.stdout)
    if done.returncode != 0 or not answer:
        raise FixableError(f"pf flow test failed: {_last_line(done)}", "python -m setup doctor")
    return str(json.loads(answer[1]))


def run_batch(name: str, rows: Sequence[dict[str, Any]], connection: str) -> dict[int, str]:
    """``pf run create`` over ``rows`` as run ``name``; the answers by line number.

    A line that failed has none.

    Raises:
        FixableError: The command failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        outputs = _run(name, rows, connection, Path(folder))
    return {row["line_number"]: row["answer"] for row in _read_lines(outputs / "output.jsonl")}


def _run(name: str, rows: Sequence[dict[str, Any]], connection: str, folder: Path) -> Path:
    data, printed = folder / "rows.jsonl", folder / "pf.txt"
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    data.write_text("".join(lines), encoding="utf-8", newline="\n")
    mapping = [f"{column}=${{data.{column}}}" for column in _COLUMNS]
    command = [*_pf_command(), "run", "create", "--flow", _FLOW, "--data", str(data)]
    command += ["--column-mapping", *mapping, "--name", name]
    command += ["--connections", f"chat.connection={connection}"]
    with printed.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, cwd=REPOSITORY)
        try:
            with console.progress_bar(f"pf run create, connection {connection}", len(rows)) as bar:
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
