"""Autoscale of a deployment: the number of its instances follows the load, as the recipe says.

Azure Monitor does it, by a setting beside the endpoint that names the deployment; it outlives what
it names, so it goes with it. Metrics and shape:
https://learn.microsoft.com/azure/machine-learning/how-to-autoscale-endpoints
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from setup.azure.client.session import AzureSession
from setup.recipe.azure import Scale

KIND = "Microsoft.Insights/autoscaleSettings"
_NAMESPACE = "microsoft.machinelearningservices/workspaces/onlineendpoints/deployments"
_METRICS = {"cpu": "CpuUtilizationPercentage", "gpu": "GpuUtilizationPercentage"}


class Autoscale:
    """The autoscale setting of one deployment of the recipe's endpoint."""

    def __init__(self, session: AzureSession, deployment: str) -> None:
        self._session, self._deployment = session, deployment
        self._endpoint = session.names.endpoint
        self._name = f"{self._endpoint}-{deployment}"
        self._path = f"{session.group_id}/providers/{KIND}/{self._name}"

    @property
    def _doing(self) -> str:
        return f"autoscale of deployment {self._deployment} of endpoint {self._endpoint}"

    def find(self) -> dict[str, Any] | None:
        """The setting's properties, None where there is none."""
        setting = self._session.find(f"reading the {self._doing}", self._path)
        return dict(setting["properties"]) if setting else None

    def limits(self) -> tuple[int, int] | None:
        """The fewest and the most instances as Azure has them, None where it does not scale."""
        setting = self.find()
        if not setting or not setting.get("enabled", True):
            return None
        capacity = setting["profiles"][0]["capacity"]
        return int(capacity["minimum"]), int(capacity["maximum"])

    def is_right(self) -> bool:
        """Tell whether it is as the recipe says, or is not there where that says nothing."""
        scale, setting = self._session.recipe.endpoint.scale, self.find()
        if scale is None or setting is None:
            return scale is None and setting is None
        return _agrees(setting, self._properties(scale))

    def ensure(self) -> bool:
        """See that it is as the recipe says; False when it was."""
        if self.is_right():
            return False
        scale, session = self._session.recipe.endpoint.scale, self._session
        if scale is None:
            self.delete()
            return True
        body = {
            "location": session.recipe.azure.location,
            "tags": session.tags,
            "properties": self._properties(scale),
        }
        with session.errors(self._doing):
            session.arm.put(self._path, body)
        return True

    def delete(self) -> None:
        """Remove it, if it is there."""
        if self.find():
            with self._session.errors(f"removing the {self._doing}"):
                self._session.arm.begin("DELETE", self._path)

    def _properties(self, scale: Scale) -> dict[str, Any]:
        target = f"{self._session.workspace_path()}/onlineEndpoints/{self._endpoint}"
        target += f"/deployments/{self._deployment}"
        count = self._session.recipe.endpoint.instances
        return {
            "enabled": True,
            "name": self._name,
            "targetResourceUri": target,
            "profiles": [
                {
                    "name": "load",
                    "capacity": {
                        "minimum": str(scale.min),
                        "maximum": str(scale.max),
                        "default": str(count),
                    },
                    "rules": [
                        _rule(scale, target, "GreaterThan", scale.out_above, "Increase"),
                        _rule(scale, target, "LessThan", scale.in_below, "Decrease"),
                    ],
                }
            ],
        }


def describe_scale(scale: Scale) -> str:
    """Say in words by what the number of instances goes."""
    return (
        f"{scale.min} to {scale.max} instances: one more above {scale.out_above} % of "
        f"{scale.metric.upper()} over {scale.minutes} minutes, one less below {scale.in_below} %"
    )


def _rule(
    scale: Scale, target: str, operator: str, threshold: int, direction: str
) -> dict[str, Any]:
    duration = f"PT{scale.minutes}M"
    return {
        "metricTrigger": {
            "metricName": _METRICS[scale.metric],
            "metricNamespace": _NAMESPACE,
            "metricResourceUri": target,
            "timeGrain": "PT1M",
            "statistic": "Average",
            "timeWindow": duration,
            "timeAggregation": "Average",
            "operator": operator,
            "threshold": threshold,
        },
        "scaleAction": {
            "direction": direction,
            "type": "ChangeCount",
            "value": "1",
            "cooldown": duration,
        },
    }


def _agrees(there: Any, wanted: Any) -> bool:
    """Tell whether ``there`` has all of ``wanted``: Azure adds, and changes the case of ids."""
    if isinstance(wanted, Mapping):
        return isinstance(there, Mapping) and all(
            _agrees(there.get(key), value) for key, value in wanted.items()
        )
    if isinstance(wanted, list):
        same_length = isinstance(there, list) and len(there) == len(wanted)
        return same_length and all(map(_agrees, there, wanted))
    return str(there).lower() == str(wanted).lower()
