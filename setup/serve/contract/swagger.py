"""``/swagger.json``: the routes of clients as OpenAPI, made from the types that check requests."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

from aiohttp import web
from pydantic import BaseModel

from setup.serve.contract import contracts
from setup.serve.contract.error_reply import STATUSES
from setup.serve.contract.messages import NOTHING
from setup.serve.contract.rating import Rating

_ROUTES: dict[str, tuple[type[BaseModel], str]] = {
    "/score": (contracts.ScoreRequest, "Answer a conversation (Azure ML chat contract)"),
    "/v1/chat/completions": (contracts.ChatRequest, "Answer a conversation (OpenAI contract)"),
    "/tokenize": (contracts.TokenizeRequest, "Count the tokens of a conversation or a text"),
    "/feedback": (Rating, "Rate an answer, where the endpoint keeps feedback"),
}
_STREAMS = "/v1/chat/completions"
_TEXT = {"type": "string"}
_FIELDS = {"message": _TEXT, "type": _TEXT, "param": {"type": ["string", "null"]}, "code": _TEXT}
_ERROR = {"type": "object", "required": list(_FIELDS), "properties": _FIELDS}


def _object(**fields: Any) -> dict[str, Any]:
    """The schema of an object that has all of these fields, and perhaps others."""
    return {"type": "object", "required": list(fields), "properties": fields}


_COUNT = {"type": "integer", "minimum": 0}
_USAGE = _object(prompt_tokens=_COUNT, completion_tokens=_COUNT, total_tokens=_COUNT)
_REASON = {"enum": ["stop", "length", "tool_calls"]}
_CALL = _object(id=_TEXT, type={"const": "function"}, function=_object(name=_TEXT, arguments=_TEXT))
_MESSAGE = _object(role={"const": "assistant"}, content={"type": ["string", "null"]})
_MESSAGE["properties"]["tool_calls"] = {"type": "array", "items": _CALL, "minItems": 1}
_CHOICE = _object(index=_COUNT, message=_MESSAGE, finish_reason=_REASON)
_ANSWERS = {
    "/score": _object(
        **{"output": _TEXT, "message": _MESSAGE, "finish_reason": _REASON},
        **{"usage": _USAGE, "model": _TEXT, "id": _TEXT},
    ),
    "/v1/chat/completions": _object(
        **{"id": _TEXT, "object": {"const": "chat.completion"}, "created": _COUNT},
        **{"model": _TEXT, "usage": _USAGE},
        choices={"type": "array", "items": _CHOICE, "minItems": 1},
    ),
    "/tokenize": _object(
        count=_COUNT, max_model_len=_COUNT, tokens={"type": "array", "items": _COUNT}
    ),
    "/feedback": _object(kept={"const": True}, id=_TEXT),
}
_MODEL = _object(id=_TEXT, object={"const": "model"}, created=_COUNT, owned_by=_TEXT)
_READ: dict[str, tuple[dict[str, Any], str]] = {
    "/v1/models": (
        _object(object={"const": "list"}, data={"type": "array", "items": _MODEL}),
        "List the endpoint and its deployments (OpenAI contract)",
    ),
    "/v1/models/{model}": (_MODEL, "Show the endpoint or a deployment (OpenAI contract)"),
}


async def swagger(_: web.Request) -> web.Response:
    """``GET /swagger.json``."""
    return web.json_response(document())


@cache
def document() -> dict[str, Any]:
    """The routes with the schemas of what they take."""
    error = {"type": "object", "required": ["error"], "properties": {"error": _ERROR}}
    schemas: dict[str, Any] = {"Error": error}
    paths = {}
    for route, (body, summary) in _ROUTES.items():
        schema = body.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas.update(schema.pop("$defs", {}))
        schemas[body.__name__] = schema
        paths[route] = {"post": _operation(route, summary, body.__name__)}
    for route, (answer, summary) in _READ.items():
        paths[route] = {"get": _reading(route, summary, answer)}
    for name in schemas.keys() - {"Error"}:
        _allow_nothing(schemas[name])
    keys = {"key": {"type": "http", "scheme": "bearer"}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "finetune-phi endpoint", "version": "1"},
        "security": [{"key": []}],
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": keys},
    }


def _allow_nothing(schema: dict[str, Any]) -> None:
    """Say what ``messages.Part`` does: null is as absent, and so is nothing in a strange field."""
    for name, field in schema.get("properties", {}).items():
        if name not in schema.get("required", []):
            schema["properties"][name] = {"anyOf": [field, {"type": "null"}]}
    if schema.get("additionalProperties") is False:
        schema["additionalProperties"] = {"enum": list(NOTHING)}


def _operation(route: str, summary: str, schema: str) -> dict[str, Any]:
    answer: dict[str, Any] = {"application/json": {"schema": _ANSWERS[route]}}
    if route == _STREAMS:
        answer["text/event-stream"] = {"schema": {"type": "string"}}
    body = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    return {
        "summary": summary,
        "requestBody": {"required": True, "content": body},
        "responses": _responses(answer, STATUSES),
    }


def _reading(route: str, summary: str, schema: dict[str, Any]) -> dict[str, Any]:
    """A ``GET``, which may name a model in its path."""
    operation: dict[str, Any] = {
        "summary": summary,
        "responses": _responses({"application/json": {"schema": schema}}, (400, 401, 404, 500)),
    }
    if "{model}" in route:
        name = {"name": "model", "in": "path", "required": True, "schema": _TEXT}
        operation["parameters"] = [name]
    return operation


def _responses(answer: dict[str, Any], statuses: Iterable[int]) -> dict[str, Any]:
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    failures = {
        str(status): {"description": reason, "content": error}
        for status, (_, _, reason) in STATUSES.items()
        if reason and status in statuses
    }
    return {"200": {"description": "the answer", "content": answer}, **failures}
