"""The published contracts of Azure: those of its resources and services that the tests ask.

``contracts.tar.xz`` beside this file holds them, each part with its licence (MIT) and a SOURCE.txt
that names the repository and the commit. It is unpacked once, into the folder for temporary files.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tarfile
import tempfile
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from tests.azure.fake import bicep, openapi

ARCHIVE = Path(__file__).with_name("contracts.tar.xz")


def _unpacked() -> Path:
    """The folder with the contracts, whole: other processes may unpack at the same time."""
    digest = hashlib.sha256(ARCHIVE.read_bytes()).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"finetune-phi-contracts-{digest}"
    if not folder.is_dir():
        room = Path(tempfile.mkdtemp(prefix="finetune-phi-"))
        with tarfile.open(ARCHIVE) as archive:
            archive.extractall(room, filter="data")
        try:
            room.rename(folder)
        except OSError:  # another process was first
            shutil.rmtree(room)
    return folder


SPECS = _unpacked()
NO_SPECS = f"Azure's published contracts are not at {SPECS}"


class Checked(NamedTuple):
    """Which contract a body was held against, and what is wrong with it."""

    contract: str
    errors: list[str]


@cache
def _types(file: Path) -> bicep.Types:
    types: bicep.Types = json.loads(file.read_text(encoding="utf-8"))
    return types


class Contracts:
    """Bicep types first: they are complete for a resource. OpenAPI for the rest.

    ``check_resource`` and ``check_request`` say what is wrong with a body.
    """

    def __init__(self, specs: Path = SPECS) -> None:
        self._specs = specs
        self.available = specs.is_dir()

    def check_resource(self, kind: str, version: str, body: Any) -> Checked | None:
        """Hold a resource of type ``kind`` against its Bicep type; None if there is none."""
        space = kind.split("/", 1)[0].lower()
        for file in self._specs.glob(f"bicep-types-az/generated/*/{space}/{version}/types.json"):
            types = _types(file)
            found = bicep.resource_types(types).get(f"{kind}@{version}".lower())
            if found:
                errors = bicep.check_resource(types, found, body)
                return Checked(f"bicep {kind}@{version}", errors)
        return None

    def check_request(self, method: str, path: str, version: str, body: Any) -> Checked | None:
        """Hold the body of an operation against its OpenAPI file; None if there is none."""
        space = path.lower().rpartition("/providers/")[2].split("/", 1)[0] or "microsoft.resources"
        for file in _files(self._specs, space, version):
            node = openapi.body_schema(file, method, path)
            if node is not None:
                return Checked(
                    f"openapi {file.stem} {file.parent.name}", openapi.check_body(node, body)
                )
        return None


@cache
def _files(specs: Path, space: str, version: str) -> list[Path]:
    """The OpenAPI files of a provider at a version, else at the newest stable one before it."""
    root = specs / "azure-rest-api-specs" / "specification"
    folders = [folder for folder in root.glob("*/resource-manager/*/*/*") if folder.is_dir()]
    known = {at.name: at for at in folders if at.parent.parent.name.lower() == space}
    older = [name for name in known if name < version and "preview" not in name]
    found = known.get(version) or known.get(max(older, default=""))
    return sorted(found.glob("*.json")) if found else []
