"""One conversation as a row: its identity, its line, and the flat columns that Prompt flow maps.

A duplicate means the same in the sample's generator and in the preparation of every other data set.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import orjson

from setup.common.errors import FixableError

Message = dict[str, Any]
Row = dict[str, Any]
COPY = "copy_for_weight"  # the column of a row of train that is there once more: which time

# Sentence punctuation, which ends or opens a word without being part of it. All else is part of it:
# C++, C#, x != 5, -5, $5, 50 %, emoji, vowel signs.
_CLOSING = ".,;:?!…\"'’”»›)]}。．，、；：！？）］｝〕】》」』〉،؛؟۔।॥။၊။።፣༎"  # noqa: RUF001
_OPENING = "\"'“‘„‚«‹([{¿¡「『《〈（［｛【〔"  # noqa: RUF001
_IN_CLASS = re.escape(_CLOSING + _OPENING)
_AFTER_WORD = re.compile(rf"(?<=[^\s{_IN_CLASS}])[{re.escape(_CLOSING)}]+\Z")
_BEFORE_WORD = re.compile(rf"\A[{re.escape(_OPENING)}]+(?=[^\s{_IN_CLASS}])")
_BETWEEN_WORDS = re.compile(r"(?<=[^\W\d_])[-_'’,;:]+(?=[^\W\d_])")  # noqa: RUF001
_AFTER_DIGIT = re.compile("(?<=\\d)[!'\"]")  # a factorial, feet, inches
_KEPT = str.maketrans("!'\"", "\ufdd0\ufdd1\ufdd2")  # code points that no text has
_AS_BEFORE = str.maketrans("\ufdd0\ufdd1\ufdd2", "!'\"")
_ENDS = ".!?…"
# Letters and digits as wide as an ideograph, and kana and jamo of half its width.
_OTHER_WIDTH = re.compile("[\uff10-\uff19\uff21-\uff3a\uff41-\uff5a\uff66-\uffdc]+")
# Marks where a line may or may not break, left by web pages and word processors: a person sees
# nothing. Joiners are no such marks: scripts of India and Persia and emoji are written with them.
_INVISIBLE = "\u200b\u00ad\u2060\ufeff"
_NOTHING_VISIBLE = re.compile(rf"[\s\0{_INVISIBLE}]*")
_ALNUM = bytes(byte for byte in range(128) if chr(byte).isalnum())
_NO_LETTERS = bytes(set(range(256)) - set(_ALNUM))
_LOWER = bytes(range(256)).lower()
_LONG_WORD = 64
_KNOWN_WORDS = 1 << 15  # five megabytes


def normalise(text: str) -> str:
    """Text without case, composed (NFC), of one width, without invisible marks and the punctuation
    of sentences, white space folded.

    Punctuation goes only where it cannot be anything else: at the end or the start of a word, of
    the marks ``-_',;:`` also between two letters. What may carry meaning stays.
    """
    if not text.isascii():
        text = _caseless(text)
    else:
        text = text.lower()
        plain = text.rstrip(".?").strip()
        if not plain.encode("ascii").translate(None, _ALNUM + b" ") and "  " not in plain:
            return plain
    words = text.replace("\0", " ").split()
    while words and not words[-1].strip(_ENDS):
        words.pop()
    while words and not words[0].strip(_ENDS):
        words.pop(0)
    return " ".join(map(_WORDS.__getitem__, words))


def letters(text: str) -> bytes:
    """The ASCII letters and digits of ``normalise(text)``, which take a tenth of its time."""
    text = text if text.isascii() else _caseless(text)
    return text.encode("utf-8", "surrogatepass").translate(_LOWER, _NO_LETTERS)


def _caseless(text: str) -> str:
    text = _OTHER_WIDTH.sub(lambda run: unicodedata.normalize("NFKC", run.group()), text).casefold()
    for mark in _INVISIBLE:
        text = text.replace(mark, "")
    return unicodedata.normalize("NFC", text)


def is_empty(text: str) -> bool:
    """Tell whether a person would see nothing of ``text``."""
    return _NOTHING_VISIBLE.fullmatch(text) is not None


class _Words(dict[str, str]):
    """Words and what is left of them: most come again, and are found five times faster."""

    def __missing__(self, word: str) -> str:
        folded = word if word.isalnum() else _fold_word(word)
        if len(word) < _LONG_WORD:
            if len(self) >= _KNOWN_WORDS:
                self.clear()
            self[word] = folded
        return folded


def _fold_word(word: str) -> str:
    word = _AFTER_DIGIT.sub(lambda mark: mark.group().translate(_KEPT), word)
    word = _BETWEEN_WORDS.sub(" ", _BEFORE_WORD.sub("", _AFTER_WORD.sub("", word)))
    return word.translate(_AS_BEFORE)


_WORDS = _Words()


def conversation_key(messages: Sequence[Message]) -> bytes:
    """16 bytes that are equal exactly when two conversations are equal after `normalise`."""
    return _digest("\n".join(f"{turn['role']}:{_fold(turn_text(turn))}" for turn in messages))


def prompt_key(prompt: str) -> bytes:
    """16 bytes that are equal exactly when two prompts are equal after `normalise`."""
    return _digest(_fold(prompt))


def _fold(text: str) -> str:
    # A text of symbols alone would fold to nothing, and all such texts would be one.
    return normalise(text) or text.strip()


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def conversation_id(messages: Sequence[Message]) -> str:
    """The row's `prompt_id`: SHA-256 (hex) of all turns, roles included."""
    text = "".join(f"{turn['role']}\0{turn_text(turn)}\0" for turn in messages)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def turn_text(turn: Message) -> str:
    """The content of a turn, and the calls of tools that it makes."""
    calls = turn.get("tool_calls")
    text: str = turn["content"]
    return f"{text}{json.dumps(calls, ensure_ascii=False)}" if calls else text


