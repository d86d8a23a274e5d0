"""The template functions that depend on nothing but their arguments.

https://learn.microsoft.com/azure/azure-resource-manager/templates/template-functions
"""

from __future__ import annotations

import base64
import hashlib
import json
import uuid
from collections.abc import Callable
from functools import reduce
from typing import Any

# Microsoft's namespace for guid(): https://github.com/Azure/bicep/issues/1870
_GUIDS = uuid.UUID("11fb06fb-712d-4ddd-98c7-e71bbd588830")


def unique_string(*parts: str) -> str:
    """13 characters that depend on all parts; not Azure's hash, but of the same form."""
    digest = hashlib.sha256("-".join(parts).encode()).digest()
    return base64.b32encode(digest).decode().lower()[:13]


def _guid(*parts: str) -> str:
    return str(uuid.uuid5(_GUIDS, "-".join(parts)))


def _concat(*parts: Any) -> Any:
    if parts and isinstance(parts[0], list):
        return [item for part in parts for item in part]
    return "".join(map(_string, parts))


def _string(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, separators=(",", ":"))


def _format(text: str, *values: Any) -> str:
    return text.format(*map(_string, values))


def _union(*parts: Any) -> Any:
    if isinstance(parts[0], list):
        return reduce(lambda all_, part: all_ + [x for x in part if x not in all_], parts, [])
    return reduce(_merged, parts)


def _merged(left: dict[str, Any], right: dict[str, Any]) -> dict[str, Any]:
    """Azure's union merges objects inside objects, and the last value wins."""
    result = dict(left)
    for name, value in right.items():
        both = isinstance(result.get(name), dict) and isinstance(value, dict)
        result[name] = _merged(result[name], value) if both else value
    return result


def _equals(left: Any, right: Any) -> bool:
    return bool(left == right) and isinstance(left, bool) == isinstance(right, bool)


def _contains(where: Any, what: Any) -> bool:
    if isinstance(where, dict):
        return str(what).lower() in (name.lower() for name in where)
    return what in where


def _substring(text: str, start: int, length: int | None = None) -> str:
    end = len(text) if length is None else start + length
    if end > len(text):
        raise ValueError(f"index and length must be inside {text!r}")
    return text[start:end]


def _replace(text: str, old: str, new: str) -> str:
    return text.replace(old, new)


def _create_object(*parts: Any) -> dict[str, Any]:
    return dict(zip(parts[::2], parts[1::2], strict=True))


def _items(value: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": value[key]} for key in sorted(value)]


def _try_get(value: Any, *keys: Any) -> Any:
    for key in keys:
        try:
            value = value[key]
        except (KeyError, IndexError, TypeError):
            return None
    return value


def _boolean(value: Any) -> bool:
    if str(value).lower() not in ("true", "false", "1", "0"):
        raise ValueError(f"{value!r} is no boolean")
    return str(value).lower() in ("true", "1")


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "add": lambda left, right: left + right,
    "sub": lambda left, right: left - right,
    "mul": lambda left, right: left * right,
    "div": lambda left, right: left // right,
    "mod": lambda left, right: left % right,
    "min": lambda *values: min(values[0] if isinstance(values[0], list) else values),
    "max": lambda *values: max(values[0] if isinstance(values[0], list) else values),
    "and": lambda *values: all(values),
    "or": lambda *values: any(values),
    "not": lambda value: not value,
    "true": lambda: True,
    "false": lambda: False,
    "null": lambda: None,
    "equals": _equals,
    "greater": lambda left, right: left > right,
    "greaterorequals": lambda left, right: left >= right,
    "less": lambda left, right: left < right,
    "lessorequals": lambda left, right: left <= right,
    "coalesce": lambda *values: next((value for value in values if value is not None), None),
    "empty": lambda value: value is None or len(value) == 0,
    "length": len,
    "concat": _concat,
    "format": _format,
    "string": _string,
    "int": int,
    "bool": _boolean,
    "json": json.loads,
    "tolower": str.lower,
    "toupper": str.upper,
    "trim": str.strip,
    "take": lambda value, count: value[: max(count, 0)],
    "skip": lambda value, count: value[max(count, 0) :],
    "first": lambda value: value[0] if value else None,
    "last": lambda value: value[-1] if value else None,
    "substring": _substring,
    "replace": _replace,
    "split": str.split,
    "join": lambda values, by: by.join(map(_string, values)),
    "startswith": lambda text, start: text.lower().startswith(start.lower()),
    "endswith": lambda text, end: text.lower().endswith(end.lower()),
    "indexof": lambda text, what: text.lower().find(what.lower()),
    "padleft": lambda text, width, by=" ": _string(text).rjust(width, by),
    "contains": _contains,
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "base64tostring": lambda text: base64.b64decode(text).decode(),
    "uri": lambda base, part: base.rstrip("/") + "/" + part.lstrip("/"),
    "guid": _guid,
    "uniquestring": unique_string,
    "createobject": _create_object,
    "createarray": lambda *values: list(values),
    "array": lambda value: value if isinstance(value, list) else [value],
    "range": lambda start, count: list(range(start, start + count)),
    "union": _union,
    "shallowmerge": lambda parts: reduce(lambda left, right: left | right, parts, {}),
    "flatten": lambda parts: [item for part in parts for item in part],
    "items": _items,
    "objectkeys": sorted,
    "tryget": _try_get,
}
