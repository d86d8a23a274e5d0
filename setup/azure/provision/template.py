"""A deployment of the template: begun, found again by its name, followed to its end.

It goes on in Azure without us, so following one that another command began is the same as
following one's own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from setup.azure.client.explain import explain
from setup.azure.client.session import AzureSession, azure_errors
from setup.azure.client.waiting import wait_until
from setup.azure.provision.infra import template
from setup.common import console
from setup.common.errors import FixableError

if TYPE_CHECKING:
    from setup.azure.provision.inventory import Wanted

_PATIENCE = 3600.0  # seconds
_PAUSE = 5.0  # seconds between two looks
_ENDED = ("Succeeded", "Failed", "Canceled")
DUPLICATE = "RoleAssignmentExists"
# A name that another resource has, or one that was deleted and not purged: a part of the code or
# the message, in lower case, and what else helps than another name. No command of az finds a
# workspace that is soft-deleted; the portal does.
_TAKEN = {
    "soft-deleted": "https://portal.azure.com, Azure Machine Learning, Recently deleted: purge it",
    "in deleted state": "az keyvault purge --name {name}",
    "alreadytaken": "",
    "alreadyinuse": "",
    "alreadyexists": "",
}
_STATUS = {status.phrase.replace(" ", ""): status.value for status in HTTPStatus}


class DeploymentError(FixableError):
    """A deployment that failed; ``codes`` are those of everything that went wrong in it."""

    def __init__(self, error: FixableError, codes: set[str]) -> None:
        super().__init__(error.what, error.fix)
        self.codes = codes

    @property
    def only_duplicates(self) -> bool:
        """Tell whether nothing but role assignments failed, which there are already."""
        return self.codes == {DUPLICATE}


def deployment_name(session: AzureSession) -> str:
    """The name of the recipe's deployment, the same every time."""
    return f"finetune-phi-{session.recipe.name}"


def is_running(session: AzureSession) -> bool:
    """Tell whether the recipe's deployment is under way, whoever began it.

    Raises:
        FixableError: Azure cannot be asked.
    """
    from azure.core.exceptions import ResourceNotFoundError  # noqa: PLC0415 - azure is slow

    with azure_errors(f"looking for deployment {deployment_name(session)}"):
        try:
            return _properties(session).provisioning_state not in _ENDED
        except ResourceNotFoundError:
            return False


def _properties(session: AzureSession) -> Any:
    name = deployment_name(session)
    return session.deployments.deployments.get(session.group, name).properties


def begin(session: AzureSession, parameters: Mapping[str, Any]) -> None:
    """Begin the deployment, without waiting; one that is under way is left alone.

    Raises:
        FixableError: Azure refuses it.
    """
    from azure.core.exceptions import ResourceExistsError  # noqa: PLC0415 - azure is slow
    from azure.mgmt.resource.deployments import models  # noqa: PLC0415

    name = deployment_name(session)
    body = models.Deployment(
        properties=models.DeploymentProperties(
            mode=models.DeploymentMode.INCREMENTAL,
            template=template(),
            parameters={
                key: models.DeploymentParameter(**value) for key, value in parameters.items()
            },
        )
    )
    with azure_errors(f"beginning deployment {name}"):
        try:
            session.deployments.deployments.begin_create_or_update(
                session.group, name, body, polling=False
            )
        except ResourceExistsError:
            # Our own request, whose answer was lost, or that of another command.
            if not is_running(session):
                raise


