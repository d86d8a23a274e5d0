"""A roll-out that does not work: what happened, the likely cause, what to do, and what costs on."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from setup.azure.client import explain, waiting
from setup.azure.client.session import AzureSession
from setup.azure.deploy.online_endpoint import ManagedEndpoint
from setup.azure.deploy.registration import ModelVersion
from setup.azure.deploy.smoke import NoAnswerError
from setup.azure.facts import quota
from setup.common import console
from setup.common.errors import FixableError
from setup.common.paths import endpoint_folder

if TYPE_CHECKING:
    from azure.core.exceptions import HttpResponseError

_LINES = 400  # of the container's log that are kept
SHOWN = 15  # of them on the screen
CONTAINERS = ("inference-server", "storage-initializer")  # as the Azure CLI names them
_UNKNOWN = explain.Cause("no cause that is known here", "read the log and correct what it says")
_SCALE_DOWN = 900.0  # seconds that machines may take to go, beside their idle time
_GOING, _BUSY = ("idle", "leaving"), ("running", "preparing")


def _is_out_of_quota(error: Any) -> bool:
    return "quota" in " ".join(explain.code_and_message(error)).lower()


class Diagnosis:
    """The ways in which one deployment of one version fails, each as one line with its fix."""

    def __init__(
        self, session: AzureSession, endpoint: ManagedEndpoint, name: str, version: ModelVersion
    ) -> None:
        self._session = session
        self._recipe = session.recipe
        self._endpoint = endpoint
        self._name = name
        self._version = version
        self.what = f"deployment {name} of endpoint {endpoint.name}"

    def cores_came_free(self, error: Any) -> bool:
        """Tell whether it wants cores that idle machines held, and that are free now."""
        try:
            return _is_out_of_quota(error) and _wait_for_idle_nodes(self._session)
        except FixableError:  # the refusal that is to be mended says more than this
            return False

    def refused(self, error: HttpResponseError) -> Exception:
        """Explain that Azure took no deployment at all; ``error`` itself if no cause is known."""
        _, message = explain.code_and_message(error)
        if _is_out_of_quota(error):
            return self._out_of_quota(message)
        cause = self._cause([message]) if error.status_code in (400, 403) else None
        if cause:
            return FixableError(f"{self.what}: {cause.cause} ({message})", cause.fix)
        return error

    def failed(self, error: Any) -> FixableError:
        """Explain that it did not come up; ``error`` is None where another command began it."""
        code, message = explain.code_and_message(error) if error else ("", "")
        if error and _is_out_of_quota(error):
            return self._out_of_quota(message)
        log = fetch_log(self._endpoint, self._name)
        cause = self._cause([*log.lines, message])
        if cause is None:
            cause = (
                explain.Cause("Azure refused it", explain.explain(error).fix) if code else _UNKNOWN
            )
        said = f" ({': '.join(filter(None, (code, message)))})" if message else ""
        fix = f"{cause.fix}; the same command again replaces it"
        if self._endpoint.slots().is_idle(self._name):
            fix += f". {self._billed}"
        return FixableError(f"{self.what} failed: {cause.cause}{said}; its log: {log.path}", fix)

    def no_answer(self, problem: NoAnswerError) -> FixableError:
        """Explain that it came up and does not answer, or answers noise."""
        log = fetch_log(self._endpoint, self._name)
        cause = self._cause(log.lines)
        told = f", probably because {cause.cause}" if cause else ""
        way_out = self._billed
        if self._endpoint.slots().live.get(self._name):
            again = "the same command again, in a few minutes, asks it again"
            rollback = f"{self._recipe.command('rollback')} takes its traffic"
            way_out = rollback if problem.wrong else again
        version = self._version
        return FixableError(
            f"version {version.version} of {version.name} ({self.what}) {problem}{told}; the "
            f"traffic is as it was; its log: {log.path}",
            f"{self._asked_by(problem)}{self._recipe.command('logs', '--deployment', self._name)} "
            f"shows more. {way_out}",
        )

    def _asked_by(self, problem: NoAnswerError) -> str:
        """Name the way out where the recipe says how it is asked, and that may be wrong."""
        contract, kind = self._recipe.endpoint.contract, self._recipe.endpoint.kind
        if contract == "auto" or kind == "vllm" or not problem.unread:
            return ""
        find_out = self._recipe.command("deploy", "--set endpoint.contract=auto")
        return (
            f"it was asked by endpoint.contract {contract}; {find_out} finds out which it takes. "
        )

    @property
    def _billed(self) -> str:
        return f"It is billed until you run: {self._recipe.command('delete', self._name)}"

    def _cause(self, texts: list[str]) -> explain.Cause | None:
        return explain.likely_cause("deployment", texts, self._recipe.options)

    def _out_of_quota(self, message: str) -> FixableError:
        """Explain what is enough; what answers keeps its cores until this one does."""
        try:
            sizes = quota.region_sizes(self._session)
            listed = quota.demands(self._session, sizes)
        except FixableError:  # must not hide what Azure said
            return FixableError(
                f"{self.what} was refused for want of quota ({message})",
                f"{self._recipe.command('quota')} shows it; or another endpoint.sku or "
                "azure.location",
            )
        needs = next(demand for demand in listed if demand.purpose == "the endpoint")
        there, limit = self._endpoint.deployment(self._name), needs.used + needs.needed
        if there and there.provisioning_state == "Succeeded":  # it grows
            cores = sizes[needs.sku.lower()].cores
            limit -= quota.endpoint_cores(needs.sku, cores, int(there.instance_count or 1))
        slots = self._endpoint.slots()
        idle = [name for name in self._endpoint.deployments() if slots.is_idle(name)]
        free = [name for name in idle if name != self._name]
        delete = self._recipe.command("delete", free[0]) if free else ""
        freed = f"{delete} frees what takes no traffic, or " if free else ""
        return FixableError(
            f"{self.what} was refused for want of quota: it needs {needs.needed} cores of "
            f"{needs.family}, the endpoint's reserve included, and {needs.used} of {needs.limit} "
            f"are in use ({message})",
            f"{freed}{self._recipe.command(f'quota --request {limit}')}, or another "
            "endpoint.sku or azure.location",
        )


class Log(NamedTuple):
    """The end of a container's log, without secrets, and the file it was written to."""

    lines: list[str]
    path: Path


