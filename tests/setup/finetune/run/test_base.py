"""A model that cannot be trained as it is served is refused; ``finetune.base`` is the way out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.home import failed
from tests.setup.finetune.conftest import MakeMachine
from tests.setup.finetune.machine import Machine, facts
from tests.tiny import alter_gguf, make_tiny_llama, make_tiny_phi3, transformers_folder

MakeOdd = Callable[..., tuple[Machine, Path]]
HEADS = "llama.attention.head_count_kv"


@pytest.fixture
def make_odd(make_machine: MakeMachine, tiny: dict[str, Path], tmp_path: Path) -> MakeOdd:
    """Make a machine that trains a tiny model altered as ``alter_gguf`` does, and that file."""

    def make(model: str, *changes: Any) -> tuple[Machine, Path]:
        base = alter_gguf(tiny[model], tmp_path / "odd.gguf", *changes)
        return make_machine(base=base), base

    return make


@pytest.mark.parametrize(
    ("model", "keys", "named"),
    [
        ("llama", {"attention.causal": False}, "llama.attention.causal = False"),
        ("llama", {"logit_scale": 0.5}, "llama.logit_scale = 0.5"),
        ("llama", {"attention.scale": 0.5}, "llama.attention.scale = 0.5"),
        ("llama", {"attn_logit_softcapping": 30.0}, "llama.attn_logit_softcapping = 30.0"),
        ("llama", {"expert_count": 4}, "llama.expert_count = 4"),
        ("llama", {"rope.scaling.yarn_beta_fast": 4.0}, "llama.rope.scaling.yarn_beta_fast = 4.0"),
        ("llama", {"rope.scaling.type": "su"}, "llama.rope.scaling.type = 'su'"),
        ("llama", {"rope.dimension_count": 8}, "llama.rope.dimension_count = 8"),
        ("llama", {"attention.head_count_kv": [2, 2, 2]}, f"{HEADS} = [2, 2, 2]"),
        ("llama", {"attention.value_length": 8}, "llama.attention.value_length = 8"),
        ("phi3", {"final_logit_softcapping": 30.0}, "phi3.final_logit_softcapping = 30.0"),
        (
            "phi3",
            {"attention.key_length": 8, "attention.value_length": 8},
            "phi3.attention.key_length = 8",
        ),
        ("phi3", {"some.new_key": "x"}, "phi3.some.new_key = 'x'"),
    ],
)
def test_key_that_training_would_leave_out(
    make_odd: MakeOdd, model: str, keys: dict[str, Any], named: str
) -> None:
    machine, base = make_odd(model, keys)
    line = failed(machine.setup("finetune"))
    assert f"{base} has " in line
    assert named in line
    assert "--set finetune.base=FOLDER" in line


def test_file_without_the_number_of_key_heads(tmp_path: Path) -> None:
    """Transformers' own reader would leave queries and keys in llama.cpp's order."""
    import torch

    from setup.weights.base import load_base

    plain = make_tiny_llama(tmp_path, num_key_value_heads=4)
    base = alter_gguf(plain, tmp_path / "old.gguf", {}, without=(HEADS,))
    old, new = (load_base(str(path), torch.float32)[0].state_dict() for path in (base, plain))
    assert all(torch.equal(old[name], new[name]) for name in new)


def test_file_that_does_not_name_its_architecture(
    machine: Machine, tiny: dict[str, Path], tmp_path: Path
) -> None:
    """The converted file would have an empty one, which nothing can load."""
    base, name = tmp_path / "nameless.gguf", b"general.architecture"
    base.write_bytes(tiny["llama"].read_bytes().replace(name, name.upper()))
    line = failed(machine.setup("finetune", f"model.source={base}", "model.precision=f16"))
    assert f"{base} does not say which model it is: it has no general.architecture" in line
    assert "set model.source to a whole .gguf file" in line


@pytest.mark.parametrize(
    ("tensors", "without", "message"),
    [
        ({"blk.1.attn_q.bias": np.ones(64)}, (), "has the tensor blk.1.attn_q.bias"),
        ({"blk.1.attn_q_norm.weight": np.ones(16)}, (), "has the tensor blk.1.attn_q_norm.weight"),
        ({}, ("blk.1.ffn_norm.weight",), "lacks the tensor blk.1.ffn_norm.weight"),
        ({"rope_freqs.weight": np.ones(7)}, (), "has 7 numbers as rope_freqs.weight, not 8"),
    ],
)
def test_tensor_that_training_would_leave_out(
    make_odd: MakeOdd, tensors: dict[str, Any], without: tuple[str, ...], message: str
) -> None:
    machine, _ = make_odd("llama", {}, tensors, without)
    assert message in failed(machine.setup("finetune"))


def test_fix_works_to_the_letter(make_odd: MakeOdd, tiny: dict[str, Path]) -> None:
    machine, base = make_odd("llama", {"logit_scale": 0.5})
    assert "--set finetune.base=" in failed(machine.setup("finetune"))
    named = f"finetune.base={transformers_folder(tiny['llama'])}"
    done = machine.setup("finetune", named)
    assert done.returncode == 0, done.stderr
    assert f"logit_scale of {base} is not compared with" in done.stderr
    assert machine.setup("register", named).returncode == 0


def _configured(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _other_theta(folder: Path) -> None:
    _configured(folder, rope_parameters={"rope_type": "default", "rope_theta": 500_000.0})


def _scaled(folder: Path) -> None:
    rope = {"rope_type": "linear", "factor": 4.0, "rope_theta": 10_000.0}
    _configured(folder, rope_parameters=rope)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_other_theta, "its rotary embedding differs"),
        (_scaled, "its rotary embedding differs"),
        (
            lambda folder: _configured(folder, rms_norm_eps=0.01),
            "its rms_norm_eps is 0.01, not 1e-06",
        ),
        (lambda folder: _configured(folder, hidden_act="gelu"), "its hidden_act is gelu, not silu"),
    ],
)
def test_base_that_computes_otherwise(
    machine: Machine,
    tiny: dict[str, Path],
    tmp_path: Path,
    change: Callable[[Path], None],
    message: str,
) -> None:
    folder = Path(shutil.copytree(transformers_folder(tiny["llama"]), tmp_path / "base"))
    change(folder)
    line = failed(machine.setup("finetune", f"finetune.base={folder}"))
    assert f"{folder} is another model than {tiny['llama']}: {message}" in line


def test_base_of_another_shape_or_with_other_tensors(
    machine: Machine, tiny: dict[str, Path], tmp_path: Path
) -> None:
    others = {
        "its model_type is phi3, not llama": tiny["phi3"],
        "its num_hidden_layers is 2, not 3": make_tiny_llama(tmp_path / "a", num_hidden_layers=2),
        "lacks the tensor output.weight": make_tiny_llama(
            tmp_path / "b", tie_word_embeddings=False
        ),
        "lacks the tensor blk.0.attn_k.bias": make_tiny_llama(tmp_path / "c", attention_bias=True),
    }
    for message, gguf in others.items():
        line = failed(machine.setup("finetune", f"finetune.base={transformers_folder(gguf)}"))
        assert message in line


def test_base_with_biases_trains_the_file_with_biases(
    make_machine: MakeMachine, tmp_path: Path
) -> None:
    base = make_tiny_llama(tmp_path, attention_bias=True, pad_token_id=None)
    machine = make_machine(base=base)
    assert "has the tensor blk.0.attn_k.bias" in failed(machine.setup("finetune"))
    done = machine.setup("finetune", f"finetune.base={transformers_folder(base)}")
    assert done.returncode == 0, done.stderr


def test_sliding_window_that_llama_cpp_does_not_apply_is_not_trained_with(
    make_machine: MakeMachine, tmp_path: Path
) -> None:
    import torch

    from setup.weights.base import load_base

    base = make_tiny_phi3(tmp_path)
    folder = transformers_folder(base)
    _configured(folder, sliding_window=20)
    model, _ = load_base(str(folder), torch.float32, base, 512)
    assert model.config.sliding_window is None
    assert make_machine(base=base).setup("finetune", f"finetune.base={folder}").returncode == 0


def test_longer_conversations_take_other_rotary_factors(
    make_machine: MakeMachine, tiny: dict[str, Path], tmp_path: Path
) -> None:
    """A version is served and exported as it was trained, and trained anew where that changes."""
    keys = {"rope.scaling.original_context_length": 256}
    factors = np.linspace(1, 3, 8)
    tables = {"rope_factors_short.weight": factors, "rope_factors_long.weight": 2 * factors}
    base = alter_gguf(tiny["phi3"], tmp_path / "long.gguf", keys, tables)
    machine, short = make_machine(facts(6), base=base), ("finetune.epochs=1",)
    long = (*short, "model.context_window=512")
    export = ("--form", "gguf", "--out", str(tmp_path / "out.gguf"))
    machine.finetune(*short)
    assert machine.setup("register", *short).returncode == 0
    line = failed(machine.setup("export", *long, options=export))
    assert "trained for conversations of 256 tokens, with the short rotary factors" in line
    assert "Fix: --set model.context_window=256, or python -m setup finetune" in line
    assert machine.setup("export", *short, options=export).returncode == 0
    machine.finetune(*long)
    assert len(machine.runs()) == 2
    registered = machine.setup("register", *long)
    assert registered.returncode == 0, registered.stderr
    assert machine.setup("promote", *long, options=("2",)).returncode == 0
    exported = machine.setup("export", *long, options=export)
    assert exported.returncode == 0, exported.stderr
    other = f"model.source={tiny['phi3']}"
    line = failed(machine.setup("export", *long, other, options=export))
    assert "version 2 of tiny was trained on another base" in line
    assert "to export another version, --version NUMBER" in line
