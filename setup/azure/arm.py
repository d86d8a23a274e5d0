"""Azure Resource Manager by path: for what none of the SDKs in use offers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential
    from azure.mgmt.core import ARMPipelineClient

HOST = "https://management.azure.com"
SCOPE = f"{HOST}/.default"


class Arm:
    """One pipeline of azure-core: signed in, retried, never following a page by itself.

    Args:
        credential: Who asks.
        retries: azure-core's ``retry_*`` settings.

    Every method raises azure-core's HttpResponseError for a refusal, ServiceRequestError or
    ServiceResponseError where there is no connection.
    """

    def __init__(self, credential: TokenCredential, retries: dict[str, Any]) -> None:
        self._client = _pipeline(credential, retries)

    def get(self, path: str, api_version: str, **query: str) -> dict[str, Any]:
        """The resource, or the first page of the list, at ``path`` (it starts with a slash)."""
        return self._send("GET", path, api_version, None, query)

    def find(self, path: str, api_version: str) -> dict[str, Any] | None:
        """The resource at ``path``, None where there is none."""
        from azure.core.exceptions import ResourceNotFoundError  # noqa: PLC0415 - slow

        try:
            return self.get(path, api_version)
        except ResourceNotFoundError:
            return None

    def list(self, path: str, api_version: str) -> list[dict[str, Any]]:
        """Every item of the list at ``path``, page by page."""
        items: list[dict[str, Any]] = []
        page = self.get(path, api_version)
        items += page.get("value", [])
        while following := page.get("nextLink"):
            page = self._send("GET", _path_of(following), "", None, {})
            items += page.get("value", [])
        return items

    def put(self, path: str, api_version: str, body: dict[str, Any]) -> dict[str, Any]:
        """Create or replace what is at ``path``; long-running operations are not waited for."""
        return self._send("PUT", path, api_version, body, {})

    def post(self, path: str, api_version: str, body: dict[str, Any] | None) -> dict[str, Any]:
        """Ask or do what ``path`` names."""
        return self._send("POST", path, api_version, body, {})

    def delete(self, path: str, api_version: str) -> None:
        """Delete what is at ``path``; long-running operations are not waited for."""
        self._send("DELETE", path, api_version, None, {})

    def _send(
        self, method: str, path: str, api_version: str, body: Any, query: dict[str, str]
    ) -> dict[str, Any]:
        from azure.core.exceptions import map_error  # noqa: PLC0415 - slow
        from azure.core.rest import HttpRequest  # noqa: PLC0415
        from azure.mgmt.core.exceptions import ARMErrorFormat  # noqa: PLC0415

        parameters = ({"api-version": api_version} if api_version else {}) | query
        request = HttpRequest(method, HOST + path, params=parameters, json=body)
        response = self._client.send_request(request)
        if response.status_code >= 400:
            _raise(response, map_error, ARMErrorFormat)
        content = response.json() if response.content else {}
        return content if isinstance(content, dict) else {"value": content}


def _path_of(link: str) -> str:
    """Path and query of a next page: some services write host and port otherwise than we do."""
    parts = urlsplit(link)
    return f"{parts.path}?{parts.query}"


def _raise(response: Any, map_error: Any, error_format: Any) -> None:
    from azure.core import exceptions as core  # noqa: PLC0415

    kinds = {
        401: core.ClientAuthenticationError,
        404: core.ResourceNotFoundError,
        409: core.ResourceExistsError,
    }
    map_error(status_code=response.status_code, response=response, error_map=kinds)
    raise core.HttpResponseError(response=response, error_format=error_format)


def _pipeline(credential: TokenCredential, retries: dict[str, Any]) -> ARMPipelineClient[Any, Any]:
    from azure.core.pipeline import policies  # noqa: PLC0415
    from azure.mgmt.core import ARMPipelineClient  # noqa: PLC0415
    from azure.mgmt.core.policies import ARMChallengeAuthenticationPolicy  # noqa: PLC0415

    chain = [
        policies.RequestIdPolicy(),
        policies.UserAgentPolicy("finetune-phi"),
        policies.ProxyPolicy(),
        policies.ContentDecodePolicy(),
        policies.RetryPolicy(**retries),
        ARMChallengeAuthenticationPolicy(credential, SCOPE),
        policies.SensitiveHeaderCleanupPolicy(),
    ]
    return ARMPipelineClient(HOST, policies=chain)
