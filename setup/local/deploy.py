"""The step ``deploy``: the recipe's model and a fine-tuned version of it, on the endpoint."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

from filelock import FileLock

from setup.common.console import progress_bar, say
from setup.common.errors import FixableError
from setup.common.feedback_file import feedback_path
from setup.common.step import Result
from setup.local import rollout
from setup.local.connect import deployments_of
from setup.local.control import LocalEndpoint, refuse_held_port
from setup.local.tuned_model import as_served
from setup.recipe.local import Recipe
from setup.serve.settings import DeploymentSettings, EndpointSettings, names_collector
from setup.weights import fetch

_COLLECTED = {"feedback": "rated answers", "conversations": "all conversations and ratings"}


def plan(endpoint: LocalEndpoint) -> list[str]:
    """Return the things that ``run`` would do, a line each."""
    recipe = endpoint.recipe
    path = fetch.model_path(recipe.model)
    model = f"use model {path}" if path.is_file() else f"fetch {recipe.model.source} to {path}"
    running = endpoint.process() is not None
    server = "keep the running endpoint" if running else f"start it on port {recipe.endpoint.port}"
    mixture = recipe.endpoint.quantize
    return [
        model,
        *([] if mixture == "none" else [f"quantise what is served to {mixture}"]),
        f"endpoint {endpoint.name}: {server}",
        f"deployment {recipe.endpoint.deployment}",
        *rollout.plan_rollout(recipe),
    ]


def run(endpoint: LocalEndpoint) -> Result:
    """Do it, and say who takes the traffic and what that was trained on; as :func:`deploy`."""
    changed = deploy(endpoint)
    _tell_traces(endpoint)
    recipe, rows = endpoint.recipe, deployments_of(endpoint)
    name, tuned = recipe.endpoint.deployment, recipe.endpoint.tuned
    detail = f"deployment {name} of endpoint {endpoint.name} is healthy at {endpoint.url}"
    detail += f" and takes {rows[name]['traffic']} % of the traffic"
    if recipe.endpoint.quantize != "none":
        detail += f", quantised to {recipe.endpoint.quantize}"
    number = rollout.rolled_out(endpoint)
    if number and tuned in rows:
        detail += f"; {tuned} is version {number} and takes {rows[tuned]['traffic']} %"
        detail += rollout.trained_on(recipe, number)
    if recipe.endpoint.collect != "none":
        kept = _COLLECTED[recipe.endpoint.collect]
        detail += f"; {kept} are kept in {feedback_path()}"
    return Result("deploy", changed, detail, recipe.command("connect"))


def deploy(endpoint: LocalEndpoint) -> bool:
    """Bring up the endpoint with the recipe's deployments; False when it was so already.

    First the base model as ``endpoint.deployment``, then what ``endpoint.version`` names as
    ``endpoint.tuned``: how that is tried and gets the traffic stands in ``setup.local.rollout``.

    Raises:
        FixableError: No model, port taken, a deployment does not become healthy, or the version
            cannot be served; what answered before still does.
    """
    recipe = endpoint.recipe
    path = fetch.prepare_model(recipe.model)
    endpoint.folder.mkdir(parents=True, exist_ok=True)
    with FileLock(endpoint.folder / "deploy.lock"):
        started = endpoint.process() is None
        if started:
            if not fetch.is_kept_as_it_is(recipe.model):
                fetch.verify_model(path)
            rollout.verify_tuned(endpoint)
            _start(endpoint)
        else:
            _refuse_other_settings(endpoint)
        settings = _deployment(recipe, as_served(recipe, path))
        changed = _put(endpoint, settings, started)
        return rollout.roll_out(endpoint, path, settings) or changed or started


def _put(endpoint: LocalEndpoint, settings: DeploymentSettings, started: bool) -> bool:
    recipe = endpoint.recipe
    patience = settings.start_timeout + recipe.endpoint.request_timeout
    route = f"/deployments/{recipe.endpoint.deployment}"
    try:
        with progress_bar(f"Starting deployment {recipe.endpoint.deployment}"):
            reply = endpoint.manage("PUT", route, settings.model_dump(), patience)
    except FixableError:
        if started and not endpoint.manage("GET")["deployments"]:
            endpoint.stop(recipe.endpoint.request_timeout)
        raise
    return bool(reply["changed"])


def _start(endpoint: LocalEndpoint) -> None:
    refuse_held_port(endpoint.recipe.endpoint.port)
    fields = _endpoint_fields(endpoint.recipe)
    settings = EndpointSettings.load(endpoint.folder) or EndpointSettings(
        name=endpoint.name, **fields
    )
    settings = settings.model_copy(update=fields)
    settings.save(endpoint.folder)
    endpoint.start()


def _endpoint_fields(recipe: Recipe) -> dict[str, Any]:
    names = {"host", "port", "max_body", "read_timeout", "allowed_origins"}
    names |= {"collect", "collect_limit", "requests_per_minute"}
    return recipe.endpoint.model_dump(include=names)


def _refuse_other_settings(endpoint: LocalEndpoint) -> None:
    """Refuse a change of settings that only a restart can change, which would have no effect."""
    running = endpoint.manage("GET")
    fields = _endpoint_fields(endpoint.recipe)
    # One that was started by an earlier version knows nothing of the newest settings.
    other = [name for name, value in fields.items() if running.get(name) != value]
    if other:
        told = "; ".join(
            f"{name} {_typed(running.get(name))}, not {_typed(fields[name])}" for name in other
        )
        fix = f"{endpoint.recipe.command('stop')} first"
        if all(name in running for name in other):
            kept = [shlex.quote(f"endpoint.{name}={_typed(running[name])}") for name in other]
            fix += ", or give what runs: " + " ".join(f"--set {value}" for value in kept)
        raise FixableError(f"endpoint {endpoint.name} runs with {told}", fix)


def _tell_traces(endpoint: LocalEndpoint) -> None:
    """Say where the running endpoint's traces go, which was decided when it was started."""
    if to := endpoint.manage("GET").get("traces"):
        say(f"traces go to {to}")
    elif names_collector():
        stop, deploy_ = (endpoint.recipe.command(verb) for verb in ("stop", "deploy"))
        fix = f"see {endpoint.recipe.command('logs')}, then {stop}, {deploy_}"
        say(f"endpoint {endpoint.name} sends no traces, though a collector is named. Fix: {fix}")


def _typed(value: Any) -> str:
    return json.dumps(value) if isinstance(value, list) else str(value)


def _deployment(recipe: Recipe, path: Path) -> DeploymentSettings:
    section = recipe.endpoint
    return DeploymentSettings(
        model_path=str(path),
        model_stamp=rollout.stamp_of(path),
        context_window=recipe.model.context_window,
        slots=section.slots,
        threads=section.threads,
        queue=section.queue,
        request_timeout=section.request_timeout,
        start_timeout=section.start_timeout,
    )
