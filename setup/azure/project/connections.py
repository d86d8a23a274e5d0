"""The step ``connect`` in Azure: connections to the endpoint, in the project and on this machine.

The key goes from the endpoint into the request that makes the project's connection, and into Prompt
flow's encrypted store; it is in no file of ours, no message and no exception.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from flows.chat.scoring_client import ConfigurationError, Settings
from setup.azure.client.explain import one_line
from setup.azure.client.session import AzureSession
from setup.azure.deploy import smoke
from setup.azure.deploy.online_endpoint import ManagedEndpoint
from setup.azure.project.client import project_id
from setup.common import console
from setup.common.connection_store import drop_in_both, keep_in_both
from setup.common.errors import FixableError
from setup.common.promptflow_store import is_promptflow_installed
from setup.common.step import Result
from setup.recipe.azure import AzureRecipe

if TYPE_CHECKING:
    from azure.ai.ml.entities import OnlineEndpoint

# What makes a custom connection one of Prompt flow: without these the portal does not list it.
_OF_PROMPT_FLOW = {
    "azureml.flow.connection_type": "Custom",
    "azureml.flow.module": "promptflow.connections",
}


def plan(session: AzureSession) -> list[str]:
    """List what ``run`` would do, a line each."""
    recipe = session.recipe
    name, project = recipe.connection, recipe.azure.project
    endpoint = ManagedEndpoint(session)
    there = _find(session) is not None
    also = [f"{name}-{deployment}" for deployment in sorted(endpoint.deployments())] or [
        f"{name}-DEPLOYMENT"
    ]
    return [
        f"{'check' if there else 'make'} connection {name} of project {project}: endpoint "
        f"{endpoint.name} and its key",
        f"connections {', '.join([name, *also])} on this machine, the same; there, those of "
        "deployments that are gone are removed",
    ]


def run(session: AzureSession) -> Result:
    """Make or correct the connections, and read the project's back as Prompt flow reads it."""
    recipe = session.recipe
    endpoint = ManagedEndpoint(session)
    there = endpoint.need()
    key, configs = endpoint.key(), connection_configs(recipe, there)
    names = sorted({*there.traffic, *there.mirror_traffic})
    by_name = {name: _manners(recipe, str(there.scoring_uri), key, name) for name in names}
    configs |= _common([by_name[name] for name in names if there.traffic.get(name)])
    in_project = is_promptflow_installed()  # which alone can tell that the project's is readable
    changed = in_project and connect_project(session, configs, key)
    here = {recipe.connection: configs}
    for deployment, manners in by_name.items():
        own = {**connection_configs(recipe, there), **manners, "deployment": deployment}
        here[f"{recipe.connection}-{deployment}"] = own
    new, kept = keep_in_both(here, key)
    gone = _forget_deleted(recipe, configs["endpoint"], {*endpoint.deployments(), *there.traffic})
    there_too = f"connection {recipe.connection} of project {recipe.azure.project}"
    detail = (
        f"{there_too} reaches endpoint {endpoint.name}, and so do {', '.join(here)} on this machine"
        if in_project
        else f"connections {', '.join(here)} on this machine reach endpoint {endpoint.name}, "
        f"{there_too} is left as it is"
    )
    detail += f", the key {kept}"
    if gone:
        detail += f"; removed {', '.join(gone)} from this machine, of a deployment that is gone"
    following = recipe.command("upload")
    return Result("connect", changed or new or bool(gone), detail, following)


def connection_configs(recipe: AzureRecipe, endpoint: OnlineEndpoint) -> dict[str, str]:
    """Return what the connection tells of the endpoint, without the key; it follows the traffic."""
    settings = recipe.endpoint
    return {
        "endpoint": smoke.url_of(recipe, str(endpoint.scoring_uri)),
        "contract": settings.contract,
        "context_window": str(recipe.model.context_window),
        "system_role": recipe.model.system_role,
        "timeout": f"{settings.request_timeout_ms / 1000:g}",
        "concurrency": str(settings.max_concurrent_requests * settings.instances),
    }


