"""The real model with a chat template that knows tools, as larger models bring one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import MakeHome
from tests.home import Home
from tests.tiny import alter_gguf

# The tools, then the turns; calls as JSON between two words, results as the user's.
TEMPLATE = (
    "{% if tools %}{{ '<|im_start|>system\n# Tools' }}{% for tool in tools %}"
    "{{ '\n' + (tool | tojson) }}{% endfor %}{{ '<|im_end|>\n' }}{% endif %}"
    "{% for message in messages %}{% if message.role == 'tool' %}"
    "{{ '<|im_start|>user\n<tool_response>' + message.content + '</tool_response><|im_end|>\n' }}"
    "{% else %}{{ '<|im_start|>' + message.role + '\n' + (message.content or '') }}"
    "{% for call in message.tool_calls or [] %}{{ '\n' if message.content or not loop.first }}"
    '{{ \'<tool_call>\n{"name": "\' + call.function.name + \'", "arguments": \' }}'
    "{{ (call.function.arguments | tojson) + '}\n</tool_call>' }}{% endfor %}"
    "{{ '<|im_end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@pytest.fixture(scope="module")
def tools_home(make_home: MakeHome, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A machine whose endpoint serves it."""
    path = tmp_path_factory.mktemp("model") / "tools.gguf"
    alter_gguf(model, path, {"tokenizer.chat_template": TEMPLATE})
    home = make_home(f"model.source={path}", "model.precision=keep", "model.context_window=1024")
    done = home.setup("deploy")
    assert done.returncode == 0, done.stderr
    return home
