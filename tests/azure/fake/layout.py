"""Where the resources of a template go: ids, names in full, what ``dependsOn`` may call them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.azure.fake.expressions import invalid
from tests.azure.fake.router import ARM
from tests.azure.fake.subscription import SUBSCRIPTION

if TYPE_CHECKING:
    from tests.azure.fake.azure import FakeAzure

_TYPES = {
    "string": str,
    "securestring": str,
    "int": int,
    "bool": bool,
    "array": list,
    "object": dict,
    "secureobject": dict,
}


def flat(declared: list[dict[str, Any]], parent: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The resources, with those written inside a resource beside it, named and typed in full."""
    found: list[dict[str, Any]] = []
    for entry in declared:
        one = dict(entry)
        if parent is not None and one["type"].count("/") == 0:
            one["type"] = f"{parent['type']}/{one['type']}"
            inner = one["name"]
            inner = inner[1:-1] if inner.startswith("[") else f"'{inner}'"
            outer = parent["name"]
            outer = outer[1:-1] if outer.startswith("[") else f"'{outer}'"
            one["name"] = f"[concat({outer}, '/', {inner})]"
        found += [one, *flat(entry.get("resources") or [], one)]
    return found


def keys_of(entry: dict[str, Any]) -> list[str]:
    """What ``dependsOn`` may call a resource: id, name, symbolic name, or its loop."""
    keys = [entry["_id"], entry["name"], entry.get("_symbol"), (entry.get("_loop") or [""])[0]]
    return [str(key).lower() for key in keys if key]


def join(scope: str, kind: str, names: list[str]) -> str:
    space, *types = kind.split("/")
    if len(types) != len(names):
        raise invalid(f"the type {kind!r} needs {len(types)} names, not {names}")
    pairs = [part for pair in zip(types, names, strict=True) for part in pair]
    return "/".join([scope, space, *pairs])


def extension_resource_id(scope: str, kind: str, *names: str) -> str:
    return join(f"{scope}/providers", kind, list(names))


def subscription_function(azure: FakeAzure) -> Any:
    return lambda: {
        "id": f"/subscriptions/{SUBSCRIPTION}",
        "subscriptionId": SUBSCRIPTION,
        "tenantId": azure.login.tenant,
        "displayName": azure.subscription.name,
    }


def environment() -> dict[str, Any]:
    return {
        "name": "AzureCloud",
        "resourceManager": f"https://{ARM}/",
        "suffixes": {"storage": "core.windows.net", "keyvaultDns": ".vault.azure.net"},
    }


def of_type(name: str, entry: dict[str, Any], value: Any) -> Any:
    expected = _TYPES[entry["type"].lower()]
    wrong = isinstance(value, bool) and expected is int
    if value is not None and (wrong or not isinstance(value, expected)):
        raise invalid(f"the parameter {name!r} is {type(value).__name__}, not {entry['type']}")
    if "allowedValues" in entry and value not in entry["allowedValues"]:
        raise invalid(f"the parameter {name!r} is {value!r}, not of {entry['allowedValues']}")
    if len(value or "") < entry.get("minLength", 0) if isinstance(value, str) else False:
        raise invalid(f"the parameter {name!r} is shorter than {entry['minLength']}")
    return value


def resource_id(scope: str, *parts: str) -> str:
    """``resourceId([subscription], [group], type, name…)`` in a deployment into ``scope``."""
    at = next(index for index, part in enumerate(parts) if "/" in part)
    base = f"/subscriptions/{parts[at - 2] if at > 1 else SUBSCRIPTION}"
    if at or "/resourcegroups/" in scope.lower():
        base += f"/resourceGroups/{parts[at - 1] if at else scope.rpartition('/')[2]}"
    return join(f"{base}/providers", parts[at], list(parts[at + 1 :]))


def subscription_resource_id(*parts: str) -> str:
    """``subscriptionResourceId([subscription], type, name…)``."""
    sub, kind, *names = parts if "/" not in parts[0] else (SUBSCRIPTION, *parts)
    return join(f"/subscriptions/{sub}/providers", kind, names)


def id_of(scope: str, head: dict[str, Any]) -> str:
    """The id of a resource whose name, type and scope are evaluated."""
    name, kind = head["name"], head["type"]
    if kind.lower() == "microsoft.resources/resourcegroups":
        return f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{name}"
    if group := head.get("resourceGroup"):
        scope = (
            f"/subscriptions/{head.get('subscriptionId') or SUBSCRIPTION}/resourceGroups/{group}"
        )
    extended = head.get("scope") or ""
    if extended and not extended.startswith("/"):  # TYPE/NAME in this scope
        space, *rest = extended.split("/")
        extended = join(f"{scope}/providers", f"{space}/{rest[0]}", rest[1:])
    return join(f"{extended or scope}/providers", kind, name.split("/"))
