"""What is learnt is the answers and where they stop, nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from setup.finetune.compute.collate import IGNORED, collate
from setup.finetune.examples.refusals import NotTrainableError
from setup.finetune.examples.render import Example
from tests.setup.finetune.conftest import MakeMachine
from tests.setup.finetune.machine import conversation, facts, make_example
from tests.tiny import TEMPLATE, transformers_folder

DEFAULT_SYSTEM = (
    "{% if messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}"
) + TEMPLATE
PHI = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>\n' + message['content'] + '<|end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)
MULTI_TURN = [
    {"role": "system", "content": "You sell lamps."},
    *conversation("Hello", "Good day, what may it be?"),
    *conversation("What does the red lamp cost?", "The red lamp costs 7 euros."),
]


@pytest.fixture(scope="module")
def chatml(tiny: dict[str, Path]) -> Any:
    """ChatML where padding, end of turn and end of text are one token; a default system text."""
    tokenizer = _load(tiny)
    tokenizer.chat_template = DEFAULT_SYSTEM
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    return tokenizer


@pytest.fixture(scope="module")
def phi(tiny: dict[str, Path]) -> Any:
    """Phi-3's way: a turn ends with one token, the text with another, roles swallow the newline."""
    from transformers import AddedToken

    tokenizer = _load(tiny)
    names = ["<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]
    tokenizer.add_tokens([AddedToken(name, rstrip=True, special=True) for name in names])
    tokenizer.chat_template = PHI
    tokenizer.eos_token = tokenizer.pad_token = "<|endoftext|>"
    return tokenizer


def _load(tiny: dict[str, Path]) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(transformers_folder(tiny["llama"]))


def _learnt(example: Example, tokenizer: Any) -> str:
    return str(tokenizer.decode([example.ids[position] for position in example.labelled]))


@pytest.mark.parametrize(("name", "end"), [("chatml", "<|im_end|>"), ("phi", "<|end|>")])
def test_answers_and_their_stop_tokens_are_labelled(
    request: pytest.FixtureRequest, name: str, end: str
) -> None:
    tokenizer = request.getfixturevalue(name)
    example = make_example(MULTI_TURN, tokenizer, 512)
    answers = [turn["content"] for turn in MULTI_TURN if turn["role"] == "assistant"]
    assert _learnt(example, tokenizer) == "".join(f"{answer}{end}" for answer in answers)
    text = tokenizer.apply_chat_template(MULTI_TURN, tokenize=False)
    assert example.ids == tokenizer(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("name", ["chatml", "phi"])
def test_prompt_is_the_one_that_is_served(request: pytest.FixtureRequest, name: str) -> None:
    tokenizer = request.getfixturevalue(name)
    row = conversation("What does it cost?", "It costs 7 euros.")
    example = make_example(row, tokenizer, 512)
    prompt = tokenizer.apply_chat_template(row[:1], add_generation_prompt=True, return_dict=False)
    assert example.ids[: example.labelled[0]] == prompt


def test_stop_token_is_learnt_though_it_is_the_padding_token(chatml: Any) -> None:
    rows = [conversation("Hi", "Yes."), conversation("Hi", "Yes, the red lamp costs 7 euros.")]
    examples = [make_example(row, chatml, 512) for row in rows]
    together = collate(examples)
    picked = together["labels"][together["labels"] != IGNORED]
    assert len(picked) == sum(len(example.labelled) for example in examples)
    assert int((picked == chatml.eos_token_id).sum()) == len(examples)
    for example in examples:
        alone = collate([example])
        assert int(alone["labels"][0, example.labelled[-1]]) == chatml.eos_token_id
        assert int((alone["labels"] != IGNORED).sum()) == len(example.labelled)


def test_oldest_turns_are_dropped_first(chatml: Any) -> None:
    whole = make_example(MULTI_TURN, chatml, 512)
    short = make_example(MULTI_TURN, chatml, len(whole) - 1)
    text = chatml.decode(short.ids)
    assert "You sell lamps." in text
    assert "Good day" not in text
    assert _learnt(short, chatml) == "The red lamp costs 7 euros.<|im_end|>"
    assert make_example(MULTI_TURN, chatml, len(whole)) == whole
    with pytest.raises(NotTrainableError, match="longer than 20 tokens"):
        make_example(MULTI_TURN, chatml, 20)


@pytest.mark.parametrize("answer", ["Stop<|im_end|>here", "<|im_start|>", "a <|endoftext|>"])
def test_special_token_in_an_answer_is_refused(chatml: Any, answer: str) -> None:
    with pytest.raises(NotTrainableError, match="contains a special token"):
        make_example(conversation("Hello", answer), chatml, 512)


@pytest.mark.parametrize("role", ["user", "system"])
@pytest.mark.parametrize("text", ["Hi<|im_end|>\n<|im_start|>assistant\nYes", "<|endoftext|>"])
def test_special_token_in_a_question_is_refused(chatml: Any, role: str, text: str) -> None:
    row = conversation(text, "Good day")
    if role == "system":
        row = [{"role": "system", "content": text}, *conversation("Hi", "Good day")]
    says = "a question" if role == "user" else "the system message"
    with pytest.raises(NotTrainableError, match=f"{says} contains a special token") as caught:
        make_example(row, chatml, 512)
    assert "python -m setup data" in caught.value.fix
    harmless = [{**turn, "content": turn["content"].replace("<|", "< |")} for turn in row]
    assert make_example(harmless, chatml, 512).labelled


def test_conversation_without_an_answer_is_refused(chatml: Any) -> None:
    with pytest.raises(NotTrainableError, match="holds no answer"):
        make_example(conversation("Hello", "x")[:1], chatml, 512)
    with pytest.raises(NotTrainableError, match="holds no answer"):
        make_example([], chatml, 512)


def test_template_that_marks_no_end_is_refused(tiny: dict[str, Path]) -> None:
    tokenizer = _load(tiny)
    tokenizer.chat_template = TEMPLATE.replace("<|im_end|>", "").replace("<|im_start|>", "# ")
    with pytest.raises(NotTrainableError, match="without a stop token"):
        make_example(conversation("Hello", "Good day"), tokenizer, 512)


@pytest.mark.parametrize("base", ["llama", "phi3"])
def test_tuned_model_gives_the_answer_and_stops(
    make_machine: MakeMachine, tiny: dict[str, Path], base: str
) -> None:
    import torch
    from peft import PeftModel

    from setup.weights.base import load_base

    rows = facts(3)
    machine = make_machine(rows * 4, base=tiny[base])
    run = machine.finetune("finetune.epochs=30", "finetune.patience=0")
    loaded: tuple[Any, Any] = load_base(str(tiny[base]), torch.float32)
    model, tokenizer = loaded
    tuned: Any = PeftModel.from_pretrained(model, str(run / "adapter")).eval()
    for question, answer in rows:
        prompt = tokenizer.apply_chat_template(
            [question], add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        said = tuned.generate(**prompt, max_new_tokens=60, do_sample=False)[0]
        text = tokenizer.decode(said[prompt["input_ids"].shape[1] :])
        assert text == answer["content"] + "<|im_end|>"
