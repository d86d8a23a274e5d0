"""Exceptions of the SDKs as one line with the next command, and never a secret in it."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    HttpResponseError,
    ResourceExistsError,
    ResourceNotFoundError,
    ServiceRequestError,
)
from azure.core.pipeline.transport import HttpRequest, RequestsTransportResponse
from azure.identity import CredentialUnavailableError
from azure.mgmt.core.exceptions import ARMErrorFormat
from requests import Response

from setup.azure.client.explain import azure_errors, explain
from setup.azure.client.money import Billable, agree, answered, confirm
from setup.common import console
from setup.common.errors import FixableError

GPU = Billable("cluster gpu", "Standard_NC24ads_A100_v4", 1, "$$$", "while the job runs")
SIGNATURE = "sv=2024-01-01&sig=aGVsbG8lMkZ3b3JsZA%3D%3D&se=2026"
TOKEN = "eyJhbGciOiJub25lIn0.eyJvaWQiOiJ4In0.c2lnbmVk"
KEY = "k" * 86 + "=="


def _refusal(
    status: int,
    code: str,
    message: str,
    kind: type[HttpResponseError] = HttpResponseError,
    **more: Any,
) -> HttpResponseError:
    """What the SDKs raise for such an answer, made of the answer itself."""
    response = Response()
    response.status_code = status
    response.headers["Content-Type"] = "application/json"
    content = {"error": {"code": code, "message": message, **more}}
    response._content = json.dumps(content).encode()
    request = HttpRequest("GET", "https://management.azure.com/")
    return kind(response=RequestsTransportResponse(request, response), error_format=ARMErrorFormat)


def _cases() -> Iterator[tuple[AzureError, str, str]]:
    denied = (
        "The client 'a@b.c' with object id 'OID' does not have authorization to perform action "
        "'Microsoft.Authorization/roleAssignments/write' over scope '/subscriptions/S' or the "
        "scope is invalid."
    )
    yield (
        _refusal(403, "AuthorizationFailed", denied),
        "403",
        '--role "Role Based Access Control Administrator"',
    )
    yield (
        _refusal(403, "AuthorizationFailed", denied),
        "403",
        "--assignee-object-id OID --assignee-principal-type User --scope /subscriptions/S",
    )
    yield _refusal(403, "AuthorizationPermissionMismatch", "No."), "403", "ten minutes"
    yield _refusal(400, "QuotaExceeded", "Too much."), "QuotaExceeded: Too much", "quota --request"
    yield _refusal(400, "OutOfQuota", "Too much."), "OutOfQuota", "python -m setup quota"
    yield _refusal(409, "AnotherOperation", "Busy.", ResourceExistsError), "409", "wait a minute"
    yield _refusal(404, "Gone", "No such.", ResourceNotFoundError), "No such", "setup provision"
    yield _refusal(429, "TooManyRequests", "Slower."), "429", "throttling"
    yield _refusal(503, "ServerBusy", "Later."), "503", "run the same command again"
    yield _refusal(400, "SkuNotAvailable", "Not here."), "Not here", "azure.location=REGION"
    yield _refusal(403, "RequestDisallowedByPolicy", "P."), "Policy", "exemption"
    missing = "The subscription is not registered to use namespace 'Microsoft.KeyVault'."
    register = "az provider register --wait --namespace Microsoft.KeyVault"
    yield _refusal(409, "MissingSubscriptionRegistration", missing), "KeyVault", register
    yield CredentialUnavailableError(message="No login.\nTry this"), "in to Azure: No l", "az login"
    for alone, told in [
        ("ManagedIdentityCredential: no response from IMDS.", "no response from IMDS"),
        ("\n", "in to Azure: no reason given"),
    ]:
        yield ClientAuthenticationError(message=alone), told, "az login"
    chain = "None worked.\n\tManagedIdentityCredential: timed out\n\tAzureCliCredential: "
    for said, told, fix in [
        ("Please run 'az login'\n", "in to Azure: Please run 'az login'", "az login"),
        ("Azure CLI not found on path", "no Azure CLI", "install-azure-cli"),
        ("ERROR: Failed to resolve 'login'", "the connection to Azure failed", "HTTPS_PROXY"),
    ]:
        yield ClientAuthenticationError(message=chain + said), told, fix
    tenant = "33333333-3333-4333-8333-333333333333"
    other = f"wrong issuer. Please use the authority (URL) 'https://login.windows.net/{tenant}'."
    wrong = _refusal(401, "InvalidAuthenticationTokenTenant", other, ClientAuthenticationError)
    yield (
        wrong,
        "401 InvalidAuthenticationTokenTenant",
        f"--set azure.tenant={tenant}; where az",
    )
    unknown = _refusal(404, "SubscriptionNotFound", "None.", ResourceNotFoundError)
    yield unknown, "SubscriptionNotFound", "--set azure.subscription=ID"
    yield ServiceRequestError("Name or service not known"), "connection", "same command again"


@pytest.mark.parametrize(("error", "says", "fix"), [*_cases()])
def test_cause_and_next_command(error: AzureError, says: str, fix: str) -> None:
    found = explain(error, "making the group")
    assert str(found).startswith("making the group: ")
    assert says in found.what
    assert fix in found.fix
    assert "\n" not in str(found)


def test_innermost_cause_of_a_failed_template_is_told() -> None:
    inner = {"code": "StorageAccountAlreadyTaken", "message": "The name is taken."}
    outer = [{"code": "Conflict", "message": "See inner.", "details": [inner]}]
    error = _refusal(400, "DeploymentFailed", "At least one failed.", details=outer)
    assert "StorageAccountAlreadyTaken: The name is taken" in explain(error).what


@pytest.mark.parametrize("secret", [TOKEN, KEY, "aGVsbG8lMkZ3b3JsZA%3D%3D"])
def test_no_secret_of_a_message_is_shown(secret: str) -> None:
    told = f"Bearer {TOKEN} AccountKey={KEY};x https://a.blob.core.windows.net/c?{SIGNATURE}"
    for error in (_refusal(400, "Bad", told), ServiceRequestError(told), AzureError(told)):
        assert secret not in str(explain(error))
        assert secret not in repr(explain(error).__cause__)


def test_other_exceptions_pass() -> None:
    with pytest.raises(KeyError), azure_errors("looking"):
        raise KeyError("a defect of ours")
    with pytest.raises(FixableError, match="looking: Azure answered 503"), azure_errors("looking"):
        raise _refusal(503, "Busy", "Later.")


def test_nothing_billable_is_made_unasked(capfd: pytest.CaptureFixture[str]) -> None:
    """Standard input of a test is no terminal."""
    confirm([])
    with pytest.raises(FixableError, match=r"Standard_NC24ads_A100_v4, \$\$\$.*--yes"):
        confirm([GPU])
    with answered(yes=True):
        confirm([GPU])
        with pytest.raises(FixableError):
            confirm([GPU], yes=False)
    with pytest.raises(FixableError):
        agree("this:", ["that"])


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("said", "goes_on"), [("y\n", True), ("\n", False), ("", False)])
def test_a_person_is_asked(said: str, goes_on: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever presses Enter, or Ctrl-D, has not agreed."""
    told = io.StringIO()
    monkeypatch.setattr(console.err, "file", told)
    monkeypatch.setattr("sys.stdin", _Terminal(said))
    with contextlib.nullcontext() if goes_on else pytest.raises(FixableError, match="not agree"):
        confirm([GPU])
    assert "cluster gpu: Standard_NC24ads_A100_v4, $$$ an hour" in told.getvalue()
    assert told.getvalue().endswith("go on? [y/N] ")
