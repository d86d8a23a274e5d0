"""The rows to train on, those held out of them, and the general text nothing is trained on."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from setup.common.console import counting, say
from setup.common.errors import FixableError
from setup.common.files import sha256_file
from setup.common.paths import REPOSITORY
from setup.data.rows import COPY
from setup.finetune.examples import render
from setup.finetune.examples.chat_template import Renderer
from setup.finetune.examples.refusals import NotTrainableError, TooLongError
from setup.finetune.examples.tools import Conversation, Message, is_copy, read_turn, tools_of
from setup.recipe.local import Finetune
from setup.serve.contract import folding

_LARGEST_SHARE_HELD_OUT = 0.2
_AGAIN = "python -m setup data --recipe NAME"
_ADD_ROWS = f"add conversations to data.source, then {_AGAIN}"
_FOLD = "--set model.system_role=fold"
# Any day: held-out rows of two runs are compared as they would have been rendered on this one.
_SOME_DAY = datetime(2000, 1, 1)


@dataclass(frozen=True)
class Split:
    """Conversations of the train split: those trained on, and those held out of it.

    ``context_only`` more were left out, for all their answers have weight 0; ``copies`` of the
    former are there once more, for their source has a weight; ``sha256`` is of the file.
    """

    train: list[list[Message]]
    held_out: list[list[Message]]
    context_only: int = 0
    copies: int = 0
    sha256: str = ""

    def remarks(self) -> Iterator[str]:
        """Lines about what its reader would not expect."""
        if self.context_only:
            left_out = f"{_count(self.context_only)} left out, whose answers all have weight 0"
            yield f"{left_out}: nothing in them is to be learnt"
        if self.copies:
            yield f"{_count(self.copies)} to train on are repeats, by the weights of data.source"
        known = {_canonical(row) for row in self.train}
        if repeated := sum(_canonical(row) in known for row in self.held_out):
            yield (
                f"{repeated} of the {len(self.held_out)} held-out conversations are trained on as "
                "well, for the train split repeats them: their loss tells nothing"
            )


def read_split(path: Path, settings: Finetune) -> Split:
    """The train split with ``held_out_rows`` of it (a fifth at most) set aside.

    Which ones follows from their own text and the seed, so that adding rows moves few others. With
    a conversation go the copies that `data` made of it for the weight of its source.

    Raises:
        FixableError: No file, a row that is no conversation, a weight other than 0 and 1, or fewer
            than two different rows with something to learn.
    """
    everything = list(read_rows(path))
    rows = [row for row in everything if _teaches(row)]
    if len(rows) < 2:
        dropped = len(everything) - len(rows)
        others = f", and {dropped} whose answers all have weight 0" if dropped else ""
        what = f"{path} has {len(rows)} conversations{others}, needed are 2 or more"
        raise FixableError(what, _ADD_ROWS)
    if len({_canonical(row) for row in rows}) < 2:
        what = f"{path} has the same conversation {len(rows)} times, needed are 2 different ones"
        raise FixableError(what, _ADD_ROWS)
    originals = [number for number, row in enumerate(rows) if not is_copy(row)]
    count = max(1, min(settings.held_out_rows, int(len(originals) * _LARGEST_SHARE_HELD_OUT)))
    ranked = sorted(originals, key=lambda row: _rank(rows[row], settings.seed))
    chosen = set(ranked[:count])
    held_out = {_canonical(rows[number]) for number in chosen}
    train = [
        row
        for number, row in enumerate(rows)
        if number not in chosen and not (is_copy(row) and _canonical(row) in held_out)
    ]
    return Split(
        train,
        [rows[number] for number in sorted(chosen)],
        len(everything) - len(rows),
        sum(map(is_copy, train)),
        sha256_file(path),
    )


def _teaches(row: list[Message]) -> bool:
    """Tell whether an answer is to be learnt; a row with no answer is refused later, by name."""
    weights = [turn.get("weight", 1) for turn in row if turn["role"] == "assistant"]
    return any(weights) or not weights


def _canonical(row: list[Message]) -> str:
    return json.dumps([row, tools_of(row)] if tools_of(row) else row, ensure_ascii=False)


def _count(conversations: int) -> str:
    return f"{conversations} conversation" + ("s" if conversations > 1 else "")


def _rank(messages: list[Message], seed: int) -> str:
    text = json.dumps([seed, messages], ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def read_rows(path: Path) -> Iterator[list[Message]]:
    """The conversations of a prepared file, turns reduced to role, content and a weight of 0.

    Raises:
        FixableError: No file, a row that is no conversation, or a weight other than 0 and 1.
    """
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
        content = json.loads(line)
        messages = content["messages"]
        tools, copied = content.get("tools") or [], bool(content.get(COPY))
        pairs = [(message["role"], message["content"]) for message in messages]
    except (ValueError, KeyError, TypeError, IndexError):
        raise FixableError(f"{where} is not a JSON object with messages", _AGAIN) from None
    if not pairs or not all(isinstance(part, str) for pair in pairs for part in pair):
        raise FixableError(f"{where} has a message whose role or content is not text", _AGAIN)
    turns = [
        {"role": message["role"], "content": message["content"]}
        | read_turn(message)
        | _weight(f"{where}, message {number}", message)
        for number, message in enumerate(messages, start=1)
    ]
    return Conversation(turns, tools, copied) if tools or copied else turns


def _weight(where: str, message: dict[str, Any]) -> dict[str, int]:
    """The weight of a message where it is 0 on an answer: everything else is as without one."""
    weight = message.get("weight")
    is_number = isinstance(weight, int | float) and not isinstance(weight, bool)
    if weight is not None and not (is_number and weight in (0, 1)):
        raise FixableError(
            f"{where} has weight {json.dumps(weight)[:40]}, not 0 or 1",
            f"give an answer weight 0 (not learnt) or 1 in data.source, then {_AGAIN}",
        )
    if message["role"] == "assistant":
        return {"weight": 0} if weight == 0 else {}
    if weight:
        raise FixableError(
            f"{where} has weight 1, but only answers are learnt and this is the "
            f"{message['role']}'s",
            f"take the weight away in data.source, then {_AGAIN}",
        )
    return {}


def fold_system(rows: Sequence[list[Message]]) -> list[list[Message]]:
    """``rows`` with each system message put before the first question."""
    folded = []
    for row in rows:
        made = folding.fold_system(row)
        folded.append(Conversation(made, tools_of(row)) if tools_of(row) else made)
    return folded


@dataclass(frozen=True)
class Examples:
    """The rows of a split as tokens, and the ``facts`` of them that a run's result tells."""

    train: list[render.Example]
    held_out: list[render.Example]
    facts: dict[str, Any]


