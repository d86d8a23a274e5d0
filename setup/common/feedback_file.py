"""The feedback file: what endpoints keep of conversations, one JSON object a line.

Several processes append to it, each under a lock and a whole line at once. No line is changed; a
line goes where its conversation is deleted, and nowhere else.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock, Timeout

from setup.common.paths import drafts_beside, feedback_folder, replacing

ANSWER, FEEDBACK = "answer", "feedback"
_PATIENCE = 5.0  # seconds for the lock; whoever holds it appends one line, or deletes
_TEXTS = ("conversation", "id", "answer")
_TELLING = 8  # characters of a text from which on it tells whose it is
_threads = threading.Lock()  # the lock of the file is looked at anew only every 50 ms

Record = dict[str, Any]


class FullError(Exception):
    """The file has as many bytes as it may."""


class Line(NamedTuple):
    """A line of the file: its number, and its record; where that is None, what stands there."""

    number: int
    record: Record | None
    unread: str = ""


def feedback_path() -> Path:
    """The file, whether it is there or not."""
    return feedback_folder() / "feedback.jsonl"


def feedback_size() -> int:
    """Its size in bytes; 0 where there is none."""
    try:
        return feedback_path().stat().st_size
    except OSError:
        return 0


def append(record: Mapping[str, Any], limit: int) -> None:
    """Write ``record`` as one more line, which only the owner of the file can read.

    Raises:
        FullError: The file would have more than ``limit`` bytes.
        OSError: It cannot be written; it is left as it was.
        filelock.Timeout: Another process holds its lock, and goes on holding it.
    """
    text = json.dumps(record, ensure_ascii=False)
    line = text.encode("utf-8", "replace") + b"\n"
    with _locked(), open(feedback_path(), "ab+", buffering=0, opener=_open_private) as file:
        size = file.seek(0, os.SEEK_END)
        if size and _last_byte(file, size) != b"\n":  # of a process that was killed while writing
            line = b"\n" + line
        if size + len(line) > limit:
            raise FullError
        try:
            if file.write(line) != len(line):
                raise OSError(f"no room for a line in {feedback_path()}")
        except OSError:
            file.truncate(size)
            raise


def read_lines() -> Iterator[Line]:
    """The lines that are there now."""
    try:
        with feedback_path().open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    record = _parsed(line)
                    yield Line(
                        number, record, "" if record else line.decode("utf-8", "replace").strip()
                    )
    except FileNotFoundError:
        return


def conversation_ids() -> Iterator[tuple[Line, str]]:
    """Each line that is there now with the id of its conversation, "" where it has no record.

    The client names it, with the answer or with a rating of it. One that gives no names asks with
    all that was said before, so that a question belongs to the conversation that ended with this;
    where several did, to none of them: people who begin alike may get the same answer.
    """
    by_answer: dict[str, str] = {
        line.record["id"]: line.record["conversation"]
        for line in read_lines()
        if line.record and line.record["conversation"]
    }
    by_text: dict[bytes, set[str]] = {}
    for line in read_lines():
        record = line.record
        if record is None:
            yield line, ""
            continue
        begun = by_text.get(_past(record), set())
        alone = next(iter(begun)) if len(begun) == 1 else record["id"]
        conversation = record["conversation"] or by_answer.setdefault(record["id"], alone)
        if not record["conversation"]:  # who gives names gives them to all that follows
            by_text.setdefault(_said(record), set()).add(conversation)
        yield line, conversation


def delete(conversation: str) -> int:
    """Take a conversation out of the file; returns the number of lines that went.

    With it goes what follows it without a name, also where somebody else may have begun alike:
    nothing of the one who asks for it may stay. Of the lines without a record, which a killed
    process or a slip of the hand leaves, those go that name it or repeat what was said in it.

    Raises:
        OSError, filelock.Timeout: As :func:`append`.
    """
    with _locked():
        gone, said = set[int](), set[bytes]()
        deleted, unread = list[Record](), list[Line]()
        for line, name in conversation_ids():
            record = line.record
            if record is None:
                unread.append(line)
                continue
            unnamed = not record["conversation"]
            if name == conversation or (unnamed and gone and _past(record) in said):
                gone.add(line.number)
                deleted.append(record)
                if unnamed:
                    said.add(_said(record))
        traces = _traces(conversation, deleted) if unread else []
        gone |= {line.number for line in unread if any(t.search(line.unread) for t in traces)}
        if not (conversation and gone):
            return 0
        path = feedback_path().resolve()  # a link goes on leading to what it led to
        for left in drafts_beside(path):  # of a deletion that was killed
            left.unlink()
        with (
            replacing(path) as draft,
            open(draft, "xb", opener=_open_private) as new,
            path.open("rb") as old,
        ):
            new.writelines(text for number, text in enumerate(old, 1) if number not in gone)
    return len(gone)


def _traces(conversation: str, deleted: Sequence[Record]) -> list[re.Pattern[str]]:
    """The forms in which a line that cannot be read gives away that it is of ``deleted``.

    An id counts beside its key alone, for it may be a common word, and whole: that of another
    conversation may begin alike. A text counts whole, too, also where the line ends with it.
    """
    names = {conversation, *(record["id"] for record in deleted)} - {""}
    turns = [turn for record in deleted for turn in record["messages"]]
    said = [turn.get("content") for turn in turns if turn["role"] in ("user", "assistant")]
    said += [record["answer"] for record in deleted]
    texts = {text.strip() for text in said if isinstance(text, str)}
    long = {text for text in texts if len(text) >= _TELLING}
    written = {json.dumps(text, ensure_ascii=escaped) for text in long for escaped in (True, False)}
    key, space = r"\b(?:conversation|id)\W{1,8}", r"(?:\s|\\[nrt])*"
    forms = [rf"{key}{re.escape(name)}(?![\w.:-]|$)" for name in names]
    forms += [rf'"{space}{re.escape(text[1:-1])}{space}(?:"|$)' for text in written]
    return [re.compile(form) for form in forms]


def correction(feedback: Record) -> str:
    """The answer as it should have been, "" where none was given or it changes nothing."""
    text = str(feedback.get("correction") or "").strip()
    return "" if text == feedback["answer"].strip() else text


def ratings_sha256() -> str | None:
    """SHA-256 (hex) of the feedback in the file, None where there is none."""
    digest, is_empty = hashlib.sha256(), True
    for line in read_lines():
        if line.record and line.record["kind"] == FEEDBACK:
            is_empty = False
            digest.update(json.dumps(line.record, sort_keys=True).encode())
    return None if is_empty else digest.hexdigest()


@contextmanager
def _locked() -> Iterator[None]:
    path = feedback_path()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if sys.platform != "win32" and path.parent.stat().st_mode & 0o077:
        with suppress(OSError):  # of another owner, or on a disk without modes: the file is private
            path.parent.chmod(0o700)
    lock = FileLock(path.with_suffix(".lock"), mode=0o600, thread_local=False)
    began = time.monotonic()
    if not _threads.acquire(timeout=_PATIENCE):
        raise Timeout(lock.lock_file)
    try:
        with lock.acquire(timeout=max(0.0, _PATIENCE - (time.monotonic() - began))):
            yield
    finally:
        _threads.release()


def _open_private(path: str, flags: int) -> int:
    descriptor = os.open(path, flags, 0o600)
    if sys.platform != "win32" and os.fstat(descriptor).st_mode & 0o077:
        os.fchmod(descriptor, 0o600)
    return descriptor


def _last_byte(file: Any, size: int) -> bytes:
    file.seek(size - 1)
    return bytes(file.read(1))


def _parsed(line: bytes) -> Record | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    is_record = (
        isinstance(record, dict)
        and record.get("kind") in (ANSWER, FEEDBACK)
        and all(isinstance(record.get(name), str) for name in _TEXTS)
        and isinstance(record.get("messages"), list)
        and all(
            isinstance(turn, dict) and isinstance(turn.get("role"), str)
            for turn in record["messages"]
        )
    )
    return record if is_record else None


def _said(record: Record) -> bytes:
    """A digest of all that was said up to the record's answer."""
    return _digest([*record["messages"], {"role": "assistant", "content": record["answer"]}])


def _past(record: Record) -> bytes:
    """A digest of all that had been said before its question, up to the last answer."""
    turns = record["messages"]
    for end in range(len(turns), 0, -1):
        if turns[end - 1].get("role") == "assistant":
            return _digest(turns[:end])
    return b""


def _digest(turns: list[Record]) -> bytes:
    """Clients strip what they send back of an answer, so white space at the ends does not count."""
    said = [(turn.get("role"), _stripped(turn.get("content"))) for turn in turns]
    return hashlib.sha256(json.dumps(said).encode()).digest()


def _stripped(content: Any) -> Any:
    return content.strip() if isinstance(content, str) else content
