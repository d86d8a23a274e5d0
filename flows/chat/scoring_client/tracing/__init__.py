"""Traces by OpenTelemetry: where spans go, and the span of one question to a chat endpoint.

Off unless the environment names a collector (see ``collector.py``). opentelemetry is imported when
the first span is made, and not before.
"""
