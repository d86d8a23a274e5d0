"""A roll-out that does not work: what happened, the likely cause, what to do, and what costs on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from setup.azure.causes import Cause, likely_cause
from setup.azure.deployment_failure import fetch_log
from setup.azure.explain import code_and_message, explain
from setup.azure.traffic import live_traffic, takes_traffic
from setup.errors import FixableError

if TYPE_CHECKING:
    from azure.ai.ml.entities import OnlineEndpoint

    from setup.azure.rollout import Rollout
    from setup.azure.smoke import NoAnswerError

_UNKNOWN = Cause("no cause that is known here", "read the log and correct what it says")


def refused(rollout: Rollout, error: Any) -> Exception:
    """Azure took no deployment at all: quota, a role, a name; ``error`` itself if none is known."""
    _, message = code_and_message(error)
    if is_out_of_quota(error):
        return _out_of_quota(rollout, message)
    cause = _cause(rollout, [message]) if error.status_code in (400, 403) else None
    return FixableError(f"{rollout.what}: {cause.cause} ({message})", cause.fix) if cause else error


def failed(rollout: Rollout, error: Any) -> FixableError:
    """The deployment did not come up; ``error`` is of the operation, None for somebody else's."""
    code, message = code_and_message(error) if error else ("", "")
    if error and is_out_of_quota(error):
        return _out_of_quota(rollout, message)
    log = fetch_log(rollout.endpoint, rollout.name)
    cause = _cause(rollout, [*log.lines, message])
    if cause is None:
        cause = Cause("Azure refused it", explain(error).fix) if code else _UNKNOWN
    said = f" ({': '.join(filter(None, (code, message)))})" if message else ""
    fix = f"{cause.fix}; the same command again replaces it"
    if not takes_traffic(rollout.endpoint.find(), rollout.name):
        fix += f". It costs until {rollout.endpoint.az('delete', rollout.name)}"
    return FixableError(f"{rollout.what} failed: {cause.cause}{said}; its log: {log.path}", fix)


def no_answer(rollout: Rollout, found: OnlineEndpoint, problem: NoAnswerError) -> FixableError:
    """The deployment came up and does not answer, or answers noise."""
    log = fetch_log(rollout.endpoint, rollout.name)
    cause = _cause(rollout, log.lines)
    told = f", probably because {cause.cause}" if cause else ""
    way_out = f"It costs until {rollout.endpoint.az('delete', rollout.name)}"
    if live_traffic(found).get(rollout.name):
        again = "the same command again, in a few minutes, asks it again"
        rollback = f"python -m setup rollback --recipe {rollout.recipe.name} takes its traffic"
        way_out = rollback if problem.wrong else again
    version = rollout.version
    return FixableError(
        f"version {version.version} of {version.name} ({rollout.what}) {problem}{told}; the "
        f"traffic is as it was; its log: {log.path}",
        f"{rollout.endpoint.az('get-logs', rollout.name)} shows more. {way_out}",
    )


def _cause(rollout: Rollout, texts: list[str]) -> Cause | None:
    return likely_cause("deployment", texts, rollout.recipe.name)


def is_out_of_quota(error: Any) -> bool:
    """Whether Azure refuses a deployment, or lets it fail, for want of cores."""
    return "quota" in " ".join(code_and_message(error)).lower()


def _out_of_quota(rollout: Rollout, message: str) -> FixableError:
    """What other deployments hold stays theirs: they answer until this one does."""
    from setup.azure.quota import demands, endpoint_cores, region_sizes  # noqa: PLC0415

    try:
        sizes = region_sizes(rollout.session)
        listed = demands(rollout.session, sizes)
    except FixableError:  # must not hide what Azure said
        return FixableError(
            f"{rollout.what} was refused for want of quota ({message})",
            f"python -m setup quota --recipe {rollout.recipe.name} shows it; or another "
            "endpoint.sku or azure.location",
        )
    needs = next(one for one in listed if one.purpose == "the endpoint")
    found, limit = rollout.find(), needs.used + needs.needed
    if found and found.provisioning_state == "Succeeded":  # it grows
        cores = sizes[needs.sku.lower()].cores
        limit -= endpoint_cores(needs.sku, cores, int(found.instance_count or 1))
    endpoint, there = rollout.endpoint, rollout.endpoint.find()
    free = [name for name in rollout.beside(there) if not takes_traffic(there, name)]
    freed = f"{endpoint.az('delete', free[0])} frees what takes no traffic, or " if free else ""
    return FixableError(
        f"{rollout.what} was refused for want of quota: it needs {needs.needed} cores of "
        f"{needs.family}, the endpoint's reserve included, and {needs.used} of {needs.limit} "
        f"are in use ({message})",
        f"{freed}python -m setup quota --request {limit} --recipe {rollout.recipe.name}, or "
        "another endpoint.sku or azure.location",
    )
