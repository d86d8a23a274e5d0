"""The compiled template and its source say the same."""

from __future__ import annotations

import pytest

from tests.azure.bicep_in_step import differences, digest, read


def test_main_json_is_in_step_with_the_bicep_files() -> None:
    texts, template = read()
    assert differences(texts, template) == []
    stamped = template["metadata"]["sources"]
    assert stamped == digest(texts), (
        "change main.json too, then python -m tests.azure.bicep_in_step"
    )


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("main.bicep", "@2026-05-01", "@2025-01-01"),
        ("main.bicep", "param computeName", "param clusterName"),
        ("main.bicep", "disableLocalAuth: true", "disableLocalAuth: false"),
        ("main.bicep", "softDeleteRetentionInDays: 7", "softDeleteRetentionInDays: 8"),
        ("main.bicep", "minimumTlsVersion: 'TLS1_2'", "minimumTlsVersion: 'TLS1_0'"),
        ("main.bicep", "output hubName", "output hub"),
        ("roles.bicep", "a410df84e7d1", "a410df84e7d2"),
    ],
)
def test_a_change_of_one_alone_is_seen(name: str, old: str, new: str) -> None:
    texts, template = read()
    changed = texts | {name: texts[name].replace(old, new, 1)}
    assert texts[name] != changed[name]
    assert differences(changed, template) != []
    assert digest(changed) != digest(texts)
