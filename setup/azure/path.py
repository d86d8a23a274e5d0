"""The path in Azure: provision, data, finetune, register, deploy, connect, upload.

Each step is a module of this package with ``plan(recipe) -> list[str]``, which only reads, and
``run(recipe) -> Result``. They are imported when they are needed: the Azure SDKs take seconds.
"""

from __future__ import annotations

import importlib
from typing import Any

from setup.azure.facts.lifecycle import refuse_retired
from setup.common.step import Result, Step
from setup.recipe.azure import AzureRecipe


def _step(name: str, room: str, text: str) -> Step[AzureRecipe]:
    def module() -> Any:
        return importlib.import_module(f"setup.azure.{room}")

    def plan(recipe: AzureRecipe) -> list[str]:
        refuse_retired(recipe)
        lines: list[str] = module().plan(recipe)
        return lines

    def run(recipe: AzureRecipe) -> Result:
        refuse_retired(recipe)  # before anything is written or paid for
        result: Result = module().run(recipe)
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
