"""The environments of the clients, made once outside the repository, and their locks.

``python -m tests.setup.serve.clients.environment`` writes the locks anew, at the newest versions.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import platformdirs
import pytest
from filelock import FileLock

HERE = Path(__file__).resolve().parent
CLIENTS = {
    "openai": ["openai", "pydantic"],
    "azure-ai-inference": ["azure-ai-inference", "aiohttp"],
    "langchain": ["langchain-community"],
    "litellm": ["litellm"],
    "llm": ["llm"],
    "schemathesis": ["schemathesis"],
}
_UV = Path(sys.executable).with_name("uv.exe" if sys.platform == "win32" else "uv")
_BIN = "Scripts" if sys.platform == "win32" else "bin"


def folder_of(client: str) -> Path:
    """The folder of the client's programs, after what its lock names is installed there."""
    lock = HERE / f"{client}.txt"
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()[:12]
    cache = Path(
        os.environ.get("FINETUNE_PHI_CLIENTS", platformdirs.user_cache_dir("finetune-phi"))
    )
    folder = cache / "clients" / f"{client}-{sys.version_info[0]}.{sys.version_info[1]}-{digest}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not (folder / "installed").exists():
            _run("venv", "--quiet", "--clear", "--python", sys.executable, str(folder))
            python = str(folder / _BIN / "python")
            where = ["--python", python, "--no-deps", "--require-hashes", "-r", str(lock)]
            _run("pip", "install", "--quiet", *where)
            (folder / "installed").touch()
    return folder / _BIN


def _run(*arguments: str) -> None:
    command = [str(_UV), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=170, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1].strip()
        pytest.fail(
            f"no environment for the client (is the package index reachable?): {last}", False
        )


def main() -> None:
    """Write every lock anew."""
    options = ["--quiet", "--universal", "--python-version", "3.11", "--generate-hashes"]
    for client, packages in CLIENTS.items():
        out = ["--no-header", "--upgrade", "-", "-o", str(HERE / f"{client}.txt")]
        command = [str(_UV), "pip", "compile", *options, *out]
        subprocess.run(command, input="\n".join(packages), text=True, check=True)


if __name__ == "__main__":
    main()
