"""One rendering a conversation finds the answers that a rendering of every prompt finds."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from setup.finetune.examples.chat_template import Renderer
from setup.finetune.examples.refusals import NotTrainableError
from tests.setup.finetune.machine import Row, make_example
from tests.tiny import TEMPLATE, transformers_folder

_EACH = "{% for message in messages %}"
_END = "{% endfor %}"
LLAMA3 = (
    "{{ '<|endoftext|>' }}{% if messages[0]['role'] == 'system' %}"
    "{% set system = messages[0]['content'] | trim %}{% set messages = messages[1:] %}"
    "{% else %}{% set system = '' %}{% endif %}"
    "{{ '<|system|>\n\nCutting Knowledge Date: December 2023\n' + system + '<|end|>' }}"
    + _EACH
    + "{{ '<|' + message['role'] + '|>\n\n' + message['content'] | trim + '<|end|>' }}"
    + _END
    + "{% if add_generation_prompt %}{{ '<|assistant|>\n\n' }}{% endif %}"
)
PHI3 = (
    _EACH
    + "{{ '<|' + message['role'] + '|>\n' + message['content'] + '<|end|>\n' }}"
    + _END
    + "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ '<|endoftext|>' }}"
    "{% endif %}"
)
PHI4 = (
    _EACH
    + "{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    + _END
    + "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% else %}{{ '<|endoftext|>' }}"
    "{% endif %}"
)
MISTRAL = (  # the system message before the last question, no generation prompt
    "{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] %}"
    "{% set loop_messages = messages[1:] %}{% else %}{% set loop_messages = messages %}{% endif %}"
    "{{ '<|im_start|>' }}{% for message in loop_messages %}{% if message['role'] == 'user' %}"
    "{% if loop.last and system is defined %}"
    "{{ '[INST] ' + system + '\n\n' + message['content'] + '[/INST]' }}{% else %}"
    "{{ '[INST] ' + message['content'] + '[/INST]' }}{% endif %}"
    "{% else %}{{ ' ' + message['content'] | trim + '<|endoftext|>' }}{% endif %}" + _END
)
GEMMA = (  # strips, and folds the system message into the first question
    "{% if messages[0]['role'] == 'system' %}{% set first = messages[0]['content'] + '\n\n' %}"
    "{% set loop_messages = messages[1:] %}{% else %}{% set first = '' %}"
    "{% set loop_messages = messages %}{% endif %}"
    "{% for message in loop_messages %}{{ '<|im_start|>' + ('model' if message['role'] == "
    "'assistant' else message['role']) + '\n' + (first if loop.first else '') + "
    "message['content'] | trim + '<|im_end|>\n' }}"
    + _END
    + "{% if add_generation_prompt %}{{ '<|im_start|>model\n' }}{% endif %}"
)
QWEN3 = (  # takes the thoughts out of all answers but those after the last question
    "{% set ns = namespace(last=0) %}{% for message in messages %}"
    "{% if message['role'] == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}"
    + _EACH
    + "{% set content = message['content'] %}"
    "{% if message['role'] == 'assistant' and loop.index0 < ns.last and '</think>' in content %}"
    "{% set content = content.split('</think>')[-1].lstrip('\n') %}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + content + '<|im_end|>\n' }}"
    + _END
    + "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LAST_DIFFERS = TEMPLATE.replace(
    "'<|im_end|>\n'", "('<|endoftext|>' if loop.last else '<|im_end|>\n')"
)
LAST_ANSWER_DIFFERS = LAST_DIFFERS.replace(
    "loop.last", "loop.last and message['role'] == 'assistant'"
)
NUMBERED = (  # no turn looks alone as it does in its place
    _EACH
    + "{{ '<|im_start|>' + loop.index | string + message['role'] + '\n' + message['content'] }}"
    "{{ '<|im_end|>\n' }}" + _END + "{% if add_generation_prompt %}"
    "{{ '<|im_start|>' + (messages | length + 1) | string + 'assistant\n' }}{% endif %}"
)
COUNTED = "{{ '<|im_start|>' + messages | length | string + ' turns<|im_end|>' }}" + TEMPLATE
BACKWARDS = (  # rewrites all questions but the last one, at the same length
    "{% set ns = namespace(last=0) %}{% for message in messages %}"
    "{% if message['role'] == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}"
    + TEMPLATE.replace(
        "message['content']",
        "(message['content'] | reverse if message['role'] == 'user' and loop.index0 < ns.last "
        "else message['content'])",
    )
)
TEMPLATES = {
    "chatml": TEMPLATE,
    "llama3": LLAMA3,
    "phi3": PHI3,
    "phi4": PHI4,
    "mistral": MISTRAL,
    "gemma": GEMMA,
    "qwen3": QWEN3,
    "last differs": LAST_DIFFERS,
    "last answer differs": LAST_ANSWER_DIFFERS,
    "numbered": NUMBERED,
    "counted": COUNTED,
    "backwards": BACKWARDS,
}
# From how many exchanges on no prompt of it is the beginning of the conversation's text.
REFUSING = {"counted": 1, "last differs": 1, "backwards": 2}
PIECES = [
    *("The red lamp", "user", "assistant\n", "[INST]", "model", " ", "\n\n", ".", "a", "7 euros"),
    *("नमस्ते दुनिया", "मूल्य क्या है", "你好灯多少钱", "مرحبا بكم", "Übergröße", "Ελλάδα", "日本語"),
    *("👩‍👩‍👧", "👍🏽", "🎉", "e\u0301", "\u00a0", "\u2028", "สวัสดี", "<b>", "{{ x }}"),
]


@pytest.fixture(scope="module")
def tokenizer(tiny: dict[str, Path]) -> Any:
    """The tiny models' tokenizer with the special tokens of other families."""
    from transformers import AddedToken, AutoTokenizer

    made = AutoTokenizer.from_pretrained(transformers_folder(tiny["llama"]))
    names = ["<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]
    made.add_tokens([AddedToken(name, rstrip=True, special=True) for name in names])
    return made


def _conversation(chance: random.Random, exchanges: int, thoughts: bool) -> Row:
    def say(most: int) -> str:
        return "".join(chance.choices(PIECES, k=chance.randint(1, most))) + chance.choice("x. ")

    rows = [{"role": "system", "content": say(4)}] if chance.random() < 0.5 else []
    for _ in range(exchanges):
        rows.append({"role": "user", "content": say(6) + "<|im_end|>" * (chance.random() < 0.05)})
        thought = "<think>" + say(2) + "</think>\n" if thoughts and chance.random() < 0.3 else ""
        rows.append({"role": "assistant", "content": thought + say(6)})
    return rows


def _by_every_prompt(messages: Row, tokenizer: Any) -> tuple[list[int], list[int]] | None:
    """Ids and labels from a rendering of the prompt of each answer; None where none is possible,
    or a question ends its own turn.
    """
    if any("<|im_end|>" in turn["content"] for turn in messages if turn["role"] == "user"):
        return None
    messages = Renderer(tokenizer).taken.fold(messages)
    text = tokenizer.apply_chat_template(messages, tokenize=False)
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids, offsets = encoded["input_ids"], encoded["offset_mapping"]
    special = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    labelled: list[int] = []
    for index, turn in enumerate(messages):
        if turn["role"] != "assistant":
            continue
        prompt = tokenizer.apply_chat_template(
            messages[:index], tokenize=False, add_generation_prompt=True
        )
        first = next((i for i, (begin, _) in enumerate(offsets) if begin >= len(prompt)), len(ids))
        stop = next((i for i in range(first, len(ids)) if ids[i] in special), None)
        if not text.startswith(prompt) or stop is None:
            return None
        if text[len(prompt) : offsets[stop][0]].strip() != turn["content"].strip():
            return None
        labelled += range(first, stop + 1)
    return ids, labelled


@pytest.mark.parametrize("exchanges", [1, 3, 9, 14])
@pytest.mark.parametrize("name", TEMPLATES)
def test_labels_are_those_of_every_prompt(tokenizer: Any, name: str, exchanges: int) -> None:
    tokenizer.chat_template = TEMPLATES[name]
    chance, accepted = random.Random(f"{name}{exchanges}"), 0  # noqa: S311
    for number in range(12):
        messages = _conversation(chance, exchanges, thoughts=number % 5 == 0)
        expected = _by_every_prompt(messages, tokenizer)
        if expected is None:
            with pytest.raises(NotTrainableError):
                make_example(messages, tokenizer, 10**9)
            continue
        accepted += 1
        example = make_example(messages, tokenizer, 10**9)
        assert (example.ids, example.labelled) == expected
        _check_shortened(messages, tokenizer, chance.randint(1, len(example)))
    assert (accepted == 0) == (exchanges >= REFUSING.get(name, 99))


def _check_shortened(messages: Row, tokenizer: Any, max_tokens: int) -> None:
    """The longest end of the conversation that fits, found by dropping one turn after another."""
    system = messages[: messages[0]["role"] == "system"]
    turns = messages[len(system) :]
    while turns:
        expected = _by_every_prompt(system + turns, tokenizer)
        assert expected
        if len(expected[0]) <= max_tokens:
            example = make_example(messages, tokenizer, max_tokens)
            assert (example.ids, example.labelled) == expected
            assert example.shortened == (system + turns != messages)
            return
        turns = turns[2:]
    with pytest.raises(NotTrainableError, match=f"longer than {max_tokens} tokens"):
        make_example(messages, tokenizer, max_tokens)


@pytest.mark.parametrize("max_tokens", [2048, 10**9])
def test_long_conversation_is_rendered_a_few_times(tokenizer: Any, max_tokens: int) -> None:
    """Every prompt at every length was: an hour for these two thousand turns."""
    tokenizer.chat_template = TEMPLATE
    messages = [
        {"role": "assistant" if turn % 2 else "user", "content": f"The lamp costs {turn} euros."}
        for turn in range(2000)
    ]
    render = tokenizer.apply_chat_template
    with mock.patch.object(tokenizer, "apply_chat_template", side_effect=render) as rendered:
        example = make_example(messages, tokenizer, max_tokens)
    assert sum(len(call.args[0]) for call in rendered.call_args_list) < 10 * len(messages)
    assert len(example) <= max_tokens
    assert example.shortened == (max_tokens == 2048)
    answers = tokenizer.decode([example.ids[i] for i in example.labelled]).split("<|im_end|>")
    assert answers[-2:] == ["The lamp costs 1999 euros.", ""]
    assert len(answers) - 1 == 1000 or example.shortened
