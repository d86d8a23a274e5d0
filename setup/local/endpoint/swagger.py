"""``/swagger.json``: the scoring routes as OpenAPI, made from the types that check requests."""

from __future__ import annotations

from typing import Any

from aiohttp import web
from pydantic import BaseModel

from setup.local.endpoint.contracts import ChatRequest, ScoreRequest, TokenizeRequest

_ROUTES: dict[str, tuple[type[BaseModel], str]] = {
    "/score": (ScoreRequest, "Answer a conversation (Azure ML chat contract)"),
    "/v1/chat/completions": (ChatRequest, "Answer a conversation (OpenAI contract)"),
    "/tokenize": (TokenizeRequest, "Count the tokens of a conversation or a text"),
}


async def swagger(_: web.Request) -> web.Response:
    """``GET /swagger.json``."""
    return web.json_response(_document())


def _document() -> dict[str, Any]:
    schemas: dict[str, Any] = {}
    paths = {}
    for route, (body, summary) in _ROUTES.items():
        schema = body.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas.update(schema.pop("$defs", {}))
        schemas[body.__name__] = schema
        paths[route] = {"post": _operation(summary, body.__name__)}
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


def _operation(summary: str, schema: str) -> dict[str, Any]:
    reference = {"schema": {"$ref": f"#/components/schemas/{schema}"}}
    failures = {"401": "no or wrong key", "422": "not as expected", "429": "queue full"}
    return {
        "summary": summary,
        "requestBody": {"required": True, "content": {"application/json": reference}},
        "responses": {
            "200": {"description": "the answer"},
            **{status: {"description": reason} for status, reason in failures.items()},
        },
    }
