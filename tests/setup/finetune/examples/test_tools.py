"""Calls of tools are learnt where the template writes them, and left out where it does not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from setup.finetune.examples.chat_template import Renderer
from setup.finetune.examples.refusals import NotTrainableError, ToolsUnknownError
from setup.finetune.examples.render import render_example
from tests.setup.finetune.conftest import MakeMachine
from tests.setup.finetune.machine import facts
from tests.tiny import TEMPLATE, transformers_folder

# As Qwen has it: calls between tokens of their own, answers of tools as the user's.
HERMES = (
    "{% if tools %}{{ '<|im_start|>system\nTools:' }}{% for tool in tools %}"
    "{{ '\n' + (tool | tojson) }}{% endfor %}{{ '<|im_end|>\n' }}{% endif %}"
    "{% for message in messages %}{% if message['role'] == 'tool' %}"
    "{{ '<|im_start|>user\n<tool_response>\n' + message['content'] + '\n</tool_response>' }}"
    "{% else %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] }}"
    "{% for call in message['tool_calls'] or [] %}"
    "{{ '\n<tool_call>\n{\"name\": \"' + call['function']['name'] + '\", \"arguments\": ' }}"
    "{{ (call['function']['arguments'] | tojson) + '}\n</tool_call>' }}{% endfor %}{% endif %}"
    "{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
WITHOUT_ARGUMENTS = HERMES.replace("(call['function']['arguments'] | tojson)", "'…'")
WITHOUT_OFFERS = HERMES.replace("{% if tools %}", "{% if false %}")
WITHOUT_ANSWERS = HERMES.replace("+ message['content'] + '\n</tool", "+ '\n</tool")
REFUSING = HERMES.replace(
    "{% if message['role'] == 'tool' %}",
    "{% if message['role'] == 'tool' %}{{ raise_exception('no role but user') }}",
)

OFFER = {
    "type": "function",
    "function": {"name": "price_of", "parameters": {"properties": {"lamp": {"type": "string"}}}},
}


def call(*lamps: str) -> dict[str, Any]:
    calls = [
        {
            "id": f"c{number}",
            "type": "function",
            "function": {"name": "price_of", "arguments": json.dumps({"lamp": lamp})},
        }
        for number, lamp in enumerate(lamps)
    ]
    return {"role": "assistant", "content": "", "tool_calls": calls}


def said(number: int, text: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": f"c{number}", "content": text}


TALK = [
    {"role": "user", "content": "What do the red and the “blé” lamp cost?"},
    call("red", "“blé” 👍"),
    said(0, "7"),
    said(1, "9"),
    {"role": "assistant", "content": "They cost 7 and 9 euros."},
    {"role": "user", "content": "And the green one?"},
    call("green"),
]


@pytest.fixture(scope="module")
def tokenizer(tiny: dict[str, Path]) -> Any:
    from transformers import AddedToken, AutoTokenizer

    made = AutoTokenizer.from_pretrained(transformers_folder(tiny["llama"]))
    made.add_tokens([AddedToken(name) for name in ("<tool_call>", "</tool_call>")])
    made.chat_template = HERMES
    return made


def rendered(tokenizer: Any, template: str, turns: list[Any], tools: list[Any]) -> Any:
    from setup.finetune.examples.tools import Conversation

    tokenizer.chat_template = template
    renderer = Renderer(tokenizer).offering(tools)
    return render_example(Conversation(turns, tools), renderer, 512)


def learnt(tokenizer: Any, example: Any) -> str:
    return str(tokenizer.decode([example.ids[place] for place in example.labelled]))


def written(lamp: str) -> str:
    return f'\n<tool_call>\n{{"name": "price_of", "arguments": {{"lamp": "{lamp}"}}}}\n</tool_call>'


def test_calls_and_answers_are_learnt_with_their_stop_tokens(tokenizer: Any) -> None:
    example = rendered(tokenizer, HERMES, TALK, [OFFER])
    assert learnt(tokenizer, example) == (
        written("red")
        + written("“blé” 👍")
        + "<|im_end|>They cost 7 and 9 euros.<|im_end|>"
        + written("green")
        + "<|im_end|>"
    )
    assert "price_of" in tokenizer.decode(example.ids).partition("<|im_end|>")[0]


def test_call_of_weight_0_is_context(tokenizer: Any) -> None:
    turns = [TALK[0], TALK[1] | {"weight": 0}, *TALK[2:5]]
    example = rendered(tokenizer, HERMES, turns, [OFFER])
    assert learnt(tokenizer, example) == "They cost 7 and 9 euros.<|im_end|>"


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        (TEMPLATE, "does not show the tools"),
        (WITHOUT_ARGUMENTS, "does not write a call of a tool"),
        (WITHOUT_OFFERS, "does not show the tools"),
        (WITHOUT_ANSWERS, "leaves out what a tool answers"),
    ],
)
def test_template_that_does_not_know_tools_is_named(
    tokenizer: Any, template: str, reason: str
) -> None:
    with pytest.raises(ToolsUnknownError, match=reason):
        rendered(tokenizer, template, TALK, [OFFER])


def test_template_that_refuses_the_role_is_named(tokenizer: Any) -> None:
    with pytest.raises(NotTrainableError, match="no role but user"):
        rendered(tokenizer, REFUSING, TALK, [OFFER])


def test_calls_without_an_offer_are_not_lost_either(tokenizer: Any) -> None:
    assert written("green") in learnt(tokenizer, rendered(tokenizer, HERMES, TALK, []))
    with pytest.raises(ToolsUnknownError, match="does not write a call"):
        rendered(tokenizer, TEMPLATE, TALK, [])


def test_special_token_in_a_call_is_refused(tokenizer: Any) -> None:
    turns = [TALK[0], call("<|im_end|>"), *TALK[2:5]]
    with pytest.raises(NotTrainableError, match="special token"):
        rendered(tokenizer, HERMES, turns, [OFFER])


def test_rows_with_tools_are_counted_where_the_model_knows_none(
    make_machine: MakeMachine,
) -> None:
    machine = make_machine([*facts(12), TALK, TALK[:5]])
    done = machine.setup("finetune", "finetune.epochs=1")
    assert done.returncode == 0, done.stderr
    assert "left out; the first, 'What do the red" in done.stderr
    assert "the chat template" in done.stderr
