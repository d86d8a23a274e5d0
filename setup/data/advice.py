"""Advice on a row that cannot be used: the format it is in, and the change that makes it usable."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from setup.data.sources.file import Record

_MESSAGES = '{"messages": [{"role": "user", "content": %s}, {"role": "assistant", "content": %s}]}'
_ALTERNATE = "give rows with messages that alternate user and assistant (data/README.md)"

# Columns of a row without messages: the format, what the user says, what the assistant answers.
_PAIRS = (
    (("instruction", "output"), "the Alpaca format", "INSTRUCTION (and INPUT)", "OUTPUT"),
    (("prompt", "chosen"), "the format of preference pairs", "PROMPT", "CHOSEN"),
    (("prompt", "completion"), "the format prompt and completion", "PROMPT", "COMPLETION"),
    (("prompt", "response"), "the format prompt and response", "PROMPT", "RESPONSE"),
    (("question", "answer"), "the format question and answer", "QUESTION", "ANSWER"),
    (("query", "response"), "the format query and response", "QUERY", "RESPONSE"),
    (("input", "output"), "the format input and output", "INPUT", "OUTPUT"),
)
_TURNS = ("conversations", "conversation", "dialogue", "dialog", "chat", "turns")

# How files begin that are no text, under a name that says they are.
_MAGIC = {
    b"\x1f\x8b": "a gzip archive",
    b"PK\x03\x04": "a zip archive or an Excel file",
    b"\x28\xb5\x2f\xfd": "a Zstandard archive",
    b"PAR1": "a Parquet file",
    b"SQLite format 3": "an SQLite database",
}
_MAGIC_FIX = "unpack or rename it (.parquet), or write one JSON object a line"

_ROLES = {
    "developer": 'write "system" for "developer", which is its name at other models',
    "human": 'write "user" for "human"',
    "gpt": 'write "assistant" for "gpt"',
    "model": 'write "assistant" for "model"',
    "bot": 'write "assistant" for "bot"',
    "tool": "tools cannot be trained yet: give rows without tool calls",
    "function": "functions cannot be trained yet: give rows without function calls",
}

_NUMBER = 'write numbers as text, in quotes: "content": "5" for "content": 5'
# What helps, by a part of the linter's reason.
_REASONS = {
    "calls a tool": _ROLES["tool"],
    "a list as content": (
        'write the text itself as content: "content": "…" for "content": [{"type": "text", '
        '"text": "…"}]; images and sounds cannot be trained on'
    ),
    "an int as content": _NUMBER,
    "a float as content": _NUMBER,
    "only answers are learnt": "take the weight away from turns that are no answers",
    "has the weight": "give answers the weight 0 or 1, or none",
    "has weight 0": "leave the row out, or give an answer that is to be learnt the weight 1",
}

_PYTHON_LITERALS = (
    "import ast,json,sys; sys.stdout.writelines(json.dumps(ast.literal_eval(line))+chr(10)"
    " for line in open(sys.argv[1],encoding='utf-8') if line.strip())"
)
_WITHOUT_PROMPT = (
    "import json,sys; sys.stdout.writelines(json.dumps({k:v for k,v in json.loads(line).items()"
    " if k!='prompt'})+chr(10) for line in open(sys.argv[1],encoding='utf-8') if line.strip())"
)


class Advice(NamedTuple):
    """The format a row is in, as the end of a sentence or "", and the fix."""

    form: str
    fix: str


def advise(record: Record, reason: str, source: str) -> Advice:
    """Return the advice on ``record``, which cannot be used for ``reason``."""
    if record.line is not None and record.row is None:
        return _about_line(record.line, reason, source)
    if isinstance(record.row, dict):
        if record.row.get("messages") is None:
            return _about_columns(record.row)
        return Advice("", _about_turns(record.row, reason, source))
    if isinstance(record.row, list) and record.row and isinstance(record.row[0], dict):
        return Advice(": these are turns without an object around", 'write {"messages": […]}')
    return Advice("", _ALTERNATE)


def run_python(code: str, source: str) -> str:
    """The command that writes the lines of ``source`` anew, and names the result."""
    if not source.lower().endswith(".jsonl"):
        return "write the rows again, one JSON object a line, without the column"
    new = Path(source).with_name(f"{Path(source).stem}-new.jsonl")
    old_path, new_path = shlex.quote(source), shlex.quote(str(new))
    return f'python -c "{code}" {old_path} > {new_path}, then --set data.source={new_path}'


def _about_line(line: bytes, reason: str, source: str) -> Advice:
    packed = next((name for mark, name in _MAGIC.items() if line.startswith(mark)), "")
    if packed:
        return Advice(f": this is {packed}, whatever its name says", _MAGIC_FIX)
    if reason == "not UTF-8":
        new = shlex.quote(str(Path(source).with_name(f"{Path(source).stem}-utf8.jsonl")))
        command = f"iconv -f WINDOWS-1252 -t UTF-8 {shlex.quote(source)} > {new}"
        return Advice("", f"save it as UTF-8, for example {command}, then --set data.source={new}")
    if line.startswith((b"{'", b"[{'")):
        return Advice(": these are Python literals, not JSON", run_python(_PYTHON_LITERALS, source))
    return Advice("", "correct the line; one JSON object a line, as json.dumps(row) writes it")


def _about_columns(row: dict[str, Any]) -> Advice:
    for names, form, question, answer in _PAIRS:
        if all(name in row for name in names):
            fix = f"adapters come later; write each row as {_MESSAGES % (question, answer)}"
            return Advice(f": this is {form}, which is not read yet", fix)
    for name in _TURNS:
        turns = row.get(name)
        if not (isinstance(turns, list) and turns and isinstance(turns[0], dict)):
            continue
        if {"from", "value"} <= set(turns[0]):
            fix = (
                f"adapters come later; write {name} as messages, from as role (human: user, gpt: "
                "assistant) and value as content"
            )
            return Advice(": this is the ShareGPT format, which is not read yet", fix)
        fix = f"write {name} as messages" if {"role", "content"} <= set(turns[0]) else _ALTERNATE
        return Advice(f": its turns lie in the column {name}", fix)
    columns = ", ".join(list(map(str, row))[:8]) or "none"
    form = f": its columns are {columns}"
    if set(row) <= {"text", "id", "meta", "source"} and "text" in row:
        form = ": this is plain text without turns, which is not trained on"
    return Advice(form, f"write each row as {_MESSAGES % ('QUESTION', 'ANSWER')}")


def _about_turns(row: dict[str, Any], reason: str, source: str) -> str:
    if isinstance(row.get("prompt"), list):
        told = "prompt is a list as TRL has it, which is not read yet; messages holds it: "
        return told + run_python(_WITHOUT_PROMPT, source)
    for part, fix in _REASONS.items():
        if part in reason:
            return fix
    turns = row["messages"] if isinstance(row["messages"], list) else []
    roles = [str(turn.get("role")) for turn in turns if isinstance(turn, dict)]
    unknown = next((role for role in roles if f"unknown role {role!r}" in reason), "")
    plain = unknown.strip().lower()
    if plain != unknown and plain in {"system", "user", "assistant"}:
        return f'write "{plain}" for {json.dumps(unknown, ensure_ascii=False)}'
    return _ROLES.get(unknown, _ALTERNATE)
