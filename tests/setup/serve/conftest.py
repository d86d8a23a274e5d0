"""Endpoints: with a chat template that knows tools, as larger models bring one; and traced."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import MakeHome
from tests.home import Home
from tests.scripted.collector import Collector, collecting, variables

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


_KEY = b"tokenizer.chat_template"
_HEAD = 16 << 20  # bytes that hold all metadata
_ALIGNMENT = 32  # of tensors: what is put in before them has to be a multiple of it


def _with_template(source: Path, target: Path, template: str) -> None:
    """Copy a GGUF file with another chat template; reading all its metadata takes far longer."""
    with source.open("rb") as old, target.open("wb") as new:
        head = old.read(_HEAD)
        place = head.index(_KEY) + len(_KEY) + 4  # after the type of the value
        (size,) = struct.unpack_from("<Q", head, place)
        text = template.encode()
        text += b"{#" + b" " * ((size - len(text) - 4) % _ALIGNMENT) + b"#}"
        new.write(head[:place] + struct.pack("<Q", len(text)) + text + head[place + 8 + size :])
        shutil.copyfileobj(old, new, 1 << 20)


@pytest.fixture(scope="module")
def tools_home(make_home: MakeHome, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A machine whose endpoint serves it."""
    path = tmp_path_factory.mktemp("model") / "tools.gguf"
    _with_template(model, path, TEMPLATE)
    home = make_home(f"model.source={path}", "model.precision=keep", "model.context_window=1024")
    done = home.setup("deploy")
    assert done.returncode == 0, done.stderr
    return home


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


@pytest.fixture(scope="module")
def traced(make_home: MakeHome, collector: Collector) -> Home:
    """A machine whose flows and endpoint send their spans to the collector."""
    home = make_home()
    home.extra_env = variables(collector.url)
    home.serve()
    return home
