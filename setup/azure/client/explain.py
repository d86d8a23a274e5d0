"""Every exception of the Azure SDKs as one line: what Azure said, and the command that fixes it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar
from urllib.parse import urlsplit

import yaml

from setup.common.errors import FixableError

if TYPE_CHECKING:
    from azure.core.exceptions import AzureError

T = TypeVar("T")

AGAIN = "run the same command again: it finds what is done"
_LOGIN = "az login, or correct AZURE_CLIENT_SECRET where the environment signs in"
_NO_TENANT = "correct azure.tenant or AZURE_TENANT_ID: az account list shows your tenants"
_NO_CLI = "install it (https://learn.microsoft.com/cli/azure/install-azure-cli), then az login"
_SUBSCRIPTION = (
    "az account list shows yours: --set azure.subscription=ID, or export AZURE_SUBSCRIPTION_ID=ID"
)
_DOCTOR = "python -m setup doctor --recipe NAME"
_NETWORK = "AuthorizationFailure"
UNAUTHORIZED, FORBIDDEN, NOT_FOUND = 401, 403, 404
_LIMIT = 400  # characters of a service's message: some carry a page

# What must never be printed, whoever put it into a message.
_SECRETS = re.compile(
    r"(?<=sig=)[^&\s]+|(?<=AccountKey=)[^;\s]+|(?<=Bearer )\S+|eyJ[\w-]+\.[\w-]+\.[\w-]*"
    r"|[A-Za-z0-9+/]{86}==|(?<=client_secret=)[^&\s]+"
)
_ACTION = re.compile(r"action '([^']+)'")
_SCOPE = re.compile(r"scope '([^']+)'")
_OBJECT = re.compile(r"object id '([^']+)'")
_CLIENT = re.compile(r"client '([^']+)'")
_NAMESPACE = re.compile(r"namespace '([^']+)'")
_AADSTS = re.compile(r"AADSTS\d+: [^.\n]*")
_TENANT = re.compile(r"https://login\.[\w.]+/([0-9a-fA-F-]{36})")
# How a sign-in says that it reached nothing, each library in its own words.
_UNREACHED = re.compile(
    r"Unable to connect to proxy|Failed to (?:establish|resolve)|Max retries exceeded"
    r"|Name or service not known|getaddrinfo failed|Network is unreachable|timed out"
)

_QUOTA = "python -m setup quota --request CORES --recipe NAME, which shows it without --request"
_REGION = "--set azure.location=REGION, one that offers the SKU"
_FULL = "the region has no machine free: try later, or --set azure.location=REGION"
# A part of the code, and the fix. The order matters: the first that is found in the code counts.
_BY_CODE = {
    "quota": _QUOTA,
    "SkuNotAvailable": _REGION,
    "SkuNotSupported": _REGION,
    "NoCapacity": _FULL,
    "AllocationFailed": _FULL,
    "SubscriptionNotFound": _SUBSCRIPTION,
    "InvalidSubscriptionId": _SUBSCRIPTION,
    "ReadOnlyDisabledSubscription": "enable the subscription: https://portal.azure.com, Billing",
    "TasksOperationsNotAllowed": "python -m setup provision --recipe NAME --set "
    "azure.image_build=cluster lets the cluster build images, which this offer's registry does not",
    "ScopeLocked": "az lock list shows the lock; delete it, or choose another resource group",
}
EXEMPTION = "ask who runs the subscription for an exemption from that policy"
# What a policy of a company is about, and the setting that does as it says.
_BY_POLICY = {
    r"network|public": "--set azure.public_network=false",
    r"key access|sharedkey|shared key": "--set azure.shared_keys=false",
    "purge": "--set azure.purge_protection=true",
}
_BY_STATUS = {
    401: f"{_LOGIN}, and {AGAIN}",
    404: "python -m setup provision --recipe NAME, and the steps after it",
    409: f"wait a minute for the other operation, and {AGAIN}",
    429: f"wait a few minutes, for Azure is throttling, and {AGAIN}",
}
# The least role that can do what an action asks for, by the start of the action.
_ROLES = [
    ("Microsoft.Authorization/", "Role Based Access Control Administrator"),
    ("Microsoft.Quota/", "Quota Request Operator"),
    ("Microsoft.Storage/storageAccounts/blobServices/", "Storage Blob Data Contributor"),
    ("Microsoft.Storage/storageAccounts/fileServices/", "Storage File Data Privileged Contributor"),
    ("", "Contributor"),
]


@contextmanager
def azure_errors(doing: str = "") -> Iterator[None]:
    """Turn what the Azure SDKs raise in the block into FixableError; ``doing`` starts its line."""
    from azure.core.exceptions import AzureError

    try:
        yield
    except AzureError as error:
        raise explain(error, doing) from None


def explain(error: AzureError, doing: str = "") -> FixableError:
    """Say what ``error`` means for the user.

    Never carries a token, a key or a signature, even where the service's message does.
    """
    from azure.core import exceptions as core

    if _is_login(error):
        what, fix = _not_signed_in(error)
    elif is_network_refusal(error):
        what, fix = _refused_network(error)
    elif isinstance(error, core.HttpResponseError) and error.status_code:
        what, fix = refusal(error.status_code, *code_and_message(error))
    elif isinstance(error, core.ServiceRequestError | core.ServiceResponseError):
        what, fix = f"the connection to Azure failed: {one_line(error.message)}", AGAIN
    else:
        what, fix = one_line(error.message), _DOCTOR
    return FixableError(f"{doing}: {what}" if doing else what, fix)


def is_network_refusal(error: BaseException) -> bool:
    """Tell a storage account that lets nobody of this network in from one where a role is missing.

    The code for a role is ``AuthorizationPermissionMismatch``:
    https://learn.microsoft.com/rest/api/storageservices/common-rest-api-error-codes
    """
    said = f"{getattr(error, 'error_code', '')} {error}"
    return getattr(error, "status_code", None) == FORBIDDEN and _NETWORK in said


def _refused_network(error: AzureError) -> tuple[str, str]:
    request = getattr(getattr(error, "response", None), "request", None)
    account = (urlsplit(request.url).hostname or "").partition(".")[0] if request else ""
    return (
        f"storage account {account or 'of the workspace'} refuses the network of this machine "
        f"({FORBIDDEN} {_NETWORK}): its firewall, or public access that a policy switched off",
        f"az storage account update --name {account or 'NAME'} --public-network-access Enabled "
        "--default-action Allow; where that is not allowed, the same command from a machine inside "
        "its network (docs/azure.md, Networks)",
    )


def one_line(text: str) -> str:
    """``text`` in one line, short, without anything that looks like a secret."""
    line = " ".join(_SECRETS.sub("…", text).split()).rstrip(".")
    return line if len(line) <= _LIMIT else line[: _LIMIT - 1] + "…"


def look_for(doing: str, look: Callable[..., T], *arguments: Any) -> T | None:
    """Return what ``look`` returns, None where Azure has no such thing."""
    with azure_errors(doing):
        return or_none(look, *arguments)


def or_none(look: Callable[..., T], *arguments: Any) -> T | None:
    """Return what ``look_for`` does; raises AzureError."""
    from azure.core.exceptions import ResourceNotFoundError

    try:
        return look(*arguments)
    except ResourceNotFoundError:
        return None


def code_and_message(error: Any) -> tuple[str, str]:
    """Return the innermost code and message of a refusal."""
    code, message = next(causes(getattr(error, "error", None)), ("", ""))
    return code, one_line(message or error.message)


def causes(error: Any) -> Iterator[tuple[str, str]]:
    """Yield code and message of each cause in an error, an object of the SDKs or as Azure sends it.

    A failure wraps its causes, a failed template in several layers, some as JSON in a message.
    """
    parts = error if isinstance(error, dict) else vars(error) if error else {}
    if details := parts.get("details") or _in_json(parts.get("message")):
        for detail in details:
            yield from causes(detail)
    elif parts:
        yield str(parts.get("code") or ""), str(parts.get("message") or "")


def _in_json(message: Any) -> list[Any]:
    try:
        content = json.loads(message or "")
    except ValueError:
        return []
    error = content.get("error") if isinstance(content, dict) else None
    return [error] if isinstance(error, dict) else []


def refusal(status: int, code: str, message: str) -> tuple[str, str]:
    """Return what Azure's answer means for the user, and the fix."""
    what = f"Azure answered {status}{f' {code}' if code else ''}: {message}"
    return what, _fix_by_code(code, message) or _fix_by_status(status, message)