def read_examples(split: Split, folds: bool, renderer: Renderer, max_tokens: int) -> Examples:
    """Render both parts of ``split``, ``folds`` as for a model without a system role.

    Raises:
        FixableError: Nothing is left of a part.
    """
    for remark in split.remarks():
        say(f"fine-tuning: {remark}")
    rows = fold_system(split.train) if folds else split.train
    train = make_examples(rows, renderer, max_tokens, "training")
    held_out, held_out_sha256 = read_held_out(split, folds, renderer, max_tokens)
    for remark in _folded([*rows, *([] if folds else split.held_out)], renderer.taken):
        say(f"fine-tuning: {remark}")
    used, aside = _rows_of(train), _rows_of(held_out)
    facts = {
        "train_sha256": split.sha256,
        "held_out_sha256": held_out_sha256,
        "train_rows": used,
        "held_out_rows": aside,
        "left_out_rows": len(rows) + len(split.held_out) - used - aside,
        "context_only_rows": split.context_only,
        "shortened_rows": sum(example.shortened for example in train + held_out),
        "dropped_turns": sum(example.dropped for example in train + held_out),
    }
    return Examples(train, held_out, facts)


def read_held_out(
    split: Split, folds: bool, renderer: Renderer, max_tokens: int
) -> tuple[list[render.Example], str]:
    """Render the held-out part of ``split`` alone; with its sha256, as a run's facts have it.

    Raises:
        FixableError: Nothing is left of it.
    """
    rows = fold_system(split.held_out) if folds else split.held_out
    examples = make_examples(rows, renderer, max_tokens, "held-out")
    return examples, _rows_sha256(rows, examples, renderer, max_tokens)


def _rows_sha256(
    rows: Sequence[list[Message]],
    examples: Sequence[render.Example],
    renderer: Renderer,
    max_tokens: int,
) -> str:
    """Of tokens and labels: the losses of two runs compare only where this is equal.

    ``examples`` are what ``make_examples`` made of ``rows``. Where their template prints the date
    they are rendered once more, of one day for all runs.
    """
    if renderer.prints_date:
        examples, _ = _render_all(rows, renderer.at(_SOME_DAY), max_tokens)
    content = json.dumps([[example.ids, example.labelled] for example in examples])
    return hashlib.sha256(content.encode()).hexdigest()


