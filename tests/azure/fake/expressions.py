"""The expression language of ARM templates, as far as our template speaks it: ``[if(…, …, …)]``.

https://learn.microsoft.com/azure/azure-resource-manager/templates/template-expressions
"""

from __future__ import annotations

import base64
import hashlib
import re
import uuid
from collections.abc import Callable
from typing import Any

from tests.azure.fake.messages import AzureError

_TOKEN = re.compile(r"\s*('(?:[^']|'')*'|-?\d+|\w+|.)")
# Microsoft's namespace for guid(): https://github.com/Azure/bicep/issues/1870
_GUIDS = uuid.UUID("11fb06fb-712d-4ddd-98c7-e71bbd588830")
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "empty": lambda value: value is None or len(value) == 0,
    "equals": lambda left, right: left == right,
    "not": lambda value: not value,
    "and": lambda *values: all(values),
    "or": lambda *values: any(values),
    "true": lambda: True,
    "false": lambda: False,
    "null": lambda: None,
    "last": lambda items: items[-1],
    "split": lambda text, mark: text.split(mark),
    "format": lambda text, *values: text.format(*values),
    "guid": lambda *parts: str(uuid.uuid5(_GUIDS, "-".join(parts))),
    "uniquestring": lambda *parts: _unique("-".join(parts)),
}


def invalid(message: str) -> AzureError:
    """What ARM answers to a template that cannot be evaluated."""
    return AzureError(400, "InvalidTemplate", f"Deployment template validation failed: {message}")


def _unique(text: str) -> str:
    """13 characters that depend on the text; not Azure's hash, but of the same form."""
    return base64.b32encode(hashlib.sha256(text.encode()).digest()).decode().lower()[:13]


class Evaluator:
    """Evaluates JSON that has expressions in it.

    ``scoped`` are the functions that depend on the template (``parameters``, ``reference``…).
    """

    def __init__(self, scoped: dict[str, Callable[..., Any]]) -> None:
        self._functions = FUNCTIONS | scoped

    def value(self, content: Any) -> Any:
        """``content`` with every expression in it replaced by what it stands for."""
        if isinstance(content, list):
            return [self.value(item) for item in content]
        if isinstance(content, dict):
            pairs = (
                (str(self.value(key)), self.value(value), value) for key, value in content.items()
            )
            # A property that an expression makes null is one that was not sent.
            return {key: value for key, value, said in pairs if value is not None or said is None}
        if not isinstance(content, str) or not (content[:1] == "[" and content[-1:] == "]"):
            return content
        tokens = _TOKEN.findall(content[1:-1])
        found = self._read(tokens)()
        if tokens:
            raise invalid(f"{content!r}: cannot be read from {tokens[0]!r} on")
        return found

    def _read(self, tokens: list[str]) -> Callable[[], Any]:
        """Take one expression from the tokens, and return what evaluates it: ``if`` is lazy."""
        token = tokens.pop(0)
        if token[0] == "'":
            return lambda: token[1:-1].replace("''", "'")
        if token.lstrip("-").isdigit():
            return lambda: int(token)
        if not tokens or tokens.pop(0) != "(":
            raise invalid(f"{token!r} is no function")
        arguments: list[Callable[[], Any]] = []
        while tokens[0] != ")":
            if arguments and tokens.pop(0) != ",":
                raise invalid(f"the arguments of {token}() are not separated")
            arguments.append(self._read(tokens))
        tokens.pop(0)
        keys = []
        while tokens[:1] == ["."]:
            keys.append(tokens[1])
            del tokens[:2]
        return lambda: self._member(token, self._call(token.lower(), arguments), keys)

    def _call(self, name: str, arguments: list[Callable[[], Any]]) -> Any:
        if name == "if":  # only the branch that is taken
            condition, *branches = arguments
            return branches[0 if condition() else 1]()
        if name not in self._functions:
            raise invalid(f"the template function {name!r} is not valid")
        return self._functions[name](*(argument() for argument in arguments))

    @staticmethod
    def _member(name: str, value: Any, keys: list[str]) -> Any:
        for key in keys:
            parts = {part.lower(): one for part, one in value.items()}
            if key.lower() not in parts:
                raise invalid(f"the property {key!r} doesn't exist on {name}()")
            value = parts[key.lower()]
        return value
