"""The validators: small contracts of our own, and Azure's where there is a copy of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.azure.fake import bicep, openapi
from tests.azure.fake.contracts import Contracts

ML = "Microsoft.MachineLearningServices/workspaces"
TYPES: bicep.Types = [
    {"$type": "StringType", "minLength": 2, "maxLength": 4, "pattern": "^[a-z]+$"},
    {"$type": "IntegerType", "minValue": 1, "maxValue": 3},
    {"$type": "BooleanType"},
    {"$type": "StringLiteralType", "value": "Red"},
    {"$type": "StringLiteralType", "value": "Blue"},
    {"$type": "UnionType", "elements": [{"$ref": "#/3"}, {"$ref": "#/4"}]},
    {"$type": "ArrayType", "itemType": {"$ref": "#/1"}},
    {
        "$type": "ObjectType",
        "name": "Round",
        "properties": {"shape": {"type": {"$ref": "#/9"}, "flags": 1}},
        "additionalProperties": {"$ref": "#/1"},
    },
    {
        "$type": "DiscriminatedObjectType",
        "name": "Shape",
        "discriminator": "shape",
        "baseProperties": {"colour": {"type": {"$ref": "#/5"}, "flags": 0}},
        "elements": {"Round": {"$ref": "#/7"}},
    },
    {"$type": "StringLiteralType", "value": "Round"},
    {
        "$type": "ObjectType",
        "name": "A.B/things",
        "properties": {
            "name": {"type": {"$ref": "#/0"}, "flags": 9},
            "code": {"type": {"$ref": "#/0"}, "flags": 1},
            "on": {"type": {"$ref": "#/2"}, "flags": 0},
            "counts": {"type": {"$ref": "#/6"}, "flags": 0},
            "state": {"type": {"$ref": "#/0"}, "flags": 2},
            "shape": {"type": {"$ref": "#/8"}, "flags": 0},
        },
    },
    {"$type": "ResourceType", "name": "A.B/things@1", "body": {"$ref": "#/10"}},
]


@pytest.mark.parametrize(
    ("body", "errors"),
    [
        ({"code": "ab", "on": True, "counts": [1, 3], "name": "x"}, []),
        ({"code": "ab", "shape": {"shape": "Round", "colour": "Red", "radius": 2}}, []),
        ({}, ["code: missing, but required"]),
        ([], ["body: list where an object is expected"]),
        ({"code": "ab", "colour": 1}, ["colour: not declared"]),
        ({"code": "ab", "state": "on"}, ["state: read-only"]),
        ({"code": "a"}, ["code: 1 characters"]),
        ({"code": "AB"}, ["code: 'AB' does not match ^[a-z]+$"]),
        ({"code": 1}, ["code: int where a string is expected"]),
        ({"code": "ab", "on": "true"}, ["on: str where a boolean is expected"]),
        ({"code": "ab", "counts": [1, True]}, ["counts[1]: bool where a number is expected"]),
        ({"code": "ab", "counts": [4]}, ["counts[0]: 4 is out of range"]),
        ({"code": "ab", "counts": {}}, ["counts: dict where a list is expected"]),
        ({"code": "ab", "shape": {"shape": "Flat"}}, ["shape.shape: 'Flat' is none of: Round"]),
        (
            {"code": "ab", "shape": {"shape": "Round", "colour": "red"}},
            ["shape.colour: 'red' is none of: Red, Blue"],
        ),
        (
            {"code": "ab", "shape": {"shape": "Round", "radius": "2"}},
            ["shape.radius: str where a number is expected"],
        ),
    ],
)
def test_bicep_type(body: Any, errors: list[str]) -> None:
    found = bicep.resource_types(TYPES)["a.b/things@1"]
    assert bicep.check_resource(TYPES, found, body) == errors


OPENAPI = {
    "paths": {
        "/{scope}/providers/A.B/things/{name}": {
            "put": {"parameters": [{"in": "body", "schema": {"$ref": "#/definitions/Thing"}}]}
        },
        "/things/{name}": {"put": {"parameters": []}},
    },
    "definitions": {
        "Base": {"properties": {"kept": {"type": "string", "readOnly": True}}},
        "Thing": {
            "allOf": [{"$ref": "#/definitions/Base"}],
            "required": ["shape"],
            "properties": {
                "shape": {"$ref": "#/definitions/Shape"},
                "size": {"type": "integer"},
                "maybe": {"type": "string", "x-nullable": True},
                "open": {"type": "string", "enum": ["a"], "x-ms-enum": {"modelAsString": True}},
                "closed": {"type": "string", "enum": ["a"]},
                "tags": {"type": "object", "additionalProperties": {"type": "string"}},
            },
        },
        "Shape": {"type": "object", "discriminator": "kind", "properties": {"kind": {}}},
        "Round": {
            "allOf": [{"$ref": "#/definitions/Shape"}],
            "x-ms-discriminator-value": "round",
            "properties": {"radius": {"type": "number"}},
        },
    },
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The small OpenAPI file."""
    path = tmp_path / "things.json"
    path.write_text(json.dumps(OPENAPI))
    return path


