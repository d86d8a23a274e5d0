"""The shape of each family's chat template, with its true markers, in short Jinja of our own.

Where trl brings the makers' own template, that is tried beside ours.
"""

from __future__ import annotations

from importlib.resources import files

from tests.families import CHATML, Chat

_EACH, _END = "{% for m in messages %}", "{% endfor %}"
_NO_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}"
)
_ALTERNATE = (
    "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/...') }}{% endif %}"
)
_SPLIT_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] %}"
    "{% set turns = messages[1:] %}{% else %}{% set system = '' %}{% set turns = messages %}"
    "{% endif %}"
)
_CHATML_TURN = "{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}"
_CHATML_PROMPT = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
_LAST_QUESTION = (
    "{% set ns = namespace(asked=0) %}"
    "{% for m in messages %}{% if m['role'] == 'user' %}{% set ns.asked = loop.index0 %}{% endif %}"
    "{% endfor %}"
)
_GEMMA_TURN = (
    "{{ '<start_of_turn>' + ('model' if m['role'] == 'assistant' else m['role']) + '\n' }}"
)
_GEMMA_PROMPT = "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
_LLAMA_TURN = (
    "{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' + m['content'] | trim"
    " + '<|eot_id|>' }}"
)
_NO_THOUGHTS = (
    "{% if enable_thinking is defined and not enable_thinking %}{{ '<think>\n\n</think>\n"
)

_CHATML_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_LLAMA_TOKENS = (
    *("<|end_of_text|>", "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>"),
    "<|eot_id|>",
)
_PHI_TOKENS = (
    "<unk>",
    "<s>",
    "<|endoftext|>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|end|>",
)
_GEMMA_TOKENS = ("<unk>", "<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>")
_MISTRAL_TOKENS = (
    *("<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"),
)


def _qwen(template: str) -> Chat:
    return Chat(template, _CHATML_TOKENS, "<|endoftext|>", "<|im_end|>")


def _llama(template: str) -> Chat:
    return Chat(template, _LLAMA_TOKENS, "<|begin_of_text|>", "<|eot_id|>", adds_bos=True)


def _phi(template: str, adds_bos: bool = False) -> Chat:
    return Chat(template, _PHI_TOKENS, "<s>", "<|endoftext|>", adds_bos)


def _gemma(template: str) -> Chat:
    return Chat(template, _GEMMA_TOKENS, "<bos>", "<end_of_turn>", adds_bos=True)


def _mistral(template: str) -> Chat:
    return Chat(template, _MISTRAL_TOKENS, "<s>", "</s>", adds_bos=True)


