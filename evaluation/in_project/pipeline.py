"""The evaluation as a pipeline of Azure ML: two flows, each a parallel component.

The first step asks: the chat flow, a row at a time in each process of each machine. The second one
scores what came of it. A row that fails is left out of what a step leaves, and fails alone.
How the service runs such a step: promptflow-parallel of microsoft/promptflow.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from evaluation.ask.evaluators import COMPUTED
from evaluation.ask.journal import USAGE_NODE
from setup.common.errors import FixableError
from setup.common.flow_folder import CleanFlow, clean_flow
from setup.common.promptflow_store import quieten_promptflow
from setup.recipe.azure import AzureRecipe

if TYPE_CHECKING:
    from azure.ai.ml.entities import PipelineJob

ASK, SCORE = "ask", "score"  # the steps
ANSWERS, SCORES = "answers", "scores"  # what the job leaves
EVALUATOR = COMPUTED["answers"]
_CHAT_NODE = "chat"
_PROCESSES = 8  # on a machine: each holds a flow in a few hundred MB
_LONGER_THAN_AN_ANSWER = 120  # seconds that a row may take beside the endpoint's own limit
_RETRIES = 1
_ASKED = {"question": "${data.question}", "chat_history": "${data.chat_history}"}


@dataclass(frozen=True)
class Flows:
    """The two flows as they are uploaded; ``sha256`` is of those in the repository."""

    chat: CleanFlow
    scores: CleanFlow

    @classmethod
    def prepare(cls, connection: str) -> Flows:
        """Copy both, the chat flow with what an answer cost as one more output."""
        chat, scores = clean_flow("chat", connection), clean_flow(EVALUATOR.flow.name, connection)
        dag = chat.folder / "flow.dag.yaml"
        content = yaml.safe_load(dag.read_text(encoding="utf-8"))
        content["outputs"][USAGE_NODE] = {
            "type": "object",
            "reference": f"${{{USAGE_NODE}.output}}",
        }
        text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
        dag.write_text(text, encoding="utf-8", newline="\n")
        return cls(chat, scores)

    def describe_tools(self) -> None:
        """Write which tools the nodes are, as ``pf flow validate`` does: Azure ML asks for it."""
        from promptflow.client import PFClient

        flows = PFClient().flows
        quieten_promptflow()
        for flow in (self.chat, self.scores):
            result = flows.validate(str(flow.folder))
            if not result.passed:
                what = f"flow {flow.name} does not pass pf flow validate: {result.error_messages}"
                raise FixableError(what, f"pf flow validate --source flows/{flow.name}")

    @property
    def sha256(self) -> dict[str, str]:
        """The hash of each, by its name."""
        return {flow.name: flow.sha256 for flow in (self.chat, self.scores)}


def pipeline_job(
    recipe: AzureRecipe, flows: Flows, rows: str, nodes: int, places: Mapping[str, str]
) -> PipelineJob:
    """The job over the file ``rows``, not submitted; ``places`` is where each output goes.

    Both are URIs of the workspace's blob store.
    """
    from azure.ai.ml import Input, Output, dsl

    asking, scoring = _component(flows.chat), _component(flows.scores)
    connections = {_CHAT_NODE: {"connection": recipe.connection}}
    mapping = {**EVALUATOR.columns, "usage": f"${{run.outputs.{USAGE_NODE}}}"}

    data = Input(type="uri_file", path=rows)

    def evaluate() -> dict[str, Any]:
        ask = asking(data=data, connections=connections, **_ASKED)
        _set_up(ask, recipe, nodes)
        answers = ask.outputs.flow_outputs
        score = scoring(data=data, run_outputs=answers, **mapping)
        _set_up(score, recipe, nodes)
        return {ANSWERS: answers, SCORES: score.outputs.flow_outputs}

    job: Any = dsl.pipeline(evaluate)()
    for name, place in places.items():
        # Mounted: each machine adds to it, and only a mount lets several do so.
        job.outputs[name] = Output(type="uri_folder", mode="rw_mount", path=place)
    job.settings.default_compute = recipe.evaluation.compute.name
    # Else Azure ML takes the answers of an earlier job, whatever model answers by now.
    job.settings.force_rerun = True
    return job  # type: ignore[no-any-return]


def _component(flow: CleanFlow) -> Any:
    """The flow as a component of its own name.

    Azure ML calls a component without one by a hash that leaves its code out, so that all flows
    would be one.
    """
    from azure.ai.ml import load_component

    digest = hashlib.sha256((flow.folder / "flow.dag.yaml").read_bytes() + flow.sha256.encode())
    component: Any = load_component(str(Path(flow.folder) / "flow.dag.yaml"))
    component.name = f"{flow.name}_{digest.hexdigest()[:16]}"
    component.display_name = flow.name
    return component


def _set_up(step: Any, recipe: AzureRecipe, nodes: int) -> None:
    """Say how a step is spread: a row at a time, for a row that fails takes those with it."""
    endpoint = recipe.endpoint
    at_once = endpoint.max_concurrent_requests * endpoint.instances
    step.resources = {"instance_count": nodes}
    step.max_concurrency_per_instance = max(1, min(_PROCESSES, math.ceil(at_once / nodes)))
    step.mini_batch_size = 1
    step.error_threshold = step.mini_batch_error_threshold = -1  # a row that fails stops nobody
    seconds = math.ceil(endpoint.request_timeout_ms / 1000) + _LONGER_THAN_AN_ANSWER
    step.retry_settings = {"max_retries": _RETRIES, "timeout": seconds}
    step.logging_level = "INFO"
    step.outputs.flow_outputs.mode = "rw_mount"
