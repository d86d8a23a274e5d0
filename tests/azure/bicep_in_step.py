"""Holds main.json in step with main.bicep: the Bicep compiler is not on PyPI, npm or Debian.

After a change of a .bicep file the same change goes into main.json, by ``az bicep build`` or by
hand; ``python -m tests.azure.bicep_in_step`` then writes the hash of the sources into its metadata,
once both declare the same names, resources, versions and settings.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

from setup.azure.provision.infra import FOLDER

MAIN, SOURCES = FOLDER / "main.json", ("main.bicep", "roles.bicep")
_SECTIONS = {"param": "parameters", "var": "variables", "output": "outputs"}
_NAME = re.compile(r"^(param|var|output) (\w+)", re.MULTILINE)
_RESOURCE = re.compile(r"^resource \w+ ('[^'@]+@[^']+') =", re.MULTILINE)
# A setting with a value that is no expression.
_SETTING = re.compile(r"\b(\w+): ('[^'$]*'|\d+|true|false)(?=\s*(?:[,}\n]|//))")
_LIMIT = re.compile(r"^@(minValue|maxValue)\((\d+)\)|^var (\w+) = ('[^'$]*')$", re.MULTILINE)

Content = dict[str, Any]


def read() -> tuple[dict[str, str], Content]:
    """Return the sources by name, and the compiled template."""
    texts = {name: (FOLDER / name).read_text(encoding="utf-8") for name in SOURCES}
    return texts, json.loads(MAIN.read_text(encoding="utf-8"))


def digest(texts: dict[str, str]) -> str:
    """Return the SHA-256 of the sources."""
    return hashlib.sha256("\0".join(texts[name] for name in SOURCES).encode()).hexdigest()


def differences(texts: dict[str, str], template: Content) -> list[str]:
    """List what the sources, by name, declare otherwise than the compiled template."""
    module = next(filter(None, map(_nested, template["resources"])))
    lines = []
    for name, compiled in zip(SOURCES, (template, module), strict=True):
        here, there = Counter(_of_bicep(texts[name])), Counter(_of_arm(compiled))
        lines += [f"{name} alone has {word}" for word in sorted(here - there)]
        lines += [f"main.json alone has {word}, of {name}" for word in sorted(there - here)]
    return lines


def _of_bicep(text: str) -> Iterator[str]:
    yield from (f"{kind} {name}" for kind, name in _NAME.findall(text))
    yield from _RESOURCE.findall(text)
    yield from (
        f"{name}: {value}"
        for name, value in _SETTING.findall(text.split("\nmodule ", maxsplit=1)[0])
    )
    for limit, number, variable, value in _LIMIT.findall(text):
        yield f"{limit or variable}: {number or value}"


def _of_arm(template: Content) -> Iterator[str]:
    for kind, section in _SECTIONS.items():
        yield from (f"{kind} {name}" for name in template.get(section, {}))
    yield from _settings(template.get("variables", {}))
    for entry in template.get("parameters", {}).values():
        yield from _settings({key: entry[key] for key in ("minValue", "maxValue") if key in entry})
    for resource in template["resources"]:
        if not _nested(resource):
            yield f"'{resource['type']}@{resource['apiVersion']}'"
            head = ("type", "apiVersion")
            yield from _settings({key: it for key, it in resource.items() if key not in head})


def _settings(content: Any) -> Iterator[str]:
    for key, value in content.items():
        if isinstance(value, dict):
            yield from _settings(value)
        elif isinstance(value, bool | int):
            yield f"{key}: {json.dumps(value)}"
        elif isinstance(value, str) and not value.startswith("["):
            yield f"{key}: '{value}'"


def _nested(resource: Content) -> Content:
    nested: Content = (resource.get("properties") or {}).get("template") or {}
    return nested


if __name__ == "__main__":
    sources, compiled_ = read()
    if told := differences(sources, compiled_):
        sys.exit("\n".join(told))
    compiled_["metadata"] = {"sources": digest(sources)}
    MAIN.write_text(json.dumps(compiled_, indent=2) + "\n", encoding="utf-8", newline="\n")