@pytest.mark.parametrize(
    ("more", "errors"),
    [
        ({}, []),
        ({"size": 1, "maybe": None, "open": "b", "tags": {"x": "y"}}, []),
        ({"shape": {"kind": "round", "radius": 1.5}}, []),
        ({"shape": {"kind": "round", "edges": 4}}, ["shape.edges: not declared"]),
        ({"shape": {"kind": "flat", "radius": 4}}, ["shape.radius: not declared"]),
        ({"size": "1"}, ["size: str where integer is expected"]),
        ({"size": True}, ["size: bool where integer is expected"]),
        ({"size": None}, ["size: null where integer is expected"]),
        ({"closed": "b"}, ["closed: 'b' is none of: a"]),
        ({"kept": "x"}, ["kept: read-only"]),
        ({"tags": {"x": 1}}, ["tags.x: int where string is expected"]),
        ({"colour": 1}, ["colour: not declared"]),
    ],
)
def test_openapi_body(file: Path, more: dict[str, Any], errors: list[str]) -> None:
    node = openapi.body_schema(file, "PUT", "/subscriptions/S/x/providers/A.B/things/me")
    assert node is not None
    assert openapi.check_body(node, {"shape": {"kind": "round"}} | more) == errors


def test_openapi_finds_the_operation(file: Path) -> None:
    assert openapi.body_schema(file, "DELETE", "/things/me") is None
    assert openapi.body_schema(file, "PUT", "/nothing") is None
    empty = openapi.body_schema(file, "PUT", "/things/me")
    assert empty is not None
    assert openapi.check_body(empty, {"x": 1}) == ["x: not declared"]
    assert openapi.check_body(empty, None) == []
    thing = openapi.body_schema(file, "PUT", "/s/providers/A.B/things/me")
    assert thing is not None
    assert openapi.check_body(thing, {}) == ["shape: missing, but required"]


def test_no_contract_without_a_copy(tmp_path: Path) -> None:
    contracts = Contracts(tmp_path / "none")
    assert not contracts.available
    assert contracts.check_resource(ML, "2025-12-01", {}) is None
    assert contracts.check_request("PUT", "/subscriptions/S/resourcegroups/g", "1", {}) is None


def test_published_resource(contracts: Contracts) -> None:
    compute = {"computeType": "AmlCompute", "properties": {"vmSize": "x", "colour": 1}}
    found = contracts.check_resource(
        f"{ML}/computes", "2025-12-01", {"location": "here", "properties": compute}
    )
    assert found is not None
    assert found.errors == ["properties.properties.colour: not declared"]
    assert contracts.check_resource(f"{ML}/computes", "1999-01-01", {}) is None


def test_published_request(contracts: Contracts) -> None:
    path = (
        "/subscriptions/S/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w"
    )
    body = {"properties": {"description": 1, "colour": 1}}
    found = contracts.check_request("PATCH", path, "2024-04-01", body)
    assert found is not None
    assert found.errors == [
        "properties.description: int where string is expected",
        "properties.colour: not declared",
    ]
    newer = contracts.check_request("PATCH", path, "2024-12-31", {"tags": {"a": "b"}})
    assert newer is not None
    assert newer.contract.endswith("2024-04-01")
    assert newer.errors == []
