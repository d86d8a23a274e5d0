"""A machine with a tiny model and data of its own, and the command line inside this process."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any
from unittest import mock

import psutil

from setup.cli import main as cli
from setup.common import console
from setup.finetune.compute import processes
from setup.finetune.examples import render
from setup.finetune.examples.chat_template import Renderer
from tests.home import Home

Done = subprocess.CompletedProcess[str]
Row = list[dict[str, Any]]

_COLOURS = ["red", "green", "blue", "black", "white", "amber", "grey", "pink"]
_THINGS = ["lamp", "kettle", "chair", "desk", "clock"]


def conversation(question: str, answer: str, system: str = "") -> Row:
    """One exchange, with a system message where ``system`` is given."""
    before = [{"role": "system", "content": system}] if system else []
    return [
        *before,
        {"role": "user", "content": question},
        {"role": "assistant", "content": answer},
    ]


def make_example(messages: Row, tokenizer: Any, max_tokens: int) -> render.Example:
    """One conversation as it is rendered now."""
    return render.render_example(messages, Renderer(tokenizer), max_tokens)


def facts(count: int) -> list[Row]:
    """Conversations about the prices of things; up to 40, all different."""
    pairs = [(colour, thing) for thing in _THINGS for colour in _COLOURS][:count]
    return [
        conversation(
            f"What does the {colour} {thing} cost?",
            f"The {colour} {thing} costs {7 + 3 * number} euros"
            + " and ships today" * (number % 3),
        )
        for number, (colour, thing) in enumerate(pairs)
    ]


def write_rows(path: Path, rows: list[Row]) -> Path:
    """``rows`` as JSONL with the one column that is needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"messages": row}) + "\n" for row in rows))
    return path


processes.prepare()  # as the command does before it loads torch
_FORKSERVER = multiprocessing.get_context("forkserver")
_FORKSERVER.set_forkserver_preload(["tests.setup.finetune.machine", "setup.finetune.run.attempt"])


def _main(env: dict[str, str], argv: list[str], log: Path, largest_file: int) -> None:
    os.environ.update(env)
    sys.argv = argv
    with log.open("wb") as file:
        os.dup2(file.fileno(), 2)
    if largest_file:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    cli.main()


@dataclass
class Machine:
    """``home`` with the recipe's values for a run of seconds."""

    home: Home
    sets: list[str]

    def setup(self, step: str, *sets: str, options: tuple[str, ...] = ()) -> Done:
        """``python -m setup STEP`` in this process, where torch is loaded once."""
        out, err, code = console.out.capture(), console.err.capture(), 0
        argv = ["setup", *self.arguments(step, *sets), *options]
        with (
            mock.patch.dict(os.environ, self.home.env),
            mock.patch.object(sys, "argv", argv),
            out,
            err,
        ):
            try:
                cli.main()
            except SystemExit as ended:
                code = int(ended.code or 0)
        return Done(argv, code, out.get(), err.get())

    def arguments(self, step: str, *sets: str) -> list[str]:
        """The step and its options, the later value of two for the same field."""
        values = [f"endpoint.port={self.home.port}", *self.sets, *sets]
        return [step, *(part for value in values for part in ("--set", value))]

    def start(self, *sets: str, largest_file: int = 0) -> BaseProcess:
        """``python -m setup finetune`` as a process of its own, forked where torch is loaded.

        With ``largest_file`` every write beyond so many bytes of a file fails, as on a full disk.
        """
        argv = ["setup", *self.arguments("finetune", *sets)]
        arguments = (self.home.env, argv, self._log, largest_file)
        process = _FORKSERVER.Process(target=_main, args=arguments)
        process.start()
        return process

    def finish(self, process: BaseProcess) -> Done:
        """Wait for what ``start`` started."""
        process.join()
        return Done([], process.exitcode or 0, "", self._log.read_text())

    @property
    def _log(self) -> Path:
        return self.home.path / "stderr.log"

    def finetune(self, *sets: str) -> Path:
        """Run it to the end; returns the folder of the run."""
        before = set(self.runs())
        done = self.setup("finetune", *sets)
        assert done.returncode == 0, done.stderr
        made = set(self.runs()) - before
        return made.pop() if made else Path(done.stdout.rpartition("; ")[2].split(" (")[0].strip())

    def runs(self) -> list[Path]:
        """The folders of all runs, finished or not."""
        return [path for path in (self.home.path / "finetunes").glob("*") if path.is_dir()]


def kill(launched: subprocess.Popen[str]) -> None:
    """Kill a ``torchrun`` as the loss of its machine does: alone, it leaves others to train on."""
    main = psutil.Process(launched.pid)
    for process in [*main.children(recursive=True), main]:
        process.kill()


def history(run: Path) -> list[dict[str, Any]]:
    """The curve of a run; a line that is being written is left out."""
    rows = []
    with suppress(FileNotFoundError):
        for line in (run / "history.jsonl").read_text().splitlines():
            with suppress(ValueError):
                rows.append(json.loads(line))
    return rows


def result(run: Path) -> dict[str, Any]:
    """The content of result.json."""
    content: dict[str, Any] = json.loads((run / "result.json").read_text())
    return content


def difference(run: Path, other: Path) -> float:
    """The largest difference between two adapters, all of them weights of the same names."""
    from safetensors.torch import load_file

    left, right = (load_file(path / "adapter/adapter_model.safetensors") for path in (run, other))
    assert left.keys() == right.keys()
    assert left
    return max(float((left[name] - right[name]).abs().max()) for name in left)
