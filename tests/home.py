"""A machine of its own for tests: empty state folders, and the commands a user types."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import requests

ROOT = Path(__file__).resolve().parent.parent


def free_port() -> int:
    """A loopback port nobody listens on right now.

    Ports that the system picks for outgoing connections are from 32768 on, and would be taken by
    one of those before a server that is being started listens.
    """
    while True:
        port = 15000 + secrets.randbelow(17000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@dataclass
class Home:
    """Folders for state, connections and runs; the model files are shared with the user's own."""

    path: Path
    models: Path
    port: int = field(default_factory=free_port)
    sets: list[str] = field(default_factory=list)
    extra_env: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        prompt_flow = self.path / "promptflow"
        prompt_flow.mkdir(parents=True, exist_ok=True)
        checked = {"last_check_time": str(datetime.now()), "latest_version": "0"}
        (prompt_flow / "pf_version_check.json").write_text(json.dumps(checked))

    @property
    def env(self) -> dict[str, str]:
        """The environment every command of this machine runs in."""
        return os.environ | {
            "FINETUNE_PHI_HOME": str(self.path),
            "FINETUNE_PHI_MODELS": str(self.models),
            "PF_HOME_DIRECTORY": str(self.path / "promptflow"),
            "PYTHON_KEYRING_BACKEND": "keyrings.alt.file.PlaintextKeyring",
            "KEYRING_PROPERTY_FILE_PATH": str(self.path / "keyring.cfg"),
            **self.extra_env,
        }

    @contextmanager
    def altered(self, **env: str) -> Iterator[None]:
        """Other environment variables while the block runs."""
        before, self.extra_env = self.extra_env, env
        try:
            yield
        finally:
            self.extra_env = before

    def run(self, *command: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """A command of this venv, from the repository root."""
        return subprocess.run(
            [sys.executable, *command],
            cwd=ROOT,
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=timeout,
            check=False,
        )

    def setup(self, step: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """``python -m setup STEP`` with this machine's port."""
        sets = [f"endpoint.port={self.port}", *self.sets]
        options = [part for value in sets for part in ("--set", value)]
        return self.run("-m", "setup", step, *options, *arguments)

    def serve(self) -> None:
        """Deploy and connect, as ``make chat`` does before the page."""
        for step in ("deploy", "connect"):
            done = self.setup(step)
            assert done.returncode == 0, done.stderr

    def pf(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """``pf ARGUMENTS``."""
        return self.run("-m", "promptflow._cli.pf", *arguments)

    @property
    def folder(self) -> Path:
        """State of the endpoint."""
        return self.path / "endpoints" / "phi-local"

    @property
    def url(self) -> str:
        """Address of the endpoint."""
        return f"http://127.0.0.1:{self.port}"

    def key(self, kind: str = "scoring") -> str:
        """The scoring or the management key."""
        return str(json.loads((self.folder / "keys.json").read_text())[kind])

    def call(self, route: str, body: Any, method: str = "POST", **headers: str) -> Any:
        """Call the endpoint with its key; returns the ``requests`` response."""
        kind = "management" if route.startswith("/manage") else "scoring"
        headers = {"Authorization": f"Bearer {self.key(kind)}"} | headers
        sent = {"data": body} if isinstance(body, bytes) else {"json": body}
        return requests.request(method, self.url + route, headers=headers, timeout=60, **sent)

    def manage(self, method: str, route: str = "", body: Any = None) -> Any:
        """Call a management route."""
        return self.call(f"/manage{route}", body, method)

    def log(self) -> list[dict[str, Any]]:
        """The endpoint's log."""
        text = (self.folder / "endpoint.log").read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]

    def logged(self, asked: str) -> dict[str, Any]:
        """The log's line of a request to a path that begins so; written after its answer is."""
        deadline = time.monotonic() + 20
        while True:
            lines = [line for line in self.log() if line.get("path", "").startswith(asked)]
            if lines:
                return lines[-1]
            assert time.monotonic() < deadline, f"no line of {asked} in the log"
            time.sleep(0.05)


def run_module(
    home: Path, module: str, *arguments: str, python: str = sys.executable
) -> subprocess.CompletedProcess[str]:
    """``python -m MODULE ARGUMENTS`` from the repository, its state in the folder ``home``."""
    return subprocess.run(
        [python, "-m", module, *arguments],
        cwd=ROOT,
        env=os.environ | {"FINETUNE_PHI_HOME": str(home)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=150,
        check=False,
    )


def failed(done: subprocess.CompletedProcess[str]) -> str:
    """The one line of a failure that the user can fix."""
    assert done.returncode == 1
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    return lines[0]


def ask(question: str, **parameters: Any) -> dict[str, Any]:
    """A body for ``/score``, greedy and short unless told otherwise."""
    given = {"temperature": 0, "max_new_tokens": 24} | parameters
    messages = [{"role": "user", "content": question}]
    return {"input_data": {"input_string": messages, "parameters": given}}


def ask_openai(question: str, **parameters: Any) -> dict[str, Any]:
    """A body for ``/v1/chat/completions``."""
    given = {"temperature": 0, "max_tokens": 24} | parameters
    return {"messages": [{"role": "user", "content": question}], **given}
