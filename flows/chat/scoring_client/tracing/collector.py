"""The collector that the environment names, and the way of spans to it.

The variables are OpenTelemetry's own, and its SDK reads them: ``OTEL_EXPORTER_OTLP_ENDPOINT`` or
``OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`` (OTLP over HTTP, in protobuf), and Application Insights'
``APPLICATIONINSIGHTS_CONNECTION_STRING``. Spans wait in a queue of bounded length for a thread that
delivers them, so a collector that is slow or down costs nobody who asks anything.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from multiprocessing.util import Finalize
from typing import Any
from urllib.parse import urlsplit

import requests

Say = Callable[[str], None]

_OTLP = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOL = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_INSIGHTS = "APPLICATIONINSIGHTS_CONNECTION_STRING"
_CONTENT = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
_EXPORTERS = ("opentelemetry.exporter.otlp", "azure.monitor.opentelemetry.exporter", "azure.core")
_AT_EXIT = 2.0  # seconds that the last spans may take when the process ends

_providers: dict[int, Any] = {}
_lock = threading.Lock()


def asked() -> bool:
    """Tell whether the environment names a collector, and does not say that there be no traces."""
    off = _value("OTEL_SDK_DISABLED").lower() == "true"
    off = off or _value("OTEL_TRACES_EXPORTER").lower() == "none"
    return not off and any(map(_value, (*_OTLP, _INSIGHTS)))


def shows_content() -> bool:
    """Tell whether questions and answers may stand in spans, by the variable that is usual."""
    return _value(_CONTENT).lower() in ("true", "span_only", "span_and_event")


def destination() -> str:
    """Name the collectors for people: no user, no query, no instrumentation key."""
    url = _first(_OTLP)
    places = [_place(url)] if url else []
    return " and ".join(places + ["Application Insights"] * bool(_value(_INSIGHTS)))


def provider(service: str, say: Say) -> Any:
    """The provider of spans of this process, which delivers to the collectors; made once.

    By process, because ``pf run`` forks its workers. ``service`` is its name unless the environment
    has one, ``say`` takes a line for people: None is returned where that is all there is.
    """
    with _lock:
        if os.getpid() not in _providers:
            try:
                _providers[os.getpid()] = _make(service, say)
            except ImportError as error:
                package = "opentelemetry-sdk opentelemetry-exporter-otlp-proto-http"
                say(f"no traces: there is no module {error.name}. Fix: pip install {package}")
                _providers[os.getpid()] = None
            except Exception as error:  # noqa: BLE001 - its SDK takes values apart that people wrote
                names = ", ".join(sorted(name for name in os.environ if name.startswith("OTEL_")))
                reason = type(error).__name__
                say(f"no traces: OpenTelemetry gives up ({reason}). Fix: check {names}")
                _providers[os.getpid()] = None
        return _providers[os.getpid()]


def trace_all(service: str, *, hosted: bool = False) -> None:
    """Let every span of this process go to the collectors, if the environment names any.

    Not where Foundry hosts it, whose traces go to Application Insights already.
    """
    if not asked() or (hosted and _value(_INSIGHTS)):
        return
    if (made := provider(service, logging.getLogger("flows").warning)) is not None:
        from opentelemetry import trace

        trace.set_tracer_provider(made)


def _make(service: str, say: Say) -> Any:
    deliveries = list(_deliveries(say))
    if not deliveries:
        return None
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    for name in _EXPORTERS:  # what they have to say, Delivery says in one line
        logging.getLogger(name).setLevel(logging.CRITICAL)
    logging.getLogger("opentelemetry.sdk._shared_internal").setLevel(logging.CRITICAL)
    resource = Resource.create()
    if str(resource.attributes.get("service.name", "unknown_service")).startswith("unknown"):
        resource = resource.merge(Resource({"service.name": service}))
    made = TracerProvider(resource=resource, shutdown_on_exit=False)
    for delivery in deliveries:
        made.add_span_processor(BatchSpanProcessor(delivery))  # type: ignore[arg-type]
    # Not atexit: processes that multiprocessing starts know nothing of it.
    Finalize(None, _end, args=(made, say), exitpriority=0)
    return made


def _deliveries(say: Say) -> Iterator[Delivery]:
    """The way to each collector that the environment names."""
    if url := _first(_OTLP):
        protocol = _first(_PROTOCOL) or "http/protobuf"
        if protocol != "http/protobuf":
            fix = "unset OTEL_EXPORTER_OTLP_PROTOCOL, and name the port for HTTP, often 4318"
            say(f"no traces to {_place(url)}: {protocol} is not spoken here. Fix: {fix}")
        else:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

            # A variable that is empty is as if it were not there; the SDK takes it for a place.
            url = _value(_OTLP[0]) or f"{url.rstrip('/')}/v1/traces"
            session = requests.Session()
            delivery = Delivery(OTLPSpanExporter(url, session=session), _place(url), say)
            session.hooks["response"].append(delivery.note)
            yield delivery
    if _value(_INSIGHTS):
        # It would report on itself to another host.
        os.environ.setdefault("APPLICATIONINSIGHTS_STATSBEAT_DISABLED_ALL", "true")
        from azure.monitor.opentelemetry.exporter import AzureMonitorTraceExporter

        try:
            exporter = AzureMonitorTraceExporter(disable_offline_storage=True)
            yield Delivery(exporter, "Application Insights", say)
        except ValueError:
            fix = "copy it from the resource's overview in the portal"
            say(f"no traces to Application Insights: {_INSIGHTS} is not valid. Fix: {fix}")


class Delivery:
    """An exporter that says once that spans are lost, and once that they arrive again."""

    def __init__(self, exporter: Any, place: str, say: Say) -> None:
        self._exporter, self._place, self._say = exporter, place, say
        self._lost = 0
        self._status = ""

    def note(self, response: requests.Response, **_: Any) -> None:
        """Remember how the collector answers."""
        self._status = f"status {response.status_code}"

    def export(self, spans: Any) -> Any:
        """Deliver ``spans``; whatever goes wrong, nothing is raised."""
        try:
            result = self._exporter.export(spans)
            good, reason = result.name == "SUCCESS", self._status or "refused"
        except Exception as error:  # noqa: BLE001 - a collector's trouble is nobody else's
            from opentelemetry.sdk.trace.export import SpanExportResult

            result, good = SpanExportResult.FAILURE, False
            reason = type(error).__name__
        if not good:
            if not self._lost:
                fix = "start the collector, or correct the variables of docs/operations.md (Traces)"
                self._say(f"traces do not reach {self._place} ({reason}) and are lost. Fix: {fix}")
            self._lost += len(spans)
        elif self._lost:
            self._say(f"traces reach {self._place} again; {self._lost} spans were lost")
            self._lost = 0
        return result

    def shutdown(self) -> None:
        """End the exporter."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Nothing is kept here."""
        del timeout_millis
        return True


def _end(made: Any, say: Say) -> None:
    """Deliver what is left, for a moment: a process does not wait for a collector."""
    thread = threading.Thread(target=made.shutdown, daemon=True)
    thread.start()
    thread.join(_AT_EXIT)
    if thread.is_alive():
        say(f"the last traces did not reach {destination()} within {_AT_EXIT:g} s and are lost")


def _value(name: str) -> str:
    return os.environ.get(name, "").strip()


def _first(names: tuple[str, ...]) -> str:
    return next(filter(None, map(_value, names)), "")


def _place(url: str) -> str:
    try:
        parts = urlsplit(url)
        return f"{parts.hostname or '?'}{f':{parts.port}' if parts.port else ''}"
    except ValueError:
        return "?"
