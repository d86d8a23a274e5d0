"""A look at what there is of the recipe's resources, and what the template is told of them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from setup.azure.client.ownership import refuse_group
from setup.azure.client.session import AzureSession
from setup.azure.provision.infra import NAMES, template_parameters
from setup.azure.provision.inventory import (
    Wanted,
    differences,
    find_all,
    has_failed,
    wanted_resources,
)
from setup.azure.provision.roles import (
    Role,
    missing_roles,
    wanted_roles,
)
from setup.azure.provision.vault import is_recoverable


@dataclass(frozen=True)
class Survey:
    """The recipe's resources, those of them that there are, and ``differs`` in words by key."""

    group: bool
    resources: list[Wanted]
    bodies: dict[str, dict[str, Any]]
    differs: dict[str, list[str]]
    roles: list[Role]
    missing: list[Role]

    @property
    def usable(self) -> set[str]:
        """Those that are there and whole; what else differs, somebody's policy may have changed."""
        return {key for key in self.bodies if not has_failed(self.bodies[key])}

    @property
    def done(self) -> bool:
        """Tell whether nothing is left to make or change."""
        return self.group and not self.differs and not self.missing

    def state(self, resource: Wanted) -> str:
        """Say of a resource that it exists, and what of it is to be changed; empty where not."""
        differs = self.differs.get(resource.key, [])
        if resource.key not in self.bodies:
            return ""
        return f" (exists, to be changed: {', '.join(differs)})" if differs else " (exists)"

    def recovers(self, session: AzureSession) -> bool:
        """Tell whether a key vault is to be taken back, which was deleted and not purged."""
        return "key_vault" not in self.bodies and is_recoverable(session)

    @classmethod
    def read(cls, session: AzureSession) -> Survey:
        """Read what there is of the recipe's resources, and how it differs.

        Raises:
            FixableError: The group is somebody else's, or going; Azure cannot be asked.
        """
        resources = wanted_resources(session)
        group = session.find_group()
        if group is None:
            return cls(
                False, resources, {}, {resource.key: ["missing"] for resource in resources}, [], []
            )
        refuse_group(session.group, group)
        bodies = find_all(session, resources)
        differs = {
            resource.key: differences(session, resource, bodies.get(resource.key))
            for resource in resources
        }
        roles = wanted_roles(session, bodies)
        missing = missing_roles(session, roles)
        differs = {key: words for key, words in differs.items() if words}
        return cls(True, resources, bodies, differs, roles, missing)

    @staticmethod
    def parameters(
        session: AzureSession, principal: str, recover: bool
    ) -> dict[str, dict[str, Any]]:
        """Write the parameters of the template."""
        recipe, cluster = session.recipe, session.recipe.finetune.compute
        names = asdict(session.names)
        return template_parameters(
            names={key: name for key, name in names.items() if key in NAMES},
            location=recipe.azure.location,
            tags=session.tags,
            sku=cluster.sku,
            nodes=cluster.nodes,
            idle_seconds=cluster.idle_seconds,
            roles=recipe.azure.roles,
            principal_id=principal,
            principal_type=session.principal.kind,
            recover_key_vault=recover,
        )
