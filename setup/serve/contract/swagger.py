"""``/swagger.json``: the scoring routes as OpenAPI, made from the types that check requests."""

from __future__ import annotations

from typing import Any

from aiohttp import web
from pydantic import BaseModel

from setup.serve.contract.contracts import ChatRequest, ScoreRequest, TokenizeRequest
from setup.serve.contract.fields import NOTHING

_ROUTES: dict[str, tuple[type[BaseModel], str]] = {
    "/score": (ScoreRequest, "Answer a conversation (Azure ML chat contract)"),
    "/v1/chat/completions": (ChatRequest, "Answer a conversation (OpenAI contract)"),
    "/tokenize": (TokenizeRequest, "Count the tokens of a conversation or a text"),
}
_STREAMS = "/v1/chat/completions"
_FAILURES = {
    "400": "not JSON, or longer than the context window",
    "401": "no key, or a wrong one",
    "404": "no such model or deployment, or none takes traffic",
    "408": "the body or the answer took too long",
    "413": "the body is too large",
    "422": "a field is not as expected or not supported; the message names it",
    "424": "the model failed",
    "429": "slots and queue are full",
    "500": "an unforeseen failure",
    "503": "the deployment is down and being started again",
}
_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": "string"},
            },
        }
    },
}


async def swagger(_: web.Request) -> web.Response:
    """``GET /swagger.json``."""
    return web.json_response(_document())


def _document() -> dict[str, Any]:
    schemas: dict[str, Any] = {"Error": _ERROR}
    paths = {}
    for route, (body, summary) in _ROUTES.items():
        schema = body.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas.update(schema.pop("$defs", {}))
        schemas[body.__name__] = schema
        paths[route] = {"post": _operation(route, summary, body.__name__)}
    for name in schemas.keys() - {"Error"}:
        _allow_nothing(schemas[name])
    return {
        "openapi": "3.1.0",
        "info": {"title": "finetune-phi endpoint", "version": "1"},
        "security": [{"key": []}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _allow_nothing(schema: dict[str, Any]) -> None:
    """Say what ``fields.Part`` does: null is as absent, and so is nothing in a strange field."""
    for name, field in schema.get("properties", {}).items():
        if name not in schema.get("required", []):
            schema["properties"][name] = {"anyOf": [field, {"type": "null"}]}
    if schema.get("additionalProperties") is False:
        schema["additionalProperties"] = {"enum": list(NOTHING)}


def _operation(route: str, summary: str, schema: str) -> dict[str, Any]:
    answer: dict[str, Any] = {"application/json": {"schema": {"type": "object"}}}
    if route == _STREAMS:
        answer["text/event-stream"] = {"schema": {"type": "string"}}
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    failures = {
        status: {"description": reason, "content": error} for status, reason in _FAILURES.items()
    }
    body = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    return {
        "summary": summary,
        "requestBody": {"required": True, "content": body},
        "responses": {"200": {"description": "the answer", "content": answer}, **failures},
    }
