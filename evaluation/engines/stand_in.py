"""A model and a judge that answer by rule, on loopback: what two engines ask can be compared."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODES: dict[str, tuple[int, bytes]] = {
    "the key is refused": (401, b'{"message": "no"}'),
    "there is no such route": (404, b'{"detail": "Not Found"}'),
    "the model raised": (424, b'{"error": {"message": "the model raised"}}'),
    "the reply is no JSON": (200, b"<html>"),
    "the reply is empty": (200, b"{}"),
    "the answer is empty": (200, b'{"output": ""}'),
    "the output is null": (200, b'{"output": null, "error": {"message": "out of memory"}}'),
    "the reply is cut off": (200, b'{"output": "only the fir'),
}
"""Mishaps by the question that brings them about: status and body."""


class StandIn(ThreadingHTTPServer):
    """``/score`` in contract A, ``/v1/chat/completions`` as a judge; ``asked`` are the requests."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: StandIn

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.asked.append({"path": self.path, "body": body})
        status, reply = (_score if self.path == "/score" else _judge)(body)
        with suppress(OSError):
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def _score(body: dict[str, Any]) -> tuple[int, bytes]:
    """An answer that no other conversation gets, some of it of the question's own words."""
    messages = body["input_data"]["input_string"]
    question = messages[-1]["content"]
    if question in MODES:
        return MODES[question]
    mark = _digest(body)
    words = question.split()
    text = " ".join(words[: 1 + mark % max(1, len(words))]) + f" {mark}"
    usage = {"prompt_tokens": len(json.dumps(messages)), "completion_tokens": len(text)}
    return 200, json.dumps({"output": text, "usage": usage}).encode()


def _judge(body: dict[str, Any]) -> tuple[int, bytes]:
    """Four grades and a preference in one: each kind of judge reads its own."""
    mark = _digest(body)
    names = ("correctness", "relevance", "coherence", "fluency")
    verdict: dict[str, Any] = {"reason": str(mark)}
    if "response_format" in body:  # a judge of azure-ai-evaluation
        verdict |= {"score": 1 + mark % 5, "status": "completed"}
    elif '"Answer 1"' in body["messages"][-1]["content"]:
        verdict["better"] = ("1", "2", "tie")[mark % 3]
    else:
        verdict |= {name: 1 + mark // 5**place % 5 for place, name in enumerate(names)}
    message = {"role": "assistant", "content": json.dumps(verdict)}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    reply = {"id": "1", "object": "chat.completion", "created": 1, "model": "m"}
    return 200, json.dumps({**reply, "choices": [choice]}).encode()


def _digest(body: dict[str, Any]) -> int:
    return int(hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:8], 16)


@contextmanager
def standing_in() -> Iterator[StandIn]:
    """One on a free port while the block runs."""
    server = StandIn()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
