"""A judge on loopback that replies what a test tells it, and what it was asked."""

from __future__ import annotations

import json
from typing import Any

from tests.scripted.server import Received, Step
from tests.scripted.steps import reply


def says(text: str | None) -> Step:
    """A chat completion with this text."""
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    body = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
    return reply(body)


def grades(correctness: Any = 4, relevance: Any = 5, coherence: Any = 3, fluency: Any = 2) -> str:
    """A verdict of the mode ``score``."""
    names = ("correctness", "relevance", "coherence", "fluency")
    given = zip(names, (correctness, relevance, coherence, fluency), strict=True)
    return json.dumps({"reason": "so it is", **dict(given)})


def prefers(better: str) -> str:
    """A verdict of the mode ``pairwise``."""
    return json.dumps({"reason": "so it is", "better": better})


def material(received: Received) -> dict[str, Any]:
    """The texts in a request, which are one JSON object on the one line of the last message."""
    system, user = received.body["messages"]
    assert (system["role"], user["role"]) == ("system", "user")
    assert len(user["content"].splitlines()) == 1
    shown = json.loads(user["content"])
    assert isinstance(shown, dict)
    return shown
