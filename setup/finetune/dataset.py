"""What is trained on, what is held out of it, and the general text nothing is trained on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from setup import console
from setup.errors import FixableError
from setup.finetune.examples import Example, Message, NotTrainableError, make_example
from setup.paths import REPOSITORY
from setup.recipe import Finetune

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

GENERAL_TEXT = REPOSITORY / "data" / "general" / "text.jsonl"
_LARGEST_SHARE_HELD_OUT = 0.2
_AGAIN = "python -m setup data"


@dataclass(frozen=True)
class Split:
    """Conversations of the train split: those trained on, and those held out of it."""

    train: list[list[Message]]
    held_out: list[list[Message]]


def read_split(path: Path, settings: Finetune) -> Split:
    """The train split with ``held_out_rows`` of it (a fifth at most) set aside.

    Which ones follows from their own text and the seed, so that adding rows moves few others.

    Raises:
        FixableError: No file, a row that is no conversation, or fewer than two rows.
    """
    rows = list(_read_rows(path))
    if len(rows) < 2:
        raise FixableError(f"{path} has {len(rows)} conversations, needed are 2 or more", _AGAIN)
    count = max(1, min(settings.held_out_rows, int(len(rows) * _LARGEST_SHARE_HELD_OUT)))
    ranked = sorted(range(len(rows)), key=lambda row: _rank(rows[row], settings.seed))
    chosen = set(ranked[:count])
    return Split(
        [row for number, row in enumerate(rows) if number not in chosen],
        [rows[number] for number in sorted(chosen)],
    )


def _rank(messages: list[Message], seed: int) -> str:
    text = json.dumps([seed, messages], ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _read_rows(path: Path) -> Iterator[list[Message]]:
    try:
        # Not splitlines: U+2028 and its like, which a conversation may have, end no line of JSON.
        lines = path.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        raise FixableError(f"no train split at {path}", _AGAIN) from None
    except (OSError, UnicodeDecodeError) as error:
        raise FixableError(f"cannot read {path}: {error}", _AGAIN) from None
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield _messages(f"{path}:{number}", line)


def _messages(where: str, line: str) -> list[Message]:
    try:
        messages = json.loads(line)["messages"]
        pairs = [(message["role"], message["content"]) for message in messages]
    except (ValueError, KeyError, TypeError, IndexError):
        raise FixableError(f"{where} is no JSON object with messages", _AGAIN) from None
    if not pairs or not all(isinstance(part, str) for pair in pairs for part in pair):
        raise FixableError(f"{where} has a message whose role or content is no text", _AGAIN)
    return [{"role": role, "content": content} for role, content in pairs]


def fold_system(rows: Sequence[list[Message]]) -> list[list[Message]]:
    """``rows`` with each system message put before the first user turn, as the chat flow does it
    for models without a system role.
    """
    folded = []
    for row in rows:
        if len(row) > 1 and row[0]["role"] == "system":
            text = f"{row[0]['content']}\n\n{row[1]['content']}"
            folded.append([{"role": row[1]["role"], "content": text}, *row[2:]])
        else:
            folded.append(row)
    return folded


def examples_sha256(examples: Sequence[Example]) -> str:
    """Of tokens and labels: the losses of two runs compare only where this is equal."""
    content = json.dumps([[example.ids, example.labelled] for example in examples])
    return hashlib.sha256(content.encode()).hexdigest()


def make_examples(
    rows: Sequence[list[Message]], tokenizer: PreTrainedTokenizerBase, max_tokens: int, part: str
) -> list[Example]:
    """``rows`` as examples; those none can be made of are counted in one line and left out.

    Raises:
        FixableError: None is left.
    """
    examples, reasons = [], []
    for row in rows:
        try:
            examples.append(make_example(row, tokenizer, max_tokens))
        except NotTrainableError as error:
            reasons.append(f"{row[0]['content'][:40]!r}: {error}")
    if not examples:
        raise FixableError(
            f"no conversation of the {part} part can be used ({reasons[0]})",
            "raise finetune.max_tokens, or prepare other data: python -m setup data",
        )
    if reasons:
        told = f"{len(reasons)} of {len(rows)} conversations of the {part} part left out"
        console.err.print(f"{told}; the first, {reasons[0]}", markup=False)
    return examples


def general_examples(tokenizer: Any, max_tokens: int) -> list[Example]:
    """Paragraphs of general prose, every token labelled: what a narrow run must not destroy."""
    examples = []
    for line in GENERAL_TEXT.read_text(encoding="utf-8").splitlines():
        ids = tokenizer(json.loads(line)["text"], add_special_tokens=False)["input_ids"]
        ids = list(ids)[:max_tokens]
        examples.append(Example(ids, list(range(1, len(ids)))))
    return examples