def _fix_by_status(status: int, message: str) -> str:
    if status == 403:
        return _ask_for_role(message)
    if status >= 500:
        return AGAIN
    return _BY_STATUS.get(status, _DOCTOR)


def _fix_by_code(code: str, message: str) -> str:
    if "MissingSubscriptionRegistration" in code:
        namespace = _NAMESPACE.search(message)
        return f"az provider register --wait --namespace {namespace[1] if namespace else 'NAME'}"
    if "InvalidAuthenticationTokenTenant" in code and (tenant := _TENANT.search(message)):
        where_az = f"where az signs in, az login --tenant {tenant[1]} first"
        return f"--set azure.tenant={tenant[1]}; {where_az}"
    if "RequestDisallowedByPolicy" in code:
        return policy_way(message)
    said = code.lower() or message.lower()
    return next((fix for part, fix in _BY_CODE.items() if part.lower() in said), "")


def assignee(object_id: str, kind: str) -> str:
    """The options of `az role assignment create` for whom; no question to the directory is needed.

    ``--assignee`` looks the id up there, which a company may refuse.
    """
    return f"--assignee-object-id {object_id} --assignee-principal-type {kind}"


def policy_way(said: str) -> str:
    """Return the settings of the recipe that may satisfy a policy, beside an exemption from it."""
    lower = said.lower()
    ways = [fix for part, fix in _BY_POLICY.items() if re.search(part, lower)]
    return ", or ".join([*ways, EXEMPTION])


