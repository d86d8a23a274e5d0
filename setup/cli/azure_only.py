"""Commands that only target azure has: quota, cancel, rollback, teardown."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from setup.cli import options
from setup.cli.targets import session_of
from setup.common import console
from setup.common.errors import FixableError
from setup.recipe.azure import AzureRecipe
from setup.recipe.load import DEFAULTS, load_azure_recipe

if TYPE_CHECKING:
    from setup.azure.facts.quota import Demand

app = typer.Typer()


@app.command(epilog="Example: python -m setup quota --request 24")
def quota(  # noqa: PLR0913, PLR0917 - one for each option of the command line
    recipe: options.RecipeName = DEFAULTS["azure"],
    sets: options.Sets = None,
    request: Annotated[int, typer.Option(min=0, help="Ask for a limit of so many cores.")] = 0,
    family: Annotated[str, typer.Option(help="Of this VM family; else of the one in need.")] = "",
    yes: options.Yes = False,
    as_json: options.AsJson = False,
) -> None:
    """In Azure: show the cores that the recipe needs, and ask for more; exit 1 if too few."""
    from setup.azure.client.money import agree
    from setup.azure.facts import quota as cores

    loaded = load_azure_recipe(recipe, sets or [])
    with session_of(loaded) as session:
        with console.progress_bar("Reading the quota"):
            demands = cores.demands(session, cores.region_sizes(session))
        if request:
            vm_family = family or _in_need(demands)
            what = f"{request} cores of {vm_family} in {loaded.azure.location}"
            agree("this asks Microsoft for a quota:", [what], yes)
            state = cores.request_quota(session, vm_family, request)
            answer = {"request": state, "family": vm_family, "limit": request}
            options.show(answer, f"quota: {state}", as_json)
            return
    _show_quota(demands, loaded, as_json)
    raise typer.Exit(0 if all(demand.enough for demand in demands) else 1)


def _in_need(demands: list[Demand]) -> str:
    """The one family that is short of cores, or the only one there is."""
    short = {demand.family for demand in demands if not demand.enough}
    families = short or {demand.family for demand in demands}
    if len(families) == 1:
        return families.pop()
    raise FixableError(f"which family? {', '.join(sorted(families))}", "--family NAME")


def _show_quota(demands: list[Demand], recipe: AzureRecipe, as_json: bool) -> None:
    if as_json:
        options.show({"quota": [demand.as_dict() for demand in demands]}, "", as_json)
        return
    for demand in demands:
        state = "ok  " if demand.enough else "FAIL"
        console.out.print(f"{state}  {demand.line()}", markup=False)
    for family, limit in _requests(demands).items():
        ask = f"--family {shlex.quote(family)} --request {limit}"
        options.say_next(recipe.command("quota", ask), as_json)


def _requests(demands: list[Demand]) -> dict[str, int]:
    """The limit to ask for by family: one request for all that is short of it."""
    limits: dict[str, int] = {}
    for demand in demands:
        if not demand.enough:
            limits[demand.family] = max(demand.sufficient_limit, limits.get(demand.family, 0))
    return limits


@app.command(epilog="Example: python -m setup cancel phi-azure-1a2b3c4d5e")
def cancel(
    job: Annotated[str, typer.Argument(help="A job of the recipe's workspace, by its name.")],
    recipe: options.RecipeName = DEFAULTS["azure"],
    sets: options.Sets = None,
    as_json: options.AsJson = False,
) -> None:
    """In Azure: end a job, and with it what it costs."""
    from setup.azure.finetune.attempts import cancel_job

    with session_of(load_azure_recipe(recipe, sets or [])) as session:
        options.say_next(options.show_result(cancel_job(session, job), as_json), as_json)


@app.command(epilog="Example: python -m setup rollback --recipe phi-azure")
def rollback(
    recipe: options.RecipeName = DEFAULTS["azure"],
    sets: options.Sets = None,
    as_json: options.AsJson = False,
) -> None:
    """In Azure: give the traffic back to the version before, after it has answered."""
    from setup.azure.deploy import step as deploy

    with session_of(load_azure_recipe(recipe, sets or [])) as session:
        options.say_next(options.show_result(deploy.rollback(session), as_json), as_json)


@app.command(epilog="Example: python -m setup teardown --stage endpoint")
def teardown(  # noqa: PLR0913, PLR0917 - one for each option of the command line
    recipe: options.RecipeName = DEFAULTS["azure"],
    sets: options.Sets = None,
    stage: Annotated[
        Literal["endpoint", "compute", "all"],
        typer.Option(help="The endpoint, the cluster, or everything and the group if it is ours."),
    ] = "all",
    dry_run: options.DryRun = False,
    yes: Annotated[bool, typer.Option("--yes", help="Delete without a question.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """In Azure: delete what costs, and prove that nothing billable is left."""
    from setup.azure import teardown as down

    with session_of(load_azure_recipe(recipe, sets or [])) as session:
        if dry_run:
            plan = down.plan_teardown(session, stage)
            options.show({"step": "teardown", "plan": plan}, "\n".join(plan), as_json)
        else:
            options.say_next(
                options.show_result(down.teardown(session, stage, yes), as_json), as_json
            )
