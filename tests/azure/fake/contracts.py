"""The published contracts of Azure, where a copy of them lies beside the repository.

``check_resource`` and ``check_request`` say what is wrong with a body; without the copy they find
no contract, and tests that need one skip (``Contracts.available``).
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from tests.azure.fake import bicep, openapi

SPECS = Path(__file__).resolve().parents[4] / "shared" / "specs"
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
    """Bicep types first: they are complete for a resource. OpenAPI for the rest."""

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
