"""An Ollama Modelfile beside an exported GGUF file: its template and its stop tokens.

Ollama does not run the chat template that a GGUF file holds. It knows some two dozen by heart,
takes the most alike of them, and where none is alike it hands the bare question to the model. So
the template is written out in Ollama's own language, Go's text/template: the pieces that the
model's template puts around each turn are found by rendering one, and are written only if they put
conversations together to the letter as the model was trained on them.

Sources: https://github.com/ollama/ollama, docs/modelfile.mdx and template/template.go (``Named``,
``collate``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from setup.common.errors import FixableError
from setup.common.files import draft_of
from setup.finetune.examples.chat_template import Renderer
from setup.finetune.examples.dataset import fold_system
from setup.finetune.examples.refusals import RefusedByTemplateError
from setup.finetune.examples.tools import Message
from setup.weights.base import folder_tokenizer
from setup.weights.gguf_file import open_header

MARK = "# Written by python -m setup export."
_SYSTEM, _QUESTION, _ANSWER, _NEXT = "SYSTEMTEXT", "QUESTIONONE", "ANSWERONE", "QUESTIONTWO"
_UNWRITABLE = ("{{", "}}", '"""')  # what cannot stand in a Go template in a Modelfile
# Vocabularies, and how they split texts, that begin a text with BOS where the file does not say.
_BOS_BY_DEFAULT = ("llama", "llama3", "llama-v3", "llama-bpe")

Render = Callable[[list[Message], bool], str]


@dataclass(frozen=True)
class Pieces:
    """The text around the turns of a conversation, up to where the next answer begins.

    ``begin`` comes first where there is no system message; where there is one, ``system`` around
    it. A system message that is ``folded`` stands in the first question.
    """

    begin: str
    system: tuple[str, str]
    folded: bool
    question: tuple[str, str]
    answer: tuple[str, str]

    def text(self, messages: list[Message]) -> str:
        """Put ``messages`` together, which end with a question."""
        has_system = messages[0]["role"] == "system"
        text = self.begin
        if has_system:
            text = messages[0]["content"].join(self.system)
        for number, turn in enumerate(messages[has_system:]):
            before, after = self.question if turn["role"] == "user" else self.answer
            left_out = self.folded and has_system and not number
            text += ("" if left_out else before) + turn["content"] + after
        return text

    def template(self) -> str:
        """The pieces in Go's text/template, of Ollama's variables System and Messages."""
        before, after = self.question
        if self.folded:  # the system message is the first of Messages
            before = "{{ if or (not $.System) (gt $i 1) }}" + before + "{{ end }}"
        return (
            "{{ if .System }}" + "{{ .System }}".join(self.system) + "{{ else }}" + self.begin
            + "{{ end }}{{ range $i, $_ := .Messages }}"
            + '{{ if eq .Role "user" }}' + before + "{{ .Content }}" + after
            + '{{ else if eq .Role "assistant" }}' + self.answer[0] + "{{ .Content }}"
            + "{{ if gt (len (slice $.Messages $i)) 1 }}" + self.answer[1]
            + "{{ end }}{{ end }}{{ end }}"
        )  # fmt: skip


def write_modelfile(gguf: Path, tokenizer: Path, folds: bool, context_window: int) -> str:
    """Write the Modelfile of ``gguf``, an exported file, beside it; returns what must be said.

    ``tokenizer`` is the folder of the model's tokenizer, whose template is that of the training;
    ``folds`` as for a model that was trained without a system role.

    Raises:
        FixableError: It cannot be written, or a file of that name is not ours.
    """
    target = modelfile_of(gguf)
    try:
        renderer = Renderer(folder_tokenizer(str(tokenizer)))
    except (OSError, ValueError, KeyError, TypeError):
        return f"no Modelfile: the tokenizer in {tokenizer} cannot be loaded"
    pieces = find_pieces(renderer, folds)
    lines = [MARK, f"# ollama create NAME -f {target.name}", f"FROM ./{gguf.name}"]
    remark = ""
    if pieces is None:
        remark = (
            f"{target.name} has no TEMPLATE: the model's chat template cannot be written in "
            "Ollama's language, which will guess one"
        )
        lines.append("# No TEMPLATE: the model's own cannot be written in Ollama's language.")
    else:
        bos = _bos(gguf)
        template = _without(bos, pieces).template()
        lines.append(f'TEMPLATE """{template}"""')
        lines += [f'PARAMETER stop "{token}"' for token in _stop_tokens(renderer, pieces)]
        if renderer.prints_date:
            remark = f"{target.name} prints the date of today for ever: Ollama has no other"
    lines.append(f"PARAMETER num_ctx {context_window}")
    with draft_of(target) as draft:
        draft.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
    return remark


