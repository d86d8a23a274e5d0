"""``python -m setup`` in this process, and rows to give it."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from setup.cli import main as cli
from setup.common import console


@dataclass(frozen=True)
class Ended:
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line of a failure that the user can fix."""
        assert self.code == 1, self.err
        (line,) = [line for line in self.err.splitlines() if line.startswith("error: ")]
        assert self.err.splitlines()[-1] == line, "nothing after it, no traceback"
        return line

    @property
    def next(self) -> list[str]:
        """The arguments of the command that it says comes next."""
        assert self.code == 0, self.err
        (command,) = [line for line in self.err.splitlines() if line.startswith("next: ")]
        start, *arguments = shlex.split(command.removeprefix("next: python -m "))
        assert start == "setup"
        return arguments


def run(*arguments: str) -> Ended:
    """The command with its arguments."""
    code, out, err = 0, console.out.capture(), console.err.capture()
    with mock.patch.object(sys, "argv", ["setup", *arguments]), out, err:
        try:
            cli.main()
        except SystemExit as ended:
            code = int(ended.code or 0)
    return Ended(code, out.get(), err.get())


def options(**sets: Any) -> list[str]:
    """``--set data.KEY=VALUE`` for each."""
    return [part for key, value in sets.items() for part in ("--set", f"data.{key}={value}")]


def prepare(source: Path | str, out: Path, **sets: Any) -> Ended:
    """``python -m setup data`` on a source."""
    return run("data", *options(source=source, out=out, **sets))


def rows(file: Path) -> list[dict[str, Any]]:
    """The rows of a JSONL file."""
    # Not splitlines: U+2028 ends no line of JSON.
    return [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line]


def prepared(out: Path) -> list[dict[str, Any]]:
    """All rows that were kept, of both sides."""
    return rows(out / "train_data.jsonl") + rows(out / "test_data.jsonl")


def lamps(count: int = 24) -> list[list[dict[str, Any]]]:
    """Conversations of one exchange, all different."""
    return [
        [
            {"role": "user", "content": f"What does lamp {number} cost?"},
            {"role": "assistant", "content": f"Lamp {number} costs {3 * number + 7} euros."},
        ]
        for number in range(count)
    ]


def write(file: Path, *conversations: Any) -> Path:
    """A JSONL file with the one column that is needed."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps({"messages": row}) + "\n" for row in conversations))
    return file
