"""Long-running operations: a status URL of their own, and an end that comes with polling."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.azure.fake.messages import AzureError, Reply, Request
from tests.azure.fake.router import ARM, Routes

if TYPE_CHECKING:
    from tests.azure.fake.azure import FakeAzure

PACE = {"retry-after-ms": "20"}

routes = Routes()


@dataclass
class Operation:
    """Work on one resource: ``polls`` more looks at it, then ``finish`` is called once."""

    number: int
    target: str
    finish: Callable[[], None]
    error: AzureError | None
    polls: int
    result: Any = None

    @property
    def status(self) -> str:
        """As Azure-AsyncOperation reports it."""
        if self.polls > 0:
            return "InProgress"
        return "Failed" if self.error else "Succeeded"

    def look(self) -> None:
        """Count one look; the last one ends the work."""
        if self.polls > 0:
            self.polls -= 1
            if self.polls == 0:
                self.finish()


@dataclass
class _Failure:
    pattern: re.Pattern[str]
    code: str
    message: str
    times: int
    log: str


class Operations:
    """Those under way and those done, and which resources are to fail.

    Any look at a resource counts for its operation, so that a client that was killed while it
    waited finds the work under way and then done, as in Azure. ``polls`` is how many looks new
    operations take.
    """

    def __init__(self) -> None:
        self.polls = 2
        self._all: list[Operation] = []
        self._failures: list[_Failure] = []

    def fail(self, match: str, code: str, message: str, times: int, log: str = "") -> None:
        """Let the next ``times`` resources whose id ``match`` finds end as Failed."""
        self._failures.append(_Failure(re.compile(match, re.IGNORECASE), code, message, times, log))

    def failure_of(self, target: str) -> AzureError | None:
        """The error that the creation of ``target`` is to end with; counts it."""
        for failure in self._failures:
            if failure.times > 0 and failure.pattern.search(target):
                failure.times -= 1
                error = AzureError(400, failure.code, failure.message)
                error.log = failure.log
                return error
        return None

    def start(
        self, target: str, finish: Callable[[], None], error: AzureError | None = None
    ) -> Operation:
        """Begin an operation on the resource ``target``."""
        operation = Operation(len(self._all), target.lower(), finish, error, self.polls)
        self._all.append(operation)
        return operation

    def look(self, target: str) -> None:
        """Count a look at a resource."""
        key = target.rstrip("/").lower()
        for operation in self._all:
            if operation.polls > 0 and operation.target == key:
                operation.look()

    def running(self, target: str) -> Operation | None:
        """The operation that is under way on a resource, or None."""
        key = target.rstrip("/").lower()
        under_way = (one for one in self._all if one.polls > 0 and one.target == key)
        return next(under_way, None)

    def get(self, number: str) -> Operation:
        """The operation with this number.

        Raises:
            AzureError: 404.
        """
        if not number.isdigit() or int(number) >= len(self._all):
            raise AzureError(404, "OperationNotFound", f"no operation {number}")
        return self._all[int(number)]


def headers_of(operation: Operation, api_version: str, final: str = "status") -> dict[str, str]:
    """The headers of an accepted request; ``final`` "results" adds a Location."""
    subscription = "/".join(operation.target.split("/")[:3])
    base = f"https://{ARM}{subscription}/providers/Microsoft.Fake/operations"
    status = f"{base}/{operation.number}?api-version={api_version}"
    results = status.replace("/operations/", "/operationresults/")
    found = {"Azure-AsyncOperation": status} if final != "location" else {}
    return found | ({"Location": results} if final != "status" else {}) | PACE


@routes.on("GET", ARM, "/subscriptions/{sub}/providers/Microsoft.Fake/operations/{number}")
def get_status(azure: FakeAzure, request: Request, sub: str, number: str) -> Reply:
    operation = azure.operations.get(number)
    operation.look()
    body: dict[str, Any] = {"id": request.path, "name": number, "status": operation.status}
    if operation.status == "Failed" and operation.error:
        body |= operation.error.body
    return Reply(body=body, headers=dict(PACE))


@routes.on("GET", ARM, "/subscriptions/{sub}/providers/Microsoft.Fake/operationresults/{number}")
def get_results(azure: FakeAzure, request: Request, sub: str, number: str) -> Reply:
    operation = azure.operations.get(number)
    operation.look()
    if operation.status == "InProgress":
        return Reply(202, headers={"Location": f"https://{ARM}{_link(request)}"} | PACE)
    if operation.error:
        raise operation.error
    return Reply(200, operation.result)


def _link(request: Request) -> str:
    return f"{request.path}?api-version={request.api_version}"
