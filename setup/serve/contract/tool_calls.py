"""Tools: what a request may hold of them, and the form in which a model's template calls them.

llama.cpp's own server drops tools in silence where the template has no place for them, and holds an
answer to none of ``tool_choice``. Here the template is asked how it writes a call; an answer is
held to that form, and to the schema of the tool's parameters, by a grammar.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from setup.serve.contract.grammars import HEAD, check_size, json_rule
from setup.serve.contract.messages import FunctionName, Part

_MOST_CALLS = 8  # of one answer
_NAMES = ("zqfirst", "zqsecond")
_ARGUMENTS = re.compile(r'\{\s*"zqkey"\s*:\s*"zqvalue"\s*\}')
_TEXT, _RESULT = "zqtext", "zqresult"


class Function(Part):
    """A function that the model may call; every schema is obeyed, ``strict`` or not."""

    name: FunctionName
    description: str = ""
    parameters: dict[str, Any] = Field(default={})
    strict: bool = False


class Tool(Part):
    """A tool; functions are the only kind there is."""

    type: Literal["function"]
    function: Function


class FunctionChoice(Part):
    """The name of the function to call."""

    name: FunctionName


class NamedChoice(Part):
    """The one function that must be called."""

    type: Literal["function"]
    function: FunctionChoice


def _differ(tools: list[Tool]) -> list[Tool]:
    names = [tool.function.name for tool in tools]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise ValueError(f"two functions are named {twice!r}")
    for tool in tools:
        parameters, name = tool.function.parameters, tool.function.name
        if parameters.get("type", "object") not in ("object", ["object"]):
            raise ValueError(f"the parameters of {name} must have the type object")
        check_size(parameters)
    return tools


Tools = Annotated[list[Tool], Field(max_length=128), AfterValidator(_differ)]
Choice = Literal["none", "auto", "required"] | NamedChoice


@dataclass(frozen=True)
class Wish:
    """The tools of a request that an answer may or must call; ``schemas`` are of their arguments.

    ``told`` are all the tools, as the template takes them; ``must`` and ``most`` say whether it has
    to call and how often it may, ``otherwise`` is the schema of an answer without a call, None for
    any text.
    """

    told: list[dict[str, Any]]
    schemas: dict[str, dict[str, Any]]
    must: bool
    most: int
    otherwise: dict[str, Any] | None


def wish_for(
    tools: list[Tool], choice: Choice, parallel: bool, otherwise: dict[str, Any] | None
) -> Wish:
    """Return the wish of a request; ValueError where ``choice`` names no tool of it."""
    schemas = {tool.function.name: _arguments(tool.function.parameters) for tool in tools}
    most = _MOST_CALLS if parallel else 1
    if isinstance(choice, NamedChoice):
        name = choice.function.name
        if name not in schemas:
            raise ValueError(f"tool_choice: there is no function {name!r} in tools")
        schemas, most = {name: schemas[name]}, 1
    elif choice == "none":
        schemas = {}
    # What the template shows: a description that is not there would be shown as an empty one.
    told = [tool.model_dump(exclude_unset=True) for tool in tools]
    return Wish(told, schemas, choice not in ("none", "auto"), most, otherwise)


def _arguments(parameters: dict[str, Any]) -> dict[str, Any]:
    """The schema of a function's arguments; without parameters there are none."""
    parameters = {"type": "object", **parameters}
    if parameters.get("properties") or "additionalProperties" in parameters:
        return parameters
    empty = {name for name in ("properties", "required") if parameters.get(name) in ([], {})}
    if parameters.keys() - empty - {"type", "$schema", "title", "description"}:
        return parameters
    return {"type": "object", "properties": {}, "additionalProperties": False}


def _call(name: str, number: int) -> dict[str, Any]:
    function = {"name": name, "arguments": '{"zqkey": "zqvalue"}'}
    return {"id": f"zqcall00{number}", "type": "function", "function": function}


def _probe(*calls: dict[str, Any]) -> list[dict[str, Any]]:
    answer = {"content": "", "tool_calls": list(calls)} if calls else {"content": _TEXT}
    user = {"role": "user", "content": "zqask"}
    return [user, {"role": "assistant", **answer}, user]


_CALLS = [_call(name, number) for number, name in enumerate(_NAMES)]
# The conversations whose prompts tell how a template writes calls, and the tool they are told of.
PROBES = {
    "text": _probe(),
    "call": _probe(_CALLS[0]),
    "two": _probe(*_CALLS),
    "result": [
        *_probe(_CALLS[0])[:2],
        {"role": "tool", "tool_call_id": _CALLS[0]["id"], "content": _RESULT},
    ],
}
PROBE_NAME = "zqtool"
PROBE_TOOL = {
    "type": "function",
    "function": {"name": PROBE_NAME, "description": "zq", "parameters": {"type": "object"}},
}


