"""The model registry: every finished fine-tuning run is a version, the best one the champion.

It is MLflow's own registry and tracking store in a SQLite file of this machine, so that what is
written here can be read with ``mlflow ui`` and any MLflow client.
"""

from __future__ import annotations

from setup.local.registry.champion import NOT_COMPARABLE, promote
from setup.local.registry.live_curve import shown_in
from setup.local.registry.register import register_finetune
from setup.local.registry.versions import Version, get_version, list_versions

__all__ = [
    "NOT_COMPARABLE",
    "Version",
    "get_version",
    "list_versions",
    "promote",
    "register_finetune",
    "shown_in",
]
