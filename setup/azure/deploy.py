"""The step ``deploy`` in Azure: the newest registered version, asked before it is used."""

from __future__ import annotations

from setup.azure.container import NAME, context_version
from setup.azure.deployment import deployment_name, price_of
from setup.azure.endpoint import ManagedEndpoint
from setup.azure.prices import price_lines
from setup.azure.recipe import AzureRecipe
from setup.azure.rollout import Rollout, share_traffic
from setup.azure.session import AzureSession
from setup.azure.smoke import NoAnswerError, ask_deployment
from setup.azure.version import age, need_version, newest_version
from setup.errors import FixableError
from setup.step import Result


def plan(recipe: AzureRecipe) -> list[str]:
    """What ``run`` would do, and what that costs by the hour."""
    session = AzureSession(recipe)
    endpoint = ManagedEndpoint(session)
    version = newest_version(session)
    lines = [f"{'keep' if endpoint.find() else 'make'} endpoint {endpoint.name}, asked with a key"]
    if version:
        return lines + _plan_rollout(Rollout(session, version))
    name = deployment_name(recipe.endpoint.deployment, "VERSION")
    lines.append(f"make deployment {name} of the version of {recipe.registry.model} to come")
    return lines + price_lines([price_of(recipe, endpoint.name, name)])


def _plan_rollout(rollout: Rollout) -> list[str]:
    version, recipe, found = rollout.version, rollout.recipe, rollout.endpoint.find()
    what = f"deployment {rollout.name}: version {version.version} of {version.name}"
    traffic = {name: share for name, share in found.traffic.items() if share} if found else {}
    wanted = share_traffic(traffic, rollout.name, recipe.endpoint.canary)
    if found and rollout.endpoint.rolled_back(found) == rollout.name:
        wanted = traffic
    shares = ", ".join(f"{name} {share} %" for name, share in wanted.items())
    shares = f"traffic: {shares}" + (" (as it is)" if wanted == traffic else "")
    if rollout.is_right():
        return [f"keep {what}", shares]
    lines = [f"make {what}, asked before it gets traffic", shares]
    if rollout.container and not rollout.container.find():
        lines.insert(0, f"build the image of environment {NAME}:{context_version()}")
    return lines + price_lines([price_of(recipe, rollout.endpoint.name, rollout.name)])


def run(recipe: AzureRecipe) -> Result:
    """Serve the newest version of the recipe's model.

    Raises:
        FixableError: No version, no quota, nobody agreed to the price, the deployment does not
            come up or does not answer; whatever answered before still does.
    """
    session = AzureSession(recipe)
    rollout = Rollout(session, need_version(session))
    changed = rollout.deploy()
    changed = rollout.endpoint.ensure() or changed
    changed = rollout.give_traffic() or changed
    next_ = f"python -m setup connect --recipe {recipe.name}"
    return Result("deploy", changed, _detail(rollout), next_)


def rollback(recipe: AzureRecipe) -> Result:
    """Give the traffic of the newest version that has some back to the one before it.

    That one is asked first. ``deploy`` gives the newer one no traffic again.

    Raises:
        FixableError: No endpoint, no healthy deployment to go back to, or it does not answer.
    """
    session = AzureSession(recipe)
    endpoint = ManagedEndpoint(session)
    found = endpoint.need()
    current, before = _newest_and_before(endpoint, dict(found.traffic))
    try:
        ask_deployment(recipe, str(found.scoring_uri), endpoint.key(), before)
    except NoAnswerError as error:
        what = f"deployment {before} {error}; the traffic is as it was"
        raise FixableError(what, endpoint.az("get-logs", before)) from None
    endpoint.shift({before: 100}, rolled_back=current)
    detail = (
        f"deployment {before} of endpoint {endpoint.name} takes 100 % of the traffic; {current} "
        f"takes none and costs until it is deleted: {endpoint.az('delete', current)}"
    )
    return Result("rollback", True, detail, _teardown(recipe))


def _newest_and_before(endpoint: ManagedEndpoint, traffic: dict[str, int]) -> tuple[str, str]:
    """The newest deployment with traffic, and the healthy one to go back to."""
    deployments = endpoint.deployments()
    ages = {name: age(str(one.model).rpartition("/")[2]) for name, one in deployments.items()}
    current = max((n for n in ages if traffic.get(n)), key=lambda n: ages[n], default="")
    healthy = [
        name
        for name, one in deployments.items()
        if one.provisioning_state == "Succeeded" and ages[name] < ages.get(current, (-1, ""))
    ]
    if not healthy:
        raise FixableError(
            f"endpoint {endpoint.name} has no healthy deployment older than {current or 'any'}",
            "python -m setup deploy makes one of the newest version",
        )
    return current, max(healthy, key=lambda name: (traffic.get(name, 0), ages[name]))


def _detail(rollout: Rollout) -> str:
    version = rollout.version
    endpoint, recipe = rollout.endpoint, rollout.recipe
    found = endpoint.need()
    share = found.traffic.get(rollout.name, 0)
    detail = (
        f"version {version.version} of {version.name} is deployment {rollout.name} of endpoint "
        f"{endpoint.name} and takes {share} % of the traffic at {found.scoring_uri}"
    )
    if endpoint.rolled_back(found) == rollout.name:
        more = endpoint.az_traffic({rollout.name: 100})
        detail += f"; it was rolled back, {more} gives it the traffic"
    others = {name: share for name, share in found.traffic.items() if name != rollout.name}
    for name, other in sorted(others.items()):
        detail += f"; {name} takes {other} %"
        if not other:
            detail += f", is there for a rollback and costs until {endpoint.az('delete', name)}"
    return f"{detail}. It costs until {_teardown(recipe)}"


def _teardown(recipe: AzureRecipe) -> str:
    return f"python -m setup teardown --recipe {recipe.name}"
