"""Serve the model that Azure ML put into the container: ``python -m setup.serve.container.serve``.

The local endpoint's routes, with one deployment: ``/`` and ``/live`` answer at once, ``/health``
when the model is loaded, then ``/score`` and ``/v1/chat/completions``. The environment tells:

    AZUREML_MODEL_DIR   the folder with the registered model, one .gguf file anywhere in it
    DEPLOYMENT          the name that replies carry
    CONTEXT_WINDOW, SLOTS, REQUEST_TIMEOUT, START_TIMEOUT   as in a recipe
    HOST, PORT          0.0.0.0 and 8080 where they are not given

A model that does not load ends the process, so that Azure shows its last words as the cause.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import tempfile
from pathlib import Path

from aiohttp import web

from setup.serve import observe, server
from setup.serve.deployments import ENDPOINT, Endpoint
from setup.serve.settings import DeploymentSettings, EndpointSettings

_MODELS = "/var/azureml-app/azureml-models"  # where Azure ML mounts models if it does not say
_DRAIN = 180.0  # seconds: the longest request that Azure allows


def main() -> None:
    """Serve until SIGTERM; exit 1 with the reason where the model cannot be served."""
    observe.log_to(logging.StreamHandler(sys.stdout))
    with tempfile.TemporaryDirectory(prefix="scoring-") as folder:
        raise SystemExit(asyncio.run(serve(settings_from(dict(os.environ)), Path(folder))))


def settings_from(environment: dict[str, str]) -> EndpointSettings:
    """The endpoint that the environment describes, see the module.

    Raises:
        SystemExit: The folder does not hold exactly one .gguf file.
    """
    root = Path(environment.get("AZUREML_MODEL_DIR", _MODELS))
    files = sorted(root.rglob("*.gguf"))
    if len(files) != 1:
        raise SystemExit(f"{root} holds {len(files)} .gguf files, not one: {files[:5]}")
    name = environment.get("DEPLOYMENT", "model")
    fields = {
        key: environment[key.upper()]
        for key in ("context_window", "slots", "request_timeout", "start_timeout")
        if key.upper() in environment
    }
    deployment = DeploymentSettings.model_validate({"model_path": str(files[0]), **fields})
    return EndpointSettings(
        name=name,
        host=environment.get("HOST", "0.0.0.0"),  # noqa: S104 - Azure's front end comes from outside
        port=int(environment.get("PORT", "8080")),
        deployments={name: deployment},
        traffic={name: 100},
    )


async def serve(settings: EndpointSettings, folder: Path) -> int:
    """Answer until SIGTERM, or until the model turns out not to load; the exit status."""
    app = server.build_app(Endpoint(settings, folder))
    app.middlewares.insert(0, _behind_azure)
    app.router.add_get("/live", server.live)  # Azure ML probes no route that is "/"
    return 0 if await server.run(app, _DRAIN, needs_all=True) else 1


@web.middleware
async def _behind_azure(request: web.Request, handler: observe.Handler) -> web.StreamResponse:
    """Azure's front end has checked the key and chosen the deployment; here is only this one."""
    headers = request.headers.copy()
    headers["Authorization"] = f"Bearer {request.app[ENDPOINT].keys.scoring}"
    headers.popall("azureml-model-deployment", None)
    return await handler(request.clone(headers=headers))


if __name__ == "__main__":
    main()
