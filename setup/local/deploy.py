"""Deploy: the recipe's model as a healthy deployment of the local endpoint."""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock

from setup.errors import FixableError
from setup.local.control import LocalEndpoint, port_holder
from setup.local.endpoint.settings import (
    DeploymentSettings,
    EndpointSettings,
    load_settings,
    save_settings,
)
from setup.local.model import model_path, prepare_model, verify_model
from setup.recipe import Recipe


def plan_deploy(recipe: Recipe) -> list[str]:
    """What ``deploy`` would do, a line each."""
    endpoint = LocalEndpoint(recipe.endpoint.name)
    path = model_path(recipe.model)
    model = f"use model {path}" if path.is_file() else f"fetch {recipe.model.source} to {path}"
    running = endpoint.process() is not None
    server = "keep the running endpoint" if running else f"start it on port {recipe.endpoint.port}"
    return [
        model,
        f"endpoint {endpoint.name}: {server}",
        f"deployment {recipe.endpoint.deployment}",
    ]


def deploy(recipe: Recipe) -> bool:
    """Bring up the endpoint with the recipe's deployment; False when it was so already.

    Raises:
        FixableError: No model, port taken, or the deployment does not become healthy.
    """
    path = prepare_model(recipe.model)
    wanted = _deployment(recipe, path)
    endpoint = LocalEndpoint(recipe.endpoint.name)
    endpoint.folder.mkdir(parents=True, exist_ok=True)
    with FileLock(endpoint.folder / "deploy.lock"):
        if endpoint.process() is None:
            verify_model(path)
            _start(recipe, endpoint, wanted)
            return True
        _refuse_other_address(recipe, endpoint)
        route = f"/deployments/{recipe.endpoint.deployment}"
        patience = wanted.start_timeout + recipe.endpoint.request_timeout
        return bool(endpoint.manage("PUT", route, wanted.model_dump(), patience)["changed"])


def _start(recipe: Recipe, endpoint: LocalEndpoint, wanted: DeploymentSettings) -> None:
    holder = port_holder(recipe.endpoint.port)
    if holder:
        raise FixableError(
            f"port {recipe.endpoint.port} is held by {holder}",
            f"stop it, or --set endpoint.port={recipe.endpoint.port + 1}",
        )
    settings = load_settings(endpoint.folder) or _new_settings(recipe)
    settings = settings.model_copy(
        update={
            "host": recipe.endpoint.host,
            "port": recipe.endpoint.port,
            "max_body": recipe.endpoint.max_body,
            "read_timeout": recipe.endpoint.read_timeout,
        }
    )
    settings.deployments[recipe.endpoint.deployment] = wanted
    _forget_missing_models(settings)
    if not any(settings.traffic.values()):
        settings.traffic = {recipe.endpoint.deployment: 100}
    save_settings(endpoint.folder, settings)
    endpoint.start(wanted.start_timeout * len(settings.deployments))


def _new_settings(recipe: Recipe) -> EndpointSettings:
    given = recipe.endpoint
    return EndpointSettings(name=given.name, host=given.host, port=given.port)


def _forget_missing_models(settings: EndpointSettings) -> None:
    """A deployment whose file is gone cannot come back; it must not hold up the others."""
    for name, deployment in list(settings.deployments.items()):
        if not Path(deployment.model_path).is_file():
            del settings.deployments[name]
            settings.traffic.pop(name, None)
    if sum(settings.traffic.values()) != 100:
        settings.traffic = {}


def _refuse_other_address(recipe: Recipe, endpoint: LocalEndpoint) -> None:
    port = int(endpoint.url.rpartition(":")[2])
    if port != recipe.endpoint.port:
        raise FixableError(
            f"endpoint {endpoint.name} runs on port {port}, the recipe says {recipe.endpoint.port}",
            "python -m setup stop, then deploy again",
        )


def _deployment(recipe: Recipe, path: Path) -> DeploymentSettings:
    given = recipe.endpoint
    return DeploymentSettings(
        model_path=str(path),
        context_window=recipe.model.context_window,
        slots=given.slots,
        threads=given.threads,
        queue=given.queue,
        request_timeout=given.request_timeout,
        start_timeout=given.start_timeout,
    )
