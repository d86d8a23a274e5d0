"""The wait for the cores of machines that the cluster lets go."""

from __future__ import annotations

from contextlib import suppress

from setup.azure.client.session import AzureSession
from setup.azure.client.waiting import PAUSE, NotYetError, wait_until
from setup.azure.facts.quota import find_size, region_sizes
from setup.common import console
from setup.common.console import progress_bar
from setup.common.errors import FixableError

_SCALE_DOWN = 900.0  # seconds that machines may take to go, beside their idle time
_GOING, _BUSY = ("idle", "leaving"), ("running", "preparing")


def wait_for_idle_nodes(session: AzureSession) -> bool:
    """Wait until idle machines are gone that hold cores of the endpoint's family.

    After a job they stay for ``idle_seconds``. Returns whether there were any, and now are none;
    False at once while a job is at work, and where Azure cannot be asked.
    """
    try:
        return _wait(session)
    except FixableError:  # the refusal that is to be mended says more than this
        return False


def _wait(session: AzureSession) -> bool:
    recipe = session.recipe
    sizes, settings = region_sizes(session), recipe.finetune.compute
    cluster, endpoint = (
        find_size(session, sizes, sku) for sku in (settings.sku, recipe.endpoint.sku)
    )
    going = _going_nodes(session) if cluster.family == endpoint.family else 0
    if not going:
        return False
    patience = settings.idle_seconds + _SCALE_DOWN
    what = f"Waiting until {going} idle machines of cluster {settings.name} go"
    console.err.print(f"{what}: up to {patience / 60:.0f} minutes", markup=False)
    with progress_bar(what), suppress(NotYetError):
        return wait_until(lambda: not _going_nodes(session), patience, PAUSE, what)
    return False


def _going_nodes(session: AzureSession) -> int:
    """Count the machines that only wait for their end; none while others of the cluster work."""
    cluster = session.find_cluster() or {}
    inner = (cluster.get("properties") or {}).get("properties") or {}
    counts = inner.get("nodeStateCounts") or {}
    if any(counts.get(f"{state}NodeCount") for state in _BUSY):
        return 0
    return sum(counts.get(f"{state}NodeCount") or 0 for state in _GOING)
