"""Advice on a row that cannot be used: the format it is in, and the change that makes it usable."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from setup.common.json_rows import NOT_UTF8, recoding_fix

from .formats.origin import as_yaml
from .formats.turns import is_turns

if TYPE_CHECKING:
    from .formats.source import Record

_MESSAGES = '{"messages": [{"role": "user", "content": %s}, {"role": "assistant", "content": %s}]}'
_ALTERNATE = "give rows with messages that alternate user and assistant (data/README.md)"
_OTHER_ROWS = "give other rows: data/README.md shows one of each format"

# How files begin that are no text, under a name that says they are.
_MAGIC = {
    b"\x1f\x8b": "a gzip archive",
    b"PK\x03\x04": "a zip archive or an Excel file",
    b"\x28\xb5\x2f\xfd": "a Zstandard archive",
    b"PAR1": "a Parquet file",
    b"SQLite format 3": "an SQLite database",
}
_MAGIC_FIX = "name it so (.jsonl.gz, .jsonl.zst, .parquet), or write one JSON object a line"

_ROLES = {
    "developer": 'write "system" for "developer", which is its name at other models',
    "human": 'write "user" for "human"',
    "gpt": 'write "assistant" for "gpt"',
    "model": 'write "assistant" for "model"',
    "bot": 'write "assistant" for "bot"',
}
_TOOLS = "give each call a function with a name, and each answer of a tool a call before it"

_NUMBER = 'write numbers as text, in quotes: "content": "5" for "content": 5'
# What helps, by a part of the linter's reason.
_REASONS = {
    "calls a tool": _TOOLS,
    "is tool, expected": _TOOLS,
    "answers the call": _TOOLS,
    "a list as content": (
        'write the text itself as content: "content": "…", or [{"type": "text", "text": "…"}]'
    ),
    "only text is trained on": "leave the row out: images and sounds cannot be trained on",
    "is no text": "write it as text, in quotes",
    "no list of functions": "write tools as OpenAI has them (data/README.md)",
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

_UNWRAP = (
    "import json,sys; rows=json.load(open(sys.argv[1],encoding='utf-8'))['%s'];"
    " json.dump(rows,open(sys.argv[2],'w'))"
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
        if ", is " in reason and "fits no format" in reason:
            fix = "write each row as an object of texts (data/README.md shows one of each format)"
            return _python_literal(record.row) or Advice("", fix)
        if "fits no format" in reason:
            advice = _wrapped(record.row, source) or _about_columns(record.row)
            unnamed = "; the first line must name the columns" if record.given else ""
            return Advice(advice.form or unnamed, advice.fix)
        literal = _python_literal(record.row) if "not a list of turns" in reason else None
        return literal or Advice("", _about_turns(record.row, reason))
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
    if reason.startswith(NOT_UTF8):
        return Advice("", recoding_fix(source))
    if line.startswith((b"{'", b"[{'")):
        return Advice(": these are Python literals, not JSON", run_python(_PYTHON_LITERALS, source))
    return Advice("", "correct the line; one JSON object a line, as json.dumps(row) writes it")


def _about_columns(row: dict[str, Any]) -> Advice:
    if literal := _python_literal(row):
        return literal
    if "chosen" in row:
        columns = {"completion": "chosen"}
        if "prompt" not in row:
            columns = {"prompt": "conversations", **columns}
        if "prompt" not in row and "conversations" not in row:
            columns = {"messages": "chosen"}
        sets = " ".join(f"--set data.columns.{what}={name}" for what, name in columns.items())
        return Advice(
            ", the format of preference pairs, which are not compared",
            f"{sets} learns what was chosen",
        )
    if chats := [str(name) for name, value in row.items() if is_turns(value)]:
        return Advice("", f"say which column has the turns: --set {_column('messages', chats[0])}")
    texts = [str(name) for name, value in row.items() if isinstance(value, str)]
    if texts == ["text"]:
        form = ": this is plain text without turns, which is not trained on"
        return Advice(form, f"write each row as {_MESSAGES % ('QUESTION', 'ANSWER')}")
    asked, answered = texts if len(texts) == 2 else ("COLUMN", "COLUMN")
    sets = f"--set {_column('question', asked)} --set {_column('answer', answered)}"
    return Advice("", f"say which column is which: {sets}; or {_OTHER_ROWS}")


def _wrapped(row: dict[str, Any], source: str) -> Advice | None:
    """The advice on a file whose one object holds the rows."""
    name = next(
        (name for name, value in row.items() if isinstance(value, list) and not is_turns(value)), ""
    )
    rows = row.get(name)
    if not rows or not isinstance(rows[0], dict) or not source.lower().endswith(".json"):
        return None
    new = Path(source).with_name(f"{Path(source).stem}-rows.json")
    paths = f"{shlex.quote(source)} {shlex.quote(str(new))}"
    command = f"python -c {shlex.quote(_UNWRAP % name)} {paths}"
    return Advice(
        f": the rows lie in its {name}",
        f"{command}, then --set data.source={shlex.quote(str(new))}",
    )


def _python_literal(row: dict[str, Any]) -> Advice | None:
    """The advice on a table that pandas wrote with lists in it."""
    names = [str(name) for name, value in row.items() if str(value).startswith(("[{'", '[{"'))]
    texts = [name for name in names if isinstance(row[name], str)]
    if not texts:
        return None
    column = f"df[{texts[0]!r}]"
    return Advice(
        f": its {texts[0]} are Python literals, not JSON",
        f"write them as JSON, as {column} = {column}.map(json.dumps) does before df.to_csv",
    )


def _column(what: str, name: str) -> str:
    return shlex.quote(f"data.columns.{what}={as_yaml(name)}")


def _about_turns(row: dict[str, Any], reason: str) -> str:
    for part, fix in _REASONS.items():
        if part in reason:
            return fix
    turns = row["messages"] if isinstance(row.get("messages"), list) else []
    roles = [str(turn.get("role")) for turn in turns if isinstance(turn, dict)]
    unknown = next((role for role in roles if f"unknown role {role!r}" in reason), "")
    plain = unknown.strip().lower()
    if plain != unknown and plain in {"system", "user", "assistant"}:
        return f'write "{plain}" for {json.dumps(unknown, ensure_ascii=False)}'
    return _ROLES.get(unknown, _ALTERNATE if turns else _OTHER_ROWS)
