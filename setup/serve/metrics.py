"""The endpoint's counters, for ``/metrics``."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

registry = CollectorRegistry()
requests = Counter(
    "endpoint_requests", "Requests answered", ["route", "deployment", "status"], registry=registry
)
seconds = Histogram(
    "endpoint_request_seconds",
    "Seconds from the first byte of a request to the last of its answer",
    ["route", "deployment"],
    buckets=(0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 180),
    registry=registry,
)
queue_seconds = Histogram(
    "endpoint_queue_seconds",
    "Seconds a request waited for a slot",
    ["deployment"],
    buckets=(0.001, 0.01, 0.1, 0.5, 1, 5, 15, 60),
    registry=registry,
)
tokens = Counter(
    "endpoint_tokens", "Tokens read and generated", ["deployment", "kind"], registry=registry
)
admitted = Gauge(
    "endpoint_admitted", "Requests being answered or waiting", ["deployment"], registry=registry
)
