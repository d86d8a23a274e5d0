"""Target azure: provision, data, finetune, register, deploy, connect, upload; and its doctor.

Each step is a module of this folder with ``plan(session)``, which only reads, and ``run(session)``.
They are imported when they are needed: the Azure SDKs take seconds.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from setup.azure.client.money import answered
from setup.azure.facts.lifecycle import refuse_retired
from setup.common.checks import Check
from setup.common.console import after_interrupt
from setup.common.step import Result, Step
from setup.recipe.azure import AzureRecipe

if TYPE_CHECKING:
    from setup.azure.client.session import AzureSession


@contextmanager
def session(recipe: AzureRecipe, yes: bool = False, /) -> Iterator[AzureSession]:
    """The login and clients of a command; ``yes`` answers what is asked about money."""
    stays = f"what there is in Azure stays, and may cost until: {recipe.command('teardown')}"
    with answered(yes), after_interrupt(stays):
        yield _room("client.session").AzureSession(recipe)


def doctor(session: AzureSession) -> Iterator[Check]:
    """Find what would fail or cost, by reading only."""
    checks: Iterator[Check] = _room("doctor.findings").run_azure_checks(session)
    return checks


def endpoint(recipe: AzureRecipe) -> Any:
    """The deployed endpoint, for the commands that look at it and steer it."""
    session = _room("client.session").AzureSession(recipe)
    return _room("deploy.operate").DeployedEndpoint(session)


def _room(name: str) -> Any:
    return importlib.import_module(f"setup.azure.{name}")


def _step(name: str, room: str, text: str) -> Step[AzureSession]:
    def plan(session: AzureSession) -> list[str]:
        refuse_retired(session.recipe)
        lines: list[str] = _room(room).plan(session)
        return lines

    def run(session: AzureSession) -> Result:
        refuse_retired(session.recipe)  # before anything is written or paid for
        result: Result = _room(room).run(session)
        return result

    return Step(name, text, plan, run)


STEPS = [
    _step(
        "provision",
        "provision.step",
        "Make the resource group and everything in it that the path needs.",
    ),
    _step("data", "data.step", "Prepare and check the splits, and upload them as data assets."),
    _step("finetune", "finetune.step", "Fine-tune the recipe's model on the cluster."),
    _step(
        "register", "deploy.registration", "Make the finished job's output a version of the model."
    ),
    _step("deploy", "deploy.step", "Serve the registered version from a managed online endpoint."),
    _step(
        "connect",
        "project.connections",
        "Create the connections the flows use, here and in the project.",
    ),
    _step("upload", "project.upload", "Upload all flows, chat and evaluation, to the project."),
]
