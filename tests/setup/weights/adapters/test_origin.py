"""Where an adapter comes from is kept and shown, without a path of anybody's machine."""

from __future__ import annotations

import json

import pytest

from tests.setup.finetune.machine import Machine
from tests.setup.weights.adapters.conftest import MakeForeign

# How the programs' model cards begin; unsloth and axolotl train with trl, and say so.
CARDS = {
    "unsloth": "---\nlibrary_name: peft\ntags:\n- sft\n- trl\n- unsloth\n---\n# Lamps\n",
    "axolotl": "---\nlibrary_name: peft\ntags:\n- axolotl\n- generated_from_trainer\n---\n",
    "LLaMA-Factory": "---\nlibrary_name: peft\ntags:\n- llama-factory\n- lora\n---\n",
    "trl": "---\nlibrary_name: peft\ntags:\n- base_model:adapter:x/y\n- sft\n- trl\n---\n",
    "": "---\nlibrary_name: peft\ntags: [lora\n---\nA card whose beginning is no YAML.\n",
}


@pytest.mark.parametrize("tool", CARDS)
def test_tool(llama: Machine, foreign: MakeForeign, tool: str) -> None:
    adapter = foreign(target_modules=["q_proj"])
    adapter.configure(base_model_name_or_path="/home/somebody/models/lamp-chat")
    (adapter.folder / "README.md").write_text(CARDS[tool], encoding="utf-8")
    done = llama.setup("register", options=("--adapter", str(adapter.folder)))
    assert done.returncode == 0, done.stderr
    assert "it may have been trained on the rows" in done.stderr
    assert "note: trained on lamp-chat, here on " in done.stderr
    made = f"adapter shop-lora{f' of {tool}' if tool else ''}"
    assert f"; {made}\n" in done.stdout or f"; {made} (unchanged)" in done.stdout


def test_shown_and_kept(llama: Machine, foreign: MakeForeign) -> None:
    adapter = foreign(target_modules=["k_proj"])
    (adapter.folder / "README.md").write_text(CARDS["unsloth"], encoding="utf-8")
    (adapter.folder / "chat_template.jinja").write_text("{{ messages }}", encoding="utf-8")
    done = llama.setup("register", options=("--adapter", str(adapter.folder)))
    assert "its chat template is not used" in done.stderr
    shown = llama.setup("models").stdout
    assert "adapter shop-lora of unsloth, trained on someone/tiny-chat, sha256 " in shown
    again = llama.setup("register", options=("--adapter", str(adapter.folder)))
    assert "(unchanged)" in again.stdout
    version = json.loads(llama.setup("models", options=("--json",)).stdout)["versions"][-1]
    assert version["data_source"] == ""
    kept = list((llama.home.path / "finetunes").glob("*-adapter-*/*.json"))
    kept += (llama.home.path / "registry").rglob("*.json")
    assert kept
    assert not any(str(adapter.folder) in path.read_text(encoding="utf-8") for path in kept)
