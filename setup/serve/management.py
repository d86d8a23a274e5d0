"""Managing a running endpoint: deployments and traffic, under a key that scoring clients lack."""

from __future__ import annotations

import asyncio
import re

from aiohttp import web
from pydantic import RootModel

from setup.recipe.local import NAME
from setup.serve.contract.contracts import parse_body
from setup.serve.contract.error_reply import ApiError
from setup.serve.routes import DEPLOYMENTS, SETTINGS, read_body
from setup.serve.settings import DeploymentSettings

DRAIN: web.AppKey[asyncio.Event] = web.AppKey("drain", asyncio.Event)


class Traffic(RootModel[dict[str, int]]):
    """Percent by deployment."""


async def show(request: web.Request) -> web.Response:
    """``GET /manage``: what runs, how much traffic it takes, how busy it is."""
    table = request.app[DEPLOYMENTS]
    deployments = {
        name: {
            **deployment.settings.model_dump(),
            "threads": deployment.settings.engine_threads,
            "healthy": deployment.healthy,
            "failure": deployment.failure,
            "admitted": deployment.admission.admitted,
            "waiting": deployment.admission.waiting,
            "traffic": table.traffic.get(name, 0),
        }
        for name, deployment in table.table.items()
    }
    settings = request.app[SETTINGS].model_dump(exclude={"deployments", "traffic"})
    return web.json_response({**settings, "deployments": deployments})


async def put_deployment(request: web.Request) -> web.Response:
    """``PUT /manage/deployments/NAME``: 201 when it was added or replaced and is healthy."""
    settings = parse_body(DeploymentSettings, await read_body(request))
    name = request.match_info["name"]
    if not re.fullmatch(NAME, name):
        raise ApiError(422, f"a deployment's name matches {NAME}, got {name!r}")
    changed = await request.app[DEPLOYMENTS].put(name, settings)
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