def modelfile_of(gguf: Path) -> Path:
    """The Modelfile that belongs to an exported file."""
    return gguf.with_name(f"{gguf.stem}.Modelfile")


def refuse_other_modelfile(gguf: Path) -> None:
    """Raise FixableError for a Modelfile that somebody wrote who is not this program."""
    path = modelfile_of(gguf)
    if path.exists() and not _is_ours(path):
        raise FixableError(f"{path} is not of an export, and would be replaced", "--out a new name")


def _is_ours(path: Path) -> bool:
    try:
        return path.read_text(encoding="utf-8").startswith(MARK)
    except (OSError, UnicodeDecodeError):
        return False


def find_pieces(renderer: Renderer, folds: bool) -> Pieces | None:
    """The pieces of the renderer's template; None where no pieces make what it makes."""

    def render(messages: list[Message], prompt: bool) -> str:
        return renderer.text(fold_system([messages])[0] if folds else messages, prompt)

    try:
        pieces = _split(render)
        if pieces and all(pieces.text(trial) == render(trial, True) for trial in _trials()):
            parts = (pieces.begin, *pieces.system, *pieces.question, *pieces.answer)
            return None if any(sign in part for sign in _UNWRITABLE for part in parts) else pieces
    except RefusedByTemplateError:
        pass
    return None


def _split(render: Render) -> Pieces | None:
    """Find the pieces in the renderings of a few short conversations."""
    question, answer = _turn("user", _QUESTION), _turn("assistant", _ANSWER)
    head, _, question_end = render([question], True).partition(_QUESTION)
    _, _, rest = render([question, answer, _turn("user", _NEXT)], True).partition(_QUESTION)
    before_answer, _, rest = rest.partition(_ANSWER)
    between, _, _ = rest.partition(_NEXT)
    # What comes between belongs to both turns: that an answer ends with where it comes last, if
    # the rest begins a first question too; otherwise as much of it as begins that.
    _, _, answer_end = render([question, answer], False).partition(_ANSWER)
    begins = between.removeprefix(answer_end)
    if not between.startswith(answer_end) or not head.endswith(begins):
        begins = _common_ending(head, between)
    told = render([_turn("system", _SYSTEM), question], True)
    system, _, rest = told.partition(_SYSTEM)
    after_system, _, _ = rest.partition(_QUESTION)
    folded = not after_system.endswith(begins)
    if not before_answer.startswith(question_end):
        return None
    return Pieces(
        begin=head.removesuffix(begins),
        system=(system, after_system if folded else after_system.removesuffix(begins)),
        folded=folded,
        question=(begins, question_end),
        answer=(before_answer.removeprefix(question_end), between.removesuffix(begins)),
    )


def _common_ending(one: str, other: str) -> str:
    length = 0
    while length < min(len(one), len(other)) and one[-length - 1] == other[-length - 1]:
        length += 1
    return one[len(one) - length :]


def _trials() -> Iterator[list[Message]]:
    """Conversations of one to three questions, with and without a system message."""
    for count in (1, 2, 3):
        turns: list[Message] = []
        for number in range(count):
            turns += [
                _turn("user", f"Is {number} a number?"),
                _turn("assistant", f"{number}: yes."),
            ]
        yield turns[:-1]
        yield [_turn("system", "Say little."), *turns[:-1]]


def _turn(role: str, content: str) -> Message:
    return {"role": role, "content": content}


def _stop_tokens(renderer: Renderer, pieces: Pieces) -> list[str]:
    """The token that ends an answer, and every other by which llama.cpp would stop."""
    after = renderer.encode(pieces.answer[1] + pieces.question[0]).ids
    first = next((token for token in after if token in renderer.special), None)
    return [] if first is None else [renderer.decode([first])]


def _bos(gguf: Path) -> str:
    """The token that the engine itself puts before every prompt, empty where it puts none."""
    fields = open_header(gguf).reader.fields

    def value(key: str) -> Any:
        field = fields.get(f"tokenizer.ggml.{key}")
        return field.contents() if field else None

    adds, number = value("add_bos_token"), value("bos_token_id")
    if adds is None:
        adds = value("model") in _BOS_BY_DEFAULT or value("pre") in _BOS_BY_DEFAULT
    return str(value("tokens")[number]) if adds and number is not None else ""


def _without(bos: str, pieces: Pieces) -> Pieces:
    """``pieces`` without the token that the engine puts before them."""
    system = (pieces.system[0].removeprefix(bos), pieces.system[1])
    return replace(pieces, begin=pieces.begin.removeprefix(bos), system=system)
