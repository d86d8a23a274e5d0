"""Doctor for target azure: what would fail or cost, found by reading only."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from setup.azure.client import money
from setup.azure.client.explain import assignee
from setup.azure.client.session import AzureSession
from setup.azure.doctor.place import missing_rights, name_checks
from setup.azure.doctor.policy import policy_checks
from setup.azure.facts import dated_table, lifecycle, quota
from setup.azure.facts.offers import builds_on_cluster, offer_of
from setup.azure.provision.providers import missing_providers
from setup.common.checks import Check, environment_checks
from setup.common.errors import FixableError
from setup.recipe.azure import AzureRecipe
from setup.recipe.load import load_azure_recipe

_PROVIDERS = (
    "Microsoft.MachineLearningServices",
    "Microsoft.Storage",
    "Microsoft.KeyVault",
    "Microsoft.ContainerRegistry",
    "Microsoft.Insights",
    "Microsoft.OperationalInsights",
    "Microsoft.ManagedIdentity",
    "Microsoft.Authorization",
    "Microsoft.Quota",
)
_DOCTOR = "python -m setup doctor --recipe NAME"
_WITHOUT_GPU = "gguf-azure"
_PAY = "make it pay-as-you-go in the portal (Subscriptions, Upgrade)"


def run_azure_checks(session: AzureSession) -> Iterator[Check]:
    """Every check in turn: first what needs no network, then login, then the rest if it works."""
    environment = [*environment_checks()]
    yield from environment
    yield from _lifecycle(session.recipe)
    if not all(check.ok for check in environment):
        return
    login = _guard("login", lambda: _login(session))
    yield login
    if not login.ok:
        return
    sizes: dict[str, quota.Size] = {}
    yield _guard("region", lambda: _region(session, sizes))
    yield _serving(session.recipe)
    yield _guard("subscription", lambda: _subscription(session, sizes))
    yield _guard("images", lambda: _images(session))
    yield _guard("providers", lambda: _providers(session))
    yield _guard("rights", lambda: _rights(session))
    yield from _quota(session, sizes)
    yield _guard("model", lambda: _model(session))
    yield from name_checks(session)
    yield from policy_checks(session)
    yield _guard("price", lambda: _price(session))


def _guard(name: str, check: Callable[[], Check]) -> Check:
    try:
        return check()
    except FixableError as error:
        return Check(name, error.what, error.fix or _DOCTOR)


def _lifecycle(recipe: AzureRecipe) -> Iterator[Check]:
    listed = lifecycle.retirements(recipe)
    for retirement in listed:
        yield Check("retirement", retirement.line(), retirement.fix if retirement.passed else "")
    if not listed:
        known = f"nothing of the recipe is retired as of {lifecycle.checked_on()}"
        yield Check("retirement", f"{known} (setup/azure/facts/lifecycle.yaml)")


def _login(session: AzureSession) -> Check:
    who = session.principal
    subscription = session.subscription
    detail = (
        f"{who.kind} {who.object_id} of tenant {session.tenant_id}, "
        f"subscription {subscription.get('displayName')} ({session.subscription_id})"
    )
    return Check("login", detail)


def _region(session: AzureSession, sizes: dict[str, quota.Size]) -> Check:
    """Also fills ``sizes``, which later checks read."""
    sizes |= quota.region_sizes(session)
    recipe = session.recipe
    skus = dict.fromkeys([recipe.finetune.compute.sku, recipe.endpoint.sku])
    offers = [quota.find_size(session, sizes, sku) for sku in skus]
    offered = ", ".join(f"{size.name} ({size.cores} cores, {size.gpus} GPU)" for size in offers)
    return Check("region", f"{recipe.azure.location} offers {offered}")


def _serving(recipe: AzureRecipe) -> Check:
    sku, table = recipe.endpoint.sku, dated_table("quota")
    where = f"the SKUs that managed endpoints take ({table['checked']}; {table['source']})"
    if quota.serves(sku):
        return Check("endpoint", f"{sku} is one of {where}")
    instead = "Standard_E4s_v3" if recipe.endpoint.kind == "gguf" else "Standard_NC24ads_A100_v4"
    return Check("endpoint", f"{sku} is none of {where}", f"--set endpoint.sku={instead}")


def _subscription(session: AzureSession, sizes: dict[str, quota.Size]) -> Check:
    subscription = session.subscription
    state = str(subscription.get("state"))
    if state != "Enabled":
        return Check("subscription", f"it is {state}", "https://portal.azure.com: enable or pay it")
    offer = offer_of(session)
    if not offer.gpus and _wants_gpu(session.recipe, sizes):
        fix = f"{_PAY}{_or_without_gpu(session)}"
        return Check("subscription", f"it is {offer.name}, which gets no GPU quota", fix)
    detail = f"enabled, offer {offer.quota_id or 'not told'}"
    if offer.ends:
        detail += f": {offer.name}, and what it pays for stops with its credit"
    return Check("subscription", detail)


def _images(session: AzureSession) -> Check:
    """Say what builds images: the registry's tasks are not for every offer, nor for a network."""
    azure, offer = session.recipe.azure, offer_of(session)
    name = session.recipe.finetune.compute.name
    cluster = f"cluster {name}"
    if builds_on_cluster(session):
        if azure.existing.workspace and _image_builder(session) != name:
            place = f"--name {azure.workspace} --resource-group {session.group}"
            update = f"az ml workspace update {place} --image-build-compute {name}"
            fix = f"az extension add --name ml && {update}"
            what = f"{cluster} is to build them, and workspace {azure.workspace} does not say so"
            return Check("images", what, fix)
        why = "azure.image_build says so" if azure.image_build == "cluster" else ""
        why = why or ("" if offer.tasks else f"{offer.name} gets no registry tasks")
        return Check(
            "images", f"{cluster} builds them ({why or 'the registry has no public address'})"
        )
    if not offer.tasks:
        what = f"the registry is to build them, and {offer.name} gets no registry tasks"
        return Check("images", what, "--set azure.image_build=auto")
    return Check("images", "the registry builds them")


