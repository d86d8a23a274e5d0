"""The step ``deploy`` in Azure: the version of the recipe's job, asked before it is used."""

from __future__ import annotations

from dataclasses import replace

from setup.azure.client.money import price_lines
from setup.azure.client.session import AzureSession
from setup.azure.deploy import smoke
from setup.azure.deploy.autoscale import describe_scale
from setup.azure.deploy.deployment import collected_in, price_of
from setup.azure.deploy.online_endpoint import ManagedEndpoint
from setup.azure.deploy.registration import find_version, need_version
from setup.azure.deploy.release import Rollout
from setup.azure.deploy.traffic import Slots
from setup.common.errors import FixableError
from setup.common.step import Result


def plan(session: AzureSession) -> list[str]:
    """List what ``run`` would do, and what that costs by the hour."""
    recipe, endpoint = session.recipe, ManagedEndpoint(session)
    version = find_version(session)
    there = endpoint.find()
    right = there and there.provisioning_state == "Succeeded"
    verb = "keep" if right else "put right" if there else "make"
    lines = [f"{verb} endpoint {endpoint.name}, asked with a key"]
    if version:
        return lines + _plan_rollout(Rollout(session, version))
    name = endpoint.slots().place("")
    lines.append(f"make deployment {name} of the version of {recipe.registry.model} to come")
    return lines + price_lines([price_of(recipe, endpoint.name, name)])


def _plan_rollout(rollout: Rollout) -> list[str]:
    version, recipe, endpoint = rollout.version, rollout.recipe, rollout.endpoint
    what = f"deployment {rollout.name}: version {version.version} of {version.name}"
    what += f" ({version.why})" if version.why else ""
    slots = endpoint.slots()
    shares = rollout.shares(slots)
    told = ", ".join(f"{name} {share} %" for name, share in shares.items())
    told = f"traffic: {told}" + (" (as it is)" if shares == slots.live else "")
    told += _planned_scale(rollout)
    there = rollout.find()
    right = rollout.is_right(there)
    going = [] if right else slots.crowded_out(rollout.name)
    if shares == {rollout.name: 100}:
        going += slots.superseded(rollout.name)
    others = []
    for name, other in sorted(endpoint.deployments().items()):
        if name != rollout.name:
            price = price_of(recipe, endpoint.name, name, other)
            verb = "delete" if name in going else "keep"
            others.append(replace(price, what=f"{verb} {price.what}"))
    collecting = _collecting(rollout)
    if right:
        prices = [rollout.price, *others] if rollout.rescales() else others
        return [f"keep {what}{collecting}", told, *(price_lines(prices) if prices else [])]
    old, verb = slots.version(rollout.name), "make" if there is None else "change"
    if there and old != version.version:
        verb = f"replace version {old or 'of another model'} in"
    elif slots.must_go_first(rollout.name):
        verb = "replace failed"
    asked = "asked again afterwards" if verb == "change" else "asked before it gets traffic"
    lines = [f"{verb} {what}, {asked}{collecting}", told]
    if rollout.container and not rollout.container.find():
        lines.insert(0, f"build the image of environment {rollout.container.environment}")
    return lines + price_lines([rollout.price, *others])


def _planned_scale(rollout: Rollout) -> str:
    scale, right = rollout.recipe.endpoint.scale, rollout.autoscale.is_right()
    if scale is None:
        return "" if right else "; no autoscale any more"
    return f"; autoscale: {describe_scale(scale)}" + (" (as it is)" if right else "")


def run(session: AzureSession) -> Result:
    """Serve the version that the recipe's own job made, or the newest.

    Raises:
        FixableError: No version, no quota, nobody agreed to the price, the deployment does not
            come up or does not answer; whatever answered before still does.
    """
    recipe = session.recipe
    rollout = Rollout(session, need_version(session))
    made = rollout.deploy()
    scaled = rollout.autoscale.ensure()
    mended = rollout.endpoint.ensure()
    shifted = rollout.give_traffic(made)
    rollout.delete_superseded()
    detail = f"{_detail(rollout)}. It is billed until you run: {recipe.command('teardown')}"
    changed = made or scaled or mended or shifted or bool(rollout.deleted)
    return Result("deploy", changed, detail, recipe.command("connect"))


