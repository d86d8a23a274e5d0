"""The validators, held against Azure's published contracts where there is a copy of them.

Without one they are never asked; what they say of whole bodies is in test_infra.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.azure.fake.contracts import Contracts

ML = "Microsoft.MachineLearningServices/workspaces"
GROUP = "/subscriptions/S/resourceGroups/g"
WORKSPACE = f"{GROUP}/providers/{ML}/w"
ENDPOINT = f"{WORKSPACE}/onlineEndpoints/e"


def test_no_contract_without_a_copy(tmp_path: Path) -> None:
    contracts = Contracts(tmp_path / "none")
    assert not contracts.available
    assert contracts.check_resource(ML, "2025-12-01", {}) is None
    assert contracts.check_request("PUT", GROUP, "1", {}) is None


def cluster(**settings: Any) -> dict[str, Any]:
    """A cluster with settings of its own."""
    return {"properties": {"computeType": "AmlCompute", "properties": settings}}


@pytest.mark.parametrize(
    ("body", "errors"),
    [
        (cluster(vmSize="x", vmPriority="Dedicated", enableNodePublicIp=True), []),
        (cluster(colour=1), ["properties.properties.colour: not declared"]),
        (cluster(vmSize=1), ["properties.properties.vmSize: int where a string is expected"]),
        (
            cluster(enableNodePublicIp="true"),
            ["properties.properties.enableNodePublicIp: str where a boolean is expected"],
        ),
        (cluster(nodeStateCounts={}), ["properties.properties.nodeStateCounts: read-only"]),
        (
            cluster(scaleSettings={"maxNodeCount": True}),
            ["properties.properties.scaleSettings.maxNodeCount: bool where a number is expected"],
        ),
        (cluster(scaleSettings={}), ["properties.properties.scaleSettings.maxNodeCount: missing"]),
        (
            {"properties": {"computeType": "Abacus"}},
            ["properties.computeType: 'Abacus' is none"],
        ),
        ([], ["body: list where an object is expected"]),
    ],
)
def test_published_resource(contracts: Contracts, body: Any, errors: list[str]) -> None:
    checked = contracts.check_resource(f"{ML}/computes", "2025-12-01", body)
    assert checked is not None
    assert len(checked.errors) == len(errors), checked.errors
    for error, start in zip(checked.errors, errors, strict=True):
        assert error.startswith(start)
    assert contracts.check_resource(f"{ML}/computes", "1999-01-01", {}) is None


@pytest.mark.parametrize(
    ("method", "path", "body", "errors"),
    [
        ("PATCH", WORKSPACE, {"tags": {"a": "b"}}, []),
        (
            "PATCH",
            WORKSPACE,
            {"properties": {"description": 1, "colour": 1}, "tags": {"a": 1}},
            [
                "properties.description: int where string is expected",
                "properties.colour: not declared",
                "tags.a: int where string is expected",
            ],
        ),
        (
            "PUT",
            ENDPOINT,
            {"properties": {}},
            ["location: missing", "properties.authMode: missing"],
        ),
        (
            "PUT",
            ENDPOINT,
            {"location": "l", "properties": {"authMode": "Key", "scoringUri": "u", "traffic": 1}},
            ["properties.scoringUri: read-only", "properties.traffic: int where an object"],
        ),
    ],
)
def test_published_request(
    contracts: Contracts, method: str, path: str, body: Any, errors: list[str]
) -> None:
    checked = contracts.check_request(method, path, "2024-04-01", body)
    assert checked is not None
    assert len(checked.errors) == len(errors), checked.errors
    for start in errors:
        assert any(error.startswith(start) for error in checked.errors), checked.errors


def test_newest_contract_before_a_version_counts(contracts: Contracts) -> None:
    newer = contracts.check_request("PATCH", WORKSPACE, "2024-12-31", {"tags": {"a": "b"}})
    assert newer is not None
    assert newer.contract.endswith("2024-04-01")
