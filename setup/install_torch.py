"""Install torch in the build that fits this machine: ``python -m setup.install_torch``.

On PyPI the Linux builds of torch ask for several gigabytes of CUDA packages, which only an NVIDIA
GPU needs. So without one torch comes from PyTorch's own index of CPU builds. ``TORCH_INDEX``
names another index (of builds for ROCm, or for CUDA on Windows), or PyPI where it is empty; a
folder of wheels that ``PIP_FIND_LINKS`` names comes first, also where neither can be reached.
Imports nothing that is not in Python itself: it runs before anything is installed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

REQUIREMENTS = Path(__file__).resolve().parent.parent / "requirements-torch.txt"
CPU_BUILDS = "https://download.pytorch.org/whl/cpu"
PYPI = ""


def choose_index() -> str:
    """The index torch is installed from, ``PYPI`` for the one that pip is configured with."""
    chosen = os.environ.get("TORCH_INDEX")
    if chosen is not None:
        return chosen
    has_no_gpu = shutil.which("nvidia-smi") is None
    return CPU_BUILDS if sys.platform == "linux" and has_no_gpu else PYPI


def install_torch() -> int:
    """Install ``REQUIREMENTS``; returns pip's exit code, its complaints are on stderr."""
    if _from_local_wheels():
        return 0
    index = choose_index()
    _say(f"torch from {urlsplit(index).hostname or 'the package index'}")
    code = _pip(*(["--index-url", index] if index else [])).returncode
    if code == 0 or index != CPU_BUILDS or "TORCH_INDEX" in os.environ:
        return code
    _say("torch from the package index instead: several gigabytes more")
    return _pip().returncode


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def _from_local_wheels() -> bool:
    """Install from the user's own folder of wheels; False without one, or when it has no torch.

    It is tried first, because an index that nobody answers takes minutes.
    """
    if not os.environ.get("PIP_FIND_LINKS") or "TORCH_INDEX" in os.environ:
        return False
    return _pip("--no-index", quiet=True).returncode == 0


def _pip(*options: str, quiet: bool = False) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--quiet"]
    command += [*options, "-r", str(REQUIREMENTS)]
    return subprocess.run(command, check=False, capture_output=quiet)


if __name__ == "__main__":
    sys.exit(install_torch())
