"""The fake as tests see it: its environment, what was asked of it, faults."""

from __future__ import annotations

import re
import traceback
from pathlib import Path
from threading import RLock

from tests.azure.fake import faults
from tests.azure.fake.contracts import Contracts
from tests.azure.fake.login import Login
from tests.azure.fake.messages import WRITING, AzureError, DroppedError, Reply, Request
from tests.azure.fake.operations import Operations
from tests.azure.fake.policy import Policy
from tests.azure.fake.proxy import Proxy
from tests.azure.fake.registry import Catalog
from tests.azure.fake.router import ARM, dispatch
from tests.azure.fake.scoring import Answer, say
from tests.azure.fake.services import SERVICES
from tests.azure.fake.storage import Storage, is_storage, refusal
from tests.azure.fake.store import Store
from tests.azure.fake.subscription import (
    SUBSCRIPTION,
    Subscription,
    refuse_other_tenant,
)
from tests.azure.fake.tls import Certificates


class FakeAzure:
    """One subscription of one tenant, in this process, reached through :attr:`env`.

    Attributes:
        env: The environment of a client: proxy, trust, a service principal's sign-in.
        requests: Every request, oldest first, with its status.
        refused_hosts: Hosts outside Azure's known ones that a client tried to reach.
        crashes: Tracebacks of handlers: defects of the fake itself, answered with 501.
        unknown_routes: What no service of the fake answers (404 to the client).
        strict: Whether a body that violates its published contract is refused with 400.
        answer: What deployments answer: ``(deployment, messages)`` to text or a whole body.
        serves: The contract of deployments: ``score``, ``pipeline``, ``mlflow`` or ``openai``,
            of all or by name.
        inside_network: Whether clients stand in the network that closed storage lets in.
        policies: What denies or changes what is made: ``fake/policy.py``.
        job_states: What a new job goes through, one state further at each look.
        violations: What was found against the contracts, refused or not.
        unchecked: What was written without a published contract to hold it against.
    """

    def __init__(self, folder: Path) -> None:
        self.lock = RLock()
        self.requests: list[Request] = []
        self.refused_hosts: list[str] = []
        self.crashes: list[str] = []
        self.unknown_routes: list[str] = []
        self.strict = True
        self.violations: list[str] = []
        self.unchecked: set[str] = set()
        self.contracts = Contracts()
        self.store = Store()
        self.operations = Operations()
        self.login = Login()
        self.subscription = Subscription()
        self.storage = Storage()
        self.catalog = Catalog()
        self.answer: Answer = say
        self.inside_network = False
        self.policies: list[Policy] = []
        self.serves: str | dict[str, str] = "score"
        self.job_states = ["Queued", "Running", "Completed"]
        self._faults: list[faults.Fault] = []
        certificates = Certificates()
        bundle = folder / "trusted.pem"
        certificates.write_bundle(bundle)
        self._proxy = Proxy(self._allowed, self._answer, certificates)
        self.env = self._environment(bundle, folder)

    def _environment(self, bundle: Path, folder: Path) -> dict[str, str]:
        proxy = {"HTTPS_PROXY": self._proxy.url, "NO_PROXY": "127.0.0.1,localhost"}
        return {
            **proxy,
            **{key.lower(): value for key, value in proxy.items()},
            "REQUESTS_CA_BUNDLE": str(bundle),
            "SSL_CERT_FILE": str(bundle),
            "AZURE_TENANT_ID": self.login.tenant,
            "AZURE_CLIENT_ID": self.login.client,
            "AZURE_CLIENT_SECRET": self.login.secret,
            "AZURE_SUBSCRIPTION_ID": SUBSCRIPTION,
            "AZURE_CONFIG_DIR": str(folder / "azure-cli"),
        }

    def close(self) -> None:
        """Stop listening."""
        self._proxy.close()

    @property
    def hosts(self) -> set[str]:
        """Every host that a client tried to reach."""
        return {request.host for request in self.requests} | set(self.refused_hosts)

    @property
    def writes(self) -> list[Request]:
        """The requests that could change something: no token, no read that is a POST."""
        return [request for request in self.requests if _is_write(request)]

    def find(self, pattern: str) -> list[Request]:
        """The requests whose ``METHOD host/path`` the regular expression finds, any case."""
        found = re.compile(pattern, re.IGNORECASE)
        return [request for request in self.requests if found.search(request.line)]

    def fail(self, match: str, times: int = 1, how: str = "throttled") -> faults.Fault:
        """Let the next ``times`` requests that ``match`` finds go wrong.

        ``how`` is one of ``faults.HOWS``; how a deployment of resources, a job or a model
        deployment fails is said by ``azure.fail_resource``.
        """
        if how not in faults.HOWS:
            raise ValueError(f"{how!r} is none of {faults.HOWS}")
        fault = faults.Fault(re.compile(match, re.IGNORECASE), times, how)
        self._faults.append(fault)
        return fault

    def fail_resource(
        self, match: str, message: str, code: str = "BadRequest", times: int = 1, log: str = ""
    ) -> None:
        """Let the creation of a resource whose id ``match`` finds end as ``Failed``.

        The request is accepted; its long-running operation, or its job, shows ``code`` and
        ``message``, and the container or the job has written ``log``.
        """
        self.operations.fail(match, code, message, times, log)

    def clear(self) -> None:
        """Forget the recorded requests and what was wrong with them, not the resources."""
        self.requests.clear()
        self.refused_hosts.clear()
        self.violations.clear()

    def _allowed(self, host: str) -> bool:
        allowed = any(routes.knows(host) for routes in SERVICES)
        if not allowed:
            self.refused_hosts.append(host)
        return allowed

    def _answer(self, request: Request) -> Reply:
        with self.lock:
            self.requests.append(request)
            met = [fault for fault in self._faults if fault.meets(request)]
            try:
                reply = self._reply(request, met[:1])
            except AzureError as error:
                reply = refusal(request, error) if is_storage(request.host) else error.reply()
            except DroppedError:
                raise
            except Exception:  # noqa: BLE001 - a defect of the fake, shown by the fixture
                self.crashes.append(f"{request.line}\n{traceback.format_exc()}")
                reply = AzureError(501, "FakeCrashed", self.crashes[-1]).reply()
            request.status = reply.status
            return reply

    def _reply(self, request: Request, met: list[faults.Fault]) -> Reply:
        for fault in met:
            fault.before()
        self.login.check(request)
        if request.host == ARM:
            refuse_other_tenant(self, request)
        reply = self.dispatch(request)
        for fault in met:
            fault.after()
        return reply

    def dispatch(self, request: Request) -> Reply:
        """The reply of the service that knows the route; handlers ask each other this way.

        Raises:
            AzureError: What the service refuses, or 404 for a route that none knows.
        """
        reply = dispatch(SERVICES, self, request)
        if reply is None:
            self.unknown_routes.append(request.line)
            raise AzureError(404, "NoSuchRoute", f"the fake has no route for {request.line}")
        return reply


_READING_POSTS = re.compile(
    r"/(list\w*|getlogs|query|resources|search|versions/list|checknameavailability|validate"
    r"|rundata|lastvalues|whatif)/?$",
    re.IGNORECASE,
)


def _is_write(request: Request) -> bool:
    if request.method not in WRITING or request.host.startswith("login."):
        return False
    reads = request.method == "POST" and _READING_POSTS.search(request.path)
    scoring = request.host.endswith(".inference.ml.azure.com")
    return not reads and not scoring and request.host != ""


__all__ = ["ARM", "FakeAzure"]
