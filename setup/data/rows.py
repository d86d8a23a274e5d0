"""One conversation as a row: its identity, and the flat columns that Prompt flow maps.

Shared by the sample's generator and by the preparation of every other dataset, so that a duplicate
means the same everywhere.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from typing import Any

Message = dict[str, str]

_NOT_WORD = re.compile(r"[\W_]+")
_FOLD_ASCII = bytes(byte if chr(byte).isalnum() else ord(" ") for byte in range(128)) + bytes(128)


def normalise(text: str) -> str:
    """Lower case, with every run of punctuation and whitespace folded to one space."""
    if text.isascii():
        # The same as the expression below, an order of magnitude faster on long conversations.
        folded = text.lower().encode("ascii").translate(_FOLD_ASCII)
        return b" ".join(folded.split()).decode("ascii")
    return _NOT_WORD.sub(" ", text.lower()).strip()


def conversation_key(messages: Sequence[Message]) -> bytes:
    """16 bytes that are equal exactly when two conversations are equal after `normalise`."""
    text = "\n".join(f"{turn['role']}:{_fold(turn['content'])}" for turn in messages)
    return _digest(text)


def prompt_key(prompt: str) -> bytes:
    """16 bytes that are equal exactly when two prompts are equal after `normalise`."""
    return _digest(_fold(prompt))


def conversation_id(messages: Sequence[Message]) -> str:
    """The row's `prompt_id`: SHA-256 (hex) of all turns, roles included."""
    digest = hashlib.sha256()
    for turn in messages:
        digest.update(f"{turn['role']}\0{turn['content']}\0".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def first_prompt(messages: Sequence[Message]) -> str:
    """The first user turn."""
    return next(turn["content"] for turn in messages if turn["role"] == "user")


def flat_columns(messages: Sequence[Message]) -> dict[str, Any]:
    """The columns a column mapping can reach, of a conversation that ends with the assistant.

    Returns:
        `question` (last user turn), `chat_history` in Prompt flow's form (one
        `{"inputs": {"question"}, "outputs": {"answer"}}` per earlier exchange; a system turn has
        no place in it) and `ground_truth` (last assistant turn).
    """
    *history, (question, answer) = _exchanges(messages)
    return {
        "question": question,
        "chat_history": [{"inputs": {"question": q}, "outputs": {"answer": a}} for q, a in history],
        "ground_truth": answer,
    }


def _exchanges(messages: Sequence[Message]) -> Iterator[tuple[str, str]]:
    turns = [turn["content"] for turn in messages if turn["role"] != "system"]
    return zip(turns[::2], turns[1::2], strict=True)


def _fold(text: str) -> str:
    # A text of symbols alone would fold to nothing, and all such texts would be one.
    return normalise(text) or text.strip()


def _digest(text: str) -> bytes:
    data = text.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(data, digest_size=16).digest()
