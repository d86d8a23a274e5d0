"""A deployment of the template: begun, found again by its name, followed to its end.

It goes on in Azure without us, so following one that another command began is the same as
following one's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from setup.azure.client import explain
from setup.azure.client.session import AzureSession
from setup.azure.client.waiting import wait_until
from setup.azure.provision.infra import template
from setup.common import console
from setup.common.errors import FixableError

if TYPE_CHECKING:
    from setup.azure.provision.inventory import Wanted

Row = Mapping[str, Any]
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


def _path(session: AzureSession) -> str:
    name = f"finetune-phi-{session.recipe.name}"  # found again by it
    return f"{session.group_id}/providers/Microsoft.Resources/deployments/{name}"


def is_running(session: AzureSession) -> bool:
    """Tell whether the recipe's deployment is under way, whoever began it."""
    path = _path(session)
    deployment = session.find(f"looking for deployment {_name(path)}", path)
    state = deployment["properties"]["provisioningState"] if deployment else _ENDED[0]
    return state not in _ENDED


def begin(session: AzureSession, parameters: Mapping[str, Any]) -> None:
    """Begin the deployment, without waiting; one that is under way is left alone."""
    from azure.core.exceptions import ResourceExistsError

    path = _path(session)
    properties = {"mode": "Incremental", "template": template(), "parameters": dict(parameters)}
    with session.errors(f"beginning deployment {_name(path)}"):
        try:
            session.arm.put(path, {"properties": properties})
        except ResourceExistsError:
            # Our own request, whose answer was lost, or that of another command.
            if not is_running(session):
                raise


def follow(session: AzureSession, resources: Mapping[str, Wanted]) -> None:
    """Wait until the deployment has ended, and say which resource is being made.

    ``resources`` is what it makes, by resource id in lower case. Raises DeploymentError.
    """
    path, titles = _path(session), {id_: resource.title for id_, resource in resources.items()}
    name = _name(path)
    made: set[str] = set()

    def ended() -> tuple[Row, list[Row]] | None:
        with session.errors(f"following deployment {name}"):
            state = session.arm.get(path)["properties"]
            rows = [row["properties"] for row in session.arm.list(f"{path}/operations")]
        made.update(_tell(rows, titles, made, bar))
        return (state, rows) if state["provisioningState"] in _ENDED else None

    with console.progress_bar("Making resources", total=len(titles)) as bar:
        state, rows = wait_until(ended, _PATIENCE, _PAUSE, f"deployment {name}")
    if state["provisioningState"] != "Succeeded":
        raise _failure(name, state, rows, resources)


def _tell(rows: list[Row], titles: Mapping[str, str], made: set[str], bar: Any) -> set[str]:
    """Show what is being made, print what is new; returns what is made, by id."""
    now = {_target(row): str(row["provisioningState"]) for row in rows}
    done = {path for path, state in now.items() if state == "Succeeded" and path in titles}
    for path in [path for path in now if path in done - made]:
        console.err.print(f"made {titles[path]}", markup=False)
    active = [titles[path] for path, state in now.items() if path in titles and path not in done]
    label = f"Making {', '.join(active)}" if active else "Making resources"
    bar.update(console.TASK, completed=len(done), description=label)
    return done


def _target(row: Row) -> str:
    return str((row.get("targetResource") or {}).get("id", "")).lower()


def _failure(
    name: str, state: Row, rows: list[Row], resources: Mapping[str, Wanted]
) -> FixableError:
    failed = [
        (code, message, row)
        for row in rows
        if row["provisioningState"] == "Failed"
        for code, message in explain.causes((row.get("statusMessage") or {}).get("error"))
    ]
    if not failed:
        unknown = (state["provisioningState"], "Azure does not say why")
        code, message = next(explain.causes(state.get("error")), unknown)
        return DeploymentError(_explained(f"deployment {name}", code, message, 400), {code})
    code, message, row = next((cause for cause in failed if cause[0] != DUPLICATE), failed[0])
    resource = resources.get(_target(row))
    title = resource.title if resource else "the role assignments"
    line = _explained(
        f"making {title}", code, message, _STATUS.get(str(row.get("statusCode")), 400)
    )
    if resource:
        line.fix = _other_name(resource, f"{code} {message}") or line.fix
    return DeploymentError(line, {cause[0] for cause in failed})


def _explained(doing: str, code: str, message: str, status: int) -> FixableError:
    what, fix = explain.refusal(status, code, explain.one_line(message))
    return FixableError(f"{doing}: {what}", fix)


def _other_name(resource: Wanted, said: str) -> str:
    """Return the fix where the name is taken, else empty."""
    for part, more in _TAKEN.items():
        if part in said.lower():
            also = f", or {more.format(name=resource.name)}" if more else ""
            return f"--set {resource.setting}=NAME{also}"
    return ""


def _name(path: str) -> str:
    return path.rpartition("/")[2]
