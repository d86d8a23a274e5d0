"""The Modelfile's template puts conversations together as the model's own chat template does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from gguf import GGUFReader

from setup.common.errors import FixableError
from setup.finetune.examples.chat_template import Renderer
from setup.local.modelfile import (
    Pieces,
    find_pieces,
    modelfile_of,
    refuse_other_modelfile,
    write_modelfile,
)
from tests.setup.finetune.examples.test_templates import TEMPLATES
from tests.tiny import make_tiny_llama, transformers_folder

# Those whose turns look otherwise in their place than alone, or that put the system message last.
UNWRITABLE = {"last differs", "numbered", "counted", "backwards"}
SYSTEM = {"role": "system", "content": "Say little."}
TALK = [
    {"role": "user", "content": "Is {{ x }} red?"},
    {"role": "assistant", "content": "Yes.\n\nVery 🙂."},
    {"role": "user", "content": "And now?"},
]
SMOLLM = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a lamp.<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama."""
    return make_tiny_llama(tmp_path_factory.mktemp("base"))


@pytest.fixture
def tokenizer(base: Path) -> Any:
    """Its tokenizer, with tokens that end a turn in other families."""
    from transformers import AutoTokenizer

    made = AutoTokenizer.from_pretrained(transformers_folder(base))
    made.add_special_tokens({"additional_special_tokens": ["<|end|>"]})
    return made


@pytest.mark.parametrize("folds", [False, True])
@pytest.mark.parametrize("family", [*TEMPLATES, "default system"])
def test_pieces(tokenizer: Any, family: str, folds: bool) -> None:
    tokenizer.chat_template = {**TEMPLATES, "default system": SMOLLM}[family]
    renderer = Renderer(tokenizer)
    pieces = find_pieces(renderer, folds)
    if family in UNWRITABLE:
        assert pieces is None
        return
    assert pieces is not None
    for messages in (TALK[:1], TALK, [SYSTEM, *TALK[:1]], [SYSTEM, *TALK]):
        turns = messages
        if folds and turns[0] is SYSTEM:
            text = f"{SYSTEM['content']}\n\n{turns[1]['content']}"
            turns = [{"role": "user", "content": text}, *turns[2:]]
        assert pieces.text(messages) == renderer.text(turns, prompt=True)
        assert _go(pieces.template(), messages) == pieces.text(messages)


def _go(template: str, messages: list[dict[str, str]]) -> str:
    """Run the template as Go's text/template does, for the few forms that ours have."""
    system = next((turn["content"] for turn in messages if turn["role"] == "system"), "")
    head, _, rest = template.partition("{{ range $i, $_ := .Messages }}")
    given, _, default = head.removesuffix("{{ end }}").partition("{{ else }}")
    given = given.removeprefix("{{ if .System }}")
    text = given.replace("{{ .System }}", system) if system else default
    rest = rest.removeprefix('{{ if eq .Role "user" }}').removesuffix("{{ end }}" * 2)
    question, _, answer = rest.partition('{{ else if eq .Role "assistant" }}')
    parts = {"user": question, "assistant": answer, "system": ""}
    for number, turn in enumerate(messages):
        part = parts[turn["role"]]
        part = _branch(part, "or (not $.System) (gt $i 1)", not system or number > 1)
        more = number < len(messages) - 1
        part = _branch(part, "gt (len (slice $.Messages $i)) 1", more)
        text += part.replace("{{ .Content }}", turn["content"])
    return text


def _branch(text: str, condition: str, holds: bool) -> str:
    pattern = re.escape(f"{{{{ if {condition} }}}}") + r"(.*?)\{\{ end \}\}"
    found = re.search(pattern, text, re.DOTALL)
    return text.replace(found[0], found[1] if holds else "") if found else text


def test_what_go_would_take_for_its_own(tokenizer: Any) -> None:
    tokenizer.chat_template = "{{ '{' ~ '{' }}" + SMOLLM
    assert find_pieces(Renderer(tokenizer), folds=False) is None


def test_file(base: Path, tmp_path: Path) -> None:
    gguf = tmp_path / "tuned.gguf"
    gguf.write_bytes(base.read_bytes())
    assert write_modelfile(gguf, transformers_folder(base), False, 512) == ""
    text = modelfile_of(gguf).read_text(encoding="utf-8")
    assert modelfile_of(gguf).name == "tuned.Modelfile"
    assert "\nFROM ./tuned.gguf\n" in text
    assert '\nPARAMETER stop "<|im_end|>"\nPARAMETER num_ctx 512\n' in text
    assert '{{ if eq .Role "user" }}<|im_start|>user\n{{ .Content }}<|im_end|>\n' in text
    refuse_other_modelfile(gguf)
    modelfile_of(gguf).write_text("FROM llama3\n", encoding="utf-8")
    with pytest.raises(FixableError, match=r"tuned\.Modelfile is not of an export"):
        refuse_other_modelfile(gguf)


@pytest.mark.parametrize("adds", [True, False])
def test_bos_that_the_engine_adds_is_left_out(base: Path, tmp_path: Path, adds: bool) -> None:
    """Else a served prompt would begin with it twice."""
    from transformers import AutoTokenizer

    folder = tmp_path / "tokenizer"
    made = AutoTokenizer.from_pretrained(transformers_folder(base))
    made.chat_template = "{{ bos_token }}" + made.chat_template
    made.save_pretrained(folder)
    gguf = tmp_path / "tuned.gguf"
    gguf.write_bytes(base.read_bytes())
    field = GGUFReader(gguf, "r+").fields["tokenizer.ggml.add_bos_token"]
    field.parts[field.data[0]][0] = adds
    write_modelfile(gguf, folder, False, 512)
    text = modelfile_of(gguf).read_text(encoding="utf-8")
    assert ("{{ else }}<|im_start|>{{ end }}" in text) is not adds


def test_template_that_cannot_be_written_is_said(base: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    gguf, folder = tmp_path / "tuned.gguf", tmp_path / "tokenizer"
    gguf.write_bytes(base.read_bytes())
    made = AutoTokenizer.from_pretrained(transformers_folder(base))
    made.chat_template = TEMPLATES["counted"]
    made.save_pretrained(folder)
    assert "has no TEMPLATE" in write_modelfile(gguf, folder, False, 512)
    text = modelfile_of(gguf).read_text(encoding="utf-8")
    assert "TEMPLATE " not in text.replace("# No TEMPLATE", "")
    assert "PARAMETER num_ctx 512" in text


def test_tokenizer_that_cannot_be_loaded_is_said(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}", encoding="utf-8")
    assert "no Modelfile: " in write_modelfile(tmp_path / "tuned.gguf", tmp_path, False, 512)
    assert not (tmp_path / "tuned.Modelfile").exists()


def test_pieces_are_read_in_the_order_of_a_talk() -> None:
    pieces = Pieces("B", ("<", ">"), True, ("Q:", "!"), ("A:", "."))
    assert pieces.text(TALK[:1]) == "BQ:Is {{ x }} red?!"
    assert pieces.text([SYSTEM, *TALK[2:]]) == "<Say little.>And now?!"