_PHI_LINES = (
    _EACH
    + "{{ '<|' + m['role'] + '|>\n' + m['content'] + '<|end|>\n' }}"
    + _END
    + "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)
CHATS = {
    "smollm2": Chat(
        "{% if messages[0]['role'] != 'system' %}"
        "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM<|im_end|>\n' }}"
        "{% endif %}" + CHATML.template,
        CHATML.special,
        CHATML.bos,
        CHATML.eos,
    ),
    "chatml": CHATML,
    "llama3": _llama(
        "{{ bos_token }}"
        + _EACH
        + _LLAMA_TURN
        + _END
        + "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}"
        "{% endif %}"
    ),
    "phi3": _phi(_PHI_LINES),
    "phi3-bos": _phi(_PHI_LINES, adds_bos=True),  # of files that say so, without it in the template
    "phi4": Chat(
        _EACH
        + "{{ '<|im_start|>' + m['role'] + '<|im_sep|>' + m['content'] + '<|im_end|>' }}"
        + _END
        + "{% if add_generation_prompt %}{{ '<|im_start|>assistant<|im_sep|>' }}{% endif %}",
        (*_CHATML_TOKENS, "<|im_sep|>"),
        "<|endoftext|>",
        "<|im_end|>",
    ),
    "phi4-mini": _phi(
        _EACH
        + "{{ '<|' + m['role'] + '|>' + m['content'] + '<|end|>' }}"
        + _END
        + "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% else %}{{ eos_token }}{% endif %}"
    ),
    "qwen2.5": _qwen(
        "{% if messages[0]['role'] != 'system' %}"
        "{{ '<|im_start|>system\nYou are Qwen.<|im_end|>\n' }}{% endif %}"
        + _EACH
        + _CHATML_TURN
        + _END
        + _CHATML_PROMPT
    ),
    "qwen3": _qwen(
        _LAST_QUESTION + _EACH + "{% set text = m['content'].split('</think>')[-1].lstrip('\n') %}"
        "{% if m['role'] == 'assistant' and loop.last and loop.index0 > ns.asked %}"
        "{{ '<|im_start|>assistant\n<think>\n\n</think>\n\n' + text + '<|im_end|>\n' }}"
        "{% elif m['role'] == 'assistant' %}"
        "{{ '<|im_start|>assistant\n' + text + '<|im_end|>\n' }}"
        "{% else %}"
        + _CHATML_TURN
        + "{% endif %}"
        + _END
        + "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
        + _NO_THOUGHTS
        + "\n' }}{% endif %}{% endif %}"
    ),
    "smollm3": _qwen(
        _SPLIT_SYSTEM + "{{ '<|im_start|>system\n## Metadata\n\nToday Date: ' + "
        "strftime_now('%d %B %Y') + '\nReasoning Mode: ' + ('/think' if enable_thinking is not "
        "defined or enable_thinking else '/no_think') + '\n\n## Custom Instructions\n\n' + "
        "system + '<|im_end|>\n' }}{% for m in turns %}{% if m['role'] == 'assistant' and "
        "enable_thinking is defined and not enable_thinking %}"
        "{{ '<|im_start|>assistant\n<think>\n\n</think>\n' + m['content'].lstrip('\n') + "
        "'<|im_end|>\n' }}{% else %}"
        + _CHATML_TURN
        + "{% endif %}"
        + _END
        + "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
        + _NO_THOUGHTS
        + "' }}{% endif %}{% endif %}"
    ),
    "gemma2": _gemma(
        "{{ bos_token }}"
        + _NO_SYSTEM
        + _EACH
        + _ALTERNATE
        + _GEMMA_TURN
        + "{{ m['content'] | trim + '<end_of_turn>\n' }}"
        + _END
        + _GEMMA_PROMPT
    ),
    "gemma3": _gemma(
        "{{ bos_token }}"
        + _SPLIT_SYSTEM
        + "{% for m in turns %}"
        + _ALTERNATE
        + _GEMMA_TURN
        + "{{ (system + '\n\n' if system and loop.first else '') + m['content'] | trim }}"
        "{{ '<end_of_turn>\n' }}" + _END + _GEMMA_PROMPT
    ),
    "mistral-v0.1": _mistral(
        "{{ bos_token }}" + _EACH + _ALTERNATE + "{% if m['role'] == 'user' %}"
        "{{ '[INST] ' + m['content'] + ' [/INST]' }}{% else %}{{ m['content'] + eos_token }}"
        "{% endif %}" + _END
    ),
    "mistral-v0.3": _mistral(
        _SPLIT_SYSTEM + "{{ bos_token }}{% for m in turns %}{% if m['role'] == 'user' %}"
        "{{ '[INST] ' + (system + '\n\n' if system and loop.last else '') + m['content'] + "
        "'[/INST]' }}{% else %}{{ ' ' + m['content'] | trim + eos_token }}{% endif %}" + _END
    ),
    "mistral-v7": _mistral(
        "{{ bos_token }}" + _EACH + "{% if m['role'] == 'user' %}"
        "{{ '[INST]' + m['content'] + '[/INST]' }}{% elif m['role'] == 'system' %}"
        "{{ '[SYSTEM_PROMPT]' + m['content'] + '[/SYSTEM_PROMPT]' }}{% else %}"
        "{{ m['content'] + eos_token }}{% endif %}" + _END
    ),
}
_OWN = files("trl") / "chat_templates"
_MAKERS = {
    "gemma": _gemma, "gemma3": _gemma, "llama3": _llama, "llama3_1": _llama, "llama3_2": _llama,
    "phi3": _phi, "phi3_5": _phi, "qwen2_5": _qwen, "qwen3": _qwen, "qwen3_instruct_2507": _qwen,
}  # fmt: skip
CHATS |= {
    f"makers' {name}": make((_OWN / f"{name}.jinja").read_text(encoding="utf-8"))
    for name, make in _MAKERS.items()
}