def rollback(session: AzureSession) -> Result:
    """Give the traffic of the newest version that has some back to the one before it.

    That one is asked first; where it takes traffic already, it may be too busy to answer.
    ``deploy`` gives the newer one no traffic again.

    Raises:
        FixableError: No endpoint, no healthy deployment to go back to, or it does not answer.
    """
    recipe, endpoint = session.recipe, ManagedEndpoint(session)
    uri, slots = str(endpoint.need().scoring_uri), endpoint.slots()
    current = slots.current()
    before = slots.way_back(current) if current else ""
    if not before:
        now = f"{current}{_serving(slots, current)}" if current else "any"
        raise FixableError(
            f"endpoint {endpoint.name} has no healthy deployment older than {now}",
            f"{recipe.command('deploy')}, with the settings that the older version was fine-tuned "
            "with",
        )
    try:
        smoke.ask_deployment(recipe, uri, endpoint.key(), before)
    except smoke.NoAnswerError as error:
        if not (error.busy and before in slots.live):
            what = f"deployment {before} {error}; the traffic is as it was"
            raise FixableError(what, recipe.command("logs", "--deployment", before)) from None
    endpoint.shift({before: 100}, taken_from=current)
    detail = (
        f"deployment {before}{_serving(slots, before)} of endpoint {endpoint.name} takes 100 % of "
        f"the traffic; {current}{_serving(slots, current)} takes none and "
        f"is billed until you run: {recipe.command('delete', current)}"
    )
    return Result("rollback", True, detail, recipe.command("teardown"))


def _detail(rollout: Rollout) -> str:
    version, endpoint = rollout.version, rollout.endpoint
    there, slots = endpoint.need(), endpoint.slots()
    detail = (
        f"version {version.version} of {version.name} is deployment {rollout.name} of endpoint "
        f"{endpoint.name} and takes {slots.live.get(rollout.name, 0)} % of the traffic at "
        f"{there.scoring_uri}"
    )
    detail += f" ({version.why})" if version.why else ""
    if scale := rollout.recipe.endpoint.scale:
        detail += f", with {describe_scale(scale)}"
    if slots.is_rolled_back(rollout.name):
        more = rollout.recipe.command("traffic", f"{rollout.name}=100")
        detail += f"; it was rolled back, {more} gives it the traffic"
    kept = slots.way_back(rollout.name)
    others = {name: share for name, share in there.traffic.items() if name != rollout.name}
    for name, share in sorted(others.items()):
        detail += f"; {name}{_serving(slots, name)} takes {share} %"
        if not share:
            purpose = ", is there for a rollback and" if name == kept else " and"
            delete = rollout.recipe.command("delete", name)
            if name in slots.ours and slots.live == {rollout.name: 100} and slots.is_idle(name):
                delete = rollout.recipe.command("deploy", "--set endpoint.keep_previous=false")
            detail += f"{purpose} is billed until you run: {delete}"
    if rollout.replaced:
        detail += f"; it took the place of version {rollout.replaced}"
    if rollout.deleted:
        detail += f"; deleted: {', '.join(rollout.deleted)}"
    return detail + _collecting(rollout)


def _collecting(rollout: Rollout) -> str:
    """Say where requests and answers are kept, "" where they are not."""
    settings = rollout.recipe.endpoint.data_collector
    if not settings.enabled:
        return ""
    share = f"{settings.sampling_rate:.0%} of requests and answers"
    place = collected_in(rollout.endpoint.name, rollout.name)
    return f"; {share} are kept in {place}, if the identity may write there (docs/azure.md)"


def _serving(slots: Slots, name: str) -> str:
    version = slots.version(name)
    return f" (version {version})" if version else ""
