"""The cluster that evaluates over several machines: made when it is first asked for.

The machines of a parallel step share its work out by a queue and a table of the workspace's
storage, so that the identity of the cluster needs a role for each, beside those of the template:
https://learn.microsoft.com/azure/machine-learning/how-to-identity-based-service-authentication
"""

from __future__ import annotations

from typing import Any

from setup.azure.client import money, ownership, waiting
from setup.azure.client.session import AzureSession
from setup.azure.provision.roles import Role, assign, missing_roles
from setup.common import console
from setup.common.errors import FixableError
from setup.recipe.azure import Compute

# https://learn.microsoft.com/azure/role-based-access-control/built-in-roles/storage
_ROLES = {
    "Storage Blob Data Contributor": "ba92f5b4-2d11-453d-a403-e96b0029c9fe",
    "Storage Queue Data Contributor": "974c5e8b-45b9-4653-ba55-5f855dd0fb88",
    "Storage Table Data Contributor": "0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3",
}
_PATIENCE = 900.0  # seconds for a cluster without nodes
_IDENTITIES = "Microsoft.ManagedIdentity/userAssignedIdentities"


class BatchCluster:
    """The recipe's ``evaluation.compute``, of as many nodes as one evaluation asks for."""

    def __init__(self, session: AzureSession, nodes: int) -> None:
        self._session = session
        self.compute: Compute = session.recipe.evaluation.compute.model_copy(
            update={"nodes": nodes}
        )
        self._what = f"cluster {self.compute.name}"
        self._path = f"{session.workspace_path()}/computes/{self.compute.name}"

    @property
    def costs(self) -> money.Billable:
        """Its price while a job is at work on it."""
        compute = self.compute
        hours = self._session.recipe.evaluation.max_hours
        until = f"while the job runs; after {hours:g} hours the command that follows it cancels it"
        price = money.price_class(compute.sku)
        return money.Billable(self._what, compute.sku, compute.nodes, price, until)

    def refuse_other(self) -> None:
        """Refuse a cluster of this name that is not ours, or of another SKU; only reads."""
        if body := self._find():
            ownership.refuse_foreign(self._what, body, "evaluation.compute.name")
            size = str(body["properties"]["properties"]["vmSize"])
            if size.lower() != self.compute.sku.lower():
                raise FixableError(
                    f"{self._what} is of {size}, the recipe says {self.compute.sku}",
                    f"--set evaluation.compute.sku={size}, or evaluation.compute.name=ANOTHER",
                )

    def ensure(self) -> None:
        """See that it is there, may grow to its nodes, and that its identity may do the work."""
        identity = self._identity()
        body = self._find()
        if body is None or self._most_nodes(body) < self.compute.nodes:
            with self._session.errors(self._what), console.progress_bar(f"Making {self._what}"):
                self._session.arm.put(self._path, self._description(identity["id"]))
                told = f"making {self._what}"
                waiting.wait_until(self._is_ready, _PATIENCE, waiting.PAUSE, told)
        self._allow(identity)

    def _find(self) -> dict[str, Any] | None:
        return self._session.find(f"reading {self._what}", self._path)

    def _most_nodes(self, body: dict[str, Any]) -> int:
        scale = body["properties"]["properties"].get("scaleSettings") or {}
        return int(scale.get("maxNodeCount") or 0)

    def _is_ready(self) -> bool:
        state = str(((self._find() or {}).get("properties") or {}).get("provisioningState"))
        if state in ("Failed", "Canceled"):
            fix = self._session.recipe.command("quota")
            raise FixableError(f"{self._what} ended as {state}", f"{fix}; then the same command")
        return state == "Succeeded"

    def _identity(self) -> dict[str, Any]:
        session, name = self._session, self._session.names.identity
        path = f"{session.group_id}/providers/{_IDENTITIES}/{name}"
        if identity := session.find(f"reading identity {name}", path):
            return identity
        fix = session.recipe.command("provision")
        raise FixableError(f"there is no identity {name} for {self._what}", fix)

    def _description(self, identity: str) -> dict[str, Any]:
        compute, session = self.compute, self._session
        return {
            "location": session.recipe.azure.location,
            "tags": session.tags,
            "identity": {"type": "UserAssigned", "userAssignedIdentities": {identity: {}}},
            "properties": {
                "computeType": "AmlCompute",
                "disableLocalAuth": True,
                "properties": {
                    "osType": "Linux",
                    "remoteLoginPortPublicAccess": "Disabled",
                    "vmSize": compute.sku,
                    "vmPriority": "Dedicated",
                    "scaleSettings": {
                        "minNodeCount": 0,
                        "maxNodeCount": compute.nodes,
                        "nodeIdleTimeBeforeScaleDown": f"PT{compute.idle_seconds}S",
                    },
                },
            },
        }

    def _allow(self, identity: dict[str, Any]) -> None:
        session = self._session
        workspace = session.find("reading the workspace", session.workspace_path()) or {}
        storage = str((workspace.get("properties") or {}).get("storageAccount"))
        principal = str(identity["properties"]["principalId"])
        title = f"of {session.names.identity} on storage account {storage.rpartition('/')[2]}"
        roles = [
            Role(f"role {name} {title}", storage, principal, "ServicePrincipal", role)
            for name, role in _ROLES.items()
        ]
        for role in missing_roles(session, roles):
            assign(session, role)
            console.err.print(f"assigned {role.title}", markup=False)
