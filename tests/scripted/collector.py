"""A collector of traces on loopback: OTLP over HTTP in protobuf, and Application Insights' JSON."""

from __future__ import annotations

import gzip
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

# Nothing here may go to a collector of whoever runs the tests.
UNSET = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "", "APPLICATIONINSIGHTS_CONNECTION_STRING": ""}


@dataclass(frozen=True)
class Span:
    """A span as it arrived; ``parent`` is empty for the first of a trace."""

    service: str
    name: str
    kind: int
    trace: str
    id: str
    parent: str
    error: bool
    attributes: dict[str, Any]

    @property
    def tokens(self) -> tuple[Any, Any]:
        """Tokens read and generated."""
        read, generated = (f"gen_ai.usage.{kind}_tokens" for kind in ("input", "output"))
        return self.attributes.get(read), self.attributes.get(generated)


class Collector:
    """``spans`` are those of OTLP, ``bodies`` all that came as text, whatever its form."""

    def __init__(self, status: int = 200) -> None:
        self.status = status
        self.spans: list[Span] = []
        self.bodies: list[str] = []
        self.headers: list[dict[str, str]] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                collector.headers.append({k.lower(): v for k, v in self.headers.items()})
                collector.take(self.path, body)
                reply = b"{}"
                if self.path.endswith("/track"):
                    count = len(collector.bodies[-1].splitlines())
                    accepted = {"itemsReceived": count, "itemsAccepted": count, "errors": []}
                    reply = json.dumps(accepted).encode()
                self.send_response(collector.status)
                self.send_header("Content-Length", str(len(reply)))
                self.end_headers()
                self.wfile.write(reply)

            def log_message(self, *_: Any) -> None:
                """Nothing on stderr."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def take(self, path: str, body: bytes) -> None:
        """Keep what a request brought."""
        self.bodies.append(body.decode("utf-8", "replace"))
        if path == "/v1/traces" and self.status == 200:
            self.spans.extend(_spans(ExportTraceServiceRequest.FromString(body)))

    def trace(self, names: set[str]) -> dict[str, Span]:
        """The first trace that holds spans of these names, waited for: its spans by name."""
        deadline = time.monotonic() + 30
        while True:
            for trace in {span.trace: None for span in self.spans}:
                spans = {span.name: span for span in self.spans if span.trace == trace}
                if names <= set(spans):
                    return spans
            assert time.monotonic() < deadline, [span.name for span in self.spans]
            time.sleep(0.05)

    def spans_of(self, trace: str, last: str) -> list[Span]:
        """All spans of ``trace``, waited for until the one named ``last`` is there."""
        deadline = time.monotonic() + 30
        while True:
            spans = [span for span in self.spans if span.trace == trace]
            if last in {span.name for span in spans}:
                return spans
            assert time.monotonic() < deadline, [span.name for span in spans]
            time.sleep(0.05)


def variables(url: str, **more: str) -> dict[str, str]:
    """The environment in which traces go to ``url`` at once, and nowhere else."""
    headers = {"OTEL_EXPORTER_OTLP_HEADERS": "x-collector-key=c0llector-secret"}
    return (
        UNSET
        | headers
        | {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_BSP_SCHEDULE_DELAY": "100"}
        | more
    )


@contextmanager
def collecting(status: int = 200) -> Iterator[Collector]:
    """A collector that runs while the block does."""
    collector = Collector(status)
    thread = threading.Thread(target=collector.server.serve_forever, daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        collector.server.shutdown()
        collector.server.server_close()


def _spans(request: ExportTraceServiceRequest) -> Iterator[Span]:
    for resource in request.resource_spans:
        about = {entry.key: _value(entry.value) for entry in resource.resource.attributes}
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield Span(
                    about.get("service.name", ""),
                    span.name,
                    span.kind,
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    span.status.code == 2,
                    {entry.key: _value(entry.value) for entry in span.attributes},
                )


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(entry) for entry in value.array_value.values]
    return getattr(value, kind)
