"""What is served: both deployments in fewer bits, and adapters of the vocabulary in llama.cpp."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from setup.weights.adapter import read_adapter
from setup.weights.gguf_write import merge_into_gguf, write_adapter_gguf
from tests.setup.finetune.machine import Machine
from tests.setup.weights.adapters.conftest import MakeForeign
from tests.setup.weights.adapters.foreign import Foreign
from tests.setup.weights.served import serve


def test_deploy_quantises(llama: Machine, tmp_path: Path) -> None:
    sets = ("endpoint.version=none", "endpoint.quantize=Q8_0")
    planned = llama.setup("deploy", *sets, options=("--dry-run",))
    assert "quantise what is served to Q8_0" in planned.stdout
    try:
        done = llama.setup("deploy", *sets)
        assert done.returncode == 0, done.stderr
        assert ", quantised to Q8_0" in done.stdout
        shown = json.loads(llama.setup("status", options=("--json",)).stdout)
        path = Path(shown["deployments"]["base"]["model_path"])
        assert path.name.endswith("-Q8_0.gguf")
        assert path.parent == llama.home.models
        assert "(unchanged)" in llama.setup("deploy", *sets).stdout
        assert llama.setup("deploy", sets[0]).returncode == 0
        shown = json.loads(llama.setup("status", options=("--json",)).stdout)
        assert not shown["deployments"]["base"]["model_path"].endswith("-Q8_0.gguf")
    finally:
        llama.setup("stop")


def test_unknown_mixture(llama: Machine) -> None:
    done = llama.setup("deploy", "endpoint.quantize=Q9")
    assert done.returncode == 1
    assert "endpoint.quantize" in done.stderr
    assert "Q5_K_M" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("module", ["embed_tokens", "lm_head"])
def test_vocabulary_in_llama_cpp(
    tiny: dict[str, Path], foreign: MakeForeign, tmp_path: Path, module: str
) -> None:
    """Merged and beside its base it computes what peft does."""
    adapter = foreign("phi3", target_modules=[module, "o_proj"])
    adapter.rewrite(lambda tensors: {k: v for k, v in tensors.items() if "lora" in k})
    read = read_adapter(adapter.folder)
    merged, beside = tmp_path / "merged.gguf", tmp_path / "beside.gguf"
    merge_into_gguf(tiny["phi3"], read, merged, lambda *_: None)
    write_adapter_gguf(tiny["phi3"], read, beside)
    assert _difference(adapter, merged) < 0.01
    assert _difference(adapter, tiny["phi3"], beside) < 0.01


def _difference(adapter: Foreign, model: Path, lora: Path | None = None) -> float:
    import torch

    ids = adapter.tokenizer("<|im_start|>user\nWhat?<|im_end|>\n")["input_ids"]
    with torch.no_grad():
        expected = adapter.model(torch.tensor([ids])).logits[0, -1].double().log_softmax(-1)
    plain = adapter.tokenizer("a")["input_ids"][-1]
    with serve(model, lora) as served:
        given = served.next_token(ids, len(expected), plain)
    known = np.isfinite(given)
    return float(np.abs(given[known] - np.asarray(expected)[known]).max())
