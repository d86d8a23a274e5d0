"""A flow's folder as it may leave this machine: no past answer, no cache, no hidden file."""

from __future__ import annotations

import hashlib
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from setup.common.paths import REPOSITORY, registry_folder

FLOWS = REPOSITORY / "flows"
_DAG = "flow.dag.yaml"
_CHAT_CONNECTION = "phi"  # as flows/chat names it
_LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__", "process_log", "*.pyc", "*.log")


@dataclass(frozen=True)
class CleanFlow:
    """A clean copy of a flow: ``kind`` is chat, evaluation or standard, ``sha256`` of its files."""

    name: str
    kind: str
    folder: Path
    sha256: str


def flow_names() -> list[str]:
    """The flows of the repository, the chat flow first."""
    names = sorted(path.parent.name for path in FLOWS.glob(f"*/{_DAG}"))
    return sorted(names, key=lambda name: name != "chat")


def clean_flow(name: str, connection: str) -> CleanFlow:
    """Copy flow ``name`` without what ``pf`` and Python leave in it, ``connection`` for its own.

    The copy is always at the same place: Prompt flow finds the compute session of a flow again by
    the path that it was submitted from, and a new one takes minutes to start.
    """
    folder = registry_folder().parent / "flows" / name
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(FLOWS / name, folder, ignore=_LEFT_OUT)
    dag = folder / _DAG
    text = dag.read_text(encoding="utf-8")
    named = re.compile(rf"^(\s*connection:\s*){_CHAT_CONNECTION}\s*$", re.MULTILINE)
    if connection != _CHAT_CONNECTION:
        text = named.sub(rf"\g<1>{connection}", text)
        dag.write_text(text, encoding="utf-8", newline="\n")
    return CleanFlow(name, _kind(yaml.safe_load(text)), folder, hash_flow(folder))


def _kind(dag: dict[str, Any]) -> str:
    if any(settings.get("is_chat_input") for settings in dag["inputs"].values()):
        return "chat"
    if any(node.get("aggregation") for node in dag["nodes"]):
        return "evaluation"
    return "standard"


_IGNORED = {".promptflow", "__pycache__", "process_log"}


def hash_flow(folder: Path) -> str:
    """SHA-256 (hex) over the names and bytes of a flow folder's files, line ends folded."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not _IGNORED & set(path.relative_to(folder).parts):
            digest.update(path.relative_to(folder).as_posix().encode() + b"\0")
            digest.update(path.read_bytes().replace(b"\r\n", b"\n") + b"\0")
    return digest.hexdigest()
