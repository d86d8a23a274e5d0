"""Stands between the flow and the endpoint, passes everything on, and remembers what was asked."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import requests


class Recorder:
    """``asked`` holds the message lists of the scoring requests, oldest first."""

    def __init__(self, upstream: str) -> None:
        self.asked: list[list[dict[str, str]]] = []
        recorder = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.path == "/score":
                    recorder.asked.append(json.loads(body)["input_data"]["input_string"])
                headers = {"Authorization": self.headers["Authorization"]}
                reply = requests.post(upstream + self.path, body, headers=headers, timeout=60)
                self.send_response(reply.status_code)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(reply.content)))
                self.end_headers()
                self.wfile.write(reply.content)

            def log_message(self, *_: Any) -> None:
                """Nothing on stderr."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"


@contextmanager
def recording(upstream: str) -> Iterator[Recorder]:
    """A recorder that runs while the block does."""
    recorder = Recorder(upstream)
    thread = threading.Thread(target=recorder.server.serve_forever, daemon=True)
    thread.start()
    yield recorder
    recorder.server.shutdown()
    recorder.server.server_close()


class Proxy:
    """Accepts and counts; answers nothing."""

    def __init__(self, listener: socket.socket) -> None:
        self.connections = 0
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"

    def count(self, listener: socket.socket) -> None:
        """Until ``listener`` is closed."""
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            self.connections += 1
            client.close()


@contextmanager
def noting_connections() -> Iterator[Proxy]:
    """A proxy that refuses everything and counts how often it was asked."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy = Proxy(listener)
        threading.Thread(target=proxy.count, args=(listener,), daemon=True).start()
        yield proxy
        listener.shutdown(socket.SHUT_RDWR)