def user_turns(messages: Sequence[Message]) -> list[str]:
    """Return the contents of the user's messages, turn by turn."""
    return [turn["content"] for turn in messages if turn["role"] == "user"]


def learnt_part(messages: Sequence[Message]) -> Sequence[Message]:
    """The conversation up to the last answer that is to be learnt: not of weight 0."""
    for end in range(len(messages), 0, -1):
        turn = messages[end - 1]
        if turn["role"] == "assistant" and turn.get("weight") != 0:
            return messages[:end]
    return messages


def flat_columns(messages: Sequence[Message]) -> dict[str, Any]:
    """The columns a column mapping can reach, of a conversation that ends with the assistant.

    Returns:
        `question` (last user turn), `chat_history` in Prompt flow's form (one
        `{"inputs": {"question"}, "outputs": {"answer"}}` per earlier exchange; a system turn has
        no place in it) and `ground_truth` (last assistant turn).
    """
    turns = [turn["content"] for turn in messages if turn["role"] != "system"]
    *history, (question, answer) = zip(turns[::2], turns[1::2], strict=True)
    return {
        "question": question,
        "chat_history": [{"inputs": {"question": q}, "outputs": {"answer": a}} for q, a in history],
        "ground_truth": answer,
    }


def encode_row(row: Any) -> bytes:
    """The row as one line of UTF-8 JSON, line feed included; decimals become numbers.

    Raises:
        FixableError: a value has no form in JSON, such as the bytes of an image.
    """
    try:
        return orjson.dumps(row, _encode_value, orjson.OPT_APPEND_NEWLINE)
    except TypeError as error:
        where = f"column {_culprit(row)} of a row" if isinstance(row, dict) else "a row"
        raise FixableError(
            f"{where} cannot be written as JSON ({error})", fix="remove the column that holds it"
        ) from error


def _encode_value(value: Any) -> Any:
    """A decimal as the number of the same digits; as text where no number has them."""
    if not isinstance(value, Decimal):
        raise TypeError(f"type {type(value).__name__}")
    if value == value.to_integral_value() and abs(value) < 2**53:
        return int(value)
    number = float(value)
    return number if Decimal(repr(number)) == value else str(value)


def _culprit(row: Row) -> str:
    for name, value in row.items():
        try:
            orjson.dumps(value, _encode_value)
        except TypeError:
            return str(name)
    return "?"
