"""All services, in the order in which a request is offered to them."""

from __future__ import annotations

from tests.azure.fake import (
    arm,
    assets,
    availability,
    blobs,
    connections,
    deployments,
    endpoints,
    file_share,
    flow_service,
    flow_steps,
    jobs,
    login,
    metrics,
    models,
    operations,
    policy,
    quota,
    registry,
    scoring,
    subscription,
    supporting,
    workspaces,
)

SERVICES = [
    login.routes,
    operations.routes,
    quota.routes,
    subscription.routes,
    policy.routes,
    deployments.routes,
    supporting.routes,
    availability.routes,
    workspaces.routes,
    blobs.routes,
    file_share.routes,
    jobs.routes,
    metrics.routes,
    flow_service.routes,
    endpoints.routes,
    scoring.routes,
    connections.routes,
    models.routes,
    registry.routes,
    assets.routes,
    arm.routes,
]

jobs.WORK.append(flow_steps.at_work)
