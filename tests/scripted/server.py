"""An HTTP endpoint on loopback that does what a test tells it, mishaps included."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Received:
    """One request as it arrived."""

    path: str
    headers: dict[str, str]
    body: Any


class Handler(BaseHTTPRequestHandler):
    """Records a request and plays the next step of the script; the last step repeats."""

    protocol_version = "HTTP/1.1"
    server: Server
    received: Received

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", "0")))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.received = Received(self.path, headers, json.loads(body))
        step = self.server.next_step(self.received)
        with contextlib.suppress(OSError):
            step(self)

    def setup(self) -> None:
        super().setup()
        self.server.connections += 1

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def start(self, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def cut(self) -> None:
        """End the connection with a regular FIN, so that what was sent still arrives."""
        self.wfile.flush()
        self.close_connection = True

    def reset(self) -> None:
        """End the connection with a RST, as a crashed process's machine does."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True


Step = Callable[[Handler], None]


@dataclass
class Server(ThreadingHTTPServer):
    """Give it steps with :meth:`play`, read ``received`` afterwards."""

    steps: list[Step] = field(default_factory=list)
    received: list[Received] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)
    connections: int = 0
    daemon_threads = True
    request_queue_size = 128  # of five, a busy machine drops some that come at once
    block_on_close = False

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def play(self, *steps: Step) -> None:
        self.stopping.set()
        with self._lock:
            self.steps, self.received, self.connections = list(steps), [], 0
            self.stopping = threading.Event()

    def next_step(self, received: Received) -> Step:
        with self._lock:
            self.received.append(received)
            return self.steps.pop(0) if len(self.steps) > 1 else self.steps[0]

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


@contextlib.contextmanager
def running() -> Iterator[Server]:
    """A server on a free port of loopback while the block runs."""
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.stopping.set()
        server.shutdown()
        server.server_close()
        thread.join(5)