def _ask_for_role(message: str) -> str:
    action, scope, who = (p.search(message) for p in (_ACTION, _SCOPE, _OBJECT))
    if not action:
        return "a role given a moment ago takes up to ten minutes to work: wait, and " + AGAIN
    role = next(name for start, name in _ROLES if action[1].lower().startswith(start.lower()))
    # Azure names a person by an address, a program by its id.
    kind = "User" if (named := _CLIENT.search(message)) and "@" in named[1] else "ServicePrincipal"
    whom = assignee(who[1], kind) if who else "--assignee YOU"
    command = f'az role assignment create --role "{role}" {whom}'
    return f"an owner runs: {command} --scope {scope[1] if scope else 'SCOPE'}"


def _is_login(error: AzureError) -> bool:
    """Tell whether it is the sign-in that failed, and not a service that refused its token."""
    from azure.core.exceptions import ClientAuthenticationError

    signing_in = "AADSTS" in error.message or not getattr(error, "status_code", None)
    return isinstance(error, ClientAuthenticationError) and signing_in


def is_signed_out(error: AzureError) -> bool:
    """Tell whether signing in was refused, which the user must mend; not if it reached nobody."""
    return _is_login(error) and not _reached_nobody(error)


def _said_of_login(error: AzureError) -> list[str]:
    """Return what the ways to sign in say: a managed identity is looked for in vain anyway."""
    return [line for line in error.message.splitlines() if "ManagedIdentityCredential" not in line]


def _reached_nobody(error: AzureError) -> str:
    """Return how a sign-in says that there is no connection, empty where it was refused."""
    sign = _UNREACHED.search("\n".join(_said_of_login(error)))
    return sign[0] if sign and not _AADSTS.search(error.message) else ""


def _not_signed_in(error: AzureError) -> tuple[str, str]:
    said = _said_of_login(error)
    if refusal := _AADSTS.search(error.message):
        fix = _NO_TENANT if refusal[0].startswith("AADSTS90002") else _LOGIN
        return f"not signed in to Azure: {one_line(refusal[0])}", fix
    if reached := _reached_nobody(error):
        what = f"the connection to Azure failed while signing in: {reached}"
        return what, f"look at the network and HTTPS_PROXY, and {AGAIN}"
    if "Azure CLI not found" in error.message:
        return "not signed in to Azure, and there is no Azure CLI to do it with", _NO_CLI
    of_cli = re.search(r"AzureCliCredential: (.+)", error.message)
    # Alone, a managed identity is the way that was meant, and what it says is the reason.
    reasons = [of_cli[1]] if of_cli else [*said, *error.message.splitlines(), "no reason given"]
    reason = next(line for line in map(one_line, reasons) if line)
    return f"not signed in to Azure: {reason}", _LOGIN


def status_of(error: BaseException | None) -> int:
    """Return what Azure answered where ``error`` comes of a refusal, such as 403; else 0."""
    while error is not None:
        if status := getattr(error, "status_code", None):
            return int(status)
        error = error.__context__
    return 0


def is_forbidden(error: FixableError) -> bool:
    """Tell whether it comes of a right that the login has not, and not of its network."""
    return status_of(error) == FORBIDDEN and _NETWORK not in error.what


Table = Literal["job", "deployment"]


class Cause(NamedTuple):
    """A probable cause, what helps, and the line that shows it."""

    cause: str
    fix: str
    line: str = ""


def likely_cause(
    table: Table, texts: Iterable[str], options: str = "--recipe NAME"
) -> Cause | None:
    """The first cause of the table that has left a sign in a line, as the last such line shows it.

    The line is cleared of secrets; ``options`` name the recipe in commands of the fix. None where
    no sign is known.
    """
    lines = [line for text in texts for line in text.splitlines()]
    for row in _causes(table):
        for line in reversed(lines):
            if re.search(row["sign"], line, re.IGNORECASE):
                fix = row["fix"].replace("--recipe NAME", options)
                return Cause(row["cause"], fix, one_line(line))
    return None


@cache
def _causes(table: Table) -> list[dict[str, Any]]:
    path = Path(__file__).with_name(f"{table}_causes.yaml")
    content: list[dict[str, Any]] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return content
