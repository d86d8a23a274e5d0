"""An evaluation over several machines: submitted, followed, and brought back as a run's folder.

The job has a name that follows from everything that decides its outcome. So the same command again
finds it, follows it while it runs, and begins a new attempt only where one has failed.
"""

from __future__ import annotations

import hashlib

import orjson

from evaluation.in_project import pipeline
from evaluation.in_project.order import Order
from evaluation.in_project.outcome import NothingAnsweredError, RunOfJob, places
from evaluation.results import Request, RunFolder
from setup.azure.client import money, waiting
from setup.azure.client.session import AzureSession
from setup.azure.deploy.online_endpoint import ManagedEndpoint
from setup.azure.finetune.attempts import Attempt, attempt_name, last_of
from setup.azure.finetune.follow import Bounds, Follower
from setup.azure.project.connections import connect_project, connection_configs
from setup.azure.provision.batch_cluster import BatchCluster
from setup.common import console

_DIGEST = 10  # characters of a hash in the name of a job


def run_as_pipeline(
    session: AzureSession, request: Request, nodes: int, name: str = "", again: bool = False
) -> RunFolder:
    """Ask and score the rows over ``nodes`` machines, and bring the results back as a run.

    ``again`` runs a job anew that has completed with failed rows.

    Raises:
        FixableError: As :func:`evaluation.in_project.run.run_in_project`.
        KeyboardInterrupt: After Ctrl-C; the job goes on, and the same command finds it.
    """
    return PipelineRun(session, Order.of(session, request, nodes, name)).carry_out(again)


class PipelineRun:
    """One evaluation by a pipeline, from its name to its folder."""

    def __init__(self, session: AzureSession, order: Order) -> None:
        self._session, self._order = session, order
        recipe = self._recipe = session.recipe
        self._flows = pipeline.Flows.prepare(recipe.connection)
        self._endpoint = ManagedEndpoint(session)
        self._configs = connection_configs(recipe, self._endpoint.need())
        config = {
            "configs": self._configs,
            "flows": self._flows.sha256,
            "recipe": recipe.model_dump(mode="json", exclude={"azure"}),
            "model": {"served": dict(order.served)},
        }
        again = f"{order.command} --retry-errors"
        rest = (order.data, order.request, order.nodes, config, again)
        self._run = RunOfJob(order.name, recipe.connection, *rest)
        decides = [self._flows.sha256, self._run.lines, dict(order.served), self._configs]
        digest = hashlib.sha256(orjson.dumps(decides, option=orjson.OPT_SORT_KEYS)).hexdigest()
        self._first = f"{recipe.name}-eval-{digest[:_DIGEST]}"
        if not order.name:
            self._run = RunOfJob(self._first, recipe.connection, *rest)

    def carry_out(self, again: bool = False) -> RunFolder:
        """Find, follow or submit the job, and bring its results back.

        ``again`` submits a new one where rows of the last have failed.

        Raises:
            FixableError: Nobody agrees to the price, Azure refuses, the job fails, or it answered
                no row at all.
            KeyboardInterrupt: After Ctrl-C; the job goes on.
        """
        self._run.refuse_other(self._first)
        last = last_of(self._session, self._first)
        if last and last.completed and not (again and self._has_failed_rows(last.job)):
            return self._side(last.job)
        cluster = BatchCluster(self._session, self._order.nodes)
        job = last.job if last and not last.over else self._submit(cluster, last)
        hours = self._recipe.evaluation.max_hours
        bounds = Bounds(cluster.compute, hours, "evaluation", "take more --nodes")
        Follower(self._session, job, self._order.command, bounds).follow()
        return self._side(job)

    def _side(self, job: str) -> RunFolder:
        return self._run.known(job) or self._run.bring_back(self._session, job)

    def _has_failed_rows(self, job: str) -> bool:
        try:
            summary = self._side(job).summary
        except NothingAnsweredError:
            return True
        return bool(summary["error"] or summary["unscored"])

    def _submit(self, cluster: BatchCluster, last: Attempt | None) -> str:
        session, recipe = self._session, self._recipe
        name = attempt_name(self._first, last.number + 1 if last else 1)
        cluster.refuse_other()
        ends = f"keep this command running, or end it yourself: {recipe.command('cancel', name)}"
        console.err.print(f"Azure sets a pipeline no limit of time; {ends}", markup=False)
        money.confirm([cluster.costs])
        cluster.ensure()
        connect_project(session, self._configs, self._endpoint.key(), recipe.azure.workspace)
        self._flows.describe_tools()
        rows = self._run.upload(session, self._first)
        nodes = self._order.nodes
        job = pipeline.pipeline_job(recipe, self._flows, rows, nodes, places(name))
        job.name = job.display_name = name
        job.experiment_name = recipe.name
        job.tags = {**session.tags, "rows": str(len(self._run.lines))}
        try:
            with session.errors(f"submitting job {name}"), waiting.nothing_printed():
                session.ml().jobs.create_or_update(job)
        except KeyboardInterrupt:
            told = f"job {name} may run in Azure, and cost; the same command finds and follows it"
            console.err.print(told, markup=False)
            raise
        console.err.print(f"job {name} is submitted", markup=False)
        return name
