"""Step ``provision``: the resource group and everything in it that the path needs.

What there is is read from Azure every time and compared with what the template would make; only a
difference leads to a deployment, which a later run finds and follows if this one is cut off.
Nothing is ever deleted here.
"""

from __future__ import annotations

from setup.azure.client import money
from setup.azure.client.session import AzureSession, signed_in
from setup.azure.facts.lifecycle import refuse_objected, refuse_retired
from setup.azure.provision import providers, roles
from setup.azure.provision import template as arm_deployment
from setup.azure.provision.inventory import Survey
from setup.common import console
from setup.common.errors import FixableError
from setup.common.step import Result

_BASE = ("storage", "key_vault", "registry", "logs")  # what money.base_costs is about


def plan(session: AzureSession) -> list[str]:
    """List every resource with its price class and whether it exists; only reads."""
    refuse_retired(session.recipe)
    return signed_in(session, _plan)


def run(session: AzureSession) -> Result:
    """Make what is missing, and wait until it can be used; found done if it was."""
    refuse_retired(session.recipe)
    return signed_in(session, _run)


def _plan(session: AzureSession) -> list[str]:
    survey = Survey.read(session)
    azure = session.recipe.azure
    lines = [f"register resource provider {name}" for name in providers.unregistered(session)]
    exists = " (exists)" if survey.group else ""
    lines.append(f"resource group {session.group} in {azure.location}: nothing{exists}")
    recovers = survey.recovers(session)
    for resource in survey.resources:
        state = survey.state(resource)
        if resource.key == "key_vault" and recovers:
            state = " (deleted earlier: taken back)"
        lines.append(resource.line() + state)
    lines.append(f"{_roles_line(survey)}: nothing")
    return [*lines, money.legend()]


def _roles_line(survey: Survey) -> str:
    if len(survey.bodies) == len(survey.resources) and not survey.missing:
        return f"{len(survey.roles)} role assignments (exist)"
    return "role assignments for the managed identity and you"


def _run(session: AzureSession) -> Result:
    survey = Survey.read(session)
    followed = survey.group and arm_deployment.is_running(session)
    if followed:
        console.err.print("a deployment is under way: following it", markup=False)
        _follow(session, survey)
        survey = Survey.read(session)
    changed = followed or not survey.done
    if not survey.done:
        refuse_objected(session)
        survey = _make(session, survey)
        _tell_changes(survey)
    roles.wait_until_allowed(session, survey.bodies["storage"], survey.bodies["workspace"])
    azure = session.recipe.azure
    detail = (
        f"{len(survey.resources)} resources and {len(survey.roles)} role assignments in resource "
        f"group {session.group} of {azure.location}; "
        f"workspace {azure.workspace}, project {azure.project} of hub {azure.hub}"
    )
    return Result("provision", changed, detail, session.recipe.command("data"))


def _tell_changes(survey: Survey) -> None:
    """Say what is otherwise than it was deployed a moment ago."""
    for resource in survey.resources:
        if differs := survey.differs.get(resource.key):
            told = f"{resource.title}: {', '.join(differs)}, not as it was deployed"
            console.err.print(f"{told}: a policy changed it, the doctor says more", markup=False)


def _make(session: AzureSession, survey: Survey) -> Survey:
    recover = survey.recovers(session)
    missing = {resource.key for resource in survey.resources} - survey.bodies.keys()
    if missing.intersection(_BASE):
        money.confirm([money.base_costs(session.recipe)])
    providers.register(session)
    if not survey.group:
        body = {"location": session.recipe.azure.location, "tags": session.tags}
        with session.errors(f"making resource group {session.group}"):
            session.arm.put(session.group_id, body)
    _deploy(session, survey, recover)
    survey = Survey.read(session)
    for role in survey.missing:
        roles.assign(session, role)
    left = [resource for resource in survey.resources if resource.key not in survey.usable]
    if left:
        told = [f"{part.title}: {', '.join(survey.differs[part.key])}" for part in left]
        fix = session.recipe.command("provision")
        raise FixableError(f"the deployment left {'; '.join(told)}", fix)
    return survey


def _deploy(session: AzureSession, survey: Survey, recover: bool) -> None:
    """Deploy; role assignments that there are by another name are left out the second time."""
    me = session.principal
    for principal in (me.object_id, ""):
        arm_deployment.begin(session, Survey.parameters(session, principal, recover))
        try:
            _follow(session, survey)
        except arm_deployment.DeploymentError as error:
            if not error.only_duplicates:
                raise
            recover = survey.recovers(session)
        else:
            return


def _follow(session: AzureSession, survey: Survey) -> None:
    arm_deployment.follow(
        session, {resource.path.lower(): resource for resource in survey.resources}
    )
