"""The CONNECT proxy: every host's TLS ends here, and every request goes to one function."""

from __future__ import annotations

import ssl
import sys
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from requests.structures import CaseInsensitiveDict

from tests.azure.fake.messages import DroppedError, Reply, Request
from tests.azure.fake.tls import Certificates

Answer = Callable[[Request], Reply]


class Proxy:
    """A proxy on a loopback port of its own.

    Args:
        allowed: Whether a host may be reached; asked for every connection.
        answer: Makes the reply of a request; raises DroppedError to cut the connection.
        certificates: Who vouches for the hosts.
    """

    def __init__(
        self, allowed: Callable[[str], bool], answer: Answer, certificates: Certificates
    ) -> None:
        context = {
            "allowed": staticmethod(allowed),
            "answer": staticmethod(answer),
            "certificates": certificates,
        }
        handler = type("Handler", (_Handler,), context)
        self._server = _Server(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop; connections that are open are cut by the end of the process."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that hung up: killing them is what some tests do."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else every answer in two parts waits 40 ms
    allowed: Callable[[str], bool]
    answer: Answer
    certificates: Certificates
    host = ""

    def do_CONNECT(self) -> None:
        host = self.path.rsplit(":", 1)[0].lower()
        if not self.allowed(host):
            self.send_error(403, f"{host} is not a host of the fake")
            return
        self.send_response_only(200, "Connection established")
        self.end_headers()
        context = self.certificates.context(host)
        self.connection: ssl.SSLSocket = context.wrap_socket(self.connection, server_side=True)
        self.rfile = self.connection.makefile("rb")
        self.wfile = self.connection.makefile("wb", buffering=0)  # type: ignore[assignment]
        self.host = host
        self.close_connection = False

    def finish(self) -> None:
        super().finish()
        self.connection.close()

    def _serve(self) -> None:
        if not self.host:
            self.send_error(405, "only CONNECT: nothing of Azure is plain http")
            return
        url = urlsplit(self.path)
        query = dict(parse_qsl(url.query, keep_blank_values=True))
        headers = CaseInsensitiveDict(self.headers.items())
        path = unquote(url.path)
        request = Request(self.command, self.host, path, query, headers, self._read())
        try:
            reply = self.answer(request)
        except DroppedError:
            self.close_connection = True
            return
        self._send(reply)

    do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = do_HEAD = _serve  # noqa: N815 - the base's

    def _read(self) -> bytes:
        if self.headers.get("transfer-encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("content-length") or 0))
        chunks = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _send(self, reply: Reply) -> None:
        content, kind = reply.encoded()
        headers = CaseInsensitiveDict({"content-type": kind} if kind else {})
        headers["content-length"] = str(len(content))
        headers.update(reply.headers)
        self.send_response(reply.status, reply.reason)
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD" and reply.status != 204:
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Be quiet: requests are recorded."""
