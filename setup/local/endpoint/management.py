"""Managing a running endpoint: deployments and traffic, under a key that scoring clients lack."""

from __future__ import annotations

import asyncio

from aiohttp import web
from pydantic import RootModel

from setup.local.endpoint.contracts import parse_body
from setup.local.endpoint.routes import DEPLOYMENTS, SETTINGS, read_body
from setup.local.endpoint.settings import DeploymentSettings

DRAIN: web.AppKey[asyncio.Event] = web.AppKey("drain", asyncio.Event)


class Traffic(RootModel[dict[str, int]]):
    """Percent by deployment."""


async def show(request: web.Request) -> web.Response:
    """``GET /manage``: what runs, how much traffic it takes, how busy it is."""
    table = request.app[DEPLOYMENTS]
    deployments = {
        name: {
            **running.settings.model_dump(),
            "threads": running.settings.engine_threads,
            "healthy": running.healthy,
            "admitted": running.admission.admitted,
            "waiting": running.admission.waiting,
            "traffic": table.traffic.get(name, 0),
        }
        for name, running in table.running.items()
    }
    return web.json_response({"name": request.app[SETTINGS].name, "deployments": deployments})


async def put_deployment(request: web.Request) -> web.Response:
    """``PUT /manage/deployments/NAME``: 201 when it was added or replaced and is healthy."""
    settings = parse_body(DeploymentSettings, await read_body(request))
    changed = await request.app[DEPLOYMENTS].put(request.match_info["name"], settings)
    return web.json_response({"changed": changed}, status=201 if changed else 200)


async def delete_deployment(request: web.Request) -> web.Response:
    """``DELETE /manage/deployments/NAME``: 204 when its last request is answered."""
    await request.app[DEPLOYMENTS].delete(request.match_info["name"])
    return web.Response(status=204)


async def put_traffic(request: web.Request) -> web.Response:
    """``PUT /manage/traffic``: percent by deployment, ``{"base": 90, "tuned": 10}``."""
    traffic = parse_body(Traffic, await read_body(request)).root
    await request.app[DEPLOYMENTS].shift(traffic)
    return web.json_response(traffic)


async def drain(request: web.Request) -> web.Response:
    """``POST /manage/drain``: answer what was accepted, then end (SIGTERM for every system)."""
    request.app[DRAIN].set()
    return web.Response(status=202)