def fetch_log(endpoint: ManagedEndpoint, deployment: str) -> Log:
    """Show the last lines that a deployment's containers printed, and keep more of them in a file.

    Nothing that looks like a token or a key gets into either.
    """
    lines = [
        explain.one_line(line)
        for container in reversed(CONTAINERS)
        for line in read_log(endpoint, deployment, container, _LINES).splitlines()
        if line.strip()
    ]
    path = endpoint_folder(endpoint.name) / f"{deployment}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    for line in lines[-SHOWN:]:
        console.err.print(f"  {deployment}: {line}", markup=False)
    return Log(lines, path)


def read_log(endpoint: ManagedEndpoint, deployment: str, container: str, lines: int) -> str:
    """Return the last lines that a container of a deployment printed; empty where there is none."""
    from azure.core.exceptions import AzureError

    try:
        return str(
            endpoint.ml.online_deployments.get_logs(
                deployment, endpoint.name, lines=lines, container_type=container
            )
        )
    except AzureError:  # there is no container yet, or none any more
        return ""


def _wait_for_idle_nodes(session: AzureSession) -> bool:
    """Wait until idle machines are gone that hold cores of the endpoint's family.

    After a job they stay for ``idle_seconds``. Returns whether there were any, and now are none;
    False at once while a job is at work.
    """
    recipe = session.recipe
    sizes, settings = quota.region_sizes(session), recipe.finetune.compute
    cluster, endpoint = (
        quota.find_size(session, sizes, sku) for sku in (settings.sku, recipe.endpoint.sku)
    )
    going = _going_nodes(session) if cluster.family == endpoint.family else 0
    if not going:
        return False
    patience = settings.idle_seconds + _SCALE_DOWN
    what = f"Waiting until {going} idle machines of cluster {settings.name} go"
    console.err.print(f"{what}: up to {patience / 60:.0f} minutes", markup=False)
    with console.progress_bar(what), suppress(waiting.NotYetError):
        return waiting.wait_until(lambda: not _going_nodes(session), patience, waiting.PAUSE, what)
    return False


def _going_nodes(session: AzureSession) -> int:
    """Count the machines that only wait for their end; none while others of the cluster work."""
    counts = (session.find_cluster() or {}).get("nodeStateCounts") or {}
    if any(counts.get(f"{state}NodeCount") for state in _BUSY):
        return 0
    return sum(counts.get(f"{state}NodeCount") or 0 for state in _GOING)
