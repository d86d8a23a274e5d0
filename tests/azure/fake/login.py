"""Microsoft Entra ID: where a service principal's secret becomes a token for one audience."""

from __future__ import annotations

import base64
import json
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from tests.azure.fake.faults import expired_token
from tests.azure.fake.messages import AzureError, Reply, Request
from tests.azure.fake.router import ARM, Routes

if TYPE_CHECKING:
    from tests.azure.fake.azure import FakeAzure

TENANT = "11111111-1111-4111-8111-111111111111"
CLIENT = "22222222-2222-4222-8222-222222222222"
PRINCIPAL = "33333333-3333-4333-8333-333333333333"
SECRET = "the-service-principals-secret"
HOST = "login.microsoftonline.com"

# Which audiences a host takes, by the end of its name.
_AUDIENCES = {
    ARM: ("https://management.azure.com", "https://management.core.windows.net"),
    ".api.azureml.ms": (
        "https://management.azure.com",
        "https://management.core.windows.net",
        "https://ml.azure.com",
    ),
    ".experiments.azureml.net": (
        "https://management.azure.com",
        "https://management.core.windows.net",
        "https://ml.azure.com",
    ),
    ".blob.core.windows.net": ("https://storage.azure.com",),
    ".file.core.windows.net": ("https://storage.azure.com",),
}

routes = Routes()


class Login:
    """The tenant, its one service principal, and the tokens that are good.

    ``lifetime`` is what a token says of itself, in seconds.
    """

    def __init__(self) -> None:
        self.tenant, self.client, self.secret = TENANT, CLIENT, SECRET
        self.tenants = [TENANT]  # that the principal is known in
        self.principal = PRINCIPAL
        self.lifetime = 3600
        self._tokens: dict[str, str] = {}
        self._of: dict[str, str] = {}

    def expire(self) -> None:
        """Make every token that was issued so far worthless: 401 until a new one is fetched."""
        self._tokens.clear()

    def issue(self, scope: str, tenant: str = TENANT) -> dict[str, Any]:
        """A token for ``RESOURCE/.default``, as the token endpoint answers."""
        audience = scope.split(maxsplit=1)[0].removesuffix("/.default").rstrip("/")
        now = int(time.time())
        claims = {
            "aud": audience,
            "iss": f"https://sts.windows.net/{tenant}/",
            "iat": now,
            "nbf": now,
            "exp": now + self.lifetime,
            "tid": tenant,
            "oid": PRINCIPAL,
            "appid": CLIENT,
            "idtyp": "app",
            "jti": str(len(self._tokens)),
        }
        token = ".".join((_part({"alg": "none", "typ": "JWT"}), _part(claims), "c2lnbmVk"))
        self._tokens[token], self._of[token] = audience, tenant
        return {
            "token_type": "Bearer",
            "expires_in": self.lifetime,
            "ext_expires_in": self.lifetime,
            "access_token": token,
        }

    def check(self, request: Request) -> None:
        """Let in who has a good token for this host, where the host takes tokens.

        Raises:
            AzureError: 401, none, expired, or for another audience.
        """
        audiences = next((who for end, who in _AUDIENCES.items() if request.host.endswith(end)), ())
        if not audiences or "sig" in request.query or request.path == "/discovery":
            return
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind == "SharedKey":
            return
        if not token:
            raise AzureError(401, "AuthenticationFailed", "The Authorization header is missing.")
        if token not in self._tokens:
            raise expired_token()
        if self._tokens[token] not in audiences:
            wrong = f"The audience {self._tokens[token]} is not valid for {request.host}."
            raise AzureError(401, "InvalidAuthenticationTokenAudience", wrong)

    def tenant_of(self, request: Request) -> str:
        """The tenant whose token a request carries."""
        return self._of.get(request.headers.get("authorization", "").partition(" ")[2], TENANT)


def _part(content: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()


@routes.on("GET", HOST, "/common/discovery/instance")
def discover_instance(azure: FakeAzure, request: Request) -> Reply:
    alias = {"preferred_network": HOST, "preferred_cache": "login.windows.net", "aliases": [HOST]}
    return Reply(
        body={
            "tenant_discovery_endpoint": f"https://{HOST}/{TENANT}/v2.0/.well-known/openid-configuration",
            "api-version": "1.1",
            "metadata": [alias],
        }
    )


@routes.on("GET", HOST, "/{tenant}/v2.0/.well-known/openid-configuration")
def configuration(azure: FakeAzure, request: Request, tenant: str) -> Reply:
    base = f"https://{HOST}/{tenant}"
    return Reply(
        body={
            "token_endpoint": f"{base}/oauth2/v2.0/token",
            "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
            "device_authorization_endpoint": f"{base}/oauth2/v2.0/devicecode",
            "issuer": f"{base}/v2.0",
            "tenant_region_scope": "EU",
        }
    )


@routes.on("POST", HOST, "/{tenant}/oauth2/v2.0/token")
def token(azure: FakeAzure, request: Request, tenant: str) -> Reply:
    form = {key: values[0] for key, values in parse_qs(request.raw.decode()).items()}
    if tenant not in azure.login.tenants:
        return _refused(400, "invalid_request", f"AADSTS90002: Tenant '{tenant}' not found.")
    if form.get("client_id") != CLIENT or form.get("client_secret") != SECRET:
        return _refused(401, "invalid_client", "AADSTS7000215: Invalid client secret provided.")
    return Reply(body=azure.login.issue(form["scope"], tenant))


def _refused(status: int, error: str, description: str) -> Reply:
    return Reply(status, {"error": error, "error_description": description})
