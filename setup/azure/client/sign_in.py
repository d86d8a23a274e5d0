"""The sign-in: which cloud, which tenant, and the subscription that the Azure CLI stands on."""

from __future__ import annotations

import configparser
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from setup.common.errors import FixableError

if TYPE_CHECKING:
    from azure.core.credentials import AccessToken, AccessTokenInfo, TokenRequestOptions
    from azure.identity import DefaultAzureCredential

_AUTHORITY = "login.microsoftonline.com"
_PUBLIC = ("AZURE_PUBLIC_CLOUD", "AzureCloud", _AUTHORITY)


def refuse_other_cloud() -> None:
    """Raise FixableError where the environment or the Azure CLI is set to another cloud.

    The model catalog, its registries and every host here are those of the public cloud.
    """
    for name, cloud, way_back in _clouds():
        if cloud not in _PUBLIC:
            raise FixableError(
                f"{name} says {cloud}, and this works in Azure's public cloud alone",
                f"{way_back}, and sign in there",
            )


def _clouds() -> list[tuple[str, str, str]]:
    """List what says which cloud: who says it, what it says, and how to say otherwise."""
    from azure.core.settings import settings

    authority = os.environ.get("AZURE_AUTHORITY_HOST", "") or _AUTHORITY
    host = urlsplit(authority if "//" in authority else f"https://{authority}").hostname
    try:
        cloud = str(settings.azure_cloud().name)
    except ValueError:  # a name that azure-core does not know
        cloud = os.environ.get("AZURE_SDK_CLOUD_CONF", "")
    given = configparser.ConfigParser()
    try:
        given.read(_cli_folder() / "config", encoding="utf-8")
        of_cli = given.get("cloud", "name", fallback="AzureCloud")
    except (configparser.Error, UnicodeDecodeError):
        of_cli = "AzureCloud"
    return [
        ("AZURE_SDK_CLOUD_CONF", cloud, "unset AZURE_SDK_CLOUD_CONF"),
        ("AZURE_AUTHORITY_HOST", str(host), "unset AZURE_AUTHORITY_HOST"),
        ("the Azure CLI", of_cli, "az cloud set --name AzureCloud"),
    ]


def cli_subscription() -> str:
    """Return the id of the subscription that ``az account set`` has chosen, empty where none."""
    try:
        text = (_cli_folder() / "azureProfile.json").read_text(encoding="utf-8-sig")
        listed: list[dict[str, Any]] = json.loads(text)["subscriptions"]
        return next((str(row["id"]) for row in listed if row.get("isDefault")), "")
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return ""


def _cli_folder() -> Path:
    return Path(os.environ.get("AZURE_CONFIG_DIR") or Path.home() / ".azure")


def sign_in(tenant: str) -> DefaultAzureCredential | TenantCredential:
    """Environment, workload or managed identity, az or azd: whichever is signed in first.

    Nothing that opens a browser, and no tool that stays signed in behind the user's back.
    ``tenant`` is whose tokens are asked for, empty that of the login.
    """
    from azure.identity import DefaultAzureCredential

    allowed = {"additionally_allowed_tenants": [tenant]} if tenant else {}
    credential = DefaultAzureCredential(
        exclude_interactive_browser_credential=True,
        exclude_shared_token_cache_credential=True,
        exclude_visual_studio_code_credential=True,
        exclude_powershell_credential=True,
        exclude_broker_credential=True,
        process_timeout=30,
        **allowed,
    )
    return TenantCredential(credential, tenant) if tenant else credential


class TenantCredential:
    """A login whose every token is of one tenant, whichever the login stands on."""

    def __init__(self, credential: DefaultAzureCredential, tenant: str) -> None:
        self._credential, self._tenant = credential, tenant

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        """Return a token of the tenant."""
        options["tenant_id"] = self._tenant
        return self._credential.get_token(*scopes, **options)

    def get_token_info(
        self, *scopes: str, options: TokenRequestOptions | None = None
    ) -> AccessTokenInfo:
        """Return a token of the tenant, and what is known of it."""
        told: TokenRequestOptions = {**(options or {}), "tenant_id": self._tenant}
        return self._credential.get_token_info(*scopes, options=told)

    def close(self) -> None:
        """Close what the login has open."""
        self._credential.close()