@dataclass(frozen=True)
class CallForm:
    """A template's form of calls: ``opening``, then name, ``middle``, arguments for each, ``end``.

    ``between`` stands between the arguments of one call and the name of the next.
    """

    opening: str
    middle: str
    between: str
    end: str
    results: bool

    @property
    def mark(self) -> str:
        """The start of a call, by which it is told from text."""
        return self.opening.partition("{")[0].strip() or self.opening.strip()

    def grammar(self, wish: Wish) -> str:
        """The grammar of the answers that ``wish`` allows."""
        more = f"({_quoted(self.between)} call){{0,{wish.most - 1}}} " if wish.most > 1 else ""
        rest = f"call {more}{_quoted(self.end)}"
        if wish.must:
            rules = [f"start: {_quoted(self.opening)} {rest}"]
        elif wish.otherwise is not None:
            start = f"start: {_quoted(self.opening)} {rest} | answer"
            rules = [start, json_rule("answer", wish.otherwise)]
        else:
            mark = re.sub(r"[^A-Za-z0-9_]", _escaped, self.mark)
            after = _quoted(self.opening.lstrip().removeprefix(self.mark))
            rules = [
                f"start: TEXT | before {after} {rest}",
                f"before[stop={_quoted(self.mark)}]: /(.|\\n)*/",
                f"TEXT: /(.|\\n)*/ & ~/(.|\\n)*{mark}(.|\\n)*/",
            ]
        calls = [
            f"{_quoted(name + self.middle)} arguments_{number}"
            for number, name in enumerate(wish.schemas)
        ]
        arguments = [
            json_rule(f"arguments_{number}", schema)
            for number, schema in enumerate(wish.schemas.values())
        ]
        return HEAD + "\n".join([*rules, f"call: {' | '.join(calls)}", *arguments]) + "\n"

    def text_length(self, text: str, wish: Wish, whole: bool = False) -> int:
        """The number of characters of an answer that are of no call; ``whole``: nothing follows."""
        if wish.must:
            return 0
        if wish.otherwise is not None:
            start = text.lstrip()
            begun = not whole and self.mark.startswith(start)
            return 0 if begun or start.startswith(self.mark) else len(text)
        place = text.find(self.mark)
        if place >= 0 or whole:
            return place if place >= 0 else len(text)
        longest = min(len(text), len(self.mark))
        ends = (n for n in range(longest, 0, -1) if text.endswith(self.mark[:n]))
        return len(text) - next(ends, 0)

    def read(self, calls: str) -> list[dict[str, Any]]:
        """The calls that ``calls`` begins with, the last one perhaps cut.

        None where not even the name of the first is whole.
        """
        return list(self._read(calls.lstrip().removeprefix(self.opening.lstrip())))

    def _read(self, rest: str) -> Iterator[dict[str, Any]]:
        while True:
            name, found, rest = rest.partition(self.middle)
            if not found:
                return
            try:
                _, end = json.JSONDecoder().raw_decode(rest)
            except ValueError:
                end = len(rest)
            yield {
                "id": f"call_{secrets.token_hex(12)}",
                "type": "function",
                "function": {"name": name, "arguments": rest[:end]},
            }
            rest = rest[end:]
            if not rest.startswith(self.between):
                return
            rest = rest.removeprefix(self.between)


def form_of(prompts: Mapping[str, str | None]) -> CallForm | None:
    """Find how a template writes calls, by its ``prompts`` for ``PROBES``; None where it does not.

    Nor where it writes arguments as anything else than JSON, which no schema could hold them to.
    """
    text, call, two = (prompts[name] or "" for name in ("text", "call", "two"))
    if PROBE_NAME not in text:
        return None
    start = text.find(_TEXT)
    tail = text[start + len(_TEXT) :]
    one, both = _pieces(call, start, 1), _pieces(two, start, 2)
    if not one or not both or call[:start] != text[:start] or not one[-1].endswith(tail):
        return None
    opening, middle, end = one
    results = _RESULT in (prompts["result"] or "")
    form = CallForm(opening, middle, both[2], end.removesuffix(tail), results)
    return form if both[:2] == one[:2] and form.mark and form.between else None


def _pieces(prompt: str, start: int, calls: int) -> list[str]:
    """The text around the names and arguments of ``calls`` calls; none where one is missing."""
    pieces, place = [], start
    for name in _NAMES[:calls]:
        named = prompt.find(name, place)
        arguments = _ARGUMENTS.search(prompt, max(named, 0))
        if named < 0 or not arguments:
            return []
        pieces += [prompt[place:named], prompt[named + len(name) : arguments.start()]]
        place = arguments.end()
    return [*pieces, prompt[place:]]


def _quoted(text: str) -> str:
    return json.dumps(text)


def _escaped(match: re.Match[str]) -> str:
    return f"\\x{{{ord(match[0]):x}}}"
