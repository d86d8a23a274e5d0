"""The routes ``/manage``: deployments, traffic and keys of a running endpoint are changed here."""

from __future__ import annotations

import re

from aiohttp import web
from pydantic import RootModel

from setup.recipe.local import NAME
from setup.serve import routes, tracing
from setup.serve import settings as stored
from setup.serve.access import keys
from setup.serve.contract.contracts import parse_body
from setup.serve.contract.error_reply import ApiError
from setup.serve.deployments import ENDPOINT


def add_routes(app: web.Application) -> None:
    """Give ``app`` the routes, which want the management key."""
    app.router.add_get("/manage", show)
    app.router.add_delete("/manage/deployments/{name}", delete_deployment)
    for method, path, handler in (
        ("PUT", "/manage/deployments/{name}", put_deployment),
        ("PUT", "/manage/traffic", put_traffic),
        ("POST", "/manage/keys", renew_key),
        ("POST", "/manage/drain", drain),
    ):
        app.router.add_route(method, path, handler, expect_handler=routes.expect_nothing_yet)


async def show(request: web.Request) -> web.Response:
    """``GET /manage``: what runs, how much traffic it takes, how busy it is."""
    endpoint = request.app[ENDPOINT]
    deployments = {
        name: {
            **deployment.settings.model_dump(),
            "threads": deployment.settings.engine_threads,
            "healthy": deployment.healthy,
            "failure": deployment.failure,
            "admitted": deployment.admission.admitted,
            "waiting": deployment.admission.waiting,
            "traffic": endpoint.settings.traffic.get(name, 0),
        }
        for name, deployment in endpoint.table.items()
    }
    settings = endpoint.settings.model_dump(exclude={"deployments", "traffic"})
    told = {**settings, "traces": tracing.destination(request.app), "deployments": deployments}
    return web.json_response(told)


async def put_deployment(request: web.Request) -> web.Response:
    """``PUT /manage/deployments/NAME``: 201 when it was added or replaced and is healthy."""
    settings = parse_body(stored.DeploymentSettings, await routes.read_body(request))
    name = request.match_info["name"]
    if not re.fullmatch(NAME, name):
        raise ApiError(400, f"a deployment's name matches {NAME}, got {name!r}")
    changed = await request.app[ENDPOINT].put(name, settings)
    return web.json_response({"changed": changed}, status=201 if changed else 200)


async def delete_deployment(request: web.Request) -> web.Response:
    """``DELETE /manage/deployments/NAME``: 204 when its last request is answered."""
    await request.app[ENDPOINT].delete(request.match_info["name"])
    return web.Response(status=204)


async def put_traffic(request: web.Request) -> web.Response:
    """``PUT /manage/traffic``: percent by deployment, ``{"base": 90, "tuned": 10}``."""
    traffic = parse_body(RootModel[dict[str, int]], await routes.read_body(request)).root
    await request.app[ENDPOINT].shift(traffic)
    return web.json_response(traffic)


async def renew_key(request: web.Request) -> web.Response:
    """``POST /manage/keys``: a new scoring key, ``{"key": "primary"}`` or ``"secondary"``.

    Without one a new primary key, and the one before stays valid as the secondary one.
    """
    asked = parse_body(RootModel[dict[str, str | None]], await routes.read_body(request)).root
    unknown = sorted(set(asked) - {"key"})
    if unknown:  # a word for it that is not ours would renew another key
        raise ApiError(400, f"a key is renewed by the field key, not {', '.join(unknown)}")
    request.app[ENDPOINT].renew_key(keys.kind_of(asked.get("key")))
    return web.Response(status=204)


async def drain(request: web.Request) -> web.Response:
    """``POST /manage/drain``: answer what was accepted, then end (SIGTERM for every system)."""
    request.app[ENDPOINT].stop.set()
    return web.Response(status=202)
