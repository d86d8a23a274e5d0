"""Prompt flow's own client for the recipe's project, and what it raises in one line."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from setup.azure.client.explain import AGAIN, assignee, explain, is_network_refusal, one_line
from setup.azure.client.session import AzureSession
from setup.common.errors import FixableError
from setup.common.promptflow_store import quieten_promptflow

# Writes through Entra ID; https://learn.microsoft.com/azure/role-based-access-control/built-in-roles
_DATA_ROLES = {
    "file": "Storage File Data Privileged Contributor",
    "blob": "Storage Blob Data Contributor",
}
_STATUS = re.compile(r"Code: (\d{3})")


def project_id(session: AzureSession) -> str:
    """The resource id of the recipe's project, whether there is one or not."""
    return session.workspace_path(session.recipe.azure.project)


def is_there(session: AzureSession, path: str = "") -> bool:
    """Tell whether there is the project, or the resource at ``path`` in it."""
    doing = f"reading project {session.recipe.azure.project}"
    return session.find(doing, f"{project_id(session)}{path}") is not None


def require_project(session: AzureSession) -> None:
    """Raise FixableError where there is no project: asked before seconds of imports."""
    if not is_there(session):
        where = f"in resource group {session.group}"
        what = f"there is no project {session.recipe.azure.project} {where}"
        raise FixableError(what, session.recipe.command("provision"))


def project_client(session: AzureSession) -> Any:
    """promptflow.azure's PFClient for the project; call it in ``flow_errors``."""
    from promptflow.azure import PFClient

    client = PFClient(ml_client=session.ml(session.recipe.azure.project))
    quieten_promptflow()
    return client


@contextlib.contextmanager
def flow_errors(session: AzureSession, doing: str) -> Iterator[None]:
    """Turn what promptflow.azure raises in the block into FixableError; what it prints is dropped.

    It prints JSON for every flow and a bar for every folder; ours is the one line of the result.
    """
    import requests
    from azure.core.exceptions import AzureError
    from promptflow.azure.operations._run_operations import RunRequestException
    from promptflow.exceptions import PromptflowException

    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    except (AzureError, PromptflowException) as error:
        raise _explained(session, error, doing) from None
    except RunRequestException as error:
        status = _STATUS.search(str(error))
        fix = f"az login, and {AGAIN}" if status and status[1] == "401" else AGAIN
        raise FixableError(f"{doing}: {one_line(str(error))}", fix) from None
    except requests.RequestException as error:
        what = f"{doing}: the connection to Azure failed: {type(error).__name__}"
        raise FixableError(what, AGAIN) from None


def azure_cause(error: BaseException) -> Any:
    """The exception of the Azure SDKs that ``error`` wraps, or None."""
    from azure.core.exceptions import AzureError

    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, AzureError):
        cause = getattr(cause, "inner_exception", None) or cause.__cause__
    return cause


def _explained(session: AzureSession, error: Exception, doing: str) -> FixableError:
    cause = azure_cause(error)
    if cause is None:
        return FixableError(f"{doing}: {one_line(str(error))}", AGAIN)
    return _missing_role(session, cause, doing) or explain(cause, doing)


def _missing_role(session: AzureSession, error: Any, doing: str) -> FixableError | None:
    """Say what to grant where a storage account takes no keys and the login has no data role."""
    request = getattr(getattr(error, "response", None), "request", None)
    host = (urlsplit(request.url).hostname or "") if request else ""
    account, _, service = host.partition(".")
    role = _DATA_ROLES.get(service.partition(".")[0])
    if role is None or error.status_code != 403 or is_network_refusal(error):
        return None
    scope = f"{session.group_id}/providers/Microsoft.Storage/storageAccounts/{account}"
    who = session.principal.object_id
    return FixableError(
        f"{doing}: {who} may not write to storage account {account}: role {role} is missing, "
        "or was given less than ten minutes ago",
        f'an owner runs: az role assignment create --role "{role}" '
        f"{assignee(who, session.principal.kind)} --scope {scope}; wait ten minutes, and {AGAIN}",
    )
