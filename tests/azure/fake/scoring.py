"""The scoring host of an endpoint: the contract of the catalog's chat models, with key auth."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tests.azure.fake.endpoints import ENDPOINT
from tests.azure.fake.messages import AzureError, Reply, Request
from tests.azure.fake.router import Routes
from tests.azure.fake.store import Resource

if TYPE_CHECKING:
    from tests.azure.fake.azure import FakeAzure

HOST = "*.inference.ml.azure.com"
# (deployment, messages) to what the server answers: text, or a whole body.
Answer = Callable[[str, list[dict[str, str]]], Any]

routes = Routes()


def say(deployment: str, messages: list[dict[str, str]]) -> str:
    """What a model answers until a test says otherwise."""
    return f"{deployment} was asked: {messages[-1]['content']}"


def _endpoint(azure: FakeAzure, request: Request) -> Resource:
    name = request.host.split(".")[0]
    for found in azure.store:
        if found.kind == ENDPOINT and found.id.name.lower() == name:
            return found
    raise AzureError(404, "NotFound", f"there is no endpoint {name}")


def _routed(azure: FakeAzure, request: Request) -> str:
    """The deployment that a request goes to.

    Raises:
        AzureError: 401 without the key, 404 where no deployment takes it.
    """
    endpoint = _endpoint(azure, request)
    kind, _, key = request.headers.get("authorization", "").partition(" ")
    if kind != "Bearer" or key not in (
        endpoint.hidden["primaryKey"],
        endpoint.hidden["secondaryKey"],
    ):
        raise AzureError(401, "Unauthorized", "The key is missing or wrong.")
    wanted = request.headers.get("azureml-model-deployment")
    shares = endpoint.properties["traffic"]
    name = wanted or next((name for name, share in shares.items() if share > 0), None)
    found = azure.store.get(f"{endpoint.id.text}/deployments/{name}") if name else None
    if found is None or found.properties["provisioningState"] != "Succeeded":
        raise AzureError(404, "NotFound", f"no deployment takes this request ({wanted})")
    return found.id.name


@routes.on("POST", HOST, "/score")
def score(azure: FakeAzure, request: Request) -> Reply:
    deployment = _routed(azure, request)
    headers = {"azureml-model-deployment": deployment, "x-ms-request-id": "1"}
    given = request.body.get("input_data") if isinstance(request.body, dict) else None
    messages = given.get("input_string") if isinstance(given, dict) else None
    if not isinstance(messages, list) or not all(_is_message(one) for one in messages):
        message = "input_data.input_string must be a list of messages with role and content"
        return Reply(
            424, {"error": message}, headers | {"ms-azureml-model-error-statuscode": "400"}
        )
    if not messages or messages[-1]["role"] != "user":
        return Reply(200, {}, headers)  # what the catalog's server does when it raised
    answer = azure.answer(deployment, messages)
    return Reply(200, {"output": answer} if isinstance(answer, str) else answer, headers)


def _is_message(one: Any) -> bool:
    return isinstance(one, dict) and all(isinstance(one.get(k), str) for k in ("role", "content"))
