"""The prompt that is trained held against the one that llama.cpp will make when it serves."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from setup.common.console import say
from setup.common.errors import FixableError
from setup.finetune.examples.chat_template import Renderer
from setup.finetune.examples.refusals import RefusedByTemplateError
from setup.finetune.examples.tools import Message
from setup.weights.base import Base
from setup.weights.gguf_file import open_header
from setup.weights.llama_cpp import NoAnswerError, asked, write_vocabulary

_TURNS: list[Message] = [
    {"role": "system", "content": "You sell lamps, 12 for 1,234.50 euros; don't say more."},
    {"role": "user", "content": "It's 12:30 on 3 May 2025: what does the  red lamp cost?\n\n\tHm?"},
    {"role": "assistant", "content": "Die größte kostet 7 €, مرحبا, 你好 👍🏽."},
    {"role": "user", "content": "Are you sure?"},
]
_LARGE = 1 << 30  # bytes of a file whose vocabulary is sooner copied than all of it loaded
_FIX_TOKENS = (
    "--set finetune.base=FOLDER (or a Hugging Face id), the transformers model that the file was "
    "made of and whose tokenizer it brings"
)


def refuse_other_prompt(base: Base, renderer: Renderer) -> None:
    """Raise FixableError unless llama.cpp gives the model of ``base`` the prompts it trains on.

    Transformers rebuilds a tokenizer from what a .gguf file says of it, and both have a Jinja of
    their own. Where the template prints the date, only tokens are compared.
    """
    try:
        text = renderer.text(_TURNS, prompt=True)
    except RefusedByTemplateError:  # then rows are refused too, by name
        return
    turns = "" if renderer.prints_date else json.dumps(renderer.taken.fold(_TURNS))
    trained = _Trained(turns, text, renderer.begin, tuple(renderer.encode(text).ids))
    difference = _difference(base.file, base.sha256, trained)
    if difference:
        what = f"{base.file} cannot be trained as it is served: llama.cpp makes other {difference}"
        tokens = difference.startswith("tokens") and not base.source
        raise FixableError(what, _FIX_TOKENS if tokens else "name another model.source")


class _Trained(NamedTuple):
    """A prompt as it is trained; ``turns`` as JSON, empty where texts are not to be compared."""

    turns: str
    text: str
    begin: str
    ids: tuple[int, ...]


@cache  # a process that trains several times asks once
def _difference(file: Path, sha256: str, trained: _Trained) -> str:
    """The difference to what llama.cpp makes, in words, empty for none."""
    after_begin = trained.text.removeprefix(trained.begin)
    with tempfile.TemporaryDirectory(prefix="finetune-phi-") as folder:
        vocabulary = file
        if file.stat().st_size > _LARGE:
            vocabulary = Path(folder) / f"{sha256[:8]}.gguf"
            write_vocabulary(open_header(file), vocabulary)
        try:
            with asked(vocabulary) as ask:
                served = after_begin
                if trained.turns:
                    turns = {"messages": json.loads(trained.turns)}
                    served = str(ask("/apply-template", turns)["prompt"])
                body = {"content": served, "add_special": True, "parse_special": True}
                tokens = tuple(ask("/tokenize", body)["tokens"])
        except NoAnswerError as error:
            say(f"fine-tuning: prompts are not held against those that are served: {error}")
            return ""
    if not trained.text.endswith(served):
        return f"text than is trained: {_apart(served, after_begin)}"
    return (
        "" if tokens == trained.ids else f"tokens than are trained: {_apart(tokens, trained.ids)}"
    )


def _apart(served: Sequence[object], trained: Sequence[object]) -> str:
    """The first place where both differ."""
    pairs = enumerate(zip(served, trained, strict=False))
    ends = min(len(served), len(trained))
    place = next((number for number, (one, other) in pairs if one != other), ends)
    return f"{served[place:][:20]!r}, not {trained[place:][:20]!r}"
