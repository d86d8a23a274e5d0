"""Step ``provision``: the resource group and everything in it that the path needs.

What there is is read from Azure every time and compared with what the template would make; only a
difference leads to a deployment, which a later run finds and follows if this one is cut off.
Nothing is ever deleted here.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from setup.azure.client.money import confirm
from setup.azure.client.names import derive_names
from setup.azure.client.ownership import find_group, refuse_group, tags_of
from setup.azure.client.session import AzureSession, azure_errors, signed_in
from setup.azure.facts.lifecycle import refuse_objected, refuse_retired
from setup.azure.facts.prices import base_costs, legend
from setup.azure.provision import template as arm_deployment
from setup.azure.provision.infra import NAMES, template_parameters
from setup.azure.provision.inventory import (
    Wanted,
    differences,
    find_all,
    has_failed,
    wanted_resources,
)
from setup.azure.provision.providers import register, unregistered
from setup.azure.provision.roles import (
    Role,
    assign,
    missing_roles,
    wait_until_allowed,
    wanted_roles,
)
from setup.azure.provision.vault import is_recoverable
from setup.common import console
from setup.common.errors import FixableError
from setup.common.step import Result
from setup.recipe.azure import AzureRecipe

_BASE = ("storage", "key_vault", "registry", "logs")  # what prices.base_costs is about


@dataclass(frozen=True)
class _Survey:
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
        return self.group and not self.differs and not self.missing


def plan(recipe: AzureRecipe) -> list[str]:
    """Every resource with its price class and whether it exists; only reads.

    Raises:
        FixableError: Something is retired, or not ours; Azure cannot be asked.
    """
    refuse_retired(recipe)
    return signed_in(recipe, _plan)


def run(recipe: AzureRecipe) -> Result:
    """Make what is missing, and wait until it can be used; found done if it was.

    Raises:
        FixableError: Something is retired, not ours, refused by Azure or by the user.
    """
    refuse_retired(recipe)
    return signed_in(recipe, _run)


def _plan(session: AzureSession) -> list[str]:
    survey = _survey(session)
    azure = session.recipe.azure
    lines = [f"register resource provider {name}" for name in unregistered(session)]
    exists = " (exists)" if survey.group else ""
    lines.append(f"resource group {session.group} in {azure.location}: nothing{exists}")
    recovers = "key_vault" not in survey.bodies and is_recoverable(session)
    for resource in survey.resources:
        state = _state(survey, resource)
        if resource.key == "key_vault" and recovers:
            state = " (deleted earlier: taken back)"
        lines.append(resource.line() + state)
    lines.append(f"{_roles_line(survey)}: nothing")
    return [*lines, legend()]


def _state(survey: _Survey, resource: Wanted) -> str:
    differs = survey.differs.get(resource.key, [])
    if resource.key not in survey.bodies:
        return ""
    return f" (exists, to be changed: {', '.join(differs)})" if differs else " (exists)"


def _roles_line(survey: _Survey) -> str:
    if len(survey.bodies) == len(survey.resources) and not survey.missing:
        return f"{len(survey.roles)} role assignments (exist)"
    return "role assignments for the managed identity and you"


def _run(session: AzureSession) -> Result:
    survey = _survey(session)
    followed = survey.group and arm_deployment.is_running(session)
    if followed:
        console.err.print("a deployment is under way: following it", markup=False)
        _follow(session, survey)
        survey = _survey(session)
    changed = followed or not survey.done
    if not survey.done:
        refuse_objected(session)
        survey = _make(session, survey)
    wait_until_allowed(session, survey.bodies["storage"], survey.bodies["workspace"])
    return _result(session, survey, changed)


def _result(session: AzureSession, survey: _Survey, changed: bool) -> Result:
    azure = session.recipe.azure
    detail = (
        f"{len(survey.resources)} resources and {len(survey.roles)} role assignments in resource "
        f"group {session.group} of {azure.location}; "
        f"workspace {azure.workspace}, project {azure.project} of hub {azure.hub}"
    )
    return Result(
        "provision", changed, detail, f"python -m setup data --recipe {session.recipe.name}"
    )


def _survey(session: AzureSession) -> _Survey:
    resources = wanted_resources(session)
    group = find_group(session)
    if group is None:
        return _Survey(
            False, resources, {}, {resource.key: ["missing"] for resource in resources}, [], []
        )
    refuse_group(session, group)
    bodies = find_all(session, resources)
    differs = {
        resource.key: differences(session, resource, bodies.get(resource.key))
        for resource in resources
    }
    roles = wanted_roles(session, bodies)
    missing = missing_roles(session, roles)
    differs = {key: words for key, words in differs.items() if words}
    return _Survey(True, resources, bodies, differs, roles, missing)


def _make(session: AzureSession, survey: _Survey) -> _Survey:
    recover = "key_vault" not in survey.bodies and is_recoverable(session)
    if any(key not in survey.bodies for key in _BASE):
        confirm([base_costs(session.recipe)])
    register(session)
    if not survey.group:
        _make_group(session)
    _deploy(session, survey, recover)
    survey = _survey(session)
    for role in survey.missing:
        assign(session, role)
    if left := {resource.key for resource in survey.resources} - survey.usable:
        raise FixableError(
            f"the deployment left {_listed(survey, left)}",
            f"python -m setup provision --recipe {session.recipe.name}",
        )
    return survey


def _listed(survey: _Survey, keys: set[str]) -> str:
    titles = {resource.key: resource.title for resource in survey.resources}
    return "; ".join(f"{titles[key]}: {', '.join(survey.differs[key])}" for key in sorted(keys))


def _make_group(session: AzureSession) -> None:
    recipe = session.recipe
    body = {"location": recipe.azure.location, "tags": tags_of(recipe)}
    with azure_errors(f"making resource group {session.group}"):
        session.arm.put(session.group_id, body)


def _deploy(session: AzureSession, survey: _Survey, recover: bool) -> None:
    """Deploy; role assignments that there are by another name are left out the second time."""
    me = session.principal
    for principal in (me.object_id, ""):
        arm_deployment.begin(session, _parameters(session, principal, recover))
        try:
            _follow(session, survey)
        except arm_deployment.DeploymentError as error:
            if not error.only_duplicates:
                raise
            recover = "key_vault" not in survey.bodies and is_recoverable(session)
        else:
            return


def _follow(session: AzureSession, survey: _Survey) -> None:
    arm_deployment.follow(
        session, {resource.path.lower(): resource for resource in survey.resources}
    )


def _parameters(session: AzureSession, principal: str, recover: bool) -> dict[str, dict[str, Any]]:
    recipe, cluster = session.recipe, session.recipe.finetune.compute
    names = asdict(derive_names(recipe, session.subscription_id))
    return template_parameters(
        names={key: name for key, name in names.items() if key in NAMES},
        location=recipe.azure.location,
        tags=tags_of(recipe),
        computeSku=cluster.sku,
        computeNodes=cluster.nodes,
        computeIdleSeconds=cluster.idle_seconds,
        identityRole=recipe.azure.roles,
        principalId=principal,
        principalType=session.principal.kind,
        recoverKeyVault=recover,
    )
