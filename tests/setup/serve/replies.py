"""Requests that are answered, and requests that are refused."""

from __future__ import annotations

from typing import Any

from tests.home import Home, ask_openai

CHAT = "/v1/chat/completions"
WILD = {"temperature": 2, "top_p": 1, "top_k": 0, "min_p": 0}


def chat(home: Home, **fields: Any) -> str:
    """The text of an answer to ``Hi`` with these fields."""
    reply = home.call(CHAT, ask_openai("Hi", **fields))
    assert reply.status_code == 200, reply.text
    return str(reply.json()["choices"][0]["message"]["content"])


def refused(home: Home, body: dict[str, Any], route: str = CHAT) -> dict[str, Any]:
    """The error of a request that is answered with 400."""
    reply = home.call(route, body)
    assert reply.status_code == 400, reply.text
    return dict(reply.json()["error"])


def refusals(home: Home, reason: str) -> float:
    """How many requests were refused for this reason, by the metrics."""
    lines = home.call("/metrics", None, "GET").text.splitlines()
    start = f'endpoint_refusals_total{{reason="{reason}"}} '
    return sum(float(line.removeprefix(start)) for line in lines if line.startswith(start))
