"""main.json is main.bicep, compiled: neither can change alone."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from typing import Any

import pytest

from setup.azure.provision.infra import FOLDER, template
from tests.azure.bicep_syntax import BicepError
from tests.azure.compile_bicep import Json, compile_file, compile_text

SOURCES = {
    name: (FOLDER / name).read_text(encoding="utf-8") for name in ("main.bicep", "roles.bicep")
}
COMMENT = re.compile(r"(?<!:)//.*")
WORD = re.compile(r"'[^'$\n]*'|\w+")
SYMBOL = re.compile(r"(resource|module) \w+")
EXISTING = re.compile(r"^resource \w+ ('.*') existing", re.MULTILINE)


def test_json_is_the_compiled_bicep() -> None:
    assert template() == compile_file(FOLDER / "main.bicep"), "python -m tests.azure.compile_bicep"


@pytest.mark.parametrize("file", SOURCES)
def test_every_word_of_the_bicep_counts(file: str) -> None:
    """Another word anywhere outside of a comment: another template, or none at all."""
    source = COMMENT.sub(lambda found: " " * len(found[0]), SOURCES[file])
    modules = {"roles.bicep": SOURCES["roles.bicep"].partition("var ")[0]}  # its parameters: faster
    compiled = compile_text(source, modules.__getitem__)
    words = list(WORD.finditer(source))
    unnoticed = []
    for found in words:
        mutant = source[: found.start()] + _changed(found[0]) + source[found.end() :]
        if _compiled(mutant, modules) == compiled:
            unnoticed.append(source[: found.end()].splitlines()[-1])
    assert len(words) > 150
    # No template has the symbol of what nothing refers to, or the version of what is only named.
    counts = [line for line in unnoticed if f"{line} existing" not in source]
    assert [line for line in counts if not SYMBOL.fullmatch(line)] == []


def test_the_module_names_resources_as_they_are_declared() -> None:
    existing = EXISTING.findall(SOURCES["roles.bicep"])
    assert len(existing) == 3
    assert [kind for kind in existing if f" {kind} = {{" not in SOURCES["main.bicep"]] == []


def test_every_value_of_the_json_counts() -> None:
    compiled = compile_file(FOLDER / "main.bicep")
    paths = list(_leaves(compiled))
    assert len(paths) > 250
    for *path, last in paths:
        mutant = copy.deepcopy(template())
        inside: Any = mutant
        for step in path:
            inside = inside[step]
        inside[last] = f"{inside[last]}x"
        assert mutant != compiled
        del inside[last]
        assert mutant != compiled


def test_the_order_of_properties_does_not_count() -> None:
    turned = SOURCES["main.bicep"].replace(
        "sku: { family: 'A', name: 'standard' }", "sku: { name: 'standard', family: 'A' }"
    )
    assert turned != SOURCES["main.bicep"]
    assert _compiled(turned, SOURCES) == template()


# What the Bicep compiler makes of the left side.
LOWERED = {
    "name": "[parameters('name')]",
    "'plain'": "plain",
    "'[odd'": "[[odd",
    "'a${name}b${count}'": "[format('a{0}b{1}', parameters('name'), parameters('count'))]",
    "'{${name}}'": "[format('{{{0}}}', parameters('name'))]",
    "7": 7,
    "true": True,
    "null": None,
    "['a', name]": ["a", "[parameters('name')]"],
    "{ a: { 'b-c': fixed } }": {"a": {"b-c": "[variables('fixed')]"}},
    "{ '${store.id}': {} }": {
        "[format('{0}', resourceId('Microsoft.Storage/storageAccounts', parameters('name')))]": {}
    },
    "uniqueString(resourceGroup().id)": "[uniqueString(resourceGroup().id)]",
    "on ? 'yes' : null": "[if(parameters('on'), 'yes', null())]",
    "!empty(name) && on": "[and(not(empty(parameters('name'))), parameters('on'))]",
    "on || name != 'x'": "[or(parameters('on'), not(equals(parameters('name'), 'x')))]",
    "(count == 3)": "[equals(parameters('count'), 3)]",
    "store.name": "[parameters('name')]",
    "store.properties.primaryEndpoints.blob": (
        "[reference(resourceId('Microsoft.Storage/storageAccounts', parameters('name')), "
        "'2025-06-01').primaryEndpoints.blob]"
    ),
    "cluster.id": (
        "[resourceId('Microsoft.MachineLearningServices/workspaces/computes', "
        "'w', parameters('name'))]"
    ),
}
AROUND = """
param name string
param count int = 1
param on bool = true
var fixed = 'f'
resource store 'Microsoft.Storage/storageAccounts@2025-06-01' = {
  name: name
}
resource workspace 'Microsoft.MachineLearningServices/workspaces@2026-05-01' existing = {
  name: 'w'
}
resource cluster 'Microsoft.MachineLearningServices/workspaces/computes@2026-05-01' = if (on) {
  parent: workspace
  name: name
  properties: { storage: store.id, store: true }
}
"""


@pytest.mark.parametrize(("bicep", "lowered"), LOWERED.items(), ids=LOWERED)
def test_expressions_are_lowered_as_the_compiler_does(bicep: str, lowered: Any) -> None:
    compiled = compile_text(f"{AROUND}output it object = {bicep}\n", SOURCES.__getitem__)
    assert compiled["outputs"]["it"]["value"] == lowered


def test_resources_are_lowered_as_the_compiler_does() -> None:
    _, cluster = compile_text(AROUND, SOURCES.__getitem__)["resources"]
    store = "[resourceId('Microsoft.Storage/storageAccounts', parameters('name'))]"
    assert cluster == {
        "type": "Microsoft.MachineLearningServices/workspaces/computes",
        "apiVersion": "2026-05-01",
        "condition": "[parameters('on')]",
        "name": "[format('{0}/{1}', 'w', parameters('name'))]",
        "properties": {"storage": store, "store": True},
        "dependsOn": [store],
    }


@pytest.mark.parametrize(
    "wrong",
    [
        "param",
        "param a string\nparam a string",
        "output a string = nothing",
        "output a array = [for x in range(0, 3): x]",
        "var a = 1 + 2",
        "var a = 'it\\'s'",
        "@secure()\nparam a string",
        "@description('x')\nvar a = 1",
        "targetScope = 'subscription'",
        "type t = string",
        "module m 'roles.bicep' = {\n  name: 'm'\n  params: {}\n}",
        "module m 'roles.bicep' = {\n  name: 'm'\n}",
    ],
)
def test_what_is_not_supported_is_refused(wrong: str) -> None:
    with pytest.raises(BicepError):
        compile_text(f"{wrong}\n", SOURCES.__getitem__)


def _changed(word: str) -> str:
    if word.isdigit():
        return str(int(word) + 1)
    return f"{word[:-1]}x'" if word.endswith("'") else f"{word}x"


def _compiled(source: str, modules: dict[str, str]) -> Json | None:
    try:
        return compile_text(source, modules.__getitem__)
    except (BicepError, KeyError, ValueError):
        return None


def _leaves(content: Any) -> Iterator[list[Any]]:
    if not isinstance(content, dict | list):
        yield []
        return
    items = content.items() if isinstance(content, dict) else enumerate(content)
    for key, value in items:
        yield from ([key, *path] for path in _leaves(value))
