"""Azurite, Microsoft's emulator of blob storage: what the fake's blobs are compared with.

``python -m tests.azure.azurite`` installs it with npm; a test only looks for it. It has no file
shares. https://github.com/Azure/Azurite
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Timer

import platformdirs

VERSION = "3.37.0"
INSTALL = "python -m tests.azure.azurite"
# Published: https://learn.microsoft.com/azure/storage/common/storage-connect-azurite
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
_PROGRAM = Path("node_modules/azurite/dist/src/blob/main.js")
# The SDK may speak a later version of the protocol than the emulator knows.
_OPTIONS = "--blobPort 0 --inMemoryPersistence --disableTelemetry --silent --skipApiVersionCheck"
_LISTENS = "successfully listens on "
_START_SECONDS = 60


def find_azurite() -> list[str] | None:
    """The command that starts the installed Azurite, None where it or node is missing."""
    node, program = shutil.which("node"), _folder() / _PROGRAM
    return [node, str(program)] if node and program.is_file() else None


@contextmanager
def azurite(command: list[str]) -> Iterator[str]:
    """The URL of the account :data:`ACCOUNT` of an empty blob service, ended on leaving.

    Raises:
        RuntimeError: It does not start; with what it said.
    """
    process = subprocess.Popen(
        [*command, *_OPTIONS.split()],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=tempfile.gettempdir(),
    )
    with process:
        try:
            yield f"{_address(process)}/{ACCOUNT}"
        finally:
            process.kill()  # asked to end, it waits for open connections


def _address(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    limit = Timer(_START_SECONDS, process.kill)
    limit.start()
    said = ""
    try:
        for line in process.stdout:
            said += line
            if _LISTENS in line:
                return line.partition(_LISTENS)[2].strip()
    finally:
        limit.cancel()
    raise RuntimeError(f"Azurite did not start: {said}")


def _folder() -> Path:
    home = os.environ.get("FINETUNE_PHI_HOME") or platformdirs.user_cache_path("finetune-phi")
    return Path(home) / f"azurite-{VERSION}"


def main() -> None:
    """Install it where it is missing; it appears whole or not at all."""
    if find_azurite():
        return
    npm = shutil.which("npm")
    if not npm or not shutil.which("node"):
        sys.exit("Azurite needs node and npm (https://nodejs.org); without it its test is skipped")
    print(f"installing Azurite {VERSION} for the tests of the fake Azure", file=sys.stderr)
    folder = _folder()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f"{folder.name}.") as draft:
        options = "--ignore-scripts --no-audit --no-fund --loglevel=error"
        command = [npm, "install", "--prefix", draft, *options.split(), f"azurite@{VERSION}"]
        if subprocess.run(command, check=False, stdout=subprocess.DEVNULL).returncode:
            sys.exit("npm could not install Azurite; without it its test is skipped")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        Path(draft, "node_modules").replace(folder / "node_modules")


if __name__ == "__main__":
    main()
