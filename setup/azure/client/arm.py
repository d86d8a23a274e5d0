"""Azure Resource Manager by path: one pipeline, one retry policy, one place for API versions."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from setup.azure.client.explain import or_none
from setup.azure.provision.infra import template

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential
    from azure.core.polling import LROPoller
    from azure.core.rest import HttpResponse
    from azure.mgmt.core import ARMPipelineClient

Resources = list[dict[str, Any]]
HOST = "https://management.azure.com"
SCOPE = f"{HOST}/.default"
# Bounded: throttled for longer than this ends the command, which can be run again. A Retry-After
# of the service counts instead of the back-off.
RETRIES: dict[str, Any] = {
    "retry_total": 4,
    "retry_backoff_factor": 0.4,
    "retry_backoff_max": 30,
}
# The same for azure-storage, which has names and a policy of its own.
STORAGE_RETRIES: dict[str, Any] = {
    "retry_total": 4,
    "initial_backoff": 1,
    "increment_base": 2,
    "connection_timeout": 20,
}
_POLL = 5  # seconds between two looks at an operation, where Azure names no pace
RESOURCES_VERSION = "2021-04-01"  # groups, what they list, deployments, providers
# The API version by provider; what is not here is asked at the version that the template has it in.
_VERSIONS = {
    "": "2022-12-01",  # subscriptions
    "microsoft.resources": RESOURCES_VERSION,
    "microsoft.authorization": "2022-04-01",
    "microsoft.quota": "2025-09-01",
    "microsoft.machinelearningservices": "2024-04-01",
    "microsoft.storage": "2023-05-01",
    "microsoft.keyvault": "2023-07-01",
    "microsoft.containerregistry": "2023-07-01",
    "microsoft.insights/autoscalesettings": "2022-10-01",
}


@cache
def version_of(path: str) -> str:
    """Return the API version in which what is at ``path`` is asked for."""
    rest = path.lower()
    namespace, kind = "microsoft.resources" if "/resourcegroups/" in rest else "", ""
    if "/providers/" in rest:
        namespace, kind, *_ = [*rest.rpartition("/providers/")[2].split("/"), ""]
    types = {entry["type"].lower(): entry["apiVersion"] for entry in template()["resources"]}
    known = {kind.partition("/")[0]: version for kind, version in types.items()} | _VERSIONS
    return str(known.get(f"{namespace}/{kind}") or known.get(namespace, RESOURCES_VERSION))


class Arm:
    """One pipeline of azure-core: signed in, retried, never following a page by itself.

    An empty ``api_version`` is that of ``version_of``. Every method raises azure-core's exceptions.
    """

    registry_version = "2021-10-01-dataplanepreview"  # of a registry's own service
    resources_version = RESOURCES_VERSION

    def __init__(self, credential: TokenCredential) -> None:
        self._client = _pipeline(credential)

    def get(self, path: str, api_version: str = "") -> dict[str, Any]:
        """Return the resource, or the first page of the list, at ``path``, which starts with /."""
        return self._send("GET", path, api_version)

    def find(self, path: str, api_version: str = "") -> dict[str, Any] | None:
        """Return the resource at ``path``, None where there is none."""
        return or_none(self.get, path, api_version)

    def list(self, path: str, api_version: str = "", **query: str) -> Resources:
        """Return every item of the list at ``path``, page by page."""
        page = self._send("GET", path, api_version, None, **query)
        items: Resources = page.get("value", [])
        while following := page.get("nextLink"):
            page = self.ask(HOST + _path_of(following)).json()
            items += page.get("value", [])
        return items

    def children(self, path: str) -> Resources:
        """Return every item of the list at ``path``, none where what they lie in is gone."""
        return or_none(self.list, path) or []

    def put(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Create or replace what is at ``path``; long-running operations are not waited for."""
        return self._send("PUT", path, "", body)

    def post(
        self, path: str, body: dict[str, Any] | None = None, api_version: str = ""
    ) -> dict[str, Any]:
        """Ask or do what ``path`` names."""
        return self._send("POST", path, api_version, body)

    def begin(
        self, method: str, path: str, body: Any = None, query: Mapping[str, str] | None = None
    ) -> LROPoller[None]:
        """Begin to put or delete what is at ``path``; the poller follows that to its end."""
        from azure.core.polling import LROPoller
        from azure.mgmt.core.polling.arm_polling import ARMPolling

        begun = self._run(
            method, HOST + path, {"api-version": version_of(path), **(query or {})}, body
        )
        return LROPoller(self._client, begun, lambda *_: None, ARMPolling(timeout=_POLL))

    def outcome(
        self, path: str, body: dict[str, Any], api_version: str, patience: float
    ) -> dict[str, Any]:
        """Return the answer to a question that takes a while; empty if it is not there in time."""
        from azure.core.polling import LROPoller
        from azure.mgmt.core.polling.arm_polling import ARMPolling

        begun = self._run("POST", HOST + path, {"api-version": api_version}, body)
        poller: LROPoller[Any] = LROPoller(
            self._client, begun, _content_of, ARMPolling(timeout=_POLL)
        )
        answer = poller.result(patience)
        return answer if poller.done() and isinstance(answer, dict) else {}

    def ask(self, url: str, **query: str) -> HttpResponse:
        """Return what another service of Azure ML answers, asked with the same token."""
        response: HttpResponse = self._run("GET", url, query).http_response
        return response

    def _send(
        self, method: str, path: str, api_version: str, body: Any = None, **query: str
    ) -> dict[str, Any]:
        query |= {"api-version": api_version or version_of(path)}
        response = self._run(method, HOST + path, query, body).http_response
        content = response.json() if response.content else {}
        return content if isinstance(content, dict) else {"value": content}

    def _run(self, method: str, url: str, query: dict[str, str], body: Any = None) -> Any:
        from azure.core.rest import HttpRequest

        request = HttpRequest(method, url, params=query, json=body)
        done: Any = self._client.send_request(request, _return_pipeline_response=True)
        if done.http_response.status_code >= 400:
            _raise(done.http_response)
        return done


def _content_of(response: Any) -> Any:
    content = response.http_response
    return content.json() if content.content else {}


def _path_of(link: str) -> str:
    """Path and query of a next page: some services write host and port otherwise than we do."""
    parts = urlsplit(link)
    return f"{parts.path}?{parts.query}"


def _raise(response: Any) -> None:
    from azure.core import exceptions as core
    from azure.mgmt.core.exceptions import ARMErrorFormat

    kinds = {
        401: core.ClientAuthenticationError,
        404: core.ResourceNotFoundError,
        409: core.ResourceExistsError,
    }
    core.map_error(status_code=response.status_code, response=response, error_map=kinds)
    raise core.HttpResponseError(response=response, error_format=ARMErrorFormat)


def _pipeline(credential: TokenCredential) -> ARMPipelineClient[Any, Any]:
    from azure.core.pipeline import policies
    from azure.mgmt.core import ARMPipelineClient
    from azure.mgmt.core.policies import ARMChallengeAuthenticationPolicy

    chain = [
        policies.RequestIdPolicy(),
        policies.UserAgentPolicy("finetune-phi"),
        policies.ProxyPolicy(),
        policies.ContentDecodePolicy(),
        policies.RetryPolicy(**RETRIES),
        ARMChallengeAuthenticationPolicy(credential, SCOPE),
        policies.SensitiveHeaderCleanupPolicy(),
    ]
    return ARMPipelineClient(HOST, policies=chain)