def _manners(recipe: AzureRecipe, uri: str, key: str, deployment: str) -> dict[str, str]:
    """Return what an answer of a deployment shows of how to ask it; nothing if it is silent."""
    if recipe.endpoint.contract != "auto":
        return {}
    try:
        return smoke.ask_deployment(recipe, uri, key, deployment, smoke.QUESTIONS[:1])
    except smoke.NoAnswerError as error:
        told = f"deployment {deployment} {error}: its contract is left to be found out by a flow"
        console.err.print(told, markup=False)
        return {}


def _common(manners: list[dict[str, str]]) -> dict[str, str]:
    """Return what holds for every deployment that takes traffic."""
    first = manners[0] if manners else {}
    if all(other == first for other in manners):
        return first
    told = "the deployments with traffic do not answer by one contract: each flow finds it out"
    console.err.print(told, markup=False)
    return {}


def connect_project(
    session: AzureSession, configs: dict[str, str], key: str, workspace: str = ""
) -> bool:
    """Make or correct the project's connection; False when Prompt flow read the same already.

    ``workspace`` is another one than the project that is to have it.
    """
    settings = Settings.from_values({**configs, "key": key})
    connection, where = _find(session, workspace), workspace or session.recipe.azure.project
    metadata = ((connection or {}).get("properties") or {}).get("metadata") or {}
    listed = _OF_PROMPT_FLOW.items() <= metadata.items()
    if listed and _as_prompt_flow_reads(session, where) == settings:
        return False
    name = session.recipe.connection
    properties = {
        "category": "CustomKeys",
        "authType": "CustomKeys",
        "target": "_",
        "isSharedToAll": False,
        "credentials": {"keys": {"key": key}},
        "metadata": {**configs, **_OF_PROMPT_FLOW},
    }
    with session.errors(f"connection {name} of {where}"):
        session.arm.put(_path(session, workspace), {"properties": properties})
    if _as_prompt_flow_reads(session, where) != settings:
        raise FixableError(
            f"connection {name} of {where} was written, but Prompt flow does not read the same "
            "back",
            "wait a minute and run the same command again",
        )
    return True


def listed_connections(session: AzureSession) -> list[str]:
    """The names of the project's connections, of whatever kind."""
    with session.errors(f"reading the connections of project {session.recipe.azure.project}"):
        there = session.arm.children(f"{project_id(session)}/connections")
    return sorted(str(connection["name"]) for connection in there)


def _forget_deleted(recipe: AzureRecipe, uri: str, there: set[str]) -> list[str]:
    """Remove this machine's connections that ``run`` made for deployments no longer ``there``."""

    def is_stale(name: str, configs: dict[str, str]) -> bool:
        deployment = configs.get("deployment", "")
        ours = deployment and name == f"{recipe.connection}-{deployment}"
        same = urlsplit(configs.get("endpoint", "")).netloc == urlsplit(uri).netloc
        return bool(ours) and same and deployment not in there

    return drop_in_both(is_stale)


def _path(session: AzureSession, workspace: str = "") -> str:
    place = session.workspace_path(workspace) if workspace else project_id(session)
    return f"{place}/connections/{session.recipe.connection}"


def _find(session: AzureSession, workspace: str = "") -> dict[str, Any] | None:
    name = session.recipe.connection
    return session.find(f"reading connection {name}", _path(session, workspace))


def _as_prompt_flow_reads(session: AzureSession, workspace: str) -> Settings | None:
    """The settings that a flow in the project gets, None where it could not use them."""
    from promptflow.core._connection_provider import (
        _workspace_connection_provider as reader,
    )
    from promptflow.core._errors import BuildConnectionError
    from promptflow.exceptions import PromptflowException

    recipe = session.recipe
    place = (session.subscription_id, session.group, workspace)
    try:
        connection = reader.WorkspaceConnectionProvider(*place, session.credential).get(
            recipe.connection
        )
        return Settings.from_connection(connection)
    except (BuildConnectionError, ConfigurationError):
        return None
    except PromptflowException as error:
        raise FixableError(
            f"Prompt flow cannot read connection {recipe.connection} of {workspace}: "
            f"{one_line(str(error))}",
            "a role given a moment ago takes up to ten minutes to work: wait, and run the same "
            "command again",
        ) from None
