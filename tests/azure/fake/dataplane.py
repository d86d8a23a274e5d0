"""A workspace's own hosts: discovery, and the same resources as in ARM under other paths."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tests.azure.fake.messages import Reply, Request
from tests.azure.fake.router import ARM, Routes

if TYPE_CHECKING:
    from tests.azure.fake.azure import FakeAzure

HOST = "*.api.azureml.ms"

routes = Routes()


@routes.on("GET", HOST, "/discovery")
def discover(azure: FakeAzure, request: Request) -> Reply:
    services = ("api", "catalog", "experimentation", "gallery", "history", "hyperdrive", "labeling")
    more = ("modelmanagement", "pipelines", "studio")
    return Reply(body=dict.fromkeys((*services, *more), f"https://{request.host}"))


@routes.on("GET|PUT|POST|PATCH|DELETE", HOST, "/mferp/managementfrontend/{rest...}")
def management(azure: FakeAzure, request: Request, rest: str) -> Reply:
    return _in_arm(azure, request, rest)


@routes.on("GET|PUT|POST|PATCH|DELETE", HOST, "/rp/workspaces/{rest...}")
def resource_provider(azure: FakeAzure, request: Request, rest: str) -> Reply:
    return _in_arm(azure, request, rest)


def _in_arm(azure: FakeAzure, request: Request, rest: str) -> Reply:
    inner = replace(request, host=ARM, path=f"/{rest}")
    reply = azure.dispatch(inner)
    request.contract = inner.contract
    return reply
