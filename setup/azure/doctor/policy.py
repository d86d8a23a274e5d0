"""The effect of policies on the template, asked of ARM before anything is made; only read.

``validate`` refuses what a policy denies, ``whatIf`` shows what would become of each resource, and
so what a policy of effect modify would change without a word.
https://learn.microsoft.com/azure/azure-resource-manager/templates/deploy-what-if
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from setup.azure.client.explain import (
    EXEMPTION,
    causes,
    code_and_message,
    one_line,
    policy_way,
    refusal,
)
from setup.azure.client.session import AzureSession
from setup.azure.provision.infra import template
from setup.azure.provision.inventory import Survey
from setup.azure.provision.vault import is_recoverable
from setup.common.checks import Check
from setup.common.errors import FixableError

_API = "2025-04-01"
_SECONDS = 120.0
# What a policy of a company is about, and the recipe's word for it.
_SETTINGS = {
    "publicNetworkAccess": ("azure.public_network", {"Enabled": "true", "Disabled": "false"}),
    "allowSharedKeyAccess": ("azure.shared_keys", {"True": "true", "False": "false"}),
    "enablePurgeProtection": ("azure.purge_protection", {"True": "true"}),
}
# What may satisfy a policy: the parameter of the template, its value, and the recipe's field.
_ALTERNATIVES: list[tuple[str, str | bool, str]] = [
    ("publicNetworkAccess", "Disabled", "azure.public_network"),
    ("enablePurgeProtection", True, "azure.purge_protection"),
    ("allowSharedKeyAccess", False, "azure.shared_keys"),
]
_DENIED = "RequestDisallowedByPolicy"


def policy_checks(session: AzureSession) -> Iterator[Check]:
    """Yield what policies would refuse or change; one line where they would do neither."""
    try:
        recover = is_recoverable(session)
        parameters = Survey.parameters(session, session.principal.object_id, recover)
        path, body = _question(session, parameters)
        denials = _validate(session, path, body)
        if denials and denials[0][1] == EXEMPTION:  # its words do not say what it is about
            denials = [(what, _found_way(session, parameters) + fix) for what, fix in denials]
        findings = denials or [*_changes(session, path, body, parameters)]
    except FixableError as error:
        if not session.is_forbidden(error):
            yield Check("policy", error.what, error.fix)
            return
        yield Check("policy", "you may not ask ARM to validate, provision will find out")
        return
    for what, fix in findings:
        yield Check("policy", what, fix)
    if not findings:
        yield Check("policy", "none refuses or changes the template (ARM's validate and what-if)")


def _question(
    session: AzureSession, parameters: dict[str, dict[str, Any]]
) -> tuple[str, dict[str, Any]]:
    """Return where ARM is asked and what: without the group, about one made with what is in it."""
    inner = {"mode": "Incremental", "template": template(), "parameters": parameters}
    name = f"finetune-phi-{session.recipe.name}-asked"
    kind = "providers/Microsoft.Resources/deployments"
    if session.find_group():
        return f"{session.group_id}/{kind}/{name}", {"properties": inner}
    location = session.recipe.azure.location
    group = {
        "type": "Microsoft.Resources/resourceGroups",
        "apiVersion": session.arm.resources_version,
        "name": session.group,
        "location": location,
        "tags": session.tags,
    }
    nested = {
        "type": "Microsoft.Resources/deployments",
        "apiVersion": session.arm.resources_version,
        "name": name,
        "resourceGroup": session.group,
        "dependsOn": [session.group_id],
        "properties": {"expressionEvaluationOptions": {"scope": "inner"}, **inner},
    }
    schema = "https://schema.management.azure.com/schemas/2018-05-01/subscriptionDeploymentTemplate"
    outer = {
        "$schema": f"{schema}.json#",
        "contentVersion": "1.0.0.0",
        "resources": [group, nested],
    }
    properties = {"mode": "Incremental", "template": outer}
    path = f"/subscriptions/{session.subscription_id}/{kind}/{name}"
    return path, {"location": location, "properties": properties}


def _validate(session: AzureSession, path: str, body: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what ARM refuses, each with its fix."""
    from azure.core.exceptions import HttpResponseError

    with session.errors("asking ARM to validate the template"):
        try:
            session.arm.outcome(f"{path}/validate", body, _API, _SECONDS)
        except HttpResponseError as error:
            if error.status_code not in (400, 403, 409) or _lacks_right(error):
                raise
            return [*_denials(error)]
    return []


def _found_way(session: AzureSession, parameters: dict[str, dict[str, Any]]) -> str:
    """Return the setting with which ARM would take the template, asked one after the other."""
    for setting, value, field in _ALTERNATIVES:
        if parameters[setting]["value"] == value:
            continue
        question = _question(session, parameters | {setting: {"value": value}})
        if not _validate(session, *question):
            return f"--set {field}={str(value != 'Disabled' and value).lower()}, or "
    return ""


def _lacks_right(error: Any) -> bool:
    return error.status_code == 403 and _DENIED not in str(error)


def _denials(error: Any) -> Iterator[tuple[str, str]]:
    said = [*causes(getattr(error, "error", None))] or [code_and_message(error)]
    for code, message in dict.fromkeys(said):
        names = ", ".join(_policies(error))
        if _DENIED in code or _DENIED in message:
            yield f"a policy denies it: {names or message}", policy_way(message + names)
        else:
            what, fix = refusal(error.status_code, code, one_line(message))
            yield f"ARM would not take the template: {what}", fix


def _policies(error: Any) -> list[str]:
    """Return the names of the policies that an error or a part of it tells."""
    names: dict[str, None] = {}
    parts = [getattr(error, "error", None)]
    while parts:
        part = parts.pop()
        if part is None:
            continue
        parts += getattr(part, "details", None) or []
        for more in getattr(part, "additional_info", None) or []:
            info = getattr(more, "info", None) or {}
            name = info.get("policyDefinitionDisplayName") or info.get("policyDefinitionName")
            assigned = info.get("policyAssignmentDisplayName") or info.get("policyAssignmentName")
            if name:
                names[f"{name} (assignment {assigned})" if assigned else str(name)] = None
    return [*names]


def _changes(
    session: AzureSession, path: str, body: dict[str, Any], parameters: Mapping[str, Any]
) -> Iterator[tuple[str, str]]:
    """Yield what would come out otherwise than the template says it."""
    with session.errors("asking ARM what the template would change"):
        answer = session.arm.outcome(f"{path}/whatIf", body, _API, _SECONDS)
    result = answer.get("properties") or {}
    for note in result.get("diagnostics") or []:
        if "policy" in str(note).lower():
            yield (
                f"ARM says of a policy: {note.get('message')}",
                policy_way(str(note.get("message"))),
            )
    for change in result.get("changes") or []:
        properties = (change.get("after") or {}).get("properties") or {}
        name = str(change.get("resourceId", "")).rpartition("/")[2]
        for setting, (field, words) in _SETTINGS.items():
            wanted = (parameters.get(setting) or {}).get("value")
            there = properties.get(setting)
            if there is None or wanted is None or str(there).lower() == str(wanted).lower():
                continue
            word = words.get(str(there), str(there).lower())
            yield (
                f"a policy would change {name} without a word: {setting} {there}, the recipe "
                f"says {wanted}",
                f"--set {field}={word}, or {EXEMPTION}",
            )