def _rows_of(examples: Sequence[render.Example]) -> int:
    return len({example.row for example in examples})


def make_examples(
    rows: Sequence[list[Message]], renderer: Renderer, max_tokens: int, part: str
) -> list[render.Example]:
    """``rows`` as examples; what is left out, of rows or of a row, is counted in one line each.

    Raises:
        FixableError: None is left.
    """
    with counting(f"Reading the {part} part", len(rows)) as tell:
        examples, refusals = _render_all(rows, renderer, max_tokens, tell)
    if not examples:
        raise _nothing_left(refusals, part)
    of_part = f"of {len(rows)} conversations of the {part} part"
    for kind in dict.fromkeys(type(error) for _, error in refusals):
        alike = [refusal for refusal in refusals if type(refusal[1]) is kind]
        say(f"{len(alike)} {of_part} left out; the first, {_explain(alike[0])}")
    if shortened := sum(example.shortened for example in examples):
        dropped = f"{sum(example.dropped for example in examples)} in all"
        limit = f"finetune.max_tokens={max_tokens}"
        say(f"{shortened} {of_part} lost their oldest turns, {dropped}: {limit}")
    if len(examples) > (used := _rows_of(examples)):
        apart = f"{_count(used)} of the {part} part as {len(examples)} examples, answer by answer"
        say(f"{apart}: an earlier answer would stand after another prompt than is served")
    if unheard := sum(example.without_system for example in examples):
        say(f"{unheard} {of_part} lost their system message: the template drops it; {_FOLD}")
    return examples


def _folded(rows: Sequence[list[Message]], taken: folding.Taken) -> Iterator[str]:
    """Lines about turns that are put together for a template that does not take them."""
    without_system = [folding.fold_system(row) for row in rows]
    folded = sum(len(new) < len(row) for new, row in zip(without_system, rows, strict=True))
    if folded and not taken.system:
        put = f"that of {_count(folded)} is put before the first question"
        yield f"the chat template has no place for a system message: {put}, when served as well"
    joined = sum(len(taken.fold(row)) < len(row) for row in without_system)
    if joined:
        yield (
            "the chat template takes no two turns of one role in succession: they are joined in "
            f"{_count(joined)}, when served as well"
        )


Refusal = tuple[list[Message], NotTrainableError]


def _render_all(
    rows: Sequence[list[Message]],
    renderer: Renderer,
    max_tokens: int,
    on_progress: Callable[[int], None] = lambda _: None,
) -> tuple[list[render.Example], list[Refusal]]:
    examples, refusals = [], []
    for number, row in enumerate(rows, start=1):
        try:
            offering = renderer.offering(tools_of(row))
            made = render.render_examples(row, offering, max_tokens)
            renderer.prints_date |= offering.prints_date
            examples += [replace(example, row=number) for example in made]
        except NotTrainableError as error:
            refusals.append((row, error))
        on_progress(number)
    return examples, refusals


def _explain(refusal: Refusal) -> str:
    row, error = refusal
    return f"{row[0]['content'][:40]!r}: {error}"


def _nothing_left(refusals: list[Refusal], part: str) -> FixableError:
    """The error for rows that were all refused, with what helps against the commonest reason."""
    (kind, _), *_ = Counter(type(error) for _, error in refusals).most_common(1)
    alike = [refusal for refusal in refusals if type(refusal[1]) is kind]
    _, error = alike[0]
    fix = error.fix or f"prepare other data: {_AGAIN}"
    lengths = [error.tokens for _, error in alike if isinstance(error, TooLongError)]
    if lengths:
        fix = f"raise finetune.max_tokens: {max(lengths)} is enough for all of them"
    return FixableError(
        f"no conversation of the {part} part can be used ({_explain(alike[0])})", fix
    )


def general_examples(tokenizer: Any, max_tokens: int) -> list[render.Example]:
    """Paragraphs of general prose, every token labelled: what a narrow run must not destroy."""
    examples, text = [], REPOSITORY / "data" / "general" / "text.jsonl"
    for line in text.read_text(encoding="utf-8").splitlines():
        made = tokenizer(json.loads(line)["text"], add_special_tokens=False)
        ids = list(made["input_ids"])[:max_tokens]
        examples.append(render.Example(ids, list(range(1, len(ids)))))
    return examples
