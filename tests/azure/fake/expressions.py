"""The expression language of ARM templates: ``[concat(parameters('name'), '-hub')]``.

https://learn.microsoft.com/azure/azure-resource-manager/templates/template-expressions
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.azure.fake.functions import FUNCTIONS
from tests.azure.fake.messages import AzureError

_TOKEN = re.compile(r"\s*(?:'((?:[^']|'')*)'|(-?\d+)|([A-Za-z_][\w.]*?(?=\s*\()|\w+)|(.))")


def invalid(message: str) -> AzureError:
    """What ARM answers to a template that cannot be evaluated."""
    return AzureError(400, "InvalidTemplate", f"Deployment template validation failed: {message}")


@dataclass(frozen=True)
class Call:
    """A function and its arguments, not evaluated yet."""

    name: str
    arguments: list[Node]


@dataclass(frozen=True)
class Access:
    """``of.name`` or ``of[index]``."""

    of: Node
    key: Node


Node = str | int | Call | Access


class Parser:
    """Reads one expression, without its brackets."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = _TOKEN.findall(text)
        self._at = 0

    def parse(self) -> Node:
        """The whole text as one expression.

        Raises:
            AzureError: It is not one.
        """
        node = self._node()
        if self._at < len(self._tokens):
            raise invalid(f"{self._text!r}: cannot be read from {self._symbol()!r} on")
        return node

    def _symbol(self) -> str:
        return str(self._tokens[self._at][3]) if self._at < len(self._tokens) else ""

    def _take(self, symbol: str) -> bool:
        taken = self._symbol() == symbol
        self._at += taken
        return taken

    def _need(self, symbol: str) -> None:
        if not self._take(symbol):
            raise invalid(f"{self._text!r}: {symbol!r} is expected")

    def _node(self) -> Node:
        if self._at >= len(self._tokens):
            raise invalid(f"{self._text!r}: ends too early")
        text, number, word, symbol = self._tokens[self._at]
        self._at += 1
        if number:
            return int(number)
        if symbol:
            raise invalid(f"{self._text!r}: {symbol!r} is not expected")
        node: Node = Call(word, self._arguments()) if word else text.replace("''", "'")
        while word:
            if self._take("."):
                key = self._tokens[self._at][2]
                self._at += 1
                node = Access(node, key)
            elif self._take("["):
                node = Access(node, self._node())
                self._need("]")
            else:
                break
        return node

    def _arguments(self) -> list[Node]:
        self._need("(")
        found: list[Node] = []
        while not self._take(")"):
            if found:
                self._need(",")
            found.append(self._node())
        return found


Scoped = dict[str, Callable[..., Any]]


class Evaluator:
    """Evaluates JSON that has expressions in it.

    Args:
        scoped: The functions that depend on the template (``parameters``, ``reference``…), by
            lower-case name.
    """

    def __init__(self, scoped: Scoped) -> None:
        self._functions = FUNCTIONS | scoped | {"copyindex": self._copy_index}
        self._copies: list[tuple[str, int]] = []

    def value(self, content: Any) -> Any:
        """``content`` with every expression in it replaced by what it stands for."""
        if isinstance(content, str):
            return self._text(content)
        if isinstance(content, list):
            return [self.value(item) for item in content]
        if isinstance(content, dict):
            result = {str(self.value(k)): self.value(v) for k, v in content.items() if k != "copy"}
            return result | self._copied(content.get("copy"))
        return content

    def repeated(self, name: str, count: int, content: Any) -> list[Any]:
        """``content`` evaluated ``count`` times, ``copyIndex()`` counting."""
        results = []
        for index in range(count):
            with self.loop((name, index)):
                results.append(self.value(content))
        return results

    @contextmanager
    def loop(self, step: tuple[str, int] | None) -> Iterator[None]:
        """Evaluate inside one step of a copy loop, or of none."""
        self._copies += [step] if step else []
        try:
            yield
        finally:
            if step:
                self._copies.pop()

    def _copied(self, loops: Any) -> dict[str, list[Any]]:
        if isinstance(loops, dict):
            return {"copy": self.value(loops)}
        return {
            loop["name"]: self.repeated(loop["name"], self.value(loop["count"]), loop["input"])
            for loop in loops or []
        }

    def _copy_index(self, name: Any = 0, offset: int = 0) -> int:
        if not self._copies:
            raise invalid("copyIndex() outside of a copy loop")
        if isinstance(name, int):
            return self._copies[-1][1] + name
        return dict(self._copies)[name] + offset

    def _text(self, text: str) -> Any:
        if not text.startswith("[") or not text.endswith("]"):
            return text
        return text[1:] if text.startswith("[[") else self._node(Parser(text[1:-1]).parse())

    def _node(self, node: Node) -> Any:
        if isinstance(node, Call):
            return self._call(node)
        return self._access(node) if isinstance(node, Access) else node

    def _call(self, call: Call) -> Any:
        name = call.name.lower()
        if name == "if":  # only the branch that is taken
            condition, *branches = call.arguments
            return self._node(branches[0 if self._node(condition) else 1])
        if name not in self._functions:
            raise invalid(f"the template function {call.name!r} is not valid")
        try:
            return self._functions[name](*map(self._node, call.arguments))
        except (TypeError, ValueError, KeyError, IndexError) as error:
            raise invalid(f"{call.name}(): {error!r}") from None

    def _access(self, access: Access) -> Any:
        of, key = self._node(access.of), self._node(access.key)
        if isinstance(of, list) and isinstance(key, int) and key < len(of):
            return of[key]
        if isinstance(of, dict):
            for name, value in of.items():
                if name.lower() == str(key).lower():
                    return value
        where = f"{access.of.name}()" if isinstance(access.of, Call) else "the expression"
        raise invalid(f"the language expression property {key!r} doesn't exist on {where}")
