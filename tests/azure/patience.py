"""Waits that are short: the fake is done sooner than Azure."""

from __future__ import annotations

import pytest

from setup.azure import teardown
from setup.azure.client import arm, waiting
from setup.azure.deploy import smoke

_STORAGE = {"initial_backoff": 0.01, "increment_base": 0, "random_jitter_range": 0}


def hurry(patch: pytest.MonkeyPatch) -> None:
    """Let the product look often and give up soon."""
    patch.setattr(waiting, "PAUSE", 0.02)
    patch.setattr(smoke, "PATIENCE", 1.0)  # longer than a question on a busy machine
    patch.setattr(teardown, "SETTLE", 0.1)
    for setting in ("retry_backoff_factor", "retry_backoff_max"):
        patch.setitem(arm.RETRIES, setting, 0.01)
    for setting, least in _STORAGE.items():
        patch.setitem(arm.STORAGE_RETRIES, setting, least)
