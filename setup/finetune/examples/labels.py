"""The labels of a rendered conversation: which of its tokens are learnt.

An answer is marked with its stop token, by where the model begins to write when it is served.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from setup.finetune.examples import written_tools
from setup.finetune.examples.chat_template import Rendered, Renderer
from setup.finetune.examples.refusals import JoinedError, NotTrainableError, RewrittenError
from setup.finetune.examples.tools import Message

_FEW = 8  # answers whose prompts are all rendered: for more that costs the square of their number


def learnt_answers(messages: Sequence[Message]) -> list[int]:
    """The numbers of the answers to learn."""
    return [
        number
        for number, turn in enumerate(messages)
        if turn["role"] == "assistant" and turn.get("weight", 1)
    ]


def system_and_turns(messages: Sequence[Message]) -> tuple[list[Message], list[Message]]:
    """A system message that comes first, if there is one, and the turns after it."""
    count = int(bool(messages) and messages[0]["role"] == "system")
    return list(messages[:count]), list(messages[count:])


def label(messages: list[Message], rendered: Rendered, renderer: Renderer) -> list[int]:
    """Positions of the tokens of all answers to learn, each with its stop token."""
    answers = [i for i, turn in enumerate(messages) if turn["role"] == "assistant"]
    learnt = learnt_answers(messages)
    if not learnt:
        raise NotTrainableError("it holds no answer" + (" to learn: weight 0" if answers else ""))
    starts = _starts_by_offsets(messages, answers, rendered.text, renderer)
    labelled: list[int] = []
    token = 0
    for index in learnt:
        before = messages[:index]
        start = starts[index] if starts else _answer_start(before, rendered.text, renderer)
        while token < len(rendered) and rendered.offsets[token][0] < start:
            token += 1
        _see_apart(rendered, token, start, renderer)
        if messages[index].get("tool_calls"):
            stop = written_tools.stop_of_calls(messages[: index + 1], rendered, token, renderer)
            labelled += range(token, stop + 1)
            token = stop + 1
            continue
        answer = messages[index]["content"].strip()
        stop = _stop_token(rendered, token, start, answer, renderer)
        written = rendered.text[start : rendered.offsets[stop][0]]
        if written.strip() != answer:
            raise _unlike(messages[: index + 1], written, renderer)
        # By position, never by id: the padding token is often the stop token itself, and a model
        # whose stop tokens are masked never learns to stop.
        labelled += range(token, stop + 1)
        token = stop + 1
    return labelled


def _see_apart(rendered: Rendered, token: int, start: int, renderer: Renderer) -> None:
    """See that the prompt before ``start`` has the tokens that it has alone, when it is served.

    An answer that begins with white space may make others of its end. No token reaches over a
    special one, so that all from the last of those on is enough to look at.
    """
    ids, first = rendered.ids[:token], token - 1
    while first > 0 and ids[first] not in renderer.special:
        first -= 1
    alone = renderer.encode(rendered.text[rendered.offsets[max(first, 0)][0] : start]).ids
    if ids[max(first, 0) :] != alone:
        raise JoinedError(start)


def _answer_start(before: list[Message], text: str, renderer: Renderer) -> int:
    """The place where the model starts to write: the end of its prompt when it is served."""
    prompt = renderer.text(before, prompt=True) if before else ""
    if not prompt or not text.startswith(prompt):
        raise RewrittenError(
            "the chat template renders a prompt differently once an answer follows"
        )
    return len(prompt)


def _starts_by_offsets(
    messages: list[Message], answers: list[int], text: str, renderer: Renderer
) -> dict[int, int]:
    """``_answer_start`` of each of ``answers`` without rendering all that comes before it.

    Empty for few answers, and where a turn looks otherwise in its place than it does alone
    (numbered turns, a rewritten history): there only the prompts themselves can tell.
    """
    if len(answers) <= _FEW:
        return {}
    try:
        return _add_up(messages, answers, text, renderer)
    except NotTrainableError:  # of a part of the conversation only, or said again for all of it
        return {}


def _add_up(
    messages: list[Message], answers: list[int], text: str, renderer: Renderer
) -> dict[int, int]:
    """From one answer to the next, ``text`` must go on as a rendering of these exchanges alone.

    The first and the last prompt are compared as a whole. Empty where anything differs.
    """
    system, _ = system_and_turns(messages)
    begin, end = len(system), _answer_start(messages[: answers[0]], text, renderer)
    starts = {answers[0]: end}
    for answer, following in pairwise(answers):
        until = renderer.text(system + messages[begin:answer], prompt=True)
        alone = renderer.text(system + messages[begin:following], prompt=True)
        added = alone[len(until) :]
        if not alone.startswith(until) or not text.startswith(added, end):
            return {}
        begin, end = answer + 1, end + len(added)
        starts[following] = end
    return starts if _answer_start(messages[: answers[-1]], text, renderer) == end else {}


def _stop_token(rendered: Rendered, first: int, start: int, answer: str, renderer: Renderer) -> int:
    """The first special token from ``first`` on, which is where generation stops.

    A token that was only added, not marked as special, counts where the whole answer is before it.
    """
    ids, text, offsets = rendered.ids, rendered.text, rendered.offsets

    def ends(position: int) -> bool:
        if ids[position] in renderer.added:
            return text[start : offsets[position][0]].strip() == answer
        return ids[position] in renderer.special

    stop = next((position for position in range(first, len(ids)) if ends(position)), None)
    if stop is None:
        raise NotTrainableError(
            "the chat template ends its answer without a stop token",
            "use a model whose chat template ends every turn with a special token (model.source)",
        )
    return stop


def _unlike(messages: list[Message], written: str, renderer: Renderer) -> NotTrainableError:
    """The reason why ``written``, up to a stop token, is not the answer ``messages`` end with."""
    if renderer.holds_special(messages[-1]["content"]):
        return NotTrainableError(
            "an answer contains a special token of the model",
            "take it out of the answers in data.source, then python -m setup data --recipe NAME",
        )
    before, answer = messages[:-1], messages[-1]["content"].strip()
    begins_with_role = not written.strip() or written.strip().endswith(answer)
    if begins_with_role and renderer.text(before, prompt=True) == renderer.text(before):
        return NotTrainableError(
            "the chat template has no generation prompt, so that a served model would have to "
            "begin its answer with its own role",
            "use a model whose chat template supports add_generation_prompt (model.source)",
        )
    return NotTrainableError(
        f"the chat template changes an answer: it writes {written.strip()[:40]!r}",
        "use a model whose chat template writes answers as they are (model.source)",
    )
