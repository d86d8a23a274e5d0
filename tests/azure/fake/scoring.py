"""The scoring host of an endpoint, with key auth; ``azure.serves`` says which contract it has."""

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


_UNTOLD = "An unexpected error occurred in scoring script. Check the logs for more info."
_MODEL = "ms-azureml-model-error-statuscode"


@routes.on("POST", HOST, "/score")
def score(azure: FakeAzure, request: Request) -> Reply:
    deployment = _routed(azure, request)
    reply = _SERVERS[_contract(azure, deployment)](azure, deployment, request.body)
    reply.headers |= {"azureml-model-deployment": deployment, "x-ms-request-id": "1"}
    return reply


def _contract(azure: FakeAzure, deployment: str) -> str:
    """What a deployment serves: each its own, or all one."""
    serves = azure.serves
    return serves if isinstance(serves, str) else serves[deployment]


@routes.on("POST", HOST, "/v1/chat/completions")
def chat(azure: FakeAzure, request: Request) -> Reply:
    deployment = _routed(azure, request)
    if _contract(azure, deployment) != "openai":
        raise AzureError(404, "NotFound", "the container has no such route")
    messages = request.body.get("messages")
    if not _are_messages(messages):
        return Reply(422, {"detail": "messages: Field required"})
    message = {"role": "assistant", "content": azure.answer(deployment, messages)}
    return Reply(200, {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})


def _vllm(azure: FakeAzure, deployment: str, body: Any) -> Reply:
    """Contract A, of the catalog's own models."""
    messages = _given(body).get("input_string")
    if not isinstance(messages, list) or not all(_is_message(one) for one in messages):
        message = "input_data.input_string must be a list of messages with role and content"
        return Reply(424, {"error": message}, {_MODEL: "400"})
    if not messages or messages[-1]["role"] != "user":
        return Reply(200, {})  # what the catalog's server does when it raised
    answer = azure.answer(deployment, messages)
    return Reply(200, {"output": answer} if isinstance(answer, str) else answer)


def _pipeline(azure: FakeAzure, deployment: str, body: Any) -> Reply:
    """Hugging Face's pipeline, which serves a catalog fine-tune where vLLM is off: contract A's
    request, B's answer, and no argument that ``generate`` does not know. Why it raised stands in
    its log alone."""
    messages: Any = _given(body).get("input_string")
    parameters: Any = _given(body).get("parameters", {})
    known = {"temperature", "top_p", "do_sample", "max_new_tokens"}
    if messages is None or not _are_messages(messages) or set(parameters) - known:
        return Reply(424, _UNTOLD, {_MODEL: "500"})
    return Reply(200, [{"0": azure.answer(deployment, messages)}])


def _mlflow(azure: FakeAzure, deployment: str, body: Any) -> Reply:
    """A model that was logged by MLflow's own flavour: a list of texts."""
    texts = body.get("input_data") if isinstance(body, dict) else None
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        return Reply(424, _UNTOLD, {_MODEL: "500"})
    asked = [{"role": "user", "content": text} for text in texts]
    return Reply(200, [azure.answer(deployment, [one]) for one in asked])


def _no_route(azure: FakeAzure, deployment: str, body: Any) -> Reply:
    """A container of vLLM itself."""
    return Reply(404, {"detail": "Not Found"}, {_MODEL: "404"})


_SERVERS = {"score": _vllm, "pipeline": _pipeline, "mlflow": _mlflow, "openai": _no_route}


def _given(body: Any) -> dict[str, Any]:
    data = body.get("input_data") if isinstance(body, dict) else None
    return data if isinstance(data, dict) else {}


def _are_messages(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_message, value))


def _is_message(one: Any) -> bool:
    return isinstance(one, dict) and all(isinstance(one.get(k), str) for k in ("role", "content"))
