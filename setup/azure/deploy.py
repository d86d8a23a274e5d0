"""The step ``deploy`` in Azure: the version of the recipe's job, asked before it is used."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from setup.azure.container import NAME, context_version
from setup.azure.deployment import deployment_name, price_of
from setup.azure.endpoint import ManagedEndpoint
from setup.azure.prices import Billable, price_lines
from setup.azure.recipe import AzureRecipe
from setup.azure.rollout import Rollout
from setup.azure.session import AzureSession
from setup.azure.smoke import NoAnswerError, ask_deployment
from setup.azure.superseded import age_of, is_ours, price_as_found, superseded, way_back
from setup.azure.traffic import live_traffic, rolled_back, share_traffic
from setup.azure.version import age, find_version, need_version
from setup.errors import FixableError
from setup.step import Result

if TYPE_CHECKING:
    from azure.ai.ml.entities import ManagedOnlineDeployment, OnlineEndpoint


def plan(recipe: AzureRecipe) -> list[str]:
    """What ``run`` would do, and what that costs by the hour.

    Raises:
        FixableError: The recipe asks for what cannot be done; Azure cannot be asked.
    """
    session = AzureSession(recipe)
    endpoint = ManagedEndpoint(session)
    version = find_version(session)
    found = endpoint.find()
    right = found and found.provisioning_state == "Succeeded"
    verb = "keep" if right else "put right" if found else "make"
    lines = [f"{verb} endpoint {endpoint.name}, asked with a key"]
    if version:
        return lines + _plan_rollout(Rollout(session, version))
    name = deployment_name(recipe.endpoint.deployment, "VERSION")
    lines.append(f"make deployment {name} of the version of {recipe.registry.model} to come")
    return lines + price_lines([price_of(recipe, endpoint.name, name)])


def _plan_rollout(rollout: Rollout) -> list[str]:
    version, recipe, endpoint = rollout.version, rollout.recipe, rollout.endpoint
    what = f"deployment {rollout.name}: version {version.version} of {version.name}"
    what += f" ({version.why})" if version.why else ""
    found = endpoint.find()
    traffic = live_traffic(found)
    wanted = share_traffic(traffic, rollout.name, recipe.endpoint.canary)
    if rollout.name in rolled_back(found):
        wanted = traffic
    shares = ", ".join(f"{name} {share} %" for name, share in wanted.items())
    shares = f"traffic: {shares}" + (" (as it is)" if wanted == traffic else "")
    beside = rollout.beside(found) if wanted == {rollout.name: 100} else {}
    others, there = _plan_others(rollout, found, beside), rollout.find()
    if rollout.is_right(there):
        return [f"keep {what}", shares, *(price_lines(others) if others else [])]
    rollout.refuse_other_sku(there)
    verb = "replace failed" if rollout.replaces(there) else "change" if there else "make"
    asked = "asked again afterwards" if verb == "change" else "asked before it gets traffic"
    lines = [f"{verb} {what}, {asked}", shares]
    if rollout.container and not rollout.container.find():
        lines.insert(0, f"build the image of environment {NAME}:{context_version()}")
    return lines + price_lines([price_of(recipe, endpoint.name, rollout.name), *others])


def _plan_others(
    rollout: Rollout, found: OnlineEndpoint | None, beside: dict[str, ManagedOnlineDeployment]
) -> list[Billable]:
    """What becomes of the deployments that take no traffic any more."""
    recipe = rollout.recipe
    going = superseded(recipe, found, beside, rollout.version.version)
    priced = {
        name: price_as_found(recipe, rollout.endpoint.name, name, one)
        for name, one in sorted(beside.items())
    }
    return [
        replace(one, what=f"{'delete' if name in going else 'keep'} {one.what}")
        for name, one in priced.items()
    ]


def run(recipe: AzureRecipe) -> Result:
    """Serve the version that the recipe's own job made, or the newest.

    Raises:
        FixableError: No version, no quota, nobody agreed to the price, the deployment does not
            come up or does not answer; whatever answered before still does.
    """
    session = AzureSession(recipe)
    rollout = Rollout(session, need_version(session))
    made = rollout.deploy()
    mended = rollout.endpoint.ensure()
    shifted = rollout.give_traffic(made)
    deleted = rollout.delete_superseded()
    detail = _detail(rollout)
    if deleted:
        detail = f"{detail}; deleted: {', '.join(deleted)}"
    changed = made or mended or shifted or bool(deleted)
    next_ = f"python -m setup connect --recipe {recipe.name}"
    return Result("deploy", changed, f"{detail}. It costs until {_teardown(recipe)}", next_)


def rollback(recipe: AzureRecipe) -> Result:
    """Give the traffic of the newest version that has some back to the one before it.

    That one is asked first; where it takes traffic already, it may be too busy to answer.
    ``deploy`` gives the newer one no traffic again.

    Raises:
        FixableError: No endpoint, no healthy deployment to go back to, or it does not answer.
    """
    session = AzureSession(recipe)
    endpoint = ManagedEndpoint(session)
    found = endpoint.need()
    current, before = _newest_and_before(recipe, endpoint, found)
    try:
        ask_deployment(recipe, str(found.scoring_uri), endpoint.key(), before)
    except NoAnswerError as error:
        if not (error.busy and before in live_traffic(found)):
            what = f"deployment {before} {error}; the traffic is as it was"
            raise FixableError(what, endpoint.az("get-logs", before)) from None
    endpoint.shift({before: 100}, taken_from=current)
    detail = (
        f"deployment {before} of endpoint {endpoint.name} takes 100 % of the traffic; {current} "
        f"takes none and costs until it is deleted: {endpoint.az('delete', current)}"
    )
    return Result("rollback", True, detail, _teardown(recipe))


def _newest_and_before(
    recipe: AzureRecipe, endpoint: ManagedEndpoint, found: OnlineEndpoint
) -> tuple[str, str]:
    """The newest deployment with traffic, ours if any is, and the healthy one to go back to."""
    there, before = endpoint.deployments(), ""
    taking = {name: one for name, one in there.items() if name in live_traffic(found)}
    ours = {name: one for name, one in taking.items() if is_ours(recipe, name, one)}
    among = ours or taking
    current = max(among, key=lambda name: age_of(among[name]), default="")
    if current:
        newest = age_of(there.pop(current))
        before = way_back(recipe, found, there, newest)
    if not before:
        raise FixableError(
            f"endpoint {endpoint.name} has no healthy deployment older than {current or 'any'}",
            "python -m setup deploy, with the settings that the older version was fine-tuned with",
        )
    return current, before


def _detail(rollout: Rollout) -> str:
    version = rollout.version
    endpoint = rollout.endpoint
    found = endpoint.need()
    share = found.traffic.get(rollout.name, 0)
    detail = (
        f"version {version.version} of {version.name} is deployment {rollout.name} of endpoint "
        f"{endpoint.name} and takes {share} % of the traffic at {found.scoring_uri}"
    )
    detail += f" ({version.why})" if version.why else ""
    if rollout.name in rolled_back(found):
        more = endpoint.az_traffic({rollout.name: 100})
        detail += f"; it was rolled back, {more} gives it the traffic"
    beside = rollout.beside(found)
    kept = way_back(rollout.recipe, found, beside, age(version.version))
    others = {name: share for name, share in found.traffic.items() if name != rollout.name}
    for name, other in sorted(others.items()):
        detail += f"; {name} takes {other} %"
        if not other:
            purpose = ", is there for a rollback and" if name == kept else " and"
            detail += f"{purpose} costs until {_deletion(rollout, found, beside, name)}"
    return detail


def _deletion(
    rollout: Rollout,
    found: OnlineEndpoint,
    beside: dict[str, ManagedOnlineDeployment],
    name: str,
) -> str:
    """The command that deletes a deployment without traffic."""
    recipe = rollout.recipe
    given = recipe.endpoint.model_copy(update={"keep_previous": False})
    none_kept = recipe.model_copy(update={"endpoint": given})
    going = superseded(none_kept, found, beside, rollout.version.version)
    if name in going and live_traffic(found) == {rollout.name: 100}:
        return f"python -m setup deploy --recipe {recipe.name} --set endpoint.keep_previous=false"
    return rollout.endpoint.az("delete", name)


def _teardown(recipe: AzureRecipe) -> str:
    return f"python -m setup teardown --recipe {recipe.name}"
