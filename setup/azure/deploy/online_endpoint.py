"""The managed online endpoint: its identity, its key, and how its traffic is shared."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

from setup.azure.client import waiting
from setup.azure.client.explain import code_and_message
from setup.azure.client.session import AzureSession
from setup.azure.deploy.autoscale import Autoscale
from setup.azure.deploy.traffic import Slots, live_traffic
from setup.common.errors import FixableError

if TYPE_CHECKING:
    from azure.ai.ml import MLClient
    from azure.ai.ml.entities import ManagedOnlineDeployment, OnlineEndpoint

_PATIENCE = 1800.0  # seconds for the endpoint alone, without a deployment
_SEEN = 300.0  # seconds until Azure shows the traffic that it has been told
# How Azure says that the name is taken; it has said so in two ways, both of which name the region:
# https://github.com/Azure/azureml-examples/pull/1931
_TAKEN = re.compile(r"unique within (a|the) region", re.IGNORECASE)
# What is said, with a 404, for a name that was deleted a moment ago:
# https://github.com/Azure/azure-cli-extensions/issues/7660
_STILL_HELD = "InferencingClientCallFailed"


class ManagedEndpoint:
    """The recipe's endpoint, asked anew for every question."""

    def __init__(self, session: AzureSession) -> None:
        self._session = session
        self._recipe = session.recipe
        self._names = session.names
        self.name = self._names.endpoint

    @cached_property
    def ml(self) -> MLClient:
        """Azure ML of the workspace that serves."""
        # azure-ai-ml sends an endpoint's identity with parts that only Azure sets, and is told so.
        logging.getLogger("msrest.serialization").setLevel(logging.ERROR)
        return self._session.ml()

    def find(self) -> OnlineEndpoint | None:
        """The endpoint, None where there is none; its ``traffic`` names every deployment."""
        return self._session.look_for(
            f"reading endpoint {self.name}", self.ml.online_endpoints.get, self.name
        )

    def need(self) -> OnlineEndpoint:
        """The endpoint, an error where there is none."""
        if endpoint := self.find():
            return endpoint
        raise FixableError(
            f"workspace {self._names.workspace} has no endpoint {self.name}",
            self._recipe.command("deploy"),
        )

    def ensure(self) -> bool:
        """Make the endpoint, or put it right, its traffic as it is; False when it was right."""
        endpoint = self._settled()
        if endpoint is None:
            self._put(self._new())
            return True
        self._refuse_unlike(endpoint)
        tags = {**(endpoint.tags or {}), **self._session.tags}
        if endpoint.provisioning_state == "Succeeded" and tags == (endpoint.tags or {}):
            return False
        endpoint.tags = tags
        self._put(endpoint)
        return True

    def _settled(self) -> OnlineEndpoint | None:
        """The endpoint when nothing is under way on it any more."""
        endpoint = self.find()
        if endpoint and waiting.under_way(endpoint.provisioning_state):
            waiting.follow(f"Endpoint {self.name}", None, self._state, _PATIENCE)
            endpoint = self.find()
        return endpoint

    def _refuse_unlike(self, endpoint: OnlineEndpoint) -> None:
        if endpoint.auth_mode != "key":
            raise FixableError(
                f"endpoint {self.name} takes {endpoint.auth_mode}, the flows need a key",
                "--set endpoint.name=ANOTHER: how an endpoint is asked cannot be changed",
            )
        identities = endpoint.identity.user_assigned_identities if endpoint.identity else None
        if self._identity.lower() not in {
            str(identity.resource_id).lower() for identity in identities or ()
        }:
            raise FixableError(
                f"endpoint {self.name} has not the identity {self._names.identity}",
                "--set endpoint.name=ANOTHER: the identity of an endpoint cannot be changed",
            )

    @property
    def _identity(self) -> str:
        kind = "Microsoft.ManagedIdentity/userAssignedIdentities"
        return f"{self._session.group_id}/providers/{kind}/{self._names.identity}"

    def _new(self) -> OnlineEndpoint:
        from azure.ai.ml import entities

        mine = [entities.ManagedIdentityConfiguration(resource_id=self._identity)]
        return entities.ManagedOnlineEndpoint(
            name=self.name,
            auth_mode="key",
            tags=self._session.tags,
            identity=entities.IdentityConfiguration(
                type="user_assigned", user_assigned_identities=mine
            ),
            public_network_access=("enabled" if self._recipe.azure.public_network else "disabled"),
        )

    def _put(self, endpoint: OnlineEndpoint) -> None:
        from azure.core.exceptions import HttpResponseError

        what = f"Endpoint {self.name}"

        def begin() -> Any:
            self._settled()
            try:
                return self.ml.online_endpoints.begin_create_or_update(endpoint)
            except HttpResponseError as error:
                self._refuse_name(error)
                raise

        with self._session.errors(f"endpoint {self.name}"), waiting.nothing_printed():
            state = waiting.follow(what, waiting.when_free(what, begin), self._state, _PATIENCE)
        if state != "Succeeded":
            raise FixableError(
                f"endpoint {self.name} ended as {state}",
                "run the same command again: it is put right, not made anew",
            )

    def _refuse_name(self, error: Any) -> None:
        code, message = code_and_message(error)
        if _TAKEN.search(message):
            raise FixableError(
                f"the name of endpoint {self.name} is taken in {self._recipe.azure.location}: "
                f"{message}",
                "--set endpoint.name=ANOTHER",
            ) from None
        if error.status_code == 404 and code == _STILL_HELD:
            raise FixableError(
                f"Azure does not make endpoint {self.name} yet: one of this name, or the workspace "
                f"before, was deleted a moment ago ({message})",
                "run the same command again in a few minutes, or --set endpoint.name=ANOTHER",
            ) from None

    def _state(self) -> str:
        endpoint = self.find()
        return str(endpoint.provisioning_state) if endpoint else "missing"

    def slots(self) -> Slots:
        """Return the deployments as they are now, and what they serve."""
        return Slots(self._recipe, self.find(), self.deployments())

    def shift(self, traffic: dict[str, int], taken_from: str = "") -> None:
        """Share the traffic in per cent; ``taken_from`` is the deployment that is rolled back."""
        endpoint = self.need()
        slots = Slots(self._recipe, endpoint, self.deployments())
        endpoint.tags = slots.tags_after(traffic, taken_from)
        endpoint.traffic = dict(traffic)
        # A deployment is sent requests or, as a mirror, copies of them, never both.
        copies = endpoint.mirror_traffic.items()
        endpoint.mirror_traffic = {name: share for name, share in copies if name not in traffic}
        self._put(endpoint)
        # Azure shows it a moment later: https://github.com/Azure/azure-dev/pull/3881
        what = f"endpoint {self.name} was told the traffic {traffic}, and shows another one"
        waiting.wait_until(lambda: live_traffic(self.need()) == traffic, _SEEN, waiting.PAUSE, what)

    def mirror(self, copies: dict[str, int]) -> None:
        """Send copies of so many per cent of the requests to deployments; of none where empty."""
        endpoint = self.need()
        endpoint.mirror_traffic = dict(copies)
        self._put(endpoint)

    def key(self) -> str:
        """The primary key; for this process's memory and for connections only."""
        with self._session.errors(f"reading the key of endpoint {self.name}"):
            return str(self.ml.online_endpoints.get_keys(self.name).primary_key)

    def deployment(self, name: str) -> ManagedOnlineDeployment | None:
        """One deployment, None where there is none."""
        doing = f"reading deployment {name} of endpoint {self.name}"
        get: Callable[..., Any] = self.ml.online_deployments.get
        return self._session.look_for(doing, get, name, self.name)

    def deployments(self) -> dict[str, ManagedOnlineDeployment]:
        """The deployments by name; none where there is no endpoint."""
        doing = f"listing the deployments of endpoint {self.name}"
        listed: Any = self._session.look_for(
            doing, lambda: [*self.ml.online_deployments.list(self.name)]
        )
        return {deployment.name: deployment for deployment in listed or ()}

    def delete(self, deployment: str) -> None:
        """Delete a deployment that takes no traffic, and wait for its end."""
        what = f"Deleting deployment {deployment}"

        def begin() -> Any:
            return self.ml.online_deployments.begin_delete(deployment, self.name)

        with self._session.errors(f"deleting deployment {deployment} of endpoint {self.name}"):
            waiting.follow(what, waiting.when_free(what, begin), lambda: "gone", _PATIENCE)
        Autoscale(self._session, deployment).delete()