def follow(session: AzureSession, resources: Mapping[str, Wanted]) -> None:
    """Wait until the deployment has ended, and say which resource is being made.

    ``resources`` is what it makes, by resource id in lower case.

    Raises:
        DeploymentError: It failed.
        FixableError: It takes too long, or Azure cannot be asked.
    """
    name, titles = (
        deployment_name(session),
        {path: resource.title for path, resource in resources.items()},
    )
    made: set[str] = set()

    def ended() -> tuple[Any, list[Any]] | None:
        with azure_errors(f"following deployment {name}"):
            state = _properties(session)
            rows = list(session.deployments.deployment_operations.list(session.group, name))
        made.update(_tell(rows, titles, made, bar))
        return (state, rows) if state.provisioning_state in _ENDED else None

    with console.progress_bar("Making resources", total=len(titles)) as bar:
        state, rows = wait_until(ended, _PATIENCE, _PAUSE, f"deployment {name}")
    if state.provisioning_state != "Succeeded":
        raise _failure(name, state, rows, resources)


def _tell(rows: list[Any], titles: Mapping[str, str], made: set[str], bar: Any) -> set[str]:
    """Show what is being made, print what is new; returns what is made, by id."""
    now = {_target(row): str(row.properties.provisioning_state) for row in rows}
    done = {path for path, state in now.items() if state == "Succeeded" and path in titles}
    for path in [path for path in now if path in done - made]:
        console.err.print(f"made {titles[path]}", markup=False)
    active = [titles[path] for path, state in now.items() if path in titles and path not in done]
    label = f"Making {', '.join(active)}" if active else "Making resources"
    bar.update(console.TASK, completed=len(done), description=label)
    return done


def _target(row: Any) -> str:
    target = row.properties.target_resource
    return str(target.id if target else "").lower()


def _failure(
    name: str, state: Any, rows: list[Any], resources: Mapping[str, Wanted]
) -> DeploymentError:
    causes = [
        (resources.get(_target(row)), code, message, row)
        for row in rows
        if row.properties.provisioning_state == "Failed"
        for code, message in _leaves(_error_of(row))
    ]
    if not causes:
        code, message = next(
            _leaves(state.error), (state.provisioning_state, "Azure does not say why")
        )
        return DeploymentError(_explained(f"deployment {name}", code, message, 400), {code})
    worst = next((cause for cause in causes if cause[1] != DUPLICATE), causes[0])
    resource, code, message, row = worst
    status = _STATUS.get(str(row.properties.status_code or ""), 400)
    title = resource.title if resource else "the role assignments"
    line = _explained(f"making {title}", code, message, status)
    if resource:
        line.fix = _other_name(resource, f"{code} {message}") or line.fix
    return DeploymentError(line, {cause[1] for cause in causes})


def _other_name(resource: Wanted, said: str) -> str:
    """The fix where the name is taken, else empty."""
    help_ = next((help_ for part, help_ in _TAKEN.items() if part in said.lower()), None)
    if help_ is None:
        return ""
    return f"--set {resource.setting}=NAME" + (
        f", or {help_.format(name=resource.name)}" if help_ else ""
    )


def _error_of(row: Any) -> Any:
    message = row.properties.status_message
    return message.error if message else None


def _leaves(error: Any) -> Iterator[tuple[str, str]]:
    """Code and message of the causes: a failure wraps them, some as JSON in a message."""
    if error is None:
        return
    details = _value(error, "details") or _inside(_value(error, "message"))
    if details:
        for detail in details:
            yield from _leaves(detail)
    else:
        yield str(_value(error, "code") or ""), str(_value(error, "message") or "")


def _inside(message: Any) -> list[Any]:
    try:
        content = json.loads(message or "")
    except ValueError:
        return []
    error = content.get("error") if isinstance(content, dict) else None
    return [error] if isinstance(error, dict) else []


def _value(error: Any, name: str) -> Any:
    return error.get(name) if isinstance(error, dict) else getattr(error, name, None)


def _explained(doing: str, code: str, message: str, status: int) -> FixableError:
    from azure.core.exceptions import HttpResponseError, ODataV4Format  # noqa: PLC0415 - slow

    error = HttpResponseError(message=message)
    error.status_code = status
    error.error = ODataV4Format({"code": code, "message": message})
    return explain(error, doing)