def _image_builder(session: AzureSession) -> str:
    space = session.find("reading the existing workspace", session.workspace_path()) or {}
    return str((space.get("properties") or {}).get("imageBuildCompute") or "")


def _or_without_gpu(session: AzureSession) -> str:
    """Name the recipe without a GPU where the subscription has the cores for it; else nothing."""
    recipe = session.recipe
    place = [f"azure.{name}={getattr(recipe.azure, name)}" for name in ("location", "subscription")]
    place = [setting for setting in place if not setting.endswith("=")]
    other = AzureSession(load_azure_recipe(_WITHOUT_GPU, place))
    try:
        other.subscription = session.subscription
        enough = all(demand.enough for demand in quota.demands(other, quota.region_sizes(other)))
    except FixableError:
        return ""
    return f", or --recipe {_WITHOUT_GPU}, which needs no GPU" if enough else ""


def _wants_gpu(recipe: AzureRecipe, sizes: dict[str, quota.Size]) -> bool:
    skus = (recipe.finetune.compute.sku.lower(), recipe.endpoint.sku.lower())
    return any(sizes[sku].gpus for sku in skus if sku in sizes)


def _providers(session: AzureSession) -> Check:
    try:
        missing = missing_providers(session, _PROVIDERS)
    except FixableError as error:
        if not session.is_forbidden(error):
            raise
        # It takes a right on the subscription; with one on the group alone provision works too.
        return Check("providers", "you may not list them, provision will find out")
    if missing:
        fix = " && ".join(f"az provider register --wait --namespace {name}" for name in missing)
        return Check("providers", f"not registered: {', '.join(missing)}", fix)
    return Check("providers", f"{len(_PROVIDERS)} are registered")


def _rights(session: AzureSession) -> Check:
    missing, scope = missing_rights(session)
    if not missing:
        return Check("rights", f"may make resources and assign roles in {scope}")
    who = assignee(session.principal.object_id, session.principal.kind)
    give = f'az role assignment create {who} --scope {scope} --role "{{}}"'
    roles = dict.fromkeys(missing.values())
    fix = "an owner runs: " + " && ".join(give.format(role) for role in roles)
    return Check("rights", f"may not {', '.join(missing)} in {scope}", fix)


def _quota(session: AzureSession, sizes: dict[str, quota.Size]) -> Iterator[Check]:
    try:
        listed = quota.demands(session, sizes) if sizes else []
    except FixableError as error:
        yield Check("quota", error.what, error.fix)
        return
    recipe = session.recipe
    for demand in listed:
        request = f"--family '{demand.family}' --request {demand.sufficient_limit}"
        where = f"--set azure.location={recipe.azure.location}"
        ask = "" if demand.enough else recipe.command("quota", where, request)
        if ask and not offer_of(session).may_ask:
            ask = f"{_PAY}: {offer_of(session).name} gets no more cores"
        yield Check("quota", demand.line(), ask)


def _model(session: AzureSession) -> Check:
    model = session.recipe.model
    if model.asset is None:
        return Check("model", f"{model.source}: no registry to ask")
    name = f"{model.asset.name} version {model.asset.version}"
    try:
        said = lifecycle.registry_says(session)
    except FixableError as error:
        # Not being able to ask says nothing about the model: our own table was asked already.
        return Check("model", f"{name}: the registry could not be asked ({error.what})")
    if said:
        fix = "--set model.source=azureml://registries/R/models/NAME/versions/N, one that it offers"
        return Check("model", f"{name}: registry says {'; '.join(said)}", fix)
    return Check("model", f"{name} is in registry {model.asset.registry}, with no end in sight")


def _price(session: AzureSession) -> Check:
    recipe = session.recipe
    endpoint = money.endpoint_costs(recipe, session.names.endpoint)
    items = [money.base_costs(recipe), money.finetune_costs(recipe), endpoint]
    return Check("price", "; ".join(money.price_lines(items)))
