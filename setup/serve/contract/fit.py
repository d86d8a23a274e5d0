"""The check that an answer kept to what it was held to, before it is vouched for."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

from setup.serve.contract.error_reply import EngineError

_PATIENCE = 0.2  # seconds for one answer
# What may stand at the end of JSON that was cut, where a JSON reader expects something else.
_CUT = re.compile(r"\s*(-|\.|(\.\d+)?[eE][+-]?|tr?u?|fa?l?s?|nu?l?|u[0-9a-fA-F]{0,4})?")


def check_json(text: str, *, cut: bool) -> tuple[Any, bool]:
    """Return the JSON that ``text`` begins with, None where that is cut, and whether it is whole.

    EngineError unless it is, or is the start of some and was ``cut``.
    """
    value = None
    try:
        value, end = json.JSONDecoder(parse_float=Decimal).raw_decode(text)
        whole = not text[end:].strip()
    except json.JSONDecodeError as error:
        end = len(text) if error.msg.startswith("Unterminated") else error.pos
        whole = False
    if not whole and not (cut and _CUT.fullmatch(text, end)):
        raise EngineError(500, "its answer left the JSON schema that it was held to")
    return value, whole


def check_answer(text: str, schema: dict[str, Any], *, cut: bool) -> bool:
    """Raise EngineError as :func:`check_json`, and where whole JSON does not fit ``schema``.

    The engine drops a grammar of which it cannot go on, and loosens some bounds, without a word.
    Returns whether it is whole.
    """
    answer, whole = check_json(text, cut=cut)
    if not whole or (cut and not isinstance(answer, (dict, list))):
        return whole  # of a number that was cut nobody knows where it ends
    if problem := _misfit(answer, json.dumps(schema)):
        what = "its answer does not fit the JSON schema that it was held to"
        raise EngineError(500, f"{what}: {problem}")
    return True


def _misfit(answer: Any, written: str) -> str:
    """The first place of ``answer`` that a schema, ``written`` as JSON, does not allow; else "".

    It is looked for as long as ``_PATIENCE`` lasts: a schema may have more ways than it has words.
    """
    from jsonschema import Draft7Validator, Draft202012Validator, validators
    from referencing import Registry

    if '"patternProperties"' in written:
        return ""  # their patterns would be looked for without a limit of time
    schema = json.loads(written, parse_float=Decimal)
    deadline = time.monotonic() + _PATIENCE
    drafts = [Draft202012Validator, Draft7Validator]
    if "/draft-0" in str(schema.get("$schema")):
        drafts.reverse()
    for draft in drafts:
        checks = {name: _until(deadline, check) for name, check in draft.VALIDATORS.items()}
        checks |= {
            "pattern": lambda _, pattern, text, __: _unmatched(pattern, text, deadline),
            "format": lambda _, name, text, __: _no_day(name, text),
        }
        known = validators.extend(draft, checks)(schema, registry=Registry())
        try:
            problem = next(known.iter_errors(answer), None)
        except _LateError:
            return ""
        except Exception:  # noqa: BLE001, S112 - a schema that makes no sense to this draft
            continue
        return f"{problem.validator} at {problem.json_path}" if problem else ""
    return ""


class _LateError(Exception):
    """The time for an answer is over."""


def _until(deadline: float, check: Callable[..., Any]) -> Callable[..., Iterator[Any]]:
    """``check``, a keyword's, which gives up at ``deadline``."""

    def checked(*arguments: Any) -> Iterator[Any]:
        if time.monotonic() > deadline:
            raise _LateError
        yield from check(*arguments) or ()

    return checked


def _unmatched(pattern: str, text: Any, deadline: float) -> Iterator[Any]:
    """Look for ``pattern`` until ``deadline``: some take for ever, and the client wrote it."""
    import regex
    from jsonschema import ValidationError

    left = deadline - time.monotonic()
    if not isinstance(text, str) or left <= 0:
        return
    try:
        is_there = regex.search(pattern, text, timeout=left)
    except (regex.error, TimeoutError):
        return
    if not is_there:
        yield ValidationError("no match")


def _no_day(name: str, text: Any) -> Iterator[Any]:
    """Find days that no month has: the engine knows a date by its digits."""
    from datetime import date

    from jsonschema import ValidationError

    if name in ("date", "date-time") and isinstance(text, str):
        try:
            date.fromisoformat(text[:10].replace("0000-", "2000-", 1))  # it knows no year 0
        except ValueError:
            yield ValidationError("no such day")
